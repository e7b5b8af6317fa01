"""What can be said of a checkpoint from its header alone, as one JSON object.

The keys, which stay: scripts read them from `mpvideo inspect --json`. Where nothing is known, a value is null.

    path, name      as given; the last part of it
    files           names of the safetensors files; `bytes` their sizes together
    dtypes          {dtype: number of tensors}, in torch's words
    parameters      {total, parts: {input, down, middle, up, embedding, output, codec, other}}, numbers of elements
    config          the checked config (see `mpvideo.config`), its class names left out
    levels          [{frames, image_size, width, down, middle, up, attention, heads}], the network from its first level
                    down; `down`, `middle`, `up` and `attention` count blocks at that level, `heads` those of one
    video           {codec, frames, width, height, channels, fps, seconds}, in pixels
    classes         {count, names}; `names` is null unless asked for, or where there are none
    cost            {flops_per_evaluation, evaluations, passes, flops_per_video,
                    memory: {dtype: {weights, activations}}};
                    `passes` of the network in each evaluation of one video: 1, or 2 under guidance; the FLOPs of one
                    evaluation are those of one pass; memory in bytes for one video at a time, about, for each --dtype:
                    weights are kept in float32 whatever the network computes in
    tensors         [{name, dtype, shape, file}], if asked for
    check           {nonfinite, zero}: names of tensors, if the weights were read
    loads           whether it would load
    problems        [{message, hint}], why not
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpvideo.architecture import activation_bytes, attention_heads, network_flops, network_plan
from mpvideo.checkpoint.container import WEIGHT_DTYPES, TensorInfo
from mpvideo.checkpoint.header import Header
from mpvideo.checkpoint.opening import find_problems, resolve_config
from mpvideo.config import CheckpointConfig, ModelConfig
from mpvideo.errors import CheckpointError

Report = dict[str, Any]

PARTS: dict[str, str] = {
    "input_block": "input",
    "downs": "down",
    "mids": "middle",
    "ups": "up",
    "to_time_emb": "embedding",
    "to_class_emb": "embedding",
    "output_block": "output",
    "codec": "codec",
}
"""Which part a tensor belongs to, by the first word of its name."""

_KEYS = (
    *("path", "name", "files", "bytes", "dtypes", "parameters", "config", "levels", "video", "classes", "cost"),
    *("tensors", "check", "loads", "problems"),
)
_BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2}
_BYTES_PER_PARAMETER = 4  # as `mpvideo.generate.load_model` keeps them


def describe(header: Header, *, config_file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Report:
    """Describes a checkpoint as far as it can be described; what is wrong with it ends up under `problems`.

    Args:
        header: read with `strict=False`, if damaged files are to be described too.
        config_file, overrides: as for `resolve_config`.
    """
    tensors = header.tensors.values()
    report: Report = {
        **dict.fromkeys(_KEYS),
        "path": str(header.path),
        "name": header.name,
        "files": [file.name for file in header.files],
        "bytes": header.file_size,
        "dtypes": dict(Counter(dtype_word(tensor) for tensor in tensors).most_common()),
        "parameters": _parameters(header),
        "tensors": [
            {"name": item.name, "dtype": dtype_word(item), "shape": list(item.shape), "file": item.file.name}
            for item in tensors
        ],
    }
    problems = list(header.damage)
    try:
        config = resolve_config(header, config_file=config_file, overrides=overrides)
    except CheckpointError as error:
        problems.append(error)
    else:
        report |= _from_config(config, report["parameters"]["total"])
        problems += [CheckpointError(words) for words in find_problems(header, config)]
    return with_problems(report, problems)


def unreadable(path: Path, error: CheckpointError) -> Report:
    """The report on a file of which nothing can be said but why."""
    report = {**dict.fromkeys(_KEYS), "path": str(path), "name": path.name}
    return with_problems(report, [error])


def with_problems(report: Report, problems: list[CheckpointError]) -> Report:
    """The report with these problems added to those it has."""
    listed = [*(report["problems"] or ()), *({"message": item.message, "hint": item.hint} for item in problems)]
    return {**report, "loads": not listed, "problems": listed}


def dtype_word(tensor: TensorInfo) -> str:
    """A tensor's dtype in torch's words, or in the format's where weights cannot have it."""
    return WEIGHT_DTYPES.get(tensor.dtype, tensor.dtype)


def _parameters(header: Header) -> dict[str, Any]:
    parts = dict.fromkeys([*PARTS.values(), "other"], 0)
    for tensor in header.tensors.values():
        parts[PARTS.get(tensor.name.split(".")[0], "other")] += tensor.count
    return {"total": sum(parts.values()), "parts": {part: count for part, count in parts.items() if count}}


def _from_config(config: CheckpointConfig, parameters: int) -> Report:
    model, video, sampling = config.model, config.video, config.sampling
    flops = network_flops(model)
    passes = 1 if sampling.guidance == 1 else 2
    words = config.to_dict()
    words.pop("classes", None)
    return {
        "config": words,
        "levels": _levels(model),
        "video": {
            "codec": video.codec,
            "frames": model.frames,
            "width": config.pixel_size,
            "height": config.pixel_size,
            "channels": video.pixel_channels,
            "fps": video.fps,
            "seconds": model.frames / video.fps,
        },
        "classes": {"count": model.num_classes, "names": list(config.classes) if config.classes else None},
        "cost": {
            "flops_per_evaluation": flops,
            "evaluations": sampling.num_evaluations,
            "passes": passes,
            "flops_per_video": flops * sampling.num_evaluations * passes,
            "memory": {
                dtype: {
                    "weights": parameters * _BYTES_PER_PARAMETER,
                    "activations": activation_bytes(model, size) * passes,
                }
                for dtype, size in _BYTES_PER_VALUE.items()
            },
        },
    }


def _levels(model: ModelConfig) -> list[dict[str, int]]:
    plan = network_plan(model)
    levels: dict[tuple[int, int], dict[str, int]] = {}
    for part, blocks in (("down", plan.downs), ("middle", plan.mids), ("up", plan.ups)):
        for block in blocks:
            level = levels.setdefault(
                (block.frames, block.image_size),
                {
                    "frames": block.frames,
                    "image_size": block.image_size,
                    "width": block.dim_out,
                    **dict.fromkeys(("down", "middle", "up", "attention", "heads"), 0),
                },
            )
            level[part] += 1
            if block.attention != "none":
                level["attention"] += 1
                level["heads"] = attention_heads(model, block.dim_out)
    return list(levels.values())

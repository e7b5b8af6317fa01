"""What can be said of a checkpoint from its header alone, as one JSON object.

The keys, which stay: scripts read them from `mpvideo inspect --json`. Where nothing is known, a value is null.

    kind            "checkpoint"
    path, name      as given; the last part of it
    cached          where the copy of a checkpoint on the hub lies
    files           names of the safetensors files; `bytes` their sizes together
    dtypes          {dtype: number of tensors}, in torch's words
    parameters      {total, parts: {input, down, middle, up, embedding, output, codec, other}}, numbers of elements
    config          the checked config (see `mpvideo.config`), its class names left out
    sources         {field: "flag", "config file", "header", "inferred" or "default"}, where each field of it comes from
    inferred        {fields, widths, attention}, what names and shapes tell of the network: fields of `config.model`,
                    and of each level its width and whether it has attention; null if they are of no KarrasUnet3D
    open            [{field, candidates, example}], what they do not tell and no config gives, so that it would not
                    load; `candidates` are words, `example` is a value that fits
    metadata        the header's other strings, such as `modelspec.*`
    levels          [{frames, image_size, width, down, middle, up, attention, heads, parameters}], the network from its
                    first level down; `down`, `middle`, `up` and `attention` count blocks at that level, `heads` those
                    of one
    video           {codec, frames, width, height, channels, fps, seconds}, in pixels
    classes         {count, names}; `names` is null unless asked for, or where there are none
    cost            {flops_per_evaluation, evaluations, passes, flops_per_video,
                    memory: {dtype: {weights, activations, most}}, free_memory};
                    `passes` of the network in each evaluation of one video: 1, or 2 under guidance, where
                    config.sampling.guidance_interval makes some of them 1 and the FLOPs of a video fewer, which are
                    exact where there is a `time`; the FLOPs of one evaluation are those of one pass; memory in bytes
                    for one video at a time, about, for each --dtype: `most` at the worst moment, which may be while the
                    file is read; `free_memory` of this machine, or of the container
    time            {on, device, dtype, start, evaluation, evaluations, decode, video}, if asked for: measured seconds,
                    `on` in words; to start, of one pass of the network (`evaluation`), to decode one video, and of one
                    video with all its passes (`evaluations`) once the network is there; without writing the file
    run             what `mpvideo.training.summary` says of the run, if it is a run's folder
    tensors         [{name, dtype, shape, file}], if asked for
    check           see `mpvideo.checkpoint.health`, if the weights were read
    loads           whether it would load
    problems        [{message, hint}], why not
    warnings        [{message, hint}], what is odd but loads
"""

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from mpvideo.architecture import attention_heads, network_flops, network_plan, network_shapes
from mpvideo.checkpoint.completion import OpenConfigError
from mpvideo.checkpoint.container import WEIGHT_DTYPES, TensorInfo
from mpvideo.checkpoint.contents import PARTS, header_contents
from mpvideo.checkpoint.cures import cure
from mpvideo.checkpoint.fit import find_problems
from mpvideo.checkpoint.header import CONFIG_KEY, Header, is_folder
from mpvideo.checkpoint.infer import described, infer_network
from mpvideo.checkpoint.memory import BYTES_PER_VALUE, free_memory, sampling_memory
from mpvideo.checkpoint.prospect import conversion_hint, prospect
from mpvideo.checkpoint.resolving import config_layers, resolve
from mpvideo.checkpoint.sources import field_sources
from mpvideo.checkpoint.state_folder import has_one_model, state_files
from mpvideo.config import CheckpointConfig, ModelConfig
from mpvideo.errors import CheckpointError
from mpvideo.text import first_ten

Report = dict[str, Any]


_KEYS = (
    *("kind", "path", "name", "cached", "files", "bytes", "dtypes", "parameters", "config", "sources"),
    *("inferred", "open", "metadata", "levels"),
    *("video", "classes", "cost", "time", "run", "tensors", "check", "loads", "problems", "warnings"),
)


def describe(header: Header, *, config_file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Report:
    """Describes a checkpoint as far as it can be described; what is wrong with it ends up under `problems`.

    Args:
        header: read with `strict=False`, if damaged files are to be described too.
        config_file, overrides: as for `resolve_config`.
    """
    tensors = header.tensors.values()
    report: Report = {
        **_nothing(header.path),
        "name": header.name,
        "metadata": {key: value for key, value in header.metadata.items() if key != CONFIG_KEY},
        "files": [file.name for file in header.files],
        "bytes": header.file_size,
        "dtypes": dict(Counter(dtype_word(tensor) for tensor in tensors).most_common()),
        "inferred": _inferred(header),
        "open": [],
        "parameters": _parameters(header),
        "tensors": [
            {"name": item.name, "dtype": dtype_word(item), "shape": list(item.shape), "file": item.file.name}
            for item in tensors
        ],
    }
    problems = list(header.damage)
    try:
        layers = config_layers(header, config_file=config_file, overrides=overrides)
        resolution = resolve(header, layers)
    except OpenConfigError as error:
        report["open"] = [question._asdict() for question in error.questions]
        problems.append(error)
    except CheckpointError as error:
        hint = _conversion(header) if report["inferred"] is None else None
        problems.append(CheckpointError(error.message, hint=hint or error.hint))
    else:
        config = resolution.config
        report |= _from_config(config, sum(tensor.size for tensor in tensors))
        report["sources"] = field_sources(resolution)
        hint = cure(header, config)
        for words in find_problems(header, config):
            problems.append(CheckpointError(words, hint=hint))
            hint = None  # one for all of them
    return with_problems(report, problems)


def unreadable(path: Path, error: CheckpointError) -> Report:
    """The report on a file of which nothing can be said but why."""
    return with_problems(_nothing(path), [error])


def _nothing(path: Path) -> Report:
    return {**dict.fromkeys(_KEYS), "kind": "checkpoint", "path": str(path), "name": path.name, "warnings": []}


def with_problems(report: Report, problems: list[CheckpointError]) -> Report:
    """The report with these problems added to those it has."""
    listed = [*(report["problems"] or ()), *map(_note, problems)]
    return {**report, "loads": not listed, "problems": listed}


def with_warnings(report: Report, warnings: list[CheckpointError]) -> Report:
    """The report with these warnings added to those it has."""
    return {**report, "warnings": [*report["warnings"], *map(_note, warnings)]}


def _note(error: CheckpointError) -> dict[str, str | None]:
    return {"message": error.message, "hint": error.hint}


def dtype_word(tensor: TensorInfo) -> str:
    """A tensor's dtype in torch's words, or in the format's where weights cannot have it."""
    return WEIGHT_DTYPES.get(tensor.dtype, tensor.dtype)


def _conversion(header: Header) -> str | None:
    """The hint for a file that holds a network under other names, or lies beside one that may."""
    if hint := conversion_hint(prospect(header_contents(header))):
        return hint
    if not is_folder(header.path):
        return None
    try:
        files = state_files(header.path)
    except CheckpointError:
        return None
    if has_one_model(files):
        return None
    return f"`mpvideo convert` looks through all of {first_ten([file.name for file in files])}."


def _inferred(header: Header) -> dict[str, Any] | None:
    try:
        found = infer_network({name: tensor.shape for name, tensor in header.tensors.items()})
    except CheckpointError:
        return None
    return described(found)


def _parameters(header: Header) -> dict[str, Any]:
    parts = dict.fromkeys([*PARTS.values(), "other"], 0)
    for tensor in header.tensors.values():
        parts[PARTS.get(tensor.name.split(".")[0], "other")] += tensor.count
    return {"total": sum(parts.values()), "parts": {part: count for part, count in parts.items() if count}}


def _from_config(config: CheckpointConfig, stored: int) -> Report:
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
            "memory": {dtype: sampling_memory(config, dtype, stored, passes) for dtype in BYTES_PER_VALUE},
            "free_memory": free_memory(),
        },
    }


def _levels(model: ModelConfig) -> list[dict[str, int]]:
    plan = network_plan(model)
    sizes: Counter[str] = Counter()
    for name, shape in network_shapes(model).items():
        sizes[".".join(name.split(".")[:2])] += prod(shape)
    levels: dict[tuple[int, int], dict[str, int]] = {}
    for part, blocks in (("down", plan.downs), ("middle", plan.mids), ("up", plan.ups)):
        for block in blocks:
            level = levels.setdefault(
                (block.frames, block.image_size),
                {
                    "frames": block.frames,
                    "image_size": block.image_size,
                    "width": block.dim_out,
                    **dict.fromkeys(("down", "middle", "up", "attention", "heads", "parameters"), 0),
                },
            )
            level[part] += 1
            level["parameters"] += sizes[block.name]
            if block.attention != "none":
                level["attention"] += 1
                level["heads"] = attention_heads(model, block.dim_out)
    return list(levels.values())

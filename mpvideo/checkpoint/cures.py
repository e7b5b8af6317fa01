"""What a user can do where a checkpoint's tensors do not fit its config."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from mpvideo.architecture import Shape
from mpvideo.checkpoint.header import Header
from mpvideo.checkpoint.infer import infer_network
from mpvideo.config import CheckpointConfig, ModelConfig
from mpvideo.errors import CheckpointError
from mpvideo.text import printable

_INPUT, _OUTPUT = "input_block.weight", "output_block.0.weight"
_NOISE, _CLASS = "to_time_emb.1.weight", "to_class_emb.weight"


def cure(header: Header, config: CheckpointConfig) -> str | None:
    """The hint for a checkpoint whose tensors are missing, left over or misshapen; None where nothing is known.

    Names under a prefix want a conversion; fields that single tensors tell, and that the config has otherwise, want
    --set.
    """
    if (prefix := common_prefix(header.tensors)) is not None:
        return f"All names begin with {printable(prefix)!r}: `mpvideo convert` takes that off."
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    told = _told_by_whole(shapes, config.model) or _told_by_shapes(shapes, config.model)
    flags = [
        f"--set model.{name}={_word(value)}" for name, value in told.items() if value != getattr(config.model, name)
    ]
    if flags:
        return f"By its shapes: {' '.join(flags)}."
    if config.video.autoencoder is not None and not any(name.startswith("codec.") for name in shapes):
        return (
            "Latents need the autoencoder that makes pixels of them, under codec. in the same file; one in a file of "
            "its own cannot be used yet."
        )
    return None


def common_prefix(names: Collection[str]) -> str | None:
    """What stands before the name of the first convolution, if it stands before anything at all."""
    ends = [name.removesuffix(_INPUT) for name in names if name.endswith("." + _INPUT)]
    return min(ends, key=len) if ends and _INPUT not in names else None


def _told_by_whole(shapes: Mapping[str, Shape], model: ModelConfig) -> dict[str, Any]:
    """The fields that all tensors together tell; nothing where they are not those of one network."""
    try:
        found = infer_network(shapes)
    except CheckpointError:
        return {}
    told = dict(found.determined)
    blocks = told["num_blocks_per_stage"]
    if model.stage_blocks == ((blocks,) * (found.num_stages + 1) if isinstance(blocks, int) else blocks):
        del told["num_blocks_per_stage"]  # there are several ways to say it
    if model.num_downsamples == found.num_stages:
        heights = found.attn_res(model.image_size, model.stage_types)
        levels = found.levels(model.image_size, model.stage_types)
        if heights is not None and found.attention != tuple(height in model.attn_res for height in levels):
            told["attn_res"] = heights
    return told


def _told_by_shapes(shapes: Mapping[str, Shape], model: ModelConfig) -> dict[str, int | bool | None]:
    """The fields that the shape of one tensor gives away."""
    told: dict[str, int | bool | None] = {}
    if len(shape := shapes.get(_OUTPUT, ())) == 5:
        told |= {"channels": shape[0], "dim": shape[1]}
        if len(into := shapes.get(_INPUT, ())) == 5 and shape[0]:
            told["self_condition"] = into[1] == 2 * shape[0] + 1
    if len(shape := shapes.get(_NOISE, ())) == 2:
        told["fourier_dim"] = shape[1]
    if len(shape := shapes.get(_CLASS, ())) == 2:
        told["num_classes"] = shape[1]
    elif _INPUT in shapes:
        told["num_classes"] = None
    if len(shape := shapes.get("mids.0.attn.mem_kv", ())) == 4:
        told["attn_dim_head"] = shape[3]
    if _INPUT in shapes and model.factorize_space_time_attn != (
        factorized := any(".attn.0." in name for name in shapes)
    ):
        told["factorize_space_time_attn"] = factorized
    return told


def _word(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))

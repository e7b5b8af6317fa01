"""Files built by hand so that they can be wrong in every way, and the tiny checkpoint of the tests."""

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

from mpvideo.config import AutoencoderConfig, CheckpointConfig, ModelConfig, VideoConfig
from tests.checkpoints import CONFIG, random_tensors

__all__ = ["CONFIG", "entry", "latent_config", "pack", "put", "random_tensors", "with_shapes"]


def latent_config(**changes: Any) -> CheckpointConfig:
    """A latent checkpoint with two levels and two halvings by its autoencoder."""
    model = ModelConfig(
        image_size=4,
        frames=4,
        dim=4,
        dim_max=8,
        num_classes=3,
        num_downsamples=1,
        num_blocks_per_stage=1,
        attn_res=(2,),
    )
    video = VideoConfig(codec="latent", autoencoder=AutoencoderConfig(width=2, num_downsamples=2))
    return CheckpointConfig(model=model, video=video, **changes)


def pack(header: object, data: bytes = b"") -> bytes:
    """A safetensors file from its header (JSON text, or what becomes it) and its data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(start: int, stop: int, shape: list[Any] | None = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(stop - start) // 4] if shape is None else shape, "data_offsets": [start, stop]}


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def with_shapes(path: Path, shapes: dict[str, tuple[int, ...]], config: object = None, dtype: str = "F32") -> Path:
    """A file of zeros with tensors of these shapes; `config` goes into the header as JSON, or as it is if text."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    if config is not None:
        header["__metadata__"] = {"mpvideo": config if isinstance(config, str) else json.dumps(config)}
    return put(path, pack(header, bytes(end)))

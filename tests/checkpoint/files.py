"""Tiny checkpoints for the tests, built by hand so that they can be wrong in every way."""

import json
import struct
from pathlib import Path
from typing import Any

import torch

from mpvideo.architecture import checkpoint_shapes
from mpvideo.config import AutoencoderConfig, CheckpointConfig, ModelConfig, VideoConfig

MODEL = ModelConfig(
    image_size=4, frames=4, dim=4, dim_max=8, num_downsamples=1, num_blocks_per_stage=1, attn_res=(2,), channels=3
)
CONFIG = CheckpointConfig(model=MODEL, video=VideoConfig(codec="rgb"))


def latent_config(**changes: Any) -> CheckpointConfig:
    settings: dict[str, Any] = {**MODEL.__dict__, "channels": 4, "num_classes": 3}
    video = VideoConfig(codec="latent", autoencoder=AutoencoderConfig(width=2, num_downsamples=2))
    return CheckpointConfig(model=ModelConfig(**settings), video=video, **changes)


def random_tensors(config: CheckpointConfig = CONFIG, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = checkpoint_shapes(config)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def pack(header: object, data: bytes = b"") -> bytes:
    """A safetensors file from its header (JSON text, or what becomes it) and its data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(start: int, stop: int, shape: list[Any] | None = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(stop - start) // 4] if shape is None else shape, "data_offsets": [start, stop]}


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path

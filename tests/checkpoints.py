"""The tiny checkpoint of the tests, with each codec, and its random weights."""

from pathlib import Path
from typing import Any

import torch

from mpvideo.architecture import checkpoint_shapes
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.config import AutoencoderConfig, CheckpointConfig, ModelConfig, SamplingConfig, VideoConfig

NAMES = ("red cat", "red dog", "blue cat")


def tiny_config(codec: str = "rgb", num_classes: int | None = 3, **model: Any) -> CheckpointConfig:
    """A network that samples in a blink: 4 frames of 8x8, three classes."""
    autoencoder = AutoencoderConfig(width=4, latent_channels=2, num_downsamples=1) if codec == "latent" else None
    video = VideoConfig(codec=codec, autoencoder=autoencoder)  # type: ignore[arg-type]
    return CheckpointConfig(
        model=ModelConfig(
            **{
                "image_size": 8, "frames": 4, "dim": 8, "dim_max": 16, "channels": video.channels,
                "num_downsamples": 1, "num_blocks_per_stage": 1, "attn_res": (4,), "attn_dim_head": 8,
                "num_classes": num_classes, **model,
            }
        ),
        video=video,
        sampling=SamplingConfig(sampler="heun", steps=3),
        classes=NAMES if num_classes == 3 else None,
    )  # fmt: skip


CONFIG = tiny_config(num_classes=None)


def random_tensors(config: CheckpointConfig = CONFIG, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Random weights, the same ones every time; gains are such that every part of the network matters."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: (torch.full(shape, 0.4) if name.endswith("gain") else torch.randn(shape, generator=generator)).to(dtype)
        for name, shape in checkpoint_shapes(config).items()
    }
    if config.video.autoencoder is not None:
        tensors["codec.std"] = torch.ones_like(tensors["codec.std"])
    return tensors


def save_tiny(path: Path, config: CheckpointConfig) -> Path:
    """Saves a checkpoint with random weights."""
    save_checkpoint(path, random_tensors(config), config)
    return path

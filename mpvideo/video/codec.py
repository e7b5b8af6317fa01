"""What the network's channels mean: pixels, or latents of an autoencoder."""

from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from mpvideo.video.autoencoder import Autoencoder


class Codec(Protocol):
    """Between the network's tensor (B, C, T, H, W) and frames (B, T, H, W, C) of uint8 pixels."""

    def encode(self, frames: Tensor) -> Tensor:
        """Frames, uint8, to the network's tensor, float32."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """The network's tensor to frames, uint8; values outside the range are clipped."""
        ...


def to_unit(frames: Tensor) -> Tensor:
    """Pixels 0..255 of uint8 to [-1, 1] of float32."""
    return frames.float() / 127.5 - 1


def to_pixels(x: Tensor) -> Tensor:
    """Values in [-1, 1] to pixels 0..255 of uint8, rounded; values outside are clipped, in float32.

    Raises:
        FloatingPointError: a value is NaN or infinite.
    """
    if not x.isfinite().all():
        raise FloatingPointError("decoded values must be finite, got NaN or infinity")
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


class PixelCodec:
    """The channels are pixels in [-1, 1]: gray, RGB or RGBA."""

    def encode(self, frames: Tensor) -> Tensor:
        """See `Codec`."""
        return rearrange(to_unit(frames), "b t h w c -> b c t h w").contiguous()

    def decode(self, x: Tensor) -> Tensor:
        """See `Codec`."""
        return rearrange(to_pixels(x), "b c t h w -> b t h w c").contiguous()


class LatentCodec:
    """The channels are latents: each frame passes through an autoencoder.

    Args:
        autoencoder: makes latents of unit variance, in the dtype of its weights.
        sigma_data: standard deviation that the network's tensor has.
        frames_at_once: how many images the autoencoder is given at a time.
    """

    def __init__(self, autoencoder: Autoencoder, sigma_data: float, frames_at_once: int = 64) -> None:
        self.autoencoder = autoencoder
        self.sigma_data = sigma_data
        self.frames_at_once = frames_at_once
        self.dtype = next(autoencoder.parameters()).dtype

    def encode(self, frames: Tensor) -> Tensor:
        """See `Codec`."""
        images = rearrange(frames, "b t h w c -> (b t) c h w")
        latents = [
            self.autoencoder.encode(to_unit(part).to(self.dtype)) for part in torch.split(images, self.frames_at_once)
        ]
        x = torch.cat(latents).float() * self.sigma_data
        return rearrange(x, "(b t) c h w -> b c t h w", b=len(frames)).contiguous()

    def decode(self, x: Tensor) -> Tensor:
        """See `Codec`."""
        latents = rearrange((x / self.sigma_data).to(self.dtype), "b c t h w -> (b t) c h w")
        images = [to_pixels(self.autoencoder.decode(part)) for part in torch.split(latents, self.frames_at_once)]
        return rearrange(torch.cat(images), "(b t) c h w -> b t h w c", b=len(x)).contiguous()

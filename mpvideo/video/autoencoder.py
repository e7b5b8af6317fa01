"""The tiny per-frame autoencoder that lets a small network work on latents, as the paper's 512-pixel models do."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpvideo.architecture import ConvPlan, autoencoder_plan
from mpvideo.config import AutoencoderConfig

LATENT_LIMIT = 3.0
"""Raw latents lie in ±LATENT_LIMIT, softly: a bounded range keeps the noise added in training meaningful."""


class Autoencoder(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] <-> latents (N, Z, H / factor, W / factor) of zero mean and unit variance.

    The plan of its convolutions is `mpvideo.architecture.autoencoder_plan`. The buffers `mean` and `std`, (Z,), are
    the statistics of its raw latents over the training data; until they are measured they are 0 and 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self._plans = encoder, decoder = autoencoder_plan(config)
        self.encoder = nn.ModuleList(_conv(plan, stride=plan.factor) for plan in encoder)
        self.decoder = nn.ModuleList(_conv(plan, stride=1) for plan in decoder)
        self.register_buffer("mean", torch.zeros(config.latent_channels))
        self.register_buffer("std", torch.ones(config.latent_channels))

    def encode_raw(self, images: Tensor) -> Tensor:
        """Images to latents as the encoder makes them, neither centred nor scaled."""
        x = F.pixel_unshuffle(images, 2)
        for index, (plan, conv) in enumerate(zip(self._plans[0], self.encoder, strict=True)):
            x = _apply(conv, plan, x, first=index == 0)
        return LATENT_LIMIT * torch.tanh(x / LATENT_LIMIT)

    def decode_raw(self, latents: Tensor) -> Tensor:
        """Latents as `encode_raw` makes them to images."""
        x = latents
        for index, (plan, conv) in enumerate(zip(self._plans[1], self.decoder, strict=True)):
            if plan.factor == 2:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = _apply(conv, plan, x, first=index == 0)
        return F.pixel_shuffle(x, 2)

    def encode(self, images: Tensor) -> Tensor:
        """Images to latents of zero mean and unit variance."""
        return (self.encode_raw(images) - self._column(self.mean, images)) / self._column(self.std, images)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of `encode`, about; values may leave [-1, 1] a little."""
        return self.decode_raw(latents * self._column(self.std, latents) + self._column(self.mean, latents))

    @staticmethod
    def _column(values: Tensor, like: Tensor) -> Tensor:
        return values.to(like.dtype).view(-1, 1, 1)


def _conv(plan: ConvPlan, stride: int) -> nn.Conv2d:
    return nn.Conv2d(plan.dim_in, plan.dim_out, 3, stride=stride, padding=1)


def _apply(conv: nn.Module, plan: ConvPlan, x: Tensor, *, first: bool) -> Tensor:
    y: Tensor = conv(x if first else F.silu(x))
    return x + y if plan.residual else y

"""Training the tiny per-frame autoencoder."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mpvideo.config import AutoencoderConfig
from mpvideo.training import Say
from mpvideo.training.loss import learning_rate
from mpvideo.video.autoencoder import Autoencoder
from mpvideo.video.codec import to_unit

LATENT_NOISE = 0.1
"""Standard deviation of the noise added to raw latents, so that the decoder forgives a sampler's small errors."""


def train_autoencoder(
    config: AutoencoderConfig,
    images: Iterator[Tensor],
    *,
    steps: int,
    peak_rate: float = 2e-3,
    warmup_steps: int = 100,
    seed: int = 0,
    say: Say,
) -> Autoencoder:
    """Trains on endless batches, then measures the statistics of the latents.

    The loss is the sum of absolute and squared error. After the warm-up the rate falls linearly to zero.

    Args:
        config: the architecture.
        images: batches (N, H, W, 3) of uint8 pixels.
        steps: how many of them to train on.
        peak_rate, warmup_steps: of Adam's rate.
        seed: seeds weights and noise.
        say: told now and then how it goes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = Autoencoder(config)
        optimizer = torch.optim.Adam(autoencoder.parameters(), betas=(0.9, 0.99), fused=True)
        for step in range(steps):
            rate = learning_rate(step, peak=peak_rate, warmup_steps=warmup_steps, decay_steps=steps)
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - step / steps)
            error = _train_step(autoencoder, optimizer, _batch(images))
            if step % 200 == 199:
                psnr = -10 * torch.log10(error / 4)
                say(f"autoencoder: step {step + 1} of {steps}, PSNR {psnr:.1f} dB")
    _measure_latents(autoencoder, images)
    autoencoder.eval().requires_grad_(False)
    return autoencoder


def _batch(images: Iterator[Tensor]) -> Tensor:
    """The next batch as the autoencoder takes it: (N, 3, H, W) in [-1, 1]."""
    return to_unit(next(images)).permute(0, 3, 1, 2)


def _train_step(autoencoder: Autoencoder, optimizer: torch.optim.Optimizer, batch: Tensor) -> Tensor:
    """Takes one optimiser step; returns the mean squared error."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents = autoencoder.encode_raw(batch)
        output = autoencoder.decode_raw(latents + LATENT_NOISE * torch.randn_like(latents))
    error = output.float() - batch
    squared = error.square().mean()
    optimizer.zero_grad()
    (error.abs().mean() + squared).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return squared.detach()


@torch.no_grad()
def _measure_latents(autoencoder: Autoencoder, images: Iterator[Tensor], batches: int = 32) -> None:
    latents = torch.cat([autoencoder.encode_raw(_batch(images)) for _ in range(batches)])
    autoencoder.mean.copy_(latents.mean(dim=(0, 2, 3)))
    autoencoder.std.copy_(latents.std(dim=(0, 2, 3)))

"""Training the tiny per-frame autoencoder."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mpvideo.config import AutoencoderConfig
from mpvideo.training.loss import learning_rate
from mpvideo.video.autoencoder import Autoencoder
from mpvideo.video.codec import to_unit

LATENT_NOISE = 0.1
"""Standard deviation of the noise added to raw latents, so that the decoder forgives a sampler's small errors."""

Report = Callable[[str], None]


def train_autoencoder(
    config: AutoencoderConfig,
    images: Iterator[Tensor],
    *,
    seconds: float,
    peak_rate: float = 2e-3,
    seed: int = 0,
    report: Report,
) -> Autoencoder:
    """Trains on endless batches, for a time, then measures the statistics of the latents.

    The loss is the sum of absolute and squared error. The rate falls linearly to zero over the time given.

    Args:
        config: the architecture.
        images: batches (N, H, W, 3) of uint8 pixels.
        seconds: how long to train.
        peak_rate: Adam's rate after the warm-up.
        seed: seeds weights and noise.
        report: takes a line of text now and then.
    """
    torch.manual_seed(seed)
    autoencoder = Autoencoder(config)
    optimizer = torch.optim.Adam(autoencoder.parameters(), betas=(0.9, 0.99), fused=True)
    began = last_report = time.monotonic()
    step = 0
    while (elapsed := time.monotonic() - began) < seconds:
        rate = learning_rate(step, peak=peak_rate, warmup_steps=100, decay_steps=10**9) * (1 - elapsed / seconds)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = to_unit(next(images)).permute(0, 3, 1, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            latents = autoencoder.encode_raw(batch)
            output = autoencoder.decode_raw(latents + LATENT_NOISE * torch.randn_like(latents))
        error = output.float() - batch
        loss = error.abs().mean() + error.square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step += 1
        if time.monotonic() - last_report > 15:
            last_report = time.monotonic()
            psnr = -10 * torch.log10(error.detach().square().mean() / 4)
            report(f"autoencoder: step {step}, {elapsed:.0f} s, loss {loss.item():.4f}, PSNR {psnr:.1f} dB")
    _measure_latents(autoencoder, images)
    autoencoder.eval().requires_grad_(False)
    return autoencoder


@torch.no_grad()
def _measure_latents(autoencoder: Autoencoder, images: Iterator[Tensor], batches: int = 32) -> None:
    latents = torch.cat([autoencoder.encode_raw(to_unit(next(images)).permute(0, 3, 1, 2)) for _ in range(batches)])
    autoencoder.mean.copy_(latents.mean(dim=(0, 2, 3)))
    autoencoder.std.copy_(latents.std(dim=(0, 2, 3)))

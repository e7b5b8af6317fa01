"""Training the tiny per-frame autoencoder."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mpvideo.config import AutoencoderConfig
from mpvideo.errors import CheckpointError
from mpvideo.files import atomic_path, reason
from mpvideo.text import printable
from mpvideo.training.adam import Adam
from mpvideo.training.draws import generator_for
from mpvideo.training.loss import learning_rate
from mpvideo.training.recipe import TrainingDtype
from mpvideo.video.autoencoder import Autoencoder
from mpvideo.video.codec import to_pixels, to_unit

LATENT_NOISE = 0.5
"""Noise added to the latents in training, in standard deviations of them, so that the decoder forgives errors.

Measured on the menagerie, by the judge of `mpvideo.evaluation`: with 0.1 the decoder lost one animal in ten to noise of
0.5, with 0.5 none to noise of 0.7.
"""

IMAGES_PER_STEP = 64

Images = Callable[[range], Tensor]
"""Maps numbers to single frames (N, H, W, 3) of uint8 pixels; always to the same ones."""


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio in dB, of a mean squared error of values in [-1, 1]; NaN if that is no number."""
    return 10 * math.log10(4 / max(error, 1e-10)) if math.isfinite(error) else math.nan


class AutoencoderTrainer:
    """Autoencoder and optimiser, and how to go on from a snapshot of them.

    The loss is the sum of absolute and squared error. After the warm-up the rate falls linearly to zero.

    Args:
        config: the architecture.
        images: what to train on; the steps take their numbers from 0 on.
        initial: whose weights to begin with; None for random ones.
        steps: how many there will be.
        peak_rate, warmup_steps: of Adam's rate.
        dtype: what the convolutions compute in; weights and their updates stay in float32.
        seed: seeds weights and noise.
        device: where to train.
    """

    def __init__(
        self,
        config: AutoencoderConfig,
        images: Images,
        *,
        initial: Autoencoder | None = None,
        steps: int,
        peak_rate: float = 2e-3,
        warmup_steps: int = 100,
        dtype: TrainingDtype = "float32",
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.autoencoder: Autoencoder = Autoencoder(config).to(  # type: ignore[call-overload]
                device, memory_format=torch.channels_last
            )
        if initial is not None:
            self.autoencoder.load_state_dict(initial.state_dict())
        self.images = images
        self.steps = steps
        self.peak_rate, self.warmup_steps, self.seed = peak_rate, warmup_steps, seed
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.optimizer = Adam(self.autoencoder.parameters())
        self.step = 0

    def train_step(self) -> float:
        """Takes one optimiser step; returns the mean squared error, of values in [-1, 1]."""
        batch = self._batch(range(self.step * IMAGES_PER_STEP, (self.step + 1) * IMAGES_PER_STEP))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            latents = self.autoencoder.encode_raw(batch)
        latents = latents.float()
        generator = generator_for(self.seed, "autoencoder", self.step)
        noise = torch.randn(latents.shape, generator=generator).to(self.device)
        # Of latents that are all the same, the square root alone would have no gradient.
        deviation = (latents.var(dim=(0, 2, 3), keepdim=True) + 1e-8).sqrt()
        noisy = latents + LATENT_NOISE * deviation * noise
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            images = self.autoencoder.decode_raw(noisy)
        error = images.float() - batch
        squared = error.square().mean()
        self.optimizer.zero_grad()
        (error.abs().mean() + squared).backward()  # type: ignore[no-untyped-call]
        rate = learning_rate(self.step, peak=self.peak_rate, warmup_steps=self.warmup_steps, decay_steps=self.steps)
        self.optimizer.rate = rate * (1 - self.step / self.steps)
        self.optimizer.step()
        self.step += 1
        return float(squared.detach())

    @torch.no_grad()
    def finished(self, batches: int = 32) -> Autoencoder:
        """The autoencoder, after the statistics of its latents were measured on the images after those of the steps."""
        parts = []
        for index in range(self.steps, self.steps + batches):
            parts.append(
                self.autoencoder.encode_raw(self._batch(range(index * IMAGES_PER_STEP, (index + 1) * IMAGES_PER_STEP)))
            )
        latents = torch.cat(parts)
        self.autoencoder.mean.copy_(latents.mean(dim=(0, 2, 3)))
        # Latents that never differ are divided by it all the same.
        self.autoencoder.std.copy_(latents.std(dim=(0, 2, 3)).clamp(min=1e-4))
        return self.autoencoder.eval().requires_grad_(False)

    @torch.no_grad()
    def preview(self, count: int = 8) -> tuple[Tensor, Tensor]:
        """The first images after those of the steps, and what the autoencoder makes of them without noise.

        Both are (count, H, W, 3) of uint8 pixels, on the CPU.
        """
        first = self.steps * IMAGES_PER_STEP
        batch = self._batch(range(first, first + count))
        decoded = self.autoencoder.decode_raw(self.autoencoder.encode_raw(batch))
        # One that diverged shows as gray, and does not end its training here.
        decoded = decoded.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        seen, made = (to_pixels(x).permute(0, 2, 3, 1).cpu() for x in (batch, decoded))
        return seen, made

    def _batch(self, numbers: range) -> Tensor:
        """Images as the autoencoder takes them: (N, 3, H, W) in [-1, 1]."""
        images = to_unit(self.images(numbers)).permute(0, 3, 1, 2)
        return images.to(self.device, memory_format=torch.channels_last)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {
            "step": self.step,
            "steps": self.steps,
            "autoencoder": self.autoencoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to a state.

        Raises:
            CheckpointError: it is that of a training of another length, or of something else.
        """
        if not all(isinstance(state.get(name), int) for name in ("step", "steps")):
            raise CheckpointError(
                "the snapshot must be that of an autoencoder in training, but is something else",
                hint="Put the run's own in its place, or train in another folder.",
            )
        if state.get("steps") != self.steps:
            raise CheckpointError(
                f"autoencoder_steps must stay what this run was begun with, {state.get('steps')}, got {self.steps}",
                hint="Train in another folder, or give the settings that the run was begun with.",
            )
        self.step = state["step"]
        self.autoencoder.load_state_dict(state["autoencoder"])
        self.optimizer.load_state_dict(state["optimizer"])


def save_autoencoder(autoencoder: Autoencoder, path: Path) -> None:
    """Writes a trained autoencoder, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in autoencoder.state_dict().items()}
    with atomic_path(path, overwrite=True) as aside:
        aside.write_bytes(save(tensors))


def autoencoder_sha256(autoencoder: Autoencoder) -> str:
    """A hash of the weights in float16, in which a run's checkpoint has them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.to("cpu", torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_autoencoder(path: Path, config: AutoencoderConfig) -> Autoencoder:
    """Reads what `save_autoencoder` wrote.

    Raises:
        CheckpointError: it is not the autoencoder of a run.
    """
    autoencoder = Autoencoder(config)
    try:
        tensors = load(path.read_bytes())
        autoencoder.load_state_dict(tensors)
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise ValueError("it has NaN or infinity in it")
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        # What torch says of tensors that do not fit fills a screen.
        why = "its tensors are not the ones" if isinstance(error, RuntimeError) else reason(error)
        raise CheckpointError(
            f"{printable(path)} is not the autoencoder of a run: {why}",
            hint="Move it away: it is taken from model.safetensors then, or trained anew if the network has not begun.",
        ) from error
    return autoencoder.eval().requires_grad_(False)

"""The training loop: endless samples in, snapshots and a checkpoint's weights out."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from mpvideo.checks import check_float, check_int
from mpvideo.diffusion import class_rows
from mpvideo.diffusion.noise import seeded_generator
from mpvideo.errors import CheckpointError
from mpvideo.files import atomic_path, reason
from mpvideo.nn import KarrasUnet3D
from mpvideo.text import printable
from mpvideo.training import Say
from mpvideo.training.ema import PowerEMA
from mpvideo.training.factored import FactoredClassEmbedding
from mpvideo.training.loss import NoiseDistribution, UncertaintyWeight, denoising_loss, learning_rate, weigh

Batches = Callable[[int], tuple[Tensor, Tensor]]
"""Maps the number of a batch to its clean tensors (B, C, T, H, W), float32, and labels (B,): always the same ones."""

_SIGMA_EDGES = (0.0, 0.2, 0.6, 2.0, 6.0, math.inf)
"""Between these noise levels the log gives the loss apart: a wall at one of them does not show in the mean."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        batch_size: samples of one optimiser step.
        P_mean, P_std: of ln(sigma), see `NoiseDistribution`.
        peak_rate, warmup_steps, decay_steps: see `learning_rate`.
        label_dropout: probability of training a sample without its label, for guidance.
        ema_std: relative width of the weights' moving average.
        bfloat16: whether the network runs in bfloat16; weights and their updates stay in float32.
        seed: seeds noise and dropout.

    Raises:
        ValueError: a field out of range.
    """

    batch_size: int = 16
    P_mean: float = 0.2
    P_std: float = 1.4
    peak_rate: float = 0.006
    warmup_steps: int = 200
    decay_steps: int = 3000
    label_dropout: float = 0.1
    ema_std: float = 0.10
    bfloat16: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_int("batch_size", self.batch_size, 1)
        check_float("P_mean", self.P_mean, -100.0, 100.0)
        check_float("P_std", self.P_std, 0.0, 100.0)
        check_float("peak_rate", self.peak_rate, 0.0, 1.0)
        check_int("warmup_steps", self.warmup_steps, 0)
        check_int("decay_steps", self.decay_steps, 1)
        check_float("label_dropout", self.label_dropout, 0.0, 1.0)
        check_int("seed", self.seed, 0, 2**31 - 1)


class Trainer:
    """Network, optimiser and average, and how to go on from a snapshot of them.

    Step n depends on the state after step n - 1, on n and on the recipe's seed alone, so a resumed run takes the very
    steps that an uninterrupted one would have taken.

    Args:
        net: the network to train, in place.
        recipe: how.
        sigma_data: standard deviation of the clean tensors.
    """

    def __init__(self, net: KarrasUnet3D, recipe: Recipe, *, sigma_data: float) -> None:
        self.net = net.train()
        self.recipe = recipe
        self.sigma_data = sigma_data
        self.uncertainty = UncertaintyWeight().train()
        self.parameters = [*net.parameters(), *self.uncertainty.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, betas=(0.9, 0.99), fused=True)
        self.ema = PowerEMA(net, recipe.ema_std)
        self.step = 0

    def train_step(self, clean: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Takes one optimiser step; returns the noise levels and losses, (B,) each, for the log.

        Args:
            clean: (B, C, T, H, W) float32, standard deviation sigma_data.
            labels: (B,) integers; not looked at by a network without classes.
        """
        recipe = self.recipe
        generator = seeded_generator(recipe.seed * 2**32 + self.step)
        sigma = NoiseDistribution(P_mean=recipe.P_mean, P_std=recipe.P_std).sample(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator)
        kept = torch.rand(len(clean), generator=generator) >= recipe.label_dropout
        rows = None
        if (num_classes := self.net.config.num_classes) is not None:
            rows = class_rows(labels, num_classes) * kept.unsqueeze(1)
        dtype = torch.bfloat16 if recipe.bfloat16 else torch.float32
        with torch.random.fork_rng(devices=[]):  # the network's dropout draws from the global generator
            torch.manual_seed(int(torch.randint(2**32, (), generator=generator)))
            loss = denoising_loss(self.net, clean, noise, sigma, self.sigma_data, rows, dtype)
        weigh(loss, self.uncertainty(sigma.log() / 4)).backward()  # type: ignore[no-untyped-call]
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                self.step, peak=recipe.peak_rate, warmup_steps=recipe.warmup_steps, decay_steps=recipe.decay_steps
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.ema.update(self.net, self.step)
        return sigma, loss.detach()

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, as tensors and plain numbers."""
        return {
            "step": self.step,
            "settings": self._settings(),
            "net": self.net.state_dict(),
            "ema": self.ema.average.state_dict(),
            "uncertainty": self.uncertainty.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to a state.

        Raises:
            CheckpointError: it is the state of another network or another recipe.
        """
        settings, own = state["settings"], self._settings()
        if changed := [name for name in own if settings.get(name) != own[name]]:
            name = changed[0]
            raise CheckpointError(
                f"{name} must be that of the snapshot, {printable(settings.get(name))}, got {printable(own[name])}",
                hint="Train in another folder, or go back to the settings that the snapshot was made with.",
            )
        self.step = state["step"]
        self.net.load_state_dict(state["net"])
        self.ema.average.load_state_dict(state["ema"])
        self.uncertainty.load_state_dict(state["uncertainty"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _settings(self) -> dict[str, Any]:
        """What must not change between the runs of one training."""
        return {**asdict(self.net.config), **asdict(self.recipe), "sigma_data": self.sigma_data}


def train(
    trainer: Trainer,
    batches: Batches,
    snapshot: Path,
    *,
    keep_going: Callable[[], bool],
    snapshot_every: float = 300.0,
    say: Say,
) -> None:
    """Trains until told to stop, going on from `snapshot` if it exists, and leaves the last state there.

    Args:
        trainer: what to train.
        batches: the data.
        snapshot: the file to write, aside and then renamed.
        keep_going: asked before each step whether to take it.
        snapshot_every: seconds between snapshots.
        say: told about every half minute how it goes, with the loss at low to high noise levels.

    Raises:
        CheckpointError: the snapshot is damaged, or is that of another training.
        OutputError: the snapshot cannot be written; the one before is kept.
    """
    if snapshot.exists():
        trainer.load_state(_load(snapshot))
        say(f"network: going on from step {trainer.step}")
    last_report = last_snapshot = time.monotonic()
    seen: list[tuple[Tensor, Tensor]] = []
    while keep_going():
        seen.append(trainer.train_step(*batches(trainer.step)))
        now = time.monotonic()
        if now - last_report > 30:
            say(_progress(trainer, seen, now - last_report))
            seen, last_report = [], now
        if now - last_snapshot > snapshot_every:
            _save(trainer.state(), snapshot)
            last_snapshot = now
    _save(trainer.state(), snapshot)


def _load(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{printable(path)} is not a snapshot that can be read: {reason(error)}",
            hint="Move it away to begin anew, or put a copy of it in its place.",
        ) from error
    return state


def _save(state: dict[str, Any], path: Path) -> None:
    # Into an open file: given a path, torch would write its name into the file and hide what the system said.
    with atomic_path(path, overwrite=True) as aside, aside.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # "unexpected pos", says torch where the disk is full
                raise error.__context__ from error
            raise


def _progress(trainer: Trainer, seen: list[tuple[Tensor, Tensor]], seconds: float) -> str:
    sigma, loss = (torch.cat(parts) for parts in zip(*seen, strict=True))
    levels = []
    for low, high in pairwise(_SIGMA_EDGES):
        within = loss[(sigma >= low) & (sigma < high)]
        levels.append(f"<{high:g}: {float(within.mean()):.3f}" if len(within) else f"<{high:g}: -")
    return (
        f"network: step {trainer.step}, {trainer.step * trainer.recipe.batch_size} samples, "
        f"{len(loss) / seconds:.1f} samples/s, loss {float(loss.mean()):.4f}; by sigma {', '.join(levels)}"
    )


def finished_weights(net: KarrasUnet3D) -> dict[str, Tensor]:
    """A network's weights as a checkpoint holds them: every tensor of its plain form, on the CPU.

    Args:
        net: the network, whose `to_class_emb` may be a `FactoredClassEmbedding`.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
    if isinstance(net.to_class_emb, FactoredClassEmbedding):
        weights["to_class_emb.weight"] = net.to_class_emb.table().detach().cpu()
    return weights

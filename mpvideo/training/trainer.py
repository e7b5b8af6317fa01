"""One optimiser step after another: the network, its objective, the optimiser, the averages."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mpvideo.config import ModelConfig
from mpvideo.diffusion import class_rows
from mpvideo.errors import CheckpointError
from mpvideo.nn import KarrasUnet3D
from mpvideo.processes import ALONE, Processes
from mpvideo.text import printable
from mpvideo.training.adam import Adam
from mpvideo.training.draws import draw_index, generator_for
from mpvideo.training.ema import PowerEMA
from mpvideo.training.loss import NoiseDistribution, learning_rate
from mpvideo.training.objective import Objective
from mpvideo.training.recipe import Recipe, changed_fields

Batches = Callable[[Sequence[int], int | None], tuple[Tensor, Tensor]]
"""Maps the numbers of samples, and the length of short clips or None, to clean tensors (B, C, T, H, W), float32, and
labels (B,) int64; always to the same ones."""

EMA_STDS = (0.05, 0.10)
"""Relative widths of the averages that are kept (EDM2, section 3.2); any other is made of their snapshots."""


@dataclass(frozen=True)
class StepReport:
    """What a step was like: noise levels and losses of its samples, over all processes, both (B,) on the CPU."""

    sigma: Tensor
    loss: Tensor
    nonfinite: int


class Trainer:
    """Network, optimiser and averages, and how to go on from a snapshot of them.

    Step n depends on the state after step n - 1, on n, the recipe's seed and `first_sample` alone, so a resumed run
    takes the very steps that an uninterrupted one would have taken. Every sample draws from a generator of its own, so
    that they are the same however many processes or micro-batches share the work (but for the network's dropout, if it
    has any).

    Args:
        net: the network to train, in place, on the device to train on; the same in all processes.
        recipe: how.
        sigma_data: standard deviation of the clean tensors.
        first_sample: number of the first step's first sample.
        processes: those that train together.

    Raises:
        ValueError: the batch cannot be shared out evenly, or clips do not fit the network.
    """

    def __init__(
        self,
        net: KarrasUnet3D,
        recipe: Recipe,
        *,
        sigma_data: float,
        first_sample: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        self.net = net.train()
        self.recipe = recipe
        self.first_sample = first_sample
        self.processes = processes
        self.device = next(net.parameters()).device
        with torch.random.fork_rng(devices=[]):  # its random features must be the same in all processes
            torch.manual_seed(draw_index(2**32, recipe.seed, "objective"))
            self.objective = Objective(net, sigma_data).to(self.device).train()
        self.parameters = list(self.objective.parameters())
        self.optimizer = Adam(self.parameters)
        self.averages = {std: PowerEMA(net, std) for std in EMA_STDS}
        self.step = 0
        self.samples = 0
        self._shorter = clips_per_sample(recipe, net.config)
        check_shares(recipe, processes)
        self._objective: nn.Module = self.objective
        if processes.count > 1:
            # Gradients stay in the buckets that they are summed in, instead of being copied back.
            self._objective = DistributedDataParallel(self.objective, gradient_as_bucket_view=True)

    def train_step(self, batches: Batches) -> StepReport:
        """Takes one optimiser step."""
        recipe, step = self.recipe, self.step
        coins = torch.rand(2, generator=generator_for(recipe.seed, "step", step))
        clip = recipe.clip_frames if recipe.clip_frames is not None and coins[0] < recipe.clip_share else None
        more = 1 if clip is None else self._shorter
        self_conditioned = self.net.config.self_condition and bool(coins[1] < 0.5)
        # Numbers leave room for steps of short clips, so that no two steps share a sample.
        first = self.first_sample + step * recipe.batch_size * self._shorter
        numbers = self.processes.share(range(first, first + recipe.batch_size * more))
        micro = recipe.micro_batch * more
        parts = [numbers[start : start + micro] for start in range(0, len(numbers), micro)]
        seen = []
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            with nullcontext() if last else self._no_sync():  # gradients travel once, when they are whole
                seen.append(self._backward(part, batches, clip, self_conditioned, len(numbers)))
        nonfinite = self._replace_nonfinite()
        self.optimizer.rate = learning_rate(
            step, peak=recipe.peak_rate, warmup_steps=recipe.warmup_steps, decay_steps=recipe.decay_steps
        )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.samples += recipe.batch_size * more
        for average in self.averages.values():
            average.update(self.step)
        sigma, loss = (torch.cat(column) for column in zip(*seen, strict=True))
        return StepReport(self.processes.gather(sigma), self.processes.gather(loss), nonfinite)

    def _backward(
        self, numbers: range, batches: Batches, clip: int | None, self_conditioned: bool, count: int
    ) -> tuple[Tensor, Tensor]:
        """Adds the gradients of some of the `count` samples; returns their noise levels and losses."""
        recipe = self.recipe
        clean, labels = batches(numbers, clip)
        generators = [generator_for(recipe.seed, "sample", number) for number in numbers]
        # A clip of a quarter of the frames shows as much at half the noise: fewer frames to take the mean over.
        shift = 0.0 if clip is None else 0.5 * math.log(self._shorter)
        noise_levels = NoiseDistribution(P_mean=recipe.P_mean - shift, P_std=recipe.P_std)
        sigma = torch.cat([noise_levels.sample(1, generator) for generator in generators])
        kept = torch.stack([torch.rand((), generator=generator) for generator in generators]) >= recipe.label_dropout
        noise = torch.stack([torch.randn(clean.shape[1:], generator=generator) for generator in generators])
        rows = None
        if (num_classes := self.net.config.num_classes) is not None:
            rows = (class_rows(labels, num_classes) * kept.unsqueeze(1)).to(self.device)
        with torch.random.fork_rng(devices=[]):  # the network's dropout draws from the global generator
            torch.manual_seed(int(torch.randint(2**32, (), generator=generators[0])))
            mean, loss = self._objective(
                clean.to(self.device),
                noise.to(self.device),
                sigma.to(self.device),
                rows,
                dtype=getattr(torch, recipe.dtype),
                self_conditioned=self_conditioned,
            )
            (mean * (len(numbers) / count)).backward()
        return sigma, loss.detach().cpu()

    def _no_sync(self) -> Any:
        return self._objective.no_sync() if isinstance(self._objective, DistributedDataParallel) else nullcontext()

    def _replace_nonfinite(self) -> int:
        """Puts zeros for gradients that are no numbers, as EDM's training does; returns how many there were."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if torch.stack([gradient.sum() for gradient in gradients]).isfinite().all():  # a norm would copy channels last
            return 0
        count = sum(int((~gradient.isfinite()).sum()) for gradient in gradients)
        for gradient in gradients:
            gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        return count

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, as tensors and plain numbers."""
        return {
            "step": self.step,
            "samples": self.samples,
            "first_sample": self.first_sample,
            "settings": self._settings(),
            "objective": self.objective.state_dict(),
            "averages": {f"{std:.3f}": average.average.state_dict() for std, average in self.averages.items()},
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to a state.

        Raises:
            CheckpointError: it is the state of another network or another recipe, or of something else.
        """
        settings, own = state.get("settings"), self._settings()
        # The first snapshots did not say first_sample: all runs began at 0.
        counts: list[Any] = [state.get("step"), state.get("samples"), state.get("first_sample", 0)]
        counted = all(isinstance(count, int) for count in counts)
        if not isinstance(settings, dict) or settings.keys() != own.keys() or not counted:
            raise CheckpointError(
                "the snapshot must be that of a network in training, but is something else",
                hint="Put the run's own in its place, or train in another folder.",
            )
        names = changed_fields(settings["recipe"], self.recipe)
        if settings["model"] != own["model"] or names:
            group, name = ("recipe", names[0]) if names else ("model", _first_change(settings["model"], own["model"]))
            raise CheckpointError(
                f"{name} must stay what this run was begun with, {printable(settings[group].get(name))}, "
                f"got {printable(own[group].get(name))}",
                hint="Train in another folder, or give the settings that the run was begun with.",
            )
        self.step, self.samples, self.first_sample = counts
        self.objective.load_state_dict(state["objective"])
        for std, average in self.averages.items():
            average.average.load_state_dict(state["averages"][f"{std:.3f}"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _settings(self) -> dict[str, Any]:
        """What must not change between the calls of one training."""
        return {"model": asdict(self.net.config), "recipe": asdict(self.recipe)}


def _first_change(before: dict[str, Any], now: dict[str, Any]) -> str:
    return next(name for name in {**now, **before} if before.get(name) != now.get(name))


def clips_per_sample(recipe: Recipe, model: ModelConfig) -> int:
    """How many short clips have the frames of one whole sample; 1 without short clips.

    Raises:
        ValueError: the clips do not divide a sample, or do not fit the network.
    """
    if recipe.clip_frames is None:
        return 1
    if model.frames % recipe.clip_frames:
        raise ValueError(f"clip_frames must divide the length of a sample, {model.frames}, got {recipe.clip_frames}")
    if recipe.clip_frames % model.frames_multiple:
        raise ValueError(
            f"clip_frames must be a multiple of {model.frames_multiple}, by which the network shortens its input, "
            f"got {recipe.clip_frames}"
        )
    return model.frames // recipe.clip_frames


def check_shares(recipe: Recipe, processes: Processes) -> None:
    """Makes sure that a batch can be shared out evenly.

    Raises:
        ValueError: it cannot.
    """
    if recipe.batch_size % processes.count:
        raise ValueError(
            f"batch_size must be a multiple of {processes.count}, the number of processes, got {recipe.batch_size}"
        )

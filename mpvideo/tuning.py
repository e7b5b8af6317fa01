"""The road to a schedule for one model and solver: a teacher's trajectories, the best levels on them, trials."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mpvideo.checks import check_int
from mpvideo.config import SamplingConfig
from mpvideo.device import memory_errors
from mpvideo.diffusion import (
    Branches,
    Denoiser,
    GuidedDenoiser,
    SeededNoise,
    class_rows,
    guidance_of,
    karras_sigmas,
    schedule,
    solver,
)
from mpvideo.diffusion.tuning import DAMPINGS, POWERS, Trajectory, Values, candidates, follow
from mpvideo.errors import MPVideoError
from mpvideo.model import Model
from mpvideo.sampling_config import STOCHASTIC

TEACHER_STEPS = 64
"""Levels among which a schedule is sought."""

_ROUNDS = 2
"""How often all levels are tried a little higher and lower."""

_MOVES = (-2, -1, 1, 2)
"""By how many of the teacher's levels."""

OnEvaluation = Callable[[int], None]
"""`on_evaluation(samples)`, called after each evaluation of the denoiser with the number of samples it advanced."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A schedule and how good it is.

    Attributes:
        sampling: settings with the noise levels.
        error, plain_error: of other videos than those it was sought with: difference from the teacher's, root mean
            square relative to their own, with these levels and with the schedule that the settings had.
    """

    sampling: SamplingConfig
    error: float
    plain_error: float


def evaluations(num_steps: int, each: int, videos: int) -> int:
    """The most evaluations of the denoiser that `tune` takes, of `each` for a video in a trial; all it tells of."""
    trials = 1 + len(DAMPINGS) * len(POWERS) + _ROUNDS * len(_MOVES) * (num_steps - 1)
    return videos * (2 * TEACHER_STEPS + (trials + 2) * each)


@memory_errors("so many videos at once", "Give a smaller --batch-size.")
def tune(
    model: Model,
    sampling: SamplingConfig,
    *,
    videos: int,
    seed: int = 0,
    batch_size: int = 8,
    on_evaluation: OnEvaluation | None = None,
) -> Tuned:
    """Seeks the noise levels with which a solver comes nearest to the teacher's videos.

    The schedules that are best by the errors of single steps are tried out, and the best of them, or the one that the
    settings have if it is better, is improved level by level.

    Args:
        model: the checkpoint.
        sampling: the solver, which must be one without noise of its own; its number of steps; the ends of the schedule
            to begin with; guidance. Noise is not put back.
        videos: how many it is sought with, and as many again that it is judged by, of the seeds from `seed` up.
        batch_size: how many are sampled at once.
        on_evaluation: told of each evaluation, and of those of trials that there is no need for, as if they were made:
            of `evaluations` in all.

    Raises:
        ValueError: the solver draws noise of its own, or there are more steps than the teacher has.
        MPVideoError: the videos come out as NaN or infinity.
        OutOfMemoryError: there is not enough memory for a batch.
    """
    if sampling.solver in STOCHASTIC:
        raise ValueError(f"sampler must be one without noise of its own, got {sampling.solver}")
    check_int("steps", sampling.steps, 1, TEACHER_STEPS)
    plain = replace(sampling, sampler=sampling.solver, s_churn=0.0, restarts=0)
    grid = karras_sigmas(TEACHER_STEPS, plain.sigma_min, plain.sigma_max)
    practice, test = (
        _Videos(model, plain, range(first, first + videos), batch_size=batch_size, on_evaluation=on_evaluation)
        for first in (seed, seed + videos)
    )
    trajectory = practice.teach(grid)
    test.teach(grid)

    tried = 0

    def error(path: Sequence[int]) -> float:
        nonlocal tried
        tried += 1
        return practice.error(_listed(plain, trajectory, path))

    def count(trials: int) -> None:
        """Tells of those trials, among so many, that there was no need for."""
        nonlocal tried
        if on_evaluation is not None and tried < trials:
            on_evaluation((trials - tried) * videos * plain.num_evaluations)
        tried = 0

    paths = candidates(trajectory, plain.solver, plain.steps, model.config.edm.sigma_data)
    least, path = min((error(path), path) for path in paths)
    count(len(DAMPINGS) * len(POWERS))
    if not math.isfinite(least):
        raise _no_numbers()
    for _ in range(_ROUNDS):
        least, path = _improved(error, least, path, TEACHER_STEPS)
        count(len(_MOVES) * (plain.steps - 1))
    found = plain if practice.error(plain) < least else _listed(plain, trajectory, path)
    if not math.isfinite(result := test.error(found)):
        raise _no_numbers()
    return Tuned(sampling=found, error=result, plain_error=test.error(plain))


def _no_numbers() -> MPVideoError:
    return MPVideoError(
        "the sampled videos are not usable: they have NaN or infinity in them",
        hint="Try --dtype float32, or look at the weights with `mpvideo inspect --check`.",
    )


def _listed(plain: SamplingConfig, trajectory: Trajectory, path: Sequence[int]) -> SamplingConfig:
    """The settings with these of the teacher's levels, in six digits."""
    return replace(plain, sigmas=tuple(float(f"{trajectory.sigmas[index]:.6g}") for index in path))


def _improved(
    error: Callable[[Sequence[int]], float], least: float, path: tuple[int, ...], num_levels: int
) -> tuple[float, tuple[int, ...]]:
    """A path after each of its levels but the first was tried higher and lower."""
    for place in range(1, len(path)):
        for move in _MOVES:
            index = path[place] + move
            above = path[place + 1] if place + 1 < len(path) else num_levels
            if path[place - 1] < index < above:
                other = (*path[:place], index, *path[place + 1 :])
                if (its := error(other)) < least:
                    least, path = its, other
    return least, path


class _Videos:
    """Videos of consecutive seeds, in batches: the same start noise for the teacher and every trial.

    Args:
        model: what samples.
        sampling: its guidance is what is used.
        seeds: of the videos.
        batch_size: how many at once.
        on_evaluation: told of each evaluation.
    """

    def __init__(
        self,
        model: Model,
        sampling: SamplingConfig,
        seeds: Sequence[int],
        *,
        batch_size: int,
        on_evaluation: OnEvaluation | None = None,
    ) -> None:
        self._model, self._sampling, self._on_evaluation = model, sampling, on_evaluation
        self._batches = [seeds[start : start + batch_size] for start in range(0, len(seeds), batch_size)]
        self._ends: list[Tensor] = []

    @torch.inference_mode()
    def teach(self, sigmas: Tensor) -> Trajectory:
        """Lets the teacher make the videos; returns what is known of its paths."""
        grams: list[Values] = []
        for seeds in self._batches:
            end, path = follow(*self._start(seeds, sigmas[0].item()), sigmas)
            self._ends.append(end)
            grams.append(path.gram * len(seeds))
        return replace(path, gram=np.sum(grams, axis=0) / sum(map(len, self._batches)))

    @torch.inference_mode()
    def error(self, sampling: SamplingConfig) -> float:
        """How far videos made with these settings are from the teacher's, relative to those: root mean square.

        Infinite where they are not finite.
        """
        missed = total = 0.0
        sigmas, solve = schedule(sampling), solver(sampling)
        for seeds, end in zip(self._batches, self._ends, strict=True):
            denoiser, x = self._start(seeds, sigmas[0].item())
            missed += (solve(denoiser, x, sigmas) - end).square().sum().item()
            total += end.square().sum().item()
        error = float((missed / total) ** 0.5)
        return error if math.isfinite(error) else math.inf

    def _start(self, seeds: Sequence[int], sigma_max: float) -> tuple[Denoiser[Branches], Tensor]:
        """The denoiser of a batch, counted, and its noise."""
        shape = self._model.config.model
        noise = SeededNoise(seeds, self._model.placement.device)
        labels = None
        if shape.num_classes is not None:
            labels = class_rows(noise.random_classes(shape.num_classes), shape.num_classes)
        main = self._model.denoiser(labels, clamp=self._model.config.edm.clamp)
        x = noise.randn(shape.channels, shape.frames, shape.image_size, shape.image_size)
        denoiser = GuidedDenoiser(main, guidance_of(self._sampling))

        def counted(x: Tensor, sigma: float, state: Branches | None) -> tuple[Tensor, Branches | None]:
            result = denoiser(x, sigma, state)
            if self._on_evaluation is not None:
                self._on_evaluation(len(x))
            return result

        return counted, sigma_max * x

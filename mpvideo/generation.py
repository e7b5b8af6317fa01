"""Jobs to videos: the road that data takes from a checkpoint to frames.

checkpoint = open_checkpoint(path)
model = load_model(checkpoint, choose_placement())
for video in generate(model, [Job(seed=0, class_index=207)]):
    video.frames  # (T, H, W, C) uint8
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mpvideo.blend import Blend
from mpvideo.checks import check_int
from mpvideo.config import CheckpointConfig, SamplingConfig
from mpvideo.device import memory_errors
from mpvideo.diffusion import (
    Branches,
    GuidedDenoiser,
    SeededNoise,
    blended_rows,
    evaluated_levels,
    guidance_of,
    schedule,
    solver,
)
from mpvideo.errors import MPVideoError, OutOfMemoryError
from mpvideo.formats import Encoding
from mpvideo.job import BATCH_SIZE, Job
from mpvideo.model import Model
from mpvideo.nn import InferenceUnet3D
from mpvideo.record import Record
from mpvideo.text import printable

AnyJob = TypeVar("AnyJob", bound=Job)

_FRAMES_AT_ONCE = 16
"""Frames that are decoded together: the same in every video, so that their rounding is too."""

OnEvaluation = Callable[[int], None]
"""`on_evaluation(passes)`, called after each evaluation of the denoiser with the passes of the network that it took.

A pass is one of one sample; under guidance there is one for each of its branches. A negative number takes back what a
batch had counted that ran out of memory and is made anew in smaller ones. What it raises ends the sampling.
"""

OnSmallerBatch = Callable[[int, int], None]
"""`on_smaller_batch(tried, size)`: memory did not suffice for `tried` videos at once; from now on it is `size`."""

OnFailure = Callable[[AnyJob, ValueError | OutOfMemoryError], None]
"""`on_failure(job, error)`: a job that does not fit the checkpoint, that its sampler cannot do with such settings, or
whose one video does not fit into memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Video(Generic[AnyJob]):
    """A sampled video, decoded when its frames are asked for.

    Attributes:
        job: what it was made for: the very object.
        class_index: its class, chosen by the seed if the job named none; None for a network without classes.
        model: what made it.
        x: the network's tensor, (C, T, H, W).
    """

    job: AnyJob
    class_index: int | Blend | None
    model: Model
    x: Tensor

    def chunks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Decodes the frames, some at a time: (t, H, W, C) uint8; C = 1 gray, 3 RGB, 4 RGBA. From any thread.

        Raises:
            OutOfMemoryError: there is not enough memory.
            MPVideoError: they came out as NaN or infinity.
        """
        for part in torch.split(self.x, _FRAMES_AT_ONCE, dim=1):
            with memory_errors("one decoded video", "Close other programs, or try another --device."):
                yield _decode(self.model, part)

    @cached_property
    def frames(self) -> npt.NDArray[np.uint8]:
        """All frames, (T, H, W, C) uint8; errors are those of `chunks`."""
        return np.concatenate(list(self.chunks()))

    def record(self, *, frames: int | None = None, encoding: Encoding | None = None, exact: bool = False) -> Record:
        """How it was made.

        Args:
            frames: how many of its frames are kept; None for all.
            encoding: how they are written, if they are.
            exact: whether it was sampled by itself.
        """
        sampling, clamp = _settings(self.job, self.model.config)
        return self.model.recorder.record(
            seed=self.job.seed,
            class_index=self.class_index,
            frames=self.model.config.model.frames if frames is None else frames,
            sampling=dataclasses.replace(sampling, sampler=sampling.solver),
            clamp=clamp,
            encoding=encoding,
            exact=exact,
        )


def drawn_class(seed: int | Blend, num_classes: int) -> int:
    """The class that a seed chooses by itself."""
    return int(SeededNoise([seed]).random_classes(num_classes)[0])


def _class_of(job: Job, num_classes: int | None) -> int | Blend | None:
    """The class that a job names, or else the one that its seed draws."""
    if num_classes is None or job.class_index is not None:
        return job.class_index
    return drawn_class(job.seed, num_classes)


def _label_rows(net: InferenceUnet3D, classes: Sequence[int | Blend | None]) -> Tensor | None:
    """The classes as a network's rows of labels, (B, num_classes); None for one without classes.

    Blends are as long as classes are among the network's own embeddings, so that each network has rows of its own.
    """
    if net.config.num_classes is None:
        return None
    rows = torch.zeros(len(classes), net.config.num_classes)
    for row, chosen in zip(rows, classes, strict=True):
        if isinstance(chosen, Blend):
            row[list(chosen.numbers)] = torch.tensor(chosen.shares)
        elif chosen is not None:
            row[chosen] = 1.0
    return blended_rows(rows, net.class_embedding)


@lru_cache(maxsize=1024)
def count_passes(sampling: SamplingConfig) -> int:
    """Passes of the network for one video: one for each branch, at each noise level where it is evaluated."""
    levels = evaluated_levels(solver(sampling), schedule(sampling))
    if torch.tensor(sampling.guidance) == 1:  # in the dtype in which batches have their strengths
        return len(levels)
    return len(levels) + sum(guidance_of(sampling).evaluated(levels))


def generate(
    model: Model,
    jobs: Iterable[AnyJob | None],
    *,
    batch_size: int = BATCH_SIZE,
    on_evaluation: OnEvaluation | None = None,
    on_smaller_batch: OnSmallerBatch | None = None,
    on_failure: OnFailure[AnyJob] | None = None,
) -> Iterator[Video[AnyJob]]:
    """Samples videos batch by batch and yields them in the order of the jobs.

    Jobs that follow one another share a batch if they differ in seed, class and strength of guidance alone. A seed
    gives the same video at any batch size, up to rounding. So a batch that runs out of memory is made anew in halves,
    and all that follow have at most the size of the half.

    Args:
        model: the checkpoint.
        jobs: what to make. They are taken as they are needed, one more at most than fits a batch: there may be any
            number. None among them says that for now there is no other: what was taken is then made without it.
        batch_size: how many videos are sampled at once.
        on_evaluation: told of each evaluation of the denoiser, in passes of the network; a video takes
            count_passes(job.sampling) of them.
        on_smaller_batch: told when memory does not suffice, once for each size tried.
        on_failure: told of a job that cannot be done, after which the others go on. Without it, the error is raised.

    Raises:
        ValueError: batch_size is out of range; something else is among the jobs; or a job does not fit the checkpoint,
            see `Job.check`, or is nothing that its sampler can do.
        OutOfMemoryError: there is not enough memory for a single video.
    """
    check_int("batch_size", batch_size, 1)

    def fail(job: AnyJob, error: ValueError | OutOfMemoryError) -> None:
        if on_failure is None:
            raise error
        on_failure(job, error)

    waiting = _Waiting(model, jobs, fail)
    while batch := waiting.take(batch_size):
        own: Exception | None = None
        try:
            sampled = _try_batch(model, batch, on_evaluation)
        except _Raised as raised:
            own = raised.error
        except OutOfMemoryError as error:
            if len(batch) == 1:
                fail(batch[0], error)
                continue
            batch_size = len(batch) // 2
            waiting.give_back(batch)
            if on_smaller_batch is not None:
                on_smaller_batch(len(batch), batch_size)
            continue
        except ValueError as error:
            for job in batch:  # they have their settings in common
                fail(job, error)
            continue
        if own is not None:
            raise own
        for job, x, index in zip(batch, *sampled, strict=True):
            yield Video(job=job, class_index=index, model=model, x=x)


class _Raised(Exception):
    """Brings what `on_evaluation` raised past all that is made of the sampling's own errors."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Waiting(Generic[AnyJob]):
    """Jobs that wait to be made: some that were taken already, and the stream of those to come."""

    def __init__(
        self,
        model: Model,
        jobs: Iterable[AnyJob | None],
        fail: Callable[[AnyJob, ValueError], None],
    ) -> None:
        self._config, self._guided = model.config, model.guide is not None
        self._stream, self._fail = iter(jobs), fail
        self._taken: deque[AnyJob] = deque()

    def take(self, size: int) -> list[AnyJob]:
        """The next jobs that share a batch: at most `size`, and none only when there are no more."""
        batch: list[AnyJob] = []
        while len(batch) < size:
            if self._taken:
                job: AnyJob | None = self._taken.popleft()
            else:
                try:
                    job = next(self._stream)
                except StopIteration:
                    break
            if job is None:
                if batch:
                    break
                continue
            if not isinstance(job, Job):
                raise ValueError(f"jobs must be of Job objects, or None, got {printable(repr(job), 80)}")
            try:
                job.check(self._config, guided=self._guided)
            except ValueError as error:
                self._fail(job, error)
                continue
            if batch and shared_settings(job, self._config) != shared_settings(batch[0], self._config):
                self._taken.appendleft(job)
                break
            batch.append(job)
        return batch

    def give_back(self, batch: Sequence[AnyJob]) -> None:
        """Puts back what could not be made."""
        self._taken.extendleft(reversed(batch))


def shared_settings(job: Job, config: CheckpointConfig) -> tuple[SamplingConfig, bool]:
    """What all jobs of a batch have in common: all settings but for the strength of guidance."""
    sampling, clamp = _settings(job, config)
    return _without_strength(sampling), clamp


@lru_cache(maxsize=1024)
def _without_strength(sampling: SamplingConfig) -> SamplingConfig:
    return dataclasses.replace(sampling, guidance=1.0)


def _settings(job: Job, config: CheckpointConfig) -> tuple[SamplingConfig, bool]:
    """How a job is sampled, and whether its estimates are clamped."""
    return job.sampling or config.sampling, config.edm.clamp if job.clamp is None else job.clamp


def _try_batch(
    model: Model, jobs: Sequence[Job], on_evaluation: OnEvaluation | None
) -> tuple[Tensor, Sequence[int | Blend | None]]:
    """Samples one batch; what was counted is taken back if nothing comes of it."""
    passed_on = 0

    def count(passes: int) -> None:
        nonlocal passed_on
        if on_evaluation is None:
            return
        own: Exception | None = None
        try:
            on_evaluation(passes)
        except Exception as error:
            own = error
        if own is not None:  # not where it is handled, which would become a part of its history
            raise _Raised(own)
        passed_on += passes

    try:
        with memory_errors("one video", "Try another --dtype or --device."):
            return _sample(model, jobs, count)
    except (OutOfMemoryError, ValueError):
        if passed_on:
            count(-passed_on)
        raise


def _decode(model: Model, x: Tensor) -> npt.NDArray[np.uint8]:
    """A video's tensor (C, T, H, W), or a part in time of it, to frames (T, H, W, C)."""
    try:
        with torch.inference_mode():
            return model.codec.decode(x.unsqueeze(0))[0].cpu().numpy()
    except FloatingPointError as error:
        raise MPVideoError(
            f"the sampled video is not usable: {error}",
            hint="Try --dtype float32 and the checkpoint's own sampling settings, or look at the weights with "
            "`mpvideo inspect --check`.",
        ) from None


@torch.inference_mode()
def _sample(
    model: Model, jobs: Sequence[Job], on_evaluation: OnEvaluation | None
) -> tuple[Tensor, Sequence[int | Blend | None]]:
    """Samples one batch: (B, C, T, H, W) of the network's tensor, and the classes."""
    model = model.with_own_tables()
    shape = model.config.model
    sampling, clamp = _settings(jobs[0], model.config)
    noise = SeededNoise([job.seed for job in jobs], model.placement.device)
    classes = [_class_of(job, shape.num_classes) for job in jobs]
    main = model.denoiser(_label_rows(model.net, classes), clamp=clamp)
    guide = None
    if model.guide is not None:
        guide = model.guide_denoiser(_label_rows(model.guide.net, classes), clamp=clamp)
    strength = torch.tensor([_settings(job, model.config)[0].guidance for job in jobs], device=model.placement.device)
    denoiser = GuidedDenoiser(main, guidance_of(sampling, strength), guide=guide)

    def counted(x: Tensor, sigma: float, state: Branches | None) -> tuple[Tensor, Branches | None]:
        result = denoiser(x, sigma, state)
        if on_evaluation is not None:
            on_evaluation(denoiser.passes_at(sigma, len(x), state))
        return result

    sigmas, solve = schedule(sampling), solver(sampling)
    asked = denoiser.denoisers(evaluated_levels(solve, sigmas))
    for net in (model.net,) if model.guide is None else (model.net, model.guide.net):
        net.prepare(*((each.noise_embeddings(its), each.class_labels) for each, its in asked if each.net is net))
    x = noise.randn(shape.channels, shape.frames, shape.image_size, shape.image_size) * sigmas[0].item()
    return solve(counted, x, sigmas, noise=noise.randn_like), classes

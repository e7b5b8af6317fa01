"""How long sampling takes on this machine, measured by sampling a little."""

import time
from dataclasses import dataclass
from itertools import pairwise

import torch

from mpvideo.checkpoint import Checkpoint
from mpvideo.device import Placement
from mpvideo.generation import count_passes, generate
from mpvideo.job import Job
from mpvideo.model import load_model
from mpvideo.sampling_config import SamplingConfig

_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class SamplingTime:
    """What one video at a time takes, in seconds.

    Attributes:
        placement: where, and in what, it was measured.
        loading: reading the weights and building the network.
        first: the first pass of the network, which makes ready.
        evaluation: each one after it.
        evaluations: how many one video takes, by the checkpoint's own settings.
        decoding: from the network's tensor to pixels.
    """

    placement: Placement
    loading: float
    first: float
    evaluation: float
    evaluations: int
    decoding: float

    @property
    def video(self) -> float:
        """One video, the network being there."""
        return self.first + (self.evaluations - 1) * self.evaluation + self.decoding


def measure_sampling(checkpoint: Checkpoint, placement: Placement) -> SamplingTime:
    """Loads a checkpoint and samples a video from it in a few steps.

    Raises: as `mpvideo.model.load_model` and `mpvideo.generation.generate`.
    """
    began = _now(placement)
    model = load_model(checkpoint, placement)
    loaded = _now(placement)
    moments: list[tuple[float, int]] = []  # and the passes of the network that were done by then
    done = 0

    def count(passes: int) -> None:
        nonlocal done
        done += passes
        moments.append((_now(placement), done))

    settings = checkpoint.config.sampling
    brief = SamplingConfig(sampler="euler", steps=_STEPS, guidance=settings.guidance)
    (video,) = generate(model, [Job(seed=0, sampling=brief)], on_evaluation=count)
    assert len(video.frames)  # which decodes them
    end = _now(placement)
    rates = [(after - before) / (total - earlier) for (before, earlier), (after, total) in pairwise(moments)]
    return SamplingTime(
        placement=placement,
        loading=loaded - began,
        first=(moments[0][0] - loaded) / moments[0][1],
        evaluation=sorted(rates)[len(rates) // 2],
        evaluations=count_passes(settings),
        decoding=end - moments[-1][0],
    )


def _now(placement: Placement) -> float:
    """The time, when all that was asked of the device is done."""
    if placement.device.type == "cuda":
        torch.cuda.synchronize(placement.device)
    elif placement.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()

"""How long a batch will take, measured by making a little of it."""

import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mpvideo.batch.request import Request
from mpvideo.config import SamplingConfig
from mpvideo.device import Placement
from mpvideo.generation import generate
from mpvideo.job import Job
from mpvideo.video import VideoWriter

_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What making videos takes, in seconds.

    Attributes:
        loading: reading the weights and building the network, once.
        one_pass: one pass of the network for one video, in batches of the size that was asked for.
        writing: decoding one video and writing its file, beside the sampling of the next ones.
    """

    loading: float
    one_pass: float
    writing: float


def measure_pace(request: Request, placement: Placement, batch_size: int) -> Pace:
    """Loads the checkpoint of a request, samples one batch in a few steps and writes one video to a temporary folder.

    Raises: as `mpvideo.model.load_model`, `mpvideo.generation.generate`, `mpvideo.video.VideoWriter` and the request's
        check of the model.
    """
    began = time.monotonic()
    model = request.sources.load(placement)
    if request.check_model is not None:
        request.check_model(model)
    loading = time.monotonic() - began
    brief = SamplingConfig(sampler="euler", steps=_STEPS, guidance=request.sampling.guidance)
    jobs = [Job(seed=seed, class_index=request.class_index, sampling=brief) for seed in range(batch_size)]
    moments: list[tuple[float, int]] = []
    done = 0

    def count(passes: int) -> None:
        nonlocal done
        done += passes
        moments.append((time.monotonic(), done))

    first, *_ = generate(model, jobs, batch_size=batch_size, on_evaluation=count)
    # The first pass makes ready; the median leaves out what else the machine was doing.
    rates = sorted((after - before) / (total - earlier) for (before, earlier), (after, total) in pairwise(moments))
    about = model.config
    suffix = next(iter(request.encoding.format_for(request.path).suffixes), "")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mpvideo-") as folder:
        writer = VideoWriter(
            Path(folder) / f"video{suffix}",
            width=about.pixel_size,
            height=about.pixel_size,
            channels=about.video.pixel_channels,
            encoding=request.encoding,
        )
        with writer:
            for frames in first.chunks():
                writer.write(frames)
    return Pace(loading=loading, one_pass=rates[len(rates) // 2], writing=time.monotonic() - began)

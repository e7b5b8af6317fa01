"""The videos that `mpvideo eval` measures: sampled on the spot, or files that were sampled before.

It imports torch; `mpvideo.cli.evaluate` imports it once the options are known to be good.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mpvideo import menagerie
from mpvideo.checkpoint import Checkpoint
from mpvideo.cli.progress import Ticker, smaller_batch_warning
from mpvideo.config import SamplingConfig
from mpvideo.device import Placement
from mpvideo.errors import UsageError
from mpvideo.evaluation.classes import balanced_classes
from mpvideo.evaluation.folder import sampled_videos, video_files
from mpvideo.evaluation.world import VIDEO_SHAPE, Repaint
from mpvideo.generation import count_evaluations, generate
from mpvideo.job import Job
from mpvideo.model import load_model
from mpvideo.text import printable
from mpvideo.video import read_record
from mpvideo.video.codec import LatentCodec
from mpvideo.video.decode import Frames


class Measured(Protocol):
    """Videos to measure.

    Attributes:
        name: what they are called in messages.
        of_menagerie: whether the judge can read them.
        classes: the class of each video, None for one without.
        protocol: how they are made, as JSON takes it.
        shape: of a video, (T, H, W, C).
        repaint: the way through the autoencoder and back, if there is one.
        work, unit: how much there is to do, for a progress bar.
    """

    name: str
    of_menagerie: bool
    classes: list[int | None]
    protocol: dict[str, Any]
    shape: tuple[int, ...]
    repaint: Repaint | None
    work: int
    unit: str

    def frames(self, ticker: Ticker) -> Iterator[Frames]:
        """Makes or reads the videos one by one, (T, H, W, C) uint8, and tells the ticker."""
        ...


class Sampled:
    """Videos that a checkpoint makes of consecutive seeds, their classes evenly spread; see `Measured`."""

    unit = "evaluations"

    def __init__(
        self,
        checkpoint: Checkpoint,
        placement: Placement,
        sampling: SamplingConfig,
        *,
        clamp: bool | None,
        num: int,
        seed: int,
        batch_size: int,
    ) -> None:
        about = checkpoint.config
        self.name, self._batch_size = checkpoint.name, batch_size
        self.of_menagerie = is_menagerie(checkpoint)
        self.classes: list[int | None] = [None] * num
        if (num_classes := about.model.num_classes) is not None:
            self.classes = [*balanced_classes(num, num_classes, seed)]
        self._jobs = [
            Job(seed=seed + n, class_index=index, sampling=sampling, clamp=clamp)
            for n, index in enumerate(self.classes)
        ]
        self.work = count_evaluations(sampling) * num
        side = about.pixel_size
        self.shape: tuple[int, ...] = (about.model.frames, side, side, about.video.pixel_channels)
        self.model = model = load_model(checkpoint, placement)
        self.repaint: Repaint | None = self._through_codec if isinstance(model.codec, LatentCodec) else None
        self.protocol = {
            "checkpoint": {"name": checkpoint.name, "sha256": model.sha256},
            "num": num,
            "seeds": [seed, seed + num - 1],
            "classes": None if num_classes is None else "each as often as any other, in an order drawn from the seed",
            "sampling": asdict(sampling),
            "clamp": about.edm.clamp if clamp is None else clamp,
            "batch_size": batch_size,
            "device": placement.device_name,
            "dtype": placement.dtype_name,
        }

    def frames(self, ticker: Ticker) -> Iterator[Frames]:
        """See `Measured`."""
        videos = generate(
            self.model,
            self._jobs,
            batch_size=self._batch_size,
            on_evaluation=ticker.advance,
            on_smaller_batch=smaller_batch_warning(ticker),
        )
        for video in videos:
            yield video.frames

    @torch.inference_mode()
    def _through_codec(self, frames: Tensor) -> Tensor:
        codec, device = self.model.codec, self.model.placement.device
        return codec.decode(codec.encode(frames.to(device))).cpu()


class Files:
    """The first `num` videos of a folder that `mpvideo sample` wrote; see `Measured`.

    Raises:
        UsageError: the folder has none, or videos of the menagerie and others.
        MPVideoError: one cannot be read.
    """

    unit = "files"
    repaint: Repaint | None = None  # what made the files may be far away

    def __init__(self, folder: Path, num: int) -> None:
        self.name = folder.resolve().name
        self._paths = video_files(folder, "--videos")[:num]
        self.work = len(self._paths)
        records = [read_record(path) or {} for path in self._paths]
        names = menagerie.class_names()
        known = [_menagerie_class(record, names) for record in records]
        self.of_menagerie = None not in known
        if not self.of_menagerie and any(index is not None for index in known):
            strange = self._paths[known.index(None)]
            raise UsageError(
                f"--videos must be all of the menagerie or none, got {printable(strange)} among others that are",
                hint="Put them into folders of their own.",
            )
        self.classes = known
        first = next(sampled_videos(self._paths[:1], size=VIDEO_SHAPE[1] if self.of_menagerie else None))
        self.shape: tuple[int, ...] = first.shape
        # What the files say of how they were made; the parts that are not the same in all of them are several.
        made_by = {str(record.get("checkpoint")): record.get("checkpoint") for record in records}
        settings = {str(record.get("sampling")): record.get("sampling") for record in records}
        self.protocol = {
            "videos": self.name,
            "num": len(self._paths),
            "checkpoints": list(made_by.values()),
            "sampling": list(settings.values()),
        }

    def frames(self, ticker: Ticker) -> Iterator[Frames]:
        """See `Measured`."""
        for video in sampled_videos(self._paths, size=VIDEO_SHAPE[1] if self.of_menagerie else None):
            yield video
            ticker.advance(1)


def is_menagerie(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint's videos are of the menagerie: its classes, and frames that the judge can read."""
    about = checkpoint.config
    shape = (about.model.frames, about.pixel_size, about.pixel_size, about.video.pixel_channels)
    return about.classes == menagerie.class_names() and shape == VIDEO_SHAPE


def _menagerie_class(record: dict[str, Any], names: tuple[str, ...]) -> int | None:
    """The class of a whole video of the menagerie, by its record; None for any other video."""
    index = record.get("class")
    known = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(names)
    whole = record.get("frames") == menagerie.FRAMES
    return index if known and whole and record.get("class_name") == names[index] else None  # type: ignore[index]

"""The videos that `mpvideo eval` measures: sampled on the spot, or files that were sampled before.

It imports torch; `mpvideo.cli.evaluate` imports it once the options are known to be good.
"""

from collections.abc import Iterator, Sequence
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
from mpvideo.evaluation.nearest import shown_numbers
from mpvideo.evaluation.world import VIDEO_SHAPE, Repaint
from mpvideo.generation import count_passes, generate
from mpvideo.job import Job
from mpvideo.model import load_model
from mpvideo.text import counted, printable
from mpvideo.video import read_record
from mpvideo.video.codec import LatentCodec
from mpvideo.video.decode import Frames


class Measured(Protocol):
    """Videos to measure.

    Attributes:
        name: what they are called in messages.
        misfit: why the judge of the menagerie cannot read them, in words; None if it can.
        classes: the class of each video, None for one without.
        protocol: how they are made, as JSON takes it.
        shape: of a video, (T, H, W, C).
        repaint: the way through the autoencoder and back, if there is one.
        shown: numbers of the menagerie's renderings that their network was trained on first, if that is known.
        work, unit: how much there is to do, for a progress bar.
    """

    name: str
    misfit: str | None
    classes: list[int | None]
    protocol: dict[str, Any]
    shape: tuple[int, ...]
    repaint: Repaint | None
    shown: Sequence[int] | None
    work: int
    unit: str

    def frames(self, ticker: Ticker) -> Iterator[Frames]:
        """Makes or reads the videos one by one, (T, H, W, C) uint8, and tells the ticker."""
        ...


class Sampled:
    """Videos that a checkpoint makes of consecutive seeds, their classes evenly spread; see `Measured`."""

    unit = "passes"

    def __init__(
        self,
        checkpoint: Checkpoint,
        placement: Placement,
        sampling: SamplingConfig,
        *,
        name: str | None = None,
        guide: Checkpoint | None = None,
        guide_name: str | None = None,
        clamp: bool | None,
        num: int,
        seed: int,
        batch_size: int,
    ) -> None:
        about = checkpoint.config
        self.name, self._batch_size = name or checkpoint.name, batch_size
        self.misfit = misfit(checkpoint)
        self.classes: list[int | None] = [None] * num
        if (num_classes := about.model.num_classes) is not None:
            self.classes = [*balanced_classes(num, num_classes, seed)]
        self.shown: Sequence[int] | None = shown_numbers(about.training)
        self._jobs = [
            Job(seed=seed + n, class_index=index, sampling=sampling, clamp=clamp)
            for n, index in enumerate(self.classes)
        ]
        self.work = count_passes(sampling) * num
        side = about.pixel_size
        self.shape: tuple[int, ...] = (about.model.frames, side, side, about.video.pixel_channels)
        self.model = model = load_model(checkpoint, placement, name=name, guide=guide, guide_name=guide_name)
        self.repaint: Repaint | None = self._through_codec if isinstance(model.codec, LatentCodec) else None
        self.protocol = {
            "checkpoint": {"name": self.name, "sha256": model.sha256},
            "guide": None,
            "num": num,
            "seeds": [seed, seed + num - 1],
            "classes": None if num_classes is None else "each as often as any other, in an order drawn from the seed",
            "sampling": asdict(sampling),
            "clamp": about.edm.clamp if clamp is None else clamp,
            "batch_size": batch_size,
            "device": placement.device_name,
            "dtype": placement.dtype_name,
        }
        if model.guide is not None and sampling.guidance != 1:
            self.protocol["guide"] = {"name": model.guide.name, "sha256": model.guide.sha256}

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
    shown: Sequence[int] | None = None

    def __init__(self, folder: Path, num: int) -> None:
        self.name = folder.resolve().name
        self._paths = video_files(folder, "--videos")[:num]
        self.work = len(self._paths)
        records = [read_record(path) or {} for path in self._paths]
        names = menagerie.class_names()
        misfits = [_record_misfit(record, names) for record in records]
        strange = next(
            (f"{printable(path)} {words}" for path, words in zip(self._paths, misfits, strict=True) if words), None
        )
        if strange is not None and None in misfits:
            raise UsageError(
                f"--videos must be videos that the judge of the menagerie can read, all or none, but {strange}",
                hint="Put them into folders of their own.",
            )
        self.misfit = strange
        self.classes = [None if strange else record["class"] for record in records]
        first = next(sampled_videos(self._paths[:1], size=None if strange else VIDEO_SHAPE[1]))
        self.shape: tuple[int, ...] = first.shape
        # What the files say of how they were made; the parts that are not the same in all of them are several.
        made_by = {str(record.get("checkpoint")): record.get("checkpoint") for record in records}
        guided_by = {str(record.get("guide")): record.get("guide") for record in records}
        settings = {str(record.get("sampling")): record.get("sampling") for record in records}
        self.protocol = {
            "videos": self.name,
            "num": len(self._paths),
            "checkpoints": list(made_by.values()),
            "guides": list(guided_by.values()),
            "sampling": list(settings.values()),
        }

    def frames(self, ticker: Ticker) -> Iterator[Frames]:
        """See `Measured`."""
        for video in sampled_videos(self._paths, size=None if self.misfit else VIDEO_SHAPE[1]):
            yield video
            ticker.advance(1)


def misfit(checkpoint: Checkpoint) -> str | None:
    """Why the judge cannot read a checkpoint's videos, in words; None if it can: its classes, and its frames."""
    about = checkpoint.config
    if about.classes != menagerie.class_names():
        return f"those of {printable(checkpoint.name)} are of other classes"
    shape = (about.model.frames, about.pixel_size, about.pixel_size, about.video.pixel_channels)
    if shape != VIDEO_SHAPE:
        return f"those of {printable(checkpoint.name)} are {_words(shape)}, and must be {_words(VIDEO_SHAPE)}"
    return None


def _words(shape: tuple[int, ...]) -> str:
    """(T, H, W, C) in words."""
    T, H, W, C = shape
    return f"{counted(T, 'frame')} of {W}x{H} pixels with {counted(C, 'channel')}"


def _record_misfit(record: dict[str, Any], names: tuple[str, ...]) -> str | None:
    """Why the judge cannot read a video, by its record, in words that follow its name; None if it can."""
    index, frames = record.get("class"), record.get("frames")
    if isinstance(index, list):
        return "is a blend of classes"
    known = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(names)
    if not known or record.get("class_name") != names[index]:  # type: ignore[index]
        return "is of no class of the menagerie, by what it says of itself"
    if frames != menagerie.FRAMES:
        return f"has {printable(frames)} frames, and must have {menagerie.FRAMES}"
    return None

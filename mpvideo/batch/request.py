"""One video that is asked for: how it is sampled, and the file that it goes to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mpvideo.batch.sources import Sources
from mpvideo.config import SamplingConfig
from mpvideo.formats import Encoding
from mpvideo.job import Job
from mpvideo.presets import Preset

if TYPE_CHECKING:
    from mpvideo.model import Model


@dataclass(frozen=True, kw_only=True)
class Request(Job):
    """A job whose video is to be written.

    Attributes:
        index: its number in the batch, from 0.
        sources: what makes it.
        sampling: settings of the sampler; here always given.
        clamp: whether denoised estimates are clamped; here always given.
        path: the file.
        frames: how many frames are kept, from the first.
        encoding: how it is written.
        exact: whether it is sampled by itself.
        metadata: whether the file says how it was made.
        makes_folders: whether the folders of the file are made if they are missing.
        check_model: called with the model; raises an MPVideoError if it is not the one that was meant.
        inputs: files that it is made from, each behind the option that gives it: no video replaces them.
        preset: what --preset names, which may have been made for something else; None without it.
        where: where its job is written, for messages; None if that is a command line.
        warnings: what whoever asked for it should know, the same for all requests of a job.
    """

    index: int
    sources: Sources
    sampling: SamplingConfig
    clamp: bool
    path: Path
    frames: int
    encoding: Encoding
    exact: bool = False
    metadata: bool = True
    makes_folders: bool = False
    inputs: tuple[tuple[str, Path], ...] = ()
    preset: Preset | None = field(default=None, compare=False, repr=False)
    where: str | None = None
    warnings: tuple[str, ...] = field(default=(), compare=False, repr=False)
    check_model: "Callable[[Model], None] | None" = field(default=None, compare=False, repr=False)

"""--grid and --sheet: all videos of a run in one, beside their own files.

Each carries a record, by which the same command knows it again:

    shows     a hash of what decides the videos, in their order, and of how a grid is written
    dtypes    what the network computed them in
    videos    how many there are

With --no-metadata it carries none.
"""

import dataclasses
import hashlib
import json
import os
import re
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpvideo.batch.names import FIELDS, Taken
from mpvideo.batch.resume import Finished, in_the_way
from mpvideo.cli.streams import write_result
from mpvideo.config import SamplingConfig
from mpvideo.errors import MPVideoError, OutputError, UsageError, naming
from mpvideo.formats import STANDARD_OUTPUT, Encoding, warnings_about
from mpvideo.text import counted, printable

if TYPE_CHECKING:
    from mpvideo.batch.request import Request
    from mpvideo.cli.requests import Requests
    from mpvideo.generation import Video
    from mpvideo.record import Record
    from mpvideo.video.contact_sheet import SheetWriter
    from mpvideo.video.decode import Frames
    from mpvideo.video.grid import GridWriter

OVERVIEW_PANEL = "All videos in one"

_FIELD = re.compile(rf"{{({'|'.join(FIELDS)})(:[^}}]*)?}}")

_SETTINGS: dict[str, Callable[[SamplingConfig], str]] = {
    "sampler": lambda sampling: sampling.sampler,
    "steps": lambda sampling: counted(sampling.steps, "step"),
    "guidance": lambda sampling: f"guidance {sampling.guidance:g}",
}
"""The settings of which `sample` takes lists, as captions have them."""

GridPath = Annotated[
    Path | None,
    typer.Option(
        "--grid",
        metavar="FILE",
        help="Also write one video of all, side by side with their classes, seeds and what else differs: .mp4, .webm, "
        ".gif, ... Each is enlarged to 128 pixels if it is smaller, or by --scale.",
        rich_help_panel=OVERVIEW_PANEL,
    ),
]
SheetPath = Annotated[
    Path | None,
    typer.Option(
        "--sheet",
        metavar="FILE",
        help="Also write a picture, .png, of eight frames of each, with the same words.",
        rich_help_panel=OVERVIEW_PANEL,
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overviews:
    """Which overviews a run makes, and how.

    Attributes:
        requests: the videos that they show.
        grid, sheet: where they go; None for none.
        encoding: how the grid is written.
        overwrite: whether existing files may be replaced.
    """

    requests: "Requests"
    grid: Path | None
    sheet: Path | None
    encoding: Encoding
    overwrite: bool

    def check(self, *, missing: int, taken: Taken, finished: Finished) -> tuple[str, ...]:
        """Makes sure, before any work, that they can be written; returns warnings about what they will not show.

        Args:
            missing: how many of the videos are still to be made.
            taken: the names that the videos have.
            finished: recognises what is there.

        Raises:
            UsageError: a wrong name, one that a video has, or too many videos.
            OutputError: one cannot be written, or something else is in its place.
        """
        from mpvideo.video.contact_sheet import check_sheet, check_sheet_name
        from mpvideo.video.grid import check_grid

        wanted = [path for path in (self.grid, self.sheet) if path is not None]
        if not wanted:
            return ()
        for path in wanted:
            if (field := _FIELD.search(str(path))) is not None:
                raise UsageError(
                    f"--grid and --sheet are one file for all videos, whose name has no fields, got {field[0]} in "
                    f"{printable(path)!r}",
                    hint="Fields are for --out.",
                )
            if not taken.take(path):
                raise UsageError(f"--grid and --sheet must have names of their own, got {printable(path)}")
        count = len(self.requests)
        if self.sheet is not None:
            with naming("--sheet", self.sheet):
                check_sheet_name(self.sheet)
        if self.grid is not None and self.grid != STANDARD_OUTPUT:
            with naming("--grid", self.grid):
                self.encoding.format_for(self.grid)
        due = self._due(missing, finished)
        if self.sheet is not None and self.sheet in due:
            with naming("--sheet", self.sheet):
                check_sheet(self.sheet, count, overwrite=due[self.sheet])
        if self.grid is None or self.grid not in due:
            return ()
        side = self.requests.sources.checkpoint.config.pixel_size
        with naming("--grid", self.grid):
            check_grid(
                self.grid,
                count,
                width=side,
                height=side,
                encoding=self.encoding,
                overwrite=due[self.grid],
                caption_lines=self._caption_lines,
            )
        return warnings_about(self.grid, channels=3, encoding=self.encoding)

    @contextmanager
    def writing(self, *, missing: int, finished: Finished, as_json: bool) -> Iterator["Shown"]:
        """What takes the videos; when the block ends well, the overviews are written and their paths told, unless
        standard output has the video.

        Those that cannot be written are in its `errors`: all, if a video is missing, so that the same command makes
        them once it can be made.
        """
        from mpvideo.video.contact_sheet import SheetWriter
        from mpvideo.video.grid import GridWriter

        due = self._due(missing, finished)
        writers: dict[Path, GridWriter | SheetWriter] = {}
        if self.grid is not None and self.grid in due:
            writers[self.grid] = GridWriter(
                self.grid, encoding=self.encoding, overwrite=due[self.grid], caption_lines=self._caption_lines
            ).__enter__()
        if self.sheet is not None and self.sheet in due:
            writers[self.sheet] = SheetWriter(self.sheet, overwrite=due[self.sheet])
        shown = Shown(writers, finished, self._varied)
        try:
            yield shown
            shown.finish(len(self.requests), self._record_of)
            for path in [path for path, error in shown.errors.items() if isinstance(error, OutputError)]:
                if not due[path]:  # what is there now was not there before
                    with suppress(MPVideoError):  # another process has made the very same meanwhile
                        self._check_own(path, finished)
                        del shown.errors[path]
        except BaseException as error:
            shown.abandon(error)
            raise
        if shown.videos < len(self.requests) or self.requests.names.template == str(STANDARD_OUTPUT):
            return
        for asked in (self.grid, self.sheet):
            if asked is not None and asked not in shown.errors:
                write_result(f"{json.dumps({'path': str(asked), 'videos': shown.videos}) if as_json else asked}\n")

    @property
    def _varied(self) -> tuple[str, ...]:
        """Settings of the sampler in which the videos differ."""
        samplings = self.requests.samplings
        return tuple(name for name in _SETTINGS if len({getattr(each, name) for each in samplings}) > 1)

    @property
    def _caption_lines(self) -> int:
        """Lines of a grid's captions: two for class and seed, and one for each of these settings; for blends two for
        each class, one for the seed, and one for each further seed."""
        classes, seeds = self.requests.widest_blends
        return 2 * classes + (classes > 1) + seeds - 1 + len(self._varied)

    def _record_of(self, path: Path, contents: "Contents") -> dict[str, Any] | None:
        """What an overview says of itself; see the module."""
        if not self.requests.metadata:
            return None
        if path != self.grid:
            return contents.record("sheet")
        own = self.encoding
        return contents.record(repr(dataclasses.replace(own, format=own.format_for(path).name, fps=own.rate)))

    def _due(self, missing: int, finished: Finished) -> dict[Path, bool]:
        """The overviews that have to be made, and whether what is in their place may be replaced.

        One that this command made before is: it is made again if a video is, and else it is left.

        Raises:
            OutputError: something else is in the place of one.
        """
        due = {}
        for option, path in (("--grid", self.grid), ("--sheet", self.sheet)):
            if path is None:
                continue
            there = not self.overwrite and path != STANDARD_OUTPUT and os.path.exists(path)  # noqa: PTH110
            if there:
                with naming(option, path):
                    self._check_own(path, finished)
            if missing or not there:
                due[path] = self.overwrite or there
        return due

    def _check_own(self, path: Path, finished: Finished) -> None:
        """Makes sure that an overview shows these videos, by what it says of itself.

        Raises:
            OutputError: it does not, or does not say.
        """
        from mpvideo.video import read_record

        if not self.requests.metadata:
            raise in_the_way(path, "and what was made with --no-metadata cannot be recognised")
        try:
            found = read_record(path)
        except MPVideoError:
            raise in_the_way(path, "and cannot be read as a grid or sheet") from None
        if found is None or "shows" not in found:
            raise in_the_way(path, "and does not say which videos it shows")
        contents = Contents()
        if found.get("videos") == len(self.requests):
            for request in self.requests:
                contents.add(request.index, finished.record(request))
        wanted = self._record_of(path, contents)
        if wanted is None or found["shows"] != wanted["shows"]:
            raise in_the_way(path, "and shows other videos, or is written otherwise")
        if finished.dtype is not None and (dtypes := found.get("dtypes")) != [finished.dtype]:
            words = printable(", ".join(map(str, dtypes)) if isinstance(dtypes, list) else dtypes)
            raise in_the_way(path, f"and shows videos of the dtype {words} instead of {finished.dtype}")


class Contents:
    """What an overview shows, for its record."""

    def __init__(self) -> None:
        self._digests, self._dtypes = dict[int, bytes](), set[str]()

    def add(self, index: int, record: "Record", dtype: str | None = None) -> None:
        """Adds a video by its number and its record, in which another dtype may stand than it was made in."""
        from mpvideo.record import settings_in

        settings = {**settings_in(record.to_dict()), "dtype": None}
        self._digests[index] = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).digest()
        self._dtypes.add(dtype or record.dtype)

    def record(self, written_as: str) -> dict[str, Any]:
        """The record of what shows them, written in this way."""
        ordered = b"".join(self._digests[index] for index in sorted(self._digests))
        shows = hashlib.sha256(ordered + written_as.encode()).hexdigest()
        return {"shows": shows, "dtypes": sorted(self._dtypes), "videos": len(self._digests)}


class Shown:
    """The overviews in the making; they show videos in the order of their numbers.

    What goes wrong with one of them is kept for the end: the videos, and the other one, are made all the same.

    Args:
        writers: what writes each, by its file, and has been entered.
        finished: what recognised the videos that are there.
        varied: settings of the sampler in which the videos differ, for their captions.

    Attributes:
        errors: what went wrong, by file.
        videos: how many were there to be added.
    """

    def __init__(
        self, writers: Mapping[Path, "GridWriter | SheetWriter"], finished: Finished, varied: Sequence[str] = ()
    ) -> None:
        self._writers, self._finished, self._varied = dict(writers), finished, varied
        self._contents = Contents()
        self._found: deque[Request] = deque()
        self.errors: dict[Path, MPVideoError] = {}
        self.videos = 0

    @property
    def wanted(self) -> bool:
        """Whether frames are looked at."""
        return bool(self._writers)

    def add(self, video: "Video[Request]", record: "Record") -> None:
        """Adds a video and how it was made, behind those with smaller numbers that were found."""
        self.videos += 1
        if self._writers:
            self._add_found(before=video.job.index)
            self._contents.add(video.job.index, record)
            self._add(video.job, lambda: video.frames[: video.job.frames])

    def add_found(self, request: "Request") -> None:
        """Adds a video whose file is there already: as it looks in that file."""
        self.videos += 1
        if self._writers:
            insort(self._found, request, key=lambda each: each.index)

    def finish(self, total: int, record_of: Callable[[Path, Contents], dict[str, Any] | None]) -> None:
        """Adds what is still to be added, and writes them if that makes `total` videos.

        Args:
            total: how many there must be.
            record_of: what each says of itself, by its file and what it shows.
        """
        if lacking := total - self.videos:
            videos = counted(lacking, "video")
            for path in [*self._writers]:
                words = f"{printable(path)} is not written: it shows all videos, and {videos} could not be made"
                self._give_up(path, MPVideoError(words))
        self._add_found(before=None)
        for path, writer in self._writers.items():
            writer.record = record_of(path, self._contents)
        self._each(lambda writer: writer.__exit__(None, None, None))

    def abandon(self, error: BaseException) -> None:
        """Gives up those that are not written."""
        for writer in self._writers.values():
            writer.__exit__(type(error), error, None)

    def _add_found(self, before: int | None) -> None:
        from mpvideo.evaluation.folder import sampled_videos
        from mpvideo.video import read_record

        def frames() -> "Frames":
            dtype = str((read_record(request.path) or {}).get("dtype"))
            self._contents.add(request.index, self._finished.record(request), dtype)
            size = request.sources.checkpoint.config.pixel_size
            return next(sampled_videos((request.path,), size=size))

        while self._writers and self._found and (before is None or self._found[0].index < before):
            request = self._found.popleft()
            self._add(request, frames)

    def _add(self, request: "Request", frames: "Callable[[], Frames]") -> None:
        video, caption = cache(frames), self._caption(request)
        self._each(lambda writer: writer.add(video(), caption))

    def _caption(self, request: "Request") -> str:
        """Its class and seed, and the settings in which it differs from others."""
        from mpvideo.record import class_name

        name = class_name(request.class_index, request.sources.checkpoint.config.classes)
        if name is None and request.class_index is not None:
            name = f"class {request.class_index}"
        words = [f"seed {request.seed}"] if name is None else [name, f"seed {request.seed}"]
        return ", ".join([*words, *(_SETTINGS[name](request.sampling) for name in self._varied)])

    def _each(self, act: "Callable[[GridWriter | SheetWriter], None]") -> None:
        """Has each do something; one that fails is given up."""
        for path, writer in [*self._writers.items()]:
            try:
                act(writer)
            except MPVideoError as error:
                self._give_up(path, error)

    def _give_up(self, path: Path, error: MPVideoError) -> None:
        self._writers.pop(path).__exit__(type(error), error, None)
        self.errors[path] = error


def overviews_of(
    requests: "Requests", grid: Path | None, sheet: Path | None, *, out: Path, overwrite: bool
) -> Overviews | None:
    """What --grid and --sheet ask for, if anything.

    Args:
        requests: the videos.
        grid, sheet: the options.
        out: what the videos are called; a grid of another format takes its own default quality.
        overwrite: whether existing files may be replaced.
    """
    if grid is None and sheet is None:
        return None
    encoding = requests.encoding
    if grid is not None and grid.suffix.lower() not in encoding.format_for(out).suffixes:
        encoding = dataclasses.replace(encoding, format=None, crf=None, lossless=False)
    return Overviews(requests=requests, grid=grid, sheet=sheet, encoding=encoding, overwrite=overwrite)

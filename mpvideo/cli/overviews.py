"""--grid and --sheet: all videos of a run in one, beside their own files."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvideo.batch.names import Taken
from mpvideo.cli.streams import write_result
from mpvideo.errors import UsageError
from mpvideo.formats import Encoding, warnings_about
from mpvideo.text import printable

if TYPE_CHECKING:
    from mpvideo.batch.request import Request
    from mpvideo.cli.requests import Requests
    from mpvideo.generation import Video
    from mpvideo.record import Record
    from mpvideo.video.contact_sheet import SheetWriter
    from mpvideo.video.grid import GridWriter

OVERVIEW_PANEL = "All videos in one"

GridPath = Annotated[
    Path | None,
    typer.Option(
        "--grid",
        metavar="FILE",
        help="Also write one video of all, side by side with their classes and seeds: .mp4, .webm, .gif, ...",
        rich_help_panel=OVERVIEW_PANEL,
    ),
]
SheetPath = Annotated[
    Path | None,
    typer.Option(
        "--sheet",
        metavar="FILE",
        help="Also write a picture, .png, of eight frames of each.",
        rich_help_panel=OVERVIEW_PANEL,
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overviews:
    """Which overviews a run makes, and how.

    Attributes:
        grid, sheet: where they go; None for none.
        encoding: how the grid is written.
        overwrite: whether existing files may be replaced.
    """

    grid: Path | None
    sheet: Path | None
    encoding: Encoding
    overwrite: bool

    def check(self, requests: "Requests", *, side: int) -> tuple[str, ...]:
        """Makes sure, before any work, that they can be written; returns warnings about what they will not show.

        Args:
            requests: the videos.
            side: width and height of each, in pixels.

        Raises:
            UsageError: a wrong name, one that a video has, or too many videos.
            OutputError: one cannot be written.
        """
        from mpvideo.video.contact_sheet import check_sheet
        from mpvideo.video.grid import check_grid

        wanted = [path for path in (self.grid, self.sheet) if path is not None]
        if not wanted:
            return ()
        taken = Taken()
        for path in (*(request.path for request in requests), *wanted):
            if not taken.take(path):
                raise UsageError(f"--grid and --sheet must have names of their own, got {printable(path)}")
        if self.sheet is not None:
            check_sheet(self.sheet, len(requests), overwrite=self.overwrite)
        if self.grid is None:
            return ()
        check_grid(self.grid, len(requests), width=side, height=side, encoding=self.encoding, overwrite=self.overwrite)
        return warnings_about(self.grid, channels=3, encoding=self.encoding)

    @contextmanager
    def writing(self, *, as_json: bool) -> Iterator["Shown"]:
        """What takes the videos; when the block ends well, the overviews are written and their paths told."""
        from mpvideo.video.contact_sheet import SheetWriter
        from mpvideo.video.grid import GridWriter

        with ExitStack() as stack:
            writers: list[GridWriter | SheetWriter] = []
            if self.grid is not None:
                writers.append(
                    stack.enter_context(GridWriter(self.grid, encoding=self.encoding, overwrite=self.overwrite))
                )
            if self.sheet is not None:
                writers.append(stack.enter_context(SheetWriter(self.sheet, overwrite=self.overwrite)))
            shown = Shown(writers)
            yield shown
        for path in (self.grid, self.sheet):
            if path is not None and shown.videos:
                write_result(f"{json.dumps({'path': str(path), 'videos': shown.videos}) if as_json else path}\n")


class Shown:
    """The overviews in the making."""

    def __init__(self, writers: Sequence["GridWriter | SheetWriter"]) -> None:
        self._writers = writers
        self.videos = 0

    def add(self, video: "Video[Request]", record: "Record") -> None:
        """Adds a video, called by its class and seed."""
        name = record.class_name
        if name is None and record.class_index is not None:
            name = f"class {record.class_index}"
        caption = f"seed {record.seed}" if name is None else f"{name}, seed {record.seed}"
        for writer in self._writers:
            writer.add(video.frames[: video.job.frames], caption)
        self.videos += 1


def overviews_of(grid: Path | None, sheet: Path | None, *, out: Path, encoding: Encoding, overwrite: bool) -> Overviews:
    """What --grid and --sheet ask for.

    Args:
        grid, sheet: the options.
        out: what the videos are called.
        encoding: how they are written; a grid of another format takes its own default quality.
        overwrite: whether existing files may be replaced.
    """
    if grid is not None and grid.suffix.lower() not in encoding.format_for(out).suffixes:
        encoding = dataclasses.replace(encoding, format=None, crf=None, lossless=False)
    return Overviews(grid=grid, sheet=sheet, encoding=encoding, overwrite=overwrite)

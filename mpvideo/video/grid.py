"""A grid: one video of many samples side by side, each over its caption. Layout: T frames, H rows, W columns.

with GridWriter(Path("grid.mp4"), encoding=Encoding(8)) as grid:
    for video in videos:
        grid.add(video.frames, "golden dog trots, seed 0")

Samples come one after another, and the grid needs all of them for its first frame. So they wait in a temporary file; in
memory there is one frame of the grid at a time, however many samples there are and however long.
"""

import contextlib
import dataclasses
import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from mpvideo.errors import OutputError, UsageError
from mpvideo.files import reason, write_all
from mpvideo.formats import STANDARD_OUTPUT, Encoding
from mpvideo.text import printable
from mpvideo.video.contact_sheet import SMALL_SIDE, check_frames
from mpvideo.video.contact_sheet import enlargement as readable
from mpvideo.video.destination import check_destination
from mpvideo.video.encode import VideoWriter
from mpvideo.video.lettering import INK, LINE, TEXT, drawable, font, wrapped
from mpvideo.video.pixels import Frame, enlarged, rgb_over_black

GAP = 8  # pixels between samples, and around all of them
CAPTION_LINES = 2  # of text below each, unless more are asked for


@dataclass(frozen=True)
class Layout:
    """Where things are in a grid.

    Attributes:
        columns, rows: how many samples side by side, and above each other.
        scale: by how much each is enlarged.
        tile_width, tile_height: of an enlarged sample, in pixels.
        caption_lines: of text below each.
    """

    columns: int
    rows: int
    scale: int
    tile_width: int
    tile_height: int
    caption_lines: int = CAPTION_LINES

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the grid in pixels: even, as H.264 wants them."""
        width = GAP + self.columns * (self.tile_width + GAP)
        height = GAP + self.rows * (self.tile_height + self.caption_lines * LINE + GAP)
        return width + width % 2, height + height % 2

    def place(self, index: int) -> tuple[int, int]:
        """Column and row of the first pixel of a sample; its caption is below it."""
        row, column = divmod(index, self.columns)
        below = self.caption_lines * LINE + GAP
        return GAP + column * (self.tile_width + GAP), GAP + row * (self.tile_height + below)


def grid_layout(
    path: Path, samples: int, *, width: int, height: int, encoding: Encoding, caption_lines: int = CAPTION_LINES
) -> Layout:
    """As many columns as rows, or one more; samples large enough for their captions, unless the format is too small.

    Where they are narrower than that, captions may have twice the lines, if these fit; where the format is too small
    for the lines, fewer, down to `CAPTION_LINES`.

    Args:
        path: where the grid shall go.
        samples: how many, at least 1.
        width, height: of each, in pixels.
        encoding: how the grid is written; its scale, if any, is that of the samples.
        caption_lines: of text below each.

    Raises:
        UsageError: no such format, or the grid would be too large for it.
    """
    columns = math.ceil(math.sqrt(samples))
    rows = -(-samples // columns)
    kind = encoding.format_for(path)
    for scale in range(encoding.scale or readable(height, width), 0, -1):
        most = 2 * caption_lines if width * scale < SMALL_SIDE else caption_lines
        for number in sorted({most, *range(CAPTION_LINES, caption_lines + 1)}, reverse=True):
            layout = Layout(columns, rows, scale, width * scale, height * scale, number)
            if max(layout.size) <= kind.max_side:
                return layout
        if encoding.scale is not None:
            break
    raise UsageError(
        f"the sides of {printable(path.name)} must be at most {kind.max_side} pixels, got "
        f"{'x'.join(map(str, layout.size))} for a grid of {samples:,} samples",
        hint="Make fewer at a time" + (", or choose a smaller --scale." if layout.scale > 1 else "."),
    )


def check_grid(
    path: Path,
    samples: int,
    *,
    width: int,
    height: int,
    encoding: Encoding,
    overwrite: bool,
    caption_lines: int = CAPTION_LINES,
) -> None:
    """Makes sure, before any work, that a grid can be written to `path`; see `grid_layout`.

    Raises:
        UsageError: no such format, the grid would be too large for it, or it would go to standard output.
        OutputError: it cannot be written there.
        MPVideoError: there is no ffmpeg where one is needed.
    """
    if path == STANDARD_OUTPUT:
        raise UsageError("a grid cannot go to standard output", hint="Give it a file's name.")
    grid_layout(path, samples, width=width, height=height, encoding=encoding, caption_lines=caption_lines)
    check_destination(path, overwrite=overwrite, format_name=encoding.format)


class GridWriter:
    """A grid in the making, as a context manager; see the module.

    Leaving the `with` block normally writes the file; with no sample added, or leaving it with an exception, there is
    none. An existing file stays as it was until the new one is whole. Samples that are shorter than the longest rest on
    their last frame.

    Args:
        path: of the video, of any format that has a file or folder.
        encoding: how to write it; its scale is that of the samples, None for one at which captions can be read.
        overwrite: whether an existing file may be replaced.
        caption_lines: of text below each sample; up to twice as many where samples are narrow, see `grid_layout`.

    Attributes:
        record: what it shows, kept in the file as JSON, see `VideoWriter`; None for none. To be set inside the block.

    Raises:
        OutputError: on entering and adding: the temporary file cannot be written. On leaving: see `VideoWriter`.
        UsageError: on leaving: see `grid_layout`.
    """

    def __init__(
        self, path: str | Path, *, encoding: Encoding, overwrite: bool = False, caption_lines: int = CAPTION_LINES
    ) -> None:
        self._path, self._encoding, self._overwrite = Path(path), encoding, overwrite
        self._caption_lines = caption_lines
        self.record: Mapping[str, Any] | None = None
        self._captions: list[str] = []
        self._lengths: list[int] = []
        self._size: tuple[int, int] | None = None
        self._closing = contextlib.ExitStack()
        self._waiting: IO[bytes] | None = None

    @property
    def samples(self) -> int:
        """How many were added."""
        return len(self._captions)

    def __enter__(self) -> Self:
        try:
            self._waiting = self._closing.enter_context(tempfile.TemporaryFile(prefix="mpvideo-", buffering=0))
        except OSError as error:
            raise self._failure(error) from error
        return self

    def add(self, frames: npt.NDArray[np.uint8], caption: str) -> None:
        """Adds a sample.

        Args:
            frames: (T, H, W, C) uint8, C = 1 (gray), 3 (RGB) or 4 (RGBA, laid over black); any T, the same H and W.
            caption: what to write below it; long ones are wrapped and shortened.

        Raises:
            ValueError: another shape or dtype, or not inside the `with` block.
            OutputError: there is no room for it to wait in.
        """
        if self._waiting is None:
            raise ValueError("a GridWriter takes samples only inside its `with` block")
        check_frames(frames)
        if self._size not in (None, frames.shape[1:3]):
            raise ValueError(f"samples must have the same (H, W), got {frames.shape[1:3]} after {self._size}")
        try:
            for frame in frames:
                write_all(self._waiting, np.ascontiguousarray(rgb_over_black(frame)).data)
        except OSError as error:
            raise self._failure(error) from error
        self._size = (frames.shape[1], frames.shape[2])
        self._captions.append(caption)
        self._lengths.append(len(frames))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._closing:
            if error is None and self._captions:
                self._write()
            self._waiting = None

    def _write(self) -> None:
        assert self._waiting is not None and self._size is not None
        height, width = self._size
        layout = grid_layout(
            self._path,
            self.samples,
            width=width,
            height=height,
            encoding=self._encoding,
            caption_lines=self._caption_lines,
        )
        starts = [0, *itertools.accumulate(self._lengths)]
        captions = _broken(self._captions, layout)
        layout = dataclasses.replace(layout, caption_lines=max(self._caption_lines, *map(len, captions)))
        blank = _blank(layout, captions)
        large = dataclasses.replace(self._encoding, scale=1, filter="nearest")
        writer = VideoWriter(
            self._path,
            width=layout.size[0],
            height=layout.size[1],
            channels=3,
            encoding=large,
            record=self.record,
            overwrite=self._overwrite,
        )
        with writer:
            for number in range(max(self._lengths)):
                grid = blank.copy()
                for index, length in enumerate(self._lengths):
                    frame = self._frame(starts[index] + min(number, length - 1))
                    self._paste(grid, layout, index, frame)
                writer.write(grid[None])

    def _frame(self, number: int) -> Frame:
        """One of all the frames that wait, (H, W, 3)."""
        assert self._waiting is not None and self._size is not None
        shape = (*self._size, 3)
        # Read and not mapped: what is mapped counts as memory that this process uses.
        self._waiting.seek(number * math.prod(shape))
        return np.frombuffer(self._waiting.read(math.prod(shape)), np.uint8).reshape(shape)

    def _paste(self, grid: Frame, layout: Layout, index: int, frame: Frame) -> None:
        x, y = layout.place(index)
        tile = enlarged(frame, layout.scale, self._encoding.filter)
        grid[y : y + layout.tile_height, x : x + layout.tile_width] = tile

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(
            f"{printable(self._path)} could not be written: its samples have no room to wait in: {reason(error)}",
            hint="Set TMPDIR to a folder with room for all frames.",
        )


def _broken(captions: Sequence[str], layout: Layout) -> list[list[str]]:
    """Captions in lines, as many as each needs and the layout has for it."""
    small = font(TEXT)
    return [wrapped(drawable(each), small, layout.tile_width, lines=layout.caption_lines) for each in captions]


def _blank(layout: Layout, captions: Sequence[Sequence[str]]) -> Frame:
    """A grid without its samples: the lines of their captions on white."""
    image = Image.new("RGB", layout.size, "white")
    draw, small = ImageDraw.Draw(image), font(TEXT)
    for index, lines in enumerate(captions):
        x, y = layout.place(index)
        for number, line in enumerate(lines):
            draw.text((x, y + layout.tile_height + number * LINE), line, INK, small)
    return np.asarray(image)

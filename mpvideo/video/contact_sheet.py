"""A contact sheet: videos as rows of frames, one picture of many. Layout: T frames, H rows, W columns, C channels.

with SheetWriter(Path("sheet.png")) as sheet:
    for video in videos:
        sheet.add(video.frames, "golden dog trots, seed 0")

Training draws with `contact_sheet` what its fixed seeds have become; `mpvideo sample --sheet` adds videos one by one as
they are made. Only what is shown of a video is kept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from mpvideo.errors import UsageError
from mpvideo.files import PendingFile, check_writable, write_error
from mpvideo.text import printable
from mpvideo.video.lettering import FAINT, INK, LINE, TEXT, drawable, font, shortened, wrapped
from mpvideo.video.metadata import record_text
from mpvideo.video.pixels import Frame, rgb_over_black
from mpvideo.video.png import put_comment

SMALL_SIDE = 128  # frames are enlarged until their longer side has this many pixels, or more,
LARGE_SIDE = 256  # and reduced until it has this many, or fewer
MARGIN = 16  # around everything, and between captions and frames
GAP = 4  # between frames
HEAD = 20  # the line with the frames' numbers
CAPTION = 120  # width of the captions' column
MAX_VIDEOS = 400
"""The most a sheet shows: a taller picture would take gigabytes, and few programs would open it."""


class ContactSheet:
    """A sheet that grows by a row for every video: its caption, and frames spread evenly over it.

    Args:
        frames_shown: how many frames of each, evenly spread from the first to the last; all if there are fewer.

    Raises:
        ValueError: frames_shown is below 1.
    """

    def __init__(self, *, frames_shown: int = 8) -> None:
        if frames_shown < 1:
            raise ValueError(f"frames_shown must be at least 1, got {frames_shown}")
        self._frames_shown = frames_shown
        self._shape: tuple[int, ...] | None = None
        self._rows: list[tuple[list[Image.Image], str]] = []

    def add(self, frames: npt.NDArray[np.uint8], caption: str) -> None:
        """Adds a video.

        Args:
            frames: (T, H, W, C) uint8, C = 1 (gray), 3 (RGB) or 4 (RGBA, laid over black).
            caption: what to write beside it; long ones are wrapped and shortened, signs that the font lacks become '?'.

        Raises:
            ValueError: another shape or dtype, other than the first video's, or one too many.
        """
        check_frames(frames)
        shape = frames.shape[:3]
        if self._shape not in (None, shape):
            raise ValueError(f"videos must have the same (T, H, W), got {shape} after {self._shape}")
        if len(self._rows) == MAX_VIDEOS:
            raise ValueError(f"a contact sheet shows at most {MAX_VIDEOS} videos")
        self._shape = shape
        shown = frame_numbers(len(frames), self._frames_shown)
        self._rows.append(([_tile(frames[number]) for number in shown], caption))

    def image(self) -> Image.Image:
        """The sheet, RGB. Each pixel of a frame is a square of `enlargement(H, W)` pixels; frames of more than 256
        pixels are reduced by a whole factor instead. Above the frames stand their numbers, from 1.

        Raises:
            ValueError: no video was added.
        """
        if self._shape is None:
            raise ValueError("a contact sheet must have at least one video, got none")
        shown = frame_numbers(self._shape[0], self._frames_shown)
        width, height = self._rows[0][0][0].size
        left, top = 2 * MARGIN + CAPTION, MARGIN + HEAD
        columns = [left + index * (width + GAP) for index in range(len(shown))]
        right, bottom = columns[-1] + width, top + len(self._rows) * (height + GAP) - GAP
        sheet = Image.new("RGB", (right + MARGIN, bottom + MARGIN), "white")
        draw = ImageDraw.Draw(sheet)
        small = font(TEXT)
        draw.text((MARGIN, MARGIN), "frame", FAINT, small)
        for x, number in zip(columns, shown, strict=True):
            draw.text((x, MARGIN), shortened(str(number + 1), small, width), FAINT, small)
        for index, (tiles, caption) in enumerate(self._rows):
            y = top + index * (height + GAP)
            for number, line in enumerate(wrapped(drawable(caption), small, CAPTION, lines=max(1, height // LINE))):
                draw.text((MARGIN, y + number * LINE), line, INK, small)
            for x, tile in zip(columns, tiles, strict=True):
                sheet.paste(tile, (x, y))
        return sheet


def contact_sheet(
    videos: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8], captions: Sequence[str], *, frames_shown: int = 8
) -> Image.Image:
    """The sheet of videos that are there already; see `ContactSheet`.

    Raises:
        ValueError: there is nothing to show, not a caption for each, or as `ContactSheet` says.
    """
    if len(captions) != len(videos):
        raise ValueError(f"there must be a caption for each of {len(videos)} videos, got {len(captions)}")
    sheet = ContactSheet(frames_shown=frames_shown)
    for frames, caption in zip(videos, captions, strict=True):
        sheet.add(frames, caption)
    return sheet.image()


class SheetWriter:
    """A contact sheet that becomes a PNG file when its `with` block is left normally; see the module.

    With no video added there is no file. An existing file stays as it was until the new one is whole.

    Args:
        path: the file, which must end in .png.
        overwrite: whether an existing file may be replaced.

    Attributes:
        videos: how many were added.
        record: what it shows, kept in the file as JSON, see `VideoWriter`; None for none. To be set inside the block.

    Raises:
        UsageError: the name ends in anything else.
        OutputError: an impossible path; and on leaving: the file cannot be written.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        path = Path(path)
        check_sheet_name(path)
        self._file = PendingFile(path, overwrite=overwrite)
        self._sheet = ContactSheet()
        self.videos = 0
        self.record: Mapping[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, frames: npt.NDArray[np.uint8], caption: str) -> None:
        """See `ContactSheet.add`."""
        self._sheet.add(frames, caption)
        self.videos += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None or not self.videos:
            return
        try:
            self._file.create()
            self._sheet.image().save(self._file.aside, format="PNG")
            if self.record is not None:
                put_comment(self._file.aside, record_text(self.record))
            self._file.commit()
        except OSError as failure:
            raise write_error(self._file.path, failure) from failure
        finally:
            self._file.discard()


def check_sheet(path: Path, videos: int, *, overwrite: bool) -> None:
    """Makes sure, before any work, that a sheet of so many videos can be written to `path`.

    Raises:
        UsageError: its name does not end in .png, or there are too many videos.
        OutputError: it cannot be written there.
    """
    check_sheet_name(path)
    if videos > MAX_VIDEOS:
        raise UsageError(
            f"a contact sheet shows at most {MAX_VIDEOS} videos, got {videos:,} for {printable(path.name)}",
            hint="A grid takes more.",
        )
    check_writable(path, overwrite=overwrite)


def check_frames(frames: npt.NDArray[np.uint8]) -> None:
    """Makes sure that these can be the frames of a video, (T, H, W, C) uint8, or raises ValueError."""
    if frames.ndim != 4 or frames.shape[-1] not in (1, 3, 4) or frames.size == 0:
        raise ValueError(f"a video must have the shape (T, H, W, C), C = 1, 3 or 4, and pixels, got {frames.shape}")
    if frames.dtype != np.uint8:
        raise ValueError(f"a video must be uint8, got {frames.dtype}")


def frame_numbers(frames: int, shown: int) -> list[int]:
    """Which of `frames` frames to show, from 0: the first, the last, and evenly between; one alone is the first."""
    shown = min(shown, frames)
    return [round(index * (frames - 1) / max(shown - 1, 1)) for index in range(shown)]


def enlargement(height: int, width: int) -> int:
    """The smallest whole factor that brings the longer side to at least 128 pixels."""
    return -(-SMALL_SIDE // max(height, width))


def _tile(frame: Frame) -> Image.Image:
    """A frame (H, W, C) in the size it is shown in."""
    height, width, _ = frame.shape
    factor = enlargement(height, width)
    image = Image.fromarray(np.ascontiguousarray(rgb_over_black(frame)))
    large = image.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    return large.reduce(-(-max(large.size) // LARGE_SIDE))


def check_sheet_name(path: Path) -> None:
    """Makes sure that a contact sheet can have this name, or raises UsageError."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"the name of a contact sheet must end in .png, got {printable(path.name)!r}")

"""A video as a folder of PNG frames, frame-000001.png and so on; the first carries the comment."""

import re
from pathlib import Path

from PIL import Image, PngImagePlugin

from mpvideo.text import printable
from mpvideo.video.index import VideoIndex
from mpvideo.video.pixels import Frame
from mpvideo.video.png import COMMENT, begins_as_png, read_png
from mpvideo.video.sink import Pictures

_OF_DESKTOPS = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that macOS and Windows leave in a folder which somebody looks at."""


def may_go(name: str) -> bool:
    """Whether a file of a folder goes when a video takes its place: what `FolderSink` writes, and notes of desktops."""
    return name in _OF_DESKTOPS or re.fullmatch(r"frame-[0-9]{6,}\.png", name) is not None


class FolderSink:
    """Writes each frame to a PNG file of its own; see `Sink`."""

    def __init__(self, pictures: Pictures) -> None:
        self._folder, self._comment = pictures.aside, pictures.comment
        self._count = 0

    def write(self, frame: Frame) -> None:
        """See `Sink`."""
        about = PngImagePlugin.PngInfo()
        if self._count == 0 and self._comment is not None:
            about.add_text(COMMENT, self._comment)
        self._count += 1
        image = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
        image.save(self._folder / f"frame-{self._count:06d}.png", format="PNG", pnginfo=about)

    def finish(self, frames: int) -> None:
        """See `Sink`."""
        found = len(list(self._folder.iterdir()))
        if found != frames:
            raise ValueError(f"it has {found} frames of {frames}")

    def abandon(self) -> None:
        """See `Sink`."""


def read_folder(path: Path) -> VideoIndex:
    """Reads size and comment from the first frame of a folder, and how the others begin.

    Raises:
        OSError: it cannot be read.
        ValueError: it has no frames, the first is damaged, or another does not begin like one.
    """
    frames = png_frames(path)
    if not frames:
        raise ValueError("it has no PNG frames")
    first = read_png(frames[0])
    for frame in frames[1:]:
        if not begins_as_png(frame):
            raise ValueError(f"{printable(frame.name)} does not begin like a PNG file")
    return VideoIndex(first.width, first.height, len(frames), None, first.comment)


def png_frames(folder: Path) -> list[Path]:
    """The PNG files of a folder in natural order, hidden ones left out.

    Raises:
        OSError: the folder cannot be read.
    """
    found = [path for path in folder.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=lambda path: natural_key(path.name))


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names as people count: 'frame 2' before 'frame 10'."""
    # Text and digits alternate, beginning with text, so that like is compared with like.
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name

"""What writes one file of one format: frames in, a complete file aside."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mpvideo.formats import Encoding, Format
from mpvideo.video.pixels import Frame


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What a sink is to write, and where.

    Attributes:
        format: what to write.
        target: the file that was asked for, to name it in messages.
        aside: the empty file, or folder, to write to.
        width, height: of the pictures, in pixels, in the size that they have in the file.
        channels: 1 gray, 3 RGB, 4 RGBA (colour not premultiplied).
        encoding: how.
        comment: text in ASCII to be kept in the file, the record of how it was made; or None.
        blocks: whether the pictures were enlarged by turning pixels into blocks.
    """

    format: Format
    target: Path
    aside: Path
    width: int
    height: int
    channels: int
    encoding: Encoding
    comment: str | None
    blocks: bool


class Sink(Protocol):
    """Takes the pictures of one video, one after another, and writes them as they come."""

    def write(self, frame: Frame) -> None:
        """Takes the next picture, (H, W, C) uint8.

        Raises:
            OSError, OutputError: it cannot be written.
        """
        ...

    def finish(self, frames: int) -> None:
        """Completes the file and makes sure that there are `frames` pictures in it.

        Raises:
            OSError, OutputError: it cannot be written.
            ValueError: what was written is not right.
        """
        ...

    def abandon(self) -> None:
        """Ends whatever still runs and closes what is open; what was written is of no use. May be called again."""
        ...

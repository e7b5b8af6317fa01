"""What a video file says of itself."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mpvideo.errors import MPVideoError
from mpvideo.files import reason
from mpvideo.text import printable


@dataclass(frozen=True)
class VideoIndex:
    """What is known of a video without decoding it.

    Attributes:
        width, height: in pixels.
        frames: how many.
        rate: mean frames a second; None where the file does not say.
        comment: its comment, which is where the record of how it was made is kept; None if it has none.
    """

    width: int
    height: int
    frames: int
    rate: Fraction | None
    comment: str | None


def unreadable(path: Path, error: OSError | ValueError) -> MPVideoError:
    """The error for a video file that cannot be read."""
    return MPVideoError(f"{printable(path)} cannot be read as a video: {reason(error)}")

"""What a video file says of itself."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mpvideo.errors import MPVideoError
from mpvideo.files import reason
from mpvideo.text import printable

MAX_TEXT = 16_000_000
"""Longest comment or header that is read, in bytes: far above any real one."""

MAX_VALUES = 250_000
"""Most values in JSON from a file: a few bytes can make an object that takes many to hold."""


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


def holds_too_many(text: str) -> bool:
    """Whether JSON may have more than `MAX_VALUES` values; what is inside strings counts, on the safe side."""
    return sum(map(text.count, "{[,")) > MAX_VALUES


def unreadable(path: Path, error: OSError | ValueError) -> MPVideoError:
    """The error for a video file that cannot be read."""
    return MPVideoError(f"{printable(path)} cannot be read as a video: {reason(error)}")

"""Every kind of video file by what its name ends in: how its index is read."""

import struct
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

from mpvideo.formats import SUFFIXES, format_of
from mpvideo.video.arrays import read_npy, read_safetensors
from mpvideo.video.folder import read_folder
from mpvideo.video.gif import gif_bytes, walk_gif
from mpvideo.video.index import VideoIndex, unreadable
from mpvideo.video.matroska import read_matroska
from mpvideo.video.mp4 import read_mp4
from mpvideo.video.png import read_png


def read_gif(path: Path) -> VideoIndex:
    """Reads a GIF file; its rate is the mean."""
    data = gif_bytes(path)
    found = walk_gif(data)
    width, height = struct.unpack_from("<HH", data, 6)
    centiseconds = sum(struct.unpack_from("<H", data, at + 4)[0] for at in found.controls)
    rate = Fraction(100 * found.images, centiseconds) if centiseconds else None
    return VideoIndex(
        width, height, found.images, rate, None if found.comment is None else found.comment.decode("utf-8", "replace")
    )


READERS: Mapping[str, Callable[[Path], VideoIndex]] = {
    ".mp4": read_mp4,
    ".webm": read_matroska,
    ".mkv": read_matroska,
    ".gif": read_gif,
    ".apng": read_png,
    ".png": read_png,
    ".npy": read_npy,
    ".safetensors": read_safetensors,
}
"""Each raises OSError where the file cannot be read, and ValueError where it is not what its name says."""


def read_index(path: str | Path) -> VideoIndex:
    """Reads what a video says of itself, without decoding it.

    Args:
        path: a file whose name ends in one of `mpvideo.formats.SUFFIXES`, or a folder of PNG frames.

    Raises:
        UsageError: the name ends in anything else.
        MPVideoError: it is missing, unreadable or damaged.
    """
    path = Path(path)
    try:
        if is_frames_folder(path):
            return read_folder(path)
        format_of(path)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError("it must be a regular file, but is a pipe, socket or device")
        return READERS[path.suffix.lower()](path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def is_frames_folder(path: Path) -> bool:
    """Whether a path leads to a folder that may be a video."""
    return path.suffix.lower() not in SUFFIXES and path.is_dir()

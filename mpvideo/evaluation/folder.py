"""Videos that lie in a folder: real ones to compare with, or sampled ones to judge."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from mpvideo.errors import UsageError
from mpvideo.files import reason
from mpvideo.text import printable
from mpvideo.video import read_frames
from mpvideo.video.decode import Frames, FrameStream, UnreadableVideo
from mpvideo.video.square import square_frame

_SUFFIXES = (".mp4", ".webm", ".mkv", ".gif", ".apng")
CUTTING = "the first frames of each, the square in the middle, resized to the videos' own size as for training"


def video_files(folder: Path, option: str) -> tuple[Path, ...]:
    """The video files in a folder and below it, sorted; hidden ones, and those in hidden folders, are left out.

    Raises:
        UsageError: it is no folder, cannot be read, or has none; the message calls it `option`.
    """
    try:
        if not folder.is_dir():
            raise UsageError(f"{option} must be a folder of videos, got {printable(folder)}")
        found = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in _SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and path.is_file()
        )
    except OSError as error:
        raise UsageError(f"{option} {printable(folder)} cannot be read: {reason(error)}") from error
    if not found:
        raise UsageError(f"{option} must have {', '.join(_SUFFIXES)} files, found none in {printable(folder)}")
    return tuple(found)


def real_clips(
    paths: Iterable[Path], *, frames: int, size: int, channels: Literal[1, 3]
) -> Iterator[Frames | UnreadableVideo | None]:
    """Reads videos as clips to compare with: (frames, size, size, channels) uint8 each.

    A clip is a video's first frames, whatever their rate, cut and resized as `mpvideo train` does, to the size and the
    colours of the videos that it is compared with: so these are not blamed for having few pixels. Yields what is wrong
    for a video that cannot be read, and None for one that is too short.
    """
    for path in paths:
        try:
            clip = [square_frame(frame, size, channels) for frame in islice(FrameStream(path), frames)]
        except UnreadableVideo as error:
            yield error
        else:
            yield np.stack(clip) if len(clip) == frames else None


def sampled_videos(paths: tuple[Path, ...], *, size: int | None) -> Iterator[Frames]:
    """Reads files that `mpvideo sample` wrote: (T, H, W, C) uint8 each.

    Args:
        paths: the files.
        size: height and width that they had before `sample` enlarged their pixels by a whole factor, which is undone by
            taking the mean of each N x N; None leaves them as they are.

    Raises:
        UsageError: a file is not `size` pixels wide and high, nor a whole multiple.
        MPVideoError: a file cannot be read.
    """
    for path in paths:
        frames, _ = read_frames(path)
        yield frames if size is None else _shrunk(frames, size, path)


def _shrunk(frames: Frames, size: int, path: Path) -> Frames:
    T, H, W, C = frames.shape
    if H != W or H % size:
        raise UsageError(f"{printable(path)} must be {size}x{size} pixels or a whole multiple, got {W}x{H}")
    factor = H // size
    blocks = frames.reshape(T, size, factor, size, factor, C)
    shrunk: Frames = blocks.mean((2, 4)).round().astype(np.uint8)
    return shrunk

"""Videos that lie in a folder: real ones to compare with, or sampled ones to judge."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from mpvideo.errors import UsageError
from mpvideo.files import reason
from mpvideo.text import printable
from mpvideo.video import SUFFIXES, read_frames

Frames = npt.NDArray[np.uint8]

CUTTING = "the first frames of each file, the square in the middle, bilinear and antialiased to the videos' own size"


def video_files(folder: Path, option: str) -> tuple[Path, ...]:
    """The .mp4 and .gif files in a folder and below it, sorted; hidden ones are left out.

    Raises:
        UsageError: it is no folder, cannot be read, or has none; the message calls it `option`.
    """
    try:
        if not folder.is_dir():
            raise UsageError(f"{option} must be a folder of videos, got {printable(folder)}")
        found = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        raise UsageError(f"{option} {printable(folder)} cannot be read: {reason(error)}") from error
    if not found:
        raise UsageError(f"{option} must have {' or '.join(SUFFIXES)} files, found none in {printable(folder)}")
    return tuple(found)


def real_clips(paths: tuple[Path, ...], *, frames: int, size: int) -> Iterator[Frames | None]:
    """Reads files as clips to compare with: (frames, size, size, C) uint8 each, or None for one that is too short.

    A clip is a file's first frames, whatever their rate, cut to the square in the middle and resized to `size`, that of
    the videos that it is compared with: so these are not blamed for having few pixels.
    """
    for path in paths:
        video, _ = read_frames(path)
        yield None if len(video) < frames else square(video[:frames], size)


def square(video: Frames, size: int) -> Frames:
    """The middle of a video (T, H, W, C) as (T, size, size, C), uint8; unchanged if it is of that size."""
    _, H, W, _ = video.shape
    side = min(H, W)
    top, left = (H - side) // 2, (W - side) // 2
    video = np.ascontiguousarray(video[:, top : top + side, left : left + side])
    if side == size:
        return video
    x = torch.from_numpy(video).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


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

"""Videos of ffmpeg's own making, for tests that read them."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mpvideo.video.ffmpeg import ffmpeg_program

Frames = npt.NDArray[np.uint8]


def make_video(path: Path, source: str, *options: str) -> Path:
    """A video of one of ffmpeg's sources, such as 'testsrc=r=25:s=32x24:d=1'."""
    command = [ffmpeg_program(), "-v", "error", "-y", "-f", "lavfi", "-i", source, *options, f"file:{path}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path


def save_gif(path: Path, frames: Frames, delay: int = 100) -> Path:
    """Frames of few colours, (T, H, W, 3), as a GIF that loses nothing; delay in milliseconds."""
    first, *rest = (Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=rest, duration=delay)
    return path


def save_pngs(folder: Path, frames: Frames, names: Sequence[str] = ()) -> Path:
    """Frames as PNG files, called 1.png, 2.png and so on unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / (names[index] if names else f"{index + 1}.png"))
    return folder


def counting(frames: int, *, start: int = 0, side: int = 8) -> Frames:
    """Flat frames whose red channel counts from `start`, one a frame."""
    clip = np.zeros((frames, side, side, 3), np.uint8)
    clip[..., 0] = np.arange(start, start + frames)[:, None, None]
    return clip

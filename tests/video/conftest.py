"""A colourful little clip, and stand-ins for an ffmpeg that misbehaves."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mpvideo.video import Encoding, VideoWriter

Frames = npt.NDArray[np.uint8]


def colourful(frames: int = 6, side: int = 32, channels: int = 3) -> Frames:
    """A golden disc wandering over a sky and a meadow; as RGBA the disc alone, the rest transparent."""
    row, column = np.mgrid[0:side, 0:side]
    clip = np.empty((frames, side, side, 4), np.uint8)
    for index, frame in enumerate(clip):
        frame[...] = (40, 60 + index, 200, 0)
        frame[side * 3 // 4 :] = (30, 140, 50, 0)
        middle = side * (0.3 + 0.4 * index / frames)
        frame[(row - side / 2) ** 2 + (column - middle) ** 2 < (side / 5) ** 2] = (230, 180, 40, 255)
    return clip[..., :channels] if channels > 1 else clip[..., 1:2]


def save(path: Path, frames: Frames, *, fps: float | Fraction = 8, scale: int | None = 1, **options: Any) -> Path:
    """Write a whole clip, at its own size unless told otherwise."""
    encoding = Encoding(fps, scale=scale)
    _, height, width, channels = frames.shape
    with VideoWriter(path, width=width, height=height, channels=channels, encoding=encoding, **options) as writer:
        writer.write(frames)
    return path


def enlarged(frames: Frames, scale: int) -> Frames:
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def worst(got: Frames, wanted: Frames) -> int:
    """The largest error of any value."""
    assert got.shape == wanted.shape
    return int(np.abs(got.astype(int) - wanted.astype(int)).max())


def psnr(got: Frames, wanted: Frames) -> float:
    assert got.shape == wanted.shape
    error = np.mean((got.astype(float) - wanted.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


@pytest.fixture
def fake_ffmpeg(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a shell script take ffmpeg's place. In it, $output is the file it should write."""

    def install(script: str) -> None:
        program = tmp_path_factory.mktemp("bin") / "ffmpeg"
        program.write_text(f'#!/bin/sh\nfor word; do output="${{word#file:}}"; done\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))

    return install

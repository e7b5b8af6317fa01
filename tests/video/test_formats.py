"""Every format comes back as it was written: to the last bit where it says so, and nearly where it does not."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mpvideo.formats import FORMATS, Encoding, Format
from mpvideo.video import VideoWriter, read_frames
from tests.video.conftest import Frames, colourful, enlarged

KINDS = pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
MOST_ERROR = 5.0
"""Root mean square, of 255, of what loses something: at its default quality, pixels as large as they are by default."""


def error(got: Frames, wanted: Frames) -> float:
    assert got.shape == wanted.shape
    return float(((got.astype(float) - wanted) ** 2).mean() ** 0.5)


def there_and_back(folder: Path, kind: Format, frames: Frames, **options: object) -> tuple[Frames, Fraction]:
    path = folder / f"a{kind.suffixes[0] if kind.suffixes else ''}"
    _, height, width, channels = frames.shape
    encoding = Encoding(8, format=kind.name, **options)  # type: ignore[arg-type]
    with VideoWriter(path, width=width, height=height, channels=channels, encoding=encoding) as writer:
        writer.write(frames)
    return read_frames(path)


def as_read(frames: Frames, kind: Format) -> Frames:
    """Gray comes back as three equal channels, except from bare arrays."""
    return frames.repeat(3, axis=-1) if frames.shape[-1] == 1 and kind.name not in ("npy", "safetensors") else frames


def exact_channels(kind: Format) -> tuple[int, ...]:
    """With how many channels a format says that it is exact; what is so only when asked to is not for transparency."""
    return {"never": (), "asked": (1, 3), "always": (1, 3, 4)}[kind.exact]


@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        pytest.param(kind, channels, id=f"{name}-{channels}")
        for name, kind in FORMATS.items()
        for channels in exact_channels(kind)
    ],
)
def test_what_says_it_is_exact(tmp_path: Path, kind: Format, channels: int) -> None:
    frames = colourful(4, 18, channels)
    back, _ = there_and_back(tmp_path, kind, frames, scale=1, lossless=kind.exact == "asked")
    np.testing.assert_array_equal(back, as_read(frames, kind))


@KINDS
@pytest.mark.parametrize("channels", [1, 3])
def test_by_default(tmp_path: Path, kind: Format, channels: int) -> None:
    frames = colourful(4, 16, channels)
    back, rate = there_and_back(tmp_path, kind, frames)
    scale = 16 if kind.to_look_at else 1
    assert back.shape[1:3] == (16 * scale, 16 * scale)
    assert error(back, enlarged(as_read(frames, kind), scale)) < MOST_ERROR
    untimed, delays = kind.name in ("png", "npy"), Fraction(100 * 4, 13 + 12 + 13 + 12)
    assert rate == (0 if untimed else delays if kind.name == "gif" else 8)


@KINDS
def test_transparency(tmp_path: Path, kind: Format) -> None:
    """Kept where the format has it, laid over black where it has not."""
    frames = colourful(3, 16, 4)
    back, _ = there_and_back(tmp_path, kind, frames)
    wanted = enlarged(frames, 16 if kind.to_look_at else 1)
    if kind.transparency == "none":
        assert error(back, wanted[..., :3] * (wanted[..., 3:] // 255)) < MOST_ERROR
        return
    assert back.shape[-1] == 4
    assert ((back[..., 3] > 127) != (wanted[..., 3] > 127)).mean() < 0.01
    seen = wanted[..., 3] == 255
    assert np.abs(back[seen].astype(int) - wanted[seen]).mean() < 4

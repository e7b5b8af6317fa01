"""What is written is what was given: frames, count, rate, size, colours, transparency, times."""

import os
import signal
import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageSequence

from mpvideo.errors import UsageError
from mpvideo.video import Encoding, VideoWriter, enlargement, read_frames, warnings_about
from mpvideo.video.ffmpeg_sink import FfmpegSink
from tests.video.conftest import colourful, enlarged, psnr, save, worst

FLAT = [
    (0, 0, 0),
    (255, 255, 255),
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (230, 180, 40),
    (17, 99, 203),
    (128, 128, 128),
]
RATES = [8, 12.5, Fraction(24000, 1001), 50, 60]


def as_ffmpeg_sees(path: Path) -> str:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def ends(path: Path) -> list[int]:
    """When each frame of a GIF ends, in centiseconds."""
    with Image.open(path) as image:
        durations = [frame.info["duration"] // 10 for frame in ImageSequence.Iterator(image)]
    return np.cumsum(durations).tolist()


def test_mp4_gives_back_frames_count_rate_and_size(tmp_path: Path) -> None:
    clip = colourful(7)
    path = save(tmp_path / "a.mp4", clip, fps=12.5, scale=4)
    frames, fps = read_frames(path)
    assert fps == Fraction(25, 2)
    # 4:2:0 softens the edge between gold and blue; averaged over each original pixel little of that is left.
    assert psnr(frames, enlarged(clip, 4)) > 30
    means = frames.reshape(7, 32, 4, 32, 4, 3).mean((2, 4)).round().astype(np.uint8)
    assert psnr(means, clip) > 40


def test_mp4_is_what_quicktime_and_browsers_play(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mp4", colourful())
    said = as_ffmpeg_sees(path)
    assert "h264 (High)" in said
    assert "yuv420p(tv, bt709, progressive)" in said
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index belongs at the front (faststart)"
    assert b"colrnclx\0\1\0\1\0\1" in data, "the container too says BT.709"


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_flat_colours_come_back_within_3(tmp_path: Path, scale: int) -> None:
    clip = np.empty((len(FLAT), 16, 16, 3), np.uint8)
    clip[:] = np.array(FLAT, np.uint8)[:, None, None]
    for suffix, most in ((".mp4", 3), (".gif", 0)):
        frames, _ = read_frames(save(tmp_path / f"a{suffix}", clip, scale=scale))
        assert worst(frames, enlarged(clip, scale)) <= most


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_gray_stays_gray(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=0)
    frames, _ = read_frames(save(tmp_path / f"a{suffix}", ramp))
    assert np.ptp(frames, axis=-1).max() <= 1
    assert worst(frames, ramp.repeat(3, axis=-1)) <= (0 if suffix == ".gif" else 8)


@pytest.mark.parametrize(
    "fps", [*RATES, 23.976, 0.01, 240, 24000 / 1001, Fraction(2997, 25), Fraction(7999, 4000), Fraction(239999, 1000)]
)
def test_mp4_rate_is_exact(tmp_path: Path, fps: float | Fraction) -> None:
    _, rate = read_frames(save(tmp_path / "a.mp4", colourful(3, 16), fps=fps))
    wanted = {23.976: Fraction(2997, 125), 0.01: Fraction(1, 100), 24000 / 1001: Fraction(24000, 1001)}
    assert rate == wanted.get(fps, Fraction(fps))


@pytest.mark.parametrize("fps", RATES)
def test_gif_frames_end_within_half_a_centisecond(tmp_path: Path, fps: float | Fraction) -> None:
    path = save(tmp_path / "a.gif", colourful(11, 16), fps=fps)
    ideal = [100 * (i + 1) / float(fps) for i in range(11)]
    assert np.abs(np.array(ends(path)) - ideal).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_equal_frames_are_all_kept(tmp_path: Path, suffix: str, channels: int) -> None:
    resting = colourful(1, 16, channels).repeat(9, axis=0)
    frames, fps = read_frames(save(tmp_path / f"a{suffix}", resting, fps=12.5))
    assert len(frames) == 9
    assert fps == Fraction(25, 2)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_one_frame_of_one_pixel(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", np.full((1, 1, 1, 3), 200, np.uint8), fps=4, scale=None)
    frames, fps = read_frames(path)
    assert (frames.shape, fps) == ((1, 256, 256, 3), 4)


def test_gif_keeps_transparency_to_the_pixel(tmp_path: Path) -> None:
    clip = colourful(8, 32, 4)
    clip[2, ..., 3] = 255  # an opaque frame before a transparent one: where ffmpeg alone goes wrong
    clip[5, ..., 3] = 0
    clip[6, :4, :4, 3], clip[6, 4:8, 4:8, 3] = 127, 128
    frames, _ = read_frames(save(tmp_path / "a.gif", clip, scale=2))
    wanted = enlarged(clip, 2)
    opaque = wanted[..., 3] >= 128
    assert np.array_equal(frames[..., 3], np.where(opaque, 255, 0))
    assert worst(frames[opaque], wanted[opaque] | np.array([0, 0, 0, 255], np.uint8)) <= 4


def test_hidden_colours_take_no_part_in_the_palette(tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 4), dtype=np.uint8)
    clip[..., 3] = 0
    clip[:, :14, :18, 3] = 255
    clip[1, :14, :18] = clip[0, :14, :18]  # 252 colours in sight
    frames, _ = read_frames(save(tmp_path / "a.gif", clip))
    assert worst(frames[:, :14, :18], clip[:, :14, :18]) <= 1


def test_gif_has_a_palette_of_its_own(tmp_path: Path) -> None:
    shades = np.zeros((2, 16, 16, 3), np.uint8)
    shades[..., 0] = np.arange(256, dtype=np.uint8).reshape(16, 16)  # 256 reds: no fixed palette has them
    frames, _ = read_frames(save(tmp_path / "a.gif", shades))
    assert psnr(frames, shades) > 45


def test_rgba_is_laid_over_black_in_mp4(tmp_path: Path) -> None:
    clip = np.zeros((2, 16, 16, 4), np.uint8)
    clip[..., 0], clip[..., 3] = 250, 128
    over_black, _ = read_frames(save(tmp_path / "black.mp4", clip))
    assert worst(over_black, np.full_like(over_black, (125, 0, 0))) <= 3


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    clip, record = colourful(), {"seed": 0}
    first = save(tmp_path / f"a{suffix}", clip, record=record).read_bytes()
    second = tmp_path / f"b{suffix}"
    with VideoWriter(second, width=32, height=32, channels=3, encoding=Encoding(8, scale=1), record=record) as writer:
        for frame in clip:  # in other portions
            writer.write(frame[None])
    assert second.read_bytes() == first


def test_frames_may_lie_anywhere_in_memory(tmp_path: Path) -> None:
    clip = colourful()
    planes = np.ascontiguousarray(clip.transpose(3, 0, 1, 2)).transpose(1, 2, 3, 0)
    assert save(tmp_path / "a.mp4", planes).read_bytes() == save(tmp_path / "b.mp4", clip).read_bytes()


@pytest.mark.parametrize(
    ("name", "width", "height", "scale", "wanted"),
    [
        ("a.mp4", 64, 64, None, 4),
        ("a.mp4", 64, 48, None, 6),
        ("a.gif", 64, 64, None, 4),
        ("a.mp4", 256, 512, None, 1),
        ("a.mp4", 257, 300, None, 2),
        ("a.gif", 257, 301, None, 1),
        ("a.mp4", 63, 63, None, 6),
        ("a.gif", 63, 63, None, 5),
        ("a.mp4", 64, 64, 1, 1),
        ("a.MP4", 63, 64, 2, 2),
    ],
)
def test_enlargement(name: str, width: int, height: int, scale: int | None, wanted: int) -> None:
    assert enlargement(Path(name), width=width, height=height, encoding=Encoding(8, scale=scale)) == wanted


def test_odd_and_huge_sides_are_refused_with_the_cure() -> None:
    with pytest.raises(UsageError, match=r"must be even in mp4, got 63x64 for a\.mp4") as caught:
        enlargement(Path("a.mp4"), width=63, height=64, encoding=Encoding(8, scale=1))
    assert caught.value.hint == "Use --scale 2, or write a .webm or .gif."
    with pytest.raises(UsageError, match="at most 16384 pixels, got 25600x25600"):
        enlargement(Path("a.mp4"), width=256, height=256, encoding=Encoding(8, scale=100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0}, "fps must be from 0.01 to 240, got 0"),
        ({"fps": float("nan")}, "got nan"),
        ({"fps": float("inf")}, "got inf"),
        ({"fps": 241}, "got 241"),
        ({"fps": 8, "scale": 0}, "scale must be at least 1, got 0"),
        ({"fps": 8, "crf": 20, "lossless": True}, "crf cannot be given together with lossless, got 20"),
        ({"fps": 8, "loop": -1}, "loop must be at least 0, got -1"),
        ({"fps": 8, "loop": 65536}, "loop must be at most 65535, got 65536"),
        ({"fps": 8, "format": "avi"}, "format must be one of mp4, webm, av1, gif, .*; got 'avi'"),
        ({"fps": 8, "filter": "cubic"}, "filter must be one of nearest, lanczos; got 'cubic'"),
    ],
)
def test_encodings_that_cannot_be(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoding(**options)  # type: ignore[arg-type]


def test_frames_of_another_kind_are_refused(tmp_path: Path) -> None:
    path, encoding = tmp_path / "a.mp4", Encoding(8, scale=1)
    with VideoWriter(path, width=32, height=32, channels=3, encoding=encoding) as writer:
        for wrong in (colourful(channels=4), colourful(side=16), colourful()[0], colourful().astype(np.float32)):
            with pytest.raises(ValueError, match=r"frames must be uint8 of shape \(T, 32, 32, 3\), got"):
                writer.write(wrong)
        writer.write(colourful())
        writer.write(colourful()[:0])
    assert len(read_frames(path)[0]) == 6
    with pytest.raises(ValueError, match="only inside its `with` block"):
        writer.write(colourful())
    with pytest.raises(ValueError, match=r"channels must be 1 \(gray\), 3 \(RGB\) or 4 \(RGBA\), got 2"):
        VideoWriter(path, width=32, height=32, channels=2, encoding=encoding)


def test_warnings_say_what_will_not_show() -> None:
    def about(name: str, channels: int, fps: float) -> tuple[str, ...]:
        return warnings_about(Path(name), channels=channels, encoding=Encoding(fps))

    assert about("a.mp4", 3, 60) == about("a.gif", 3, 50) == about("a.gif", 1, 8) == ()
    assert about("a.mp4", 4, 60) == ("a.mp4: mp4 has no transparency, the video is laid over black; a .webm keeps it",)
    assert about("a.gif", 3, 60) == (
        "a.gif: browsers play a GIF above 50 frames a second slowly, this one has 60; an .mp4 keeps its pace",
    )
    assert len(about("a.gif", 4, 60)) == 2


def test_ffmpeg_is_out_of_reach_of_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=32, height=32, channels=3, encoding=Encoding(8, scale=1)) as writer:
        assert isinstance(writer._sink, FfmpegSink)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(writer._sink._encoder._process.pid, number)
        writer.write(colourful())
    assert len(read_frames(path)[0]) == len(colourful())


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.mp4, \.webm, .* or \.safetensors, got 'dog\.avi'") as caught:
        VideoWriter(tmp_path / "dog.avi", width=32, height=32, channels=3, encoding=Encoding(8))
    assert caught.value.hint == f"For example {tmp_path}/dog.mp4; or --format png for a folder of frames."

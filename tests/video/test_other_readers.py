"""Other programs' readers see in our files what was written: pixels, number, time, size, colours, loops, comment."""

import json
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageSequence
from safetensors import safe_open

from mpvideo.formats import FORMATS, Encoding, Format
from mpvideo.video import VideoWriter, read_frames, read_index
from tests.video.conftest import Frames, colourful, enlarged, psnr

RECORD = {"class": "golden dog", "é": 1}
TEXT = '{"class": "golden dog", "\\u00e9": 1}'
NTSC = Fraction(24000, 1001)
PLAYABLE = ["mp4", "webm", "av1", "gif", "apng", "mkv"]


def file_of(folder: Path, name: str, frames: Frames, fps: Fraction = NTSC, **options: object) -> Path:
    kind = FORMATS[name]
    path = folder / f"a{kind.suffixes[0] if kind.suffixes else ''}"
    _, height, width, channels = frames.shape
    encoding = Encoding(fps, format=name, **options)  # type: ignore[arg-type]
    writer = VideoWriter(path, width=width, height=height, channels=channels, encoding=encoding, record=RECORD)
    with writer:
        for part in np.array_split(frames, 2):  # as frames are decoded: in portions
            writer.write(part)
    return path


def by_ffmpeg(path: Path, pixels: str, channels: int, *decoder: str) -> tuple[Frames, str]:
    """What ffmpeg decodes, (T, H, W, C), and what it says of the file."""
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", *decoder, "-i", str(path)),
        *("-vf", f"scale=flags=accurate_rnd+full_chroma_int,format={pixels}", "-fps_mode", "passthrough"),
        *("-f", "rawvideo", "pipe:1"),
    ]
    done = subprocess.run(command, capture_output=True, check=True)
    said = done.stderr.decode()
    size = re.search(r"Video: .* (\d+)x(\d+)", said)
    assert size is not None
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, int(size[2]), int(size[1]), channels), said


def over_black(frames: Frames) -> Frames:
    return (frames[..., :3] * (frames[..., 3:] // 255)).astype(np.uint8)


@pytest.mark.parametrize("name", PLAYABLE)
def test_ffmpeg_sees_every_frame_in_its_size_and_time(tmp_path: Path, name: str) -> None:
    clip = colourful(7, 32)
    frames, said = by_ffmpeg(file_of(tmp_path, name, clip, Fraction(25), scale=4), "rgb24", 3)
    assert frames.shape == (7, 128, 128, 3)
    means = frames.reshape(7, 32, 4, 32, 4, 3).mean((2, 4)).round().astype(np.uint8)
    if FORMATS[name].exact == "always":
        np.testing.assert_array_equal(frames, enlarged(clip, 4))
    else:
        assert np.abs(means.astype(int) - clip).mean() < 1.5
        assert psnr(means, clip) > 35
    assert "25 fps" in said


@pytest.mark.parametrize("name", ["webm", "mkv", "apng", "safetensors"])
@pytest.mark.parametrize(
    "fps",
    [
        Fraction(text)
        for text in [
            "1/100",
            "1/3",
            "8",
            "25/2",
            "24000/1001",
            "25",
            "30000/1001",
            "50",
            "2997/50",
            "60000/1001",
            "60",
            "2997/25",
            "240",
        ]
    ],
    ids=str,
)
def test_rates_are_exact(tmp_path: Path, name: str, fps: Fraction) -> None:
    assert read_index(file_of(tmp_path, name, colourful(3, 16), fps, scale=1)).rate == fps


def test_rates_with_large_numbers_are_near(tmp_path: Path) -> None:
    fps = Fraction(120000, 1001)
    assert read_index(file_of(tmp_path, "webm", colourful(3, 16), fps, scale=1)).rate == fps
    assert float(read_index(file_of(tmp_path, "apng", colourful(3, 16), fps, scale=1)).rate or 0) == pytest.approx(fps)


@pytest.mark.parametrize("name", ["mp4", "webm", "av1"])
def test_colours_are_tagged(tmp_path: Path, name: str) -> None:
    _, said = by_ffmpeg(file_of(tmp_path, name, colourful(2, 32), scale=2), "rgb24", 3)
    assert re.search(r"yuv420p\(tv, bt709[,)/]", said), said


@pytest.mark.parametrize("name", ["mp4", "webm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_is_exact_at_odd_sizes(tmp_path: Path, name: str, channels: int) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, 17, 23, channels), dtype=np.uint8)
    frames, _ = by_ffmpeg(file_of(tmp_path, name, clip, scale=1, lossless=True), "rgb24", 3)
    np.testing.assert_array_equal(frames, clip.repeat(3, axis=-1) if channels == 1 else clip)


@pytest.mark.parametrize(("name", "pixels"), [("mkv", "bgra"), ("apng", "rgba")])
def test_alpha_is_exact(tmp_path: Path, name: str, pixels: str) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 4), dtype=np.uint8)
    frames, said = by_ffmpeg(file_of(tmp_path, name, clip, scale=1), "rgba", 4)
    np.testing.assert_array_equal(frames, clip)
    assert pixels in said


def test_alpha_of_webm(tmp_path: Path) -> None:
    clip = colourful(4, 32, 4)
    clip[..., 3] //= 2  # half transparent: not on or off
    path = file_of(tmp_path, "webm", clip, scale=4)
    frames, said = by_ffmpeg(path, "rgba", 4, "-c:v", "libvpx-vp9")
    assert re.search(r"alpha_mode +: 1", said)
    alpha = enlarged(clip, 4)[..., 3]
    assert np.abs(frames[..., 3].astype(int) - alpha).mean() < 2
    assert np.abs(frames[alpha > 0].astype(int) - enlarged(clip, 4)[alpha > 0]).mean() < 4


@pytest.mark.parametrize("name", ["mp4", "av1"])
def test_alpha_over_black(tmp_path: Path, name: str) -> None:
    clip = colourful(3, 32, 4)
    frames, _ = by_ffmpeg(file_of(tmp_path, name, clip, scale=4), "rgb24", 3)
    assert np.abs(frames.astype(int) - enlarged(over_black(clip), 4)).mean() < 3


@pytest.mark.parametrize("name", ["mp4", "webm", "av1", "mkv"])
def test_ffmpeg_finds_the_comment(tmp_path: Path, name: str) -> None:
    _, said = by_ffmpeg(file_of(tmp_path, name, colourful(2, 32), scale=2), "rgb24", 3)
    assert re.search(rf"comment +: {re.escape(TEXT)}", said, flags=re.IGNORECASE)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pillow_reads_apng(tmp_path: Path, channels: int) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, 16, 16, channels), dtype=np.uint8)
    clip[3] = clip[2]  # equal frames are kept
    with Image.open(file_of(tmp_path, "apng", clip, scale=1)) as image:
        assert (image.n_frames, image.info["loop"], image.info["Comment"]) == (5, 0, TEXT)
        assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        frames, times = [], []
        for picture in ImageSequence.Iterator(image):
            frames.append(np.asarray(picture.convert(image.mode)).reshape(16, 16, channels))
            times.append(picture.info["duration"])
    np.testing.assert_array_equal(np.stack(frames), clip)
    assert times == pytest.approx([1001 / 24] * 5)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pillow_reads_a_folder_of_frames(tmp_path: Path, channels: int) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (11, 16, 16, channels), dtype=np.uint8)
    folder = file_of(tmp_path, "png", clip)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"frame-{number:06d}.png" for number in range(1, 12)]
    for frame, name in zip(clip, names, strict=True):
        with Image.open(folder / name) as image:
            np.testing.assert_array_equal(np.asarray(image).reshape(frame.shape), frame)
            assert image.info.get("Comment") == (TEXT if name == names[0] else None)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mapped", [None, "r"])
def test_numpy_reads_npy(tmp_path: Path, channels: int, mapped: str | None) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, 8, 9, channels), dtype=np.uint8)
    path = file_of(tmp_path, "npy", clip)
    np.testing.assert_array_equal(np.load(path, mmap_mode=mapped), clip)  # type: ignore[arg-type]
    with path.open("rb") as file:
        np.load(file)
        assert json.loads(np.load(file).item()) == RECORD
        assert file.read() == b""


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_safetensors_reads_safetensors(tmp_path: Path, channels: int) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, 8, 9, channels), dtype=np.uint8)
    with safe_open(file_of(tmp_path, "safetensors", clip), "numpy") as file:
        assert file.keys() == ["frames"]
        np.testing.assert_array_equal(file.get_tensor("frames"), clip)
        assert file.metadata() == {"fps": "24000/1001", "comment": TEXT}


@pytest.mark.parametrize("name", ["gif", "apng"])
@pytest.mark.parametrize(("loop", "plays"), [(None, 0), (0, 0), (1, 1), (2, 2), (7, 7), (65535, 65535)])
def test_how_often_it_plays(tmp_path: Path, name: str, loop: int | None, plays: int) -> None:
    """A GIF says how often it is repeated, after the first time; an APNG how often it is played."""
    with Image.open(file_of(tmp_path, name, colourful(2, 16), scale=1, loop=loop)) as image:
        if name == "apng":
            assert image.info["loop"] == plays
        elif plays == 1:
            assert "loop" not in image.info
        else:
            assert image.info["loop"] == max(plays - 1, 0)


@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, kind: Format) -> None:
    made = []
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        path = file_of(tmp_path / number, kind.name, colourful(6, 64, 3), scale=2)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        made.append([file.read_bytes() for file in files])
    assert made[0] == made[1]


@pytest.mark.parametrize("name", ["apng", "mkv", "png", "npy", "safetensors"])
def test_lanczos_is_the_same_in_every_exact_format(tmp_path: Path, name: str) -> None:
    clip = colourful(2, 16)
    wanted = np.stack([np.asarray(Image.fromarray(frame).resize((48, 48), Image.Resampling.LANCZOS)) for frame in clip])
    frames, _ = read_frames(file_of(tmp_path, name, clip, scale=3, filter="lanczos"))
    np.testing.assert_array_equal(frames, wanted)


def test_lanczos_does_not_let_hidden_colours_bleed(tmp_path: Path) -> None:
    clip = np.zeros((1, 8, 8, 4), np.uint8)
    clip[..., :4, :] = (0, 255, 0, 0)  # green that nobody sees
    clip[..., 4:, :] = (200, 0, 0, 255)
    path = file_of(tmp_path, "npy", clip, scale=4, filter="lanczos")
    large = np.load(path)
    assert large[large[..., 3] > 0][:, 1].max() == 0

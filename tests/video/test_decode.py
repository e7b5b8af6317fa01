"""Any video comes out frame by frame, as it is meant to be seen, or with the reason why not."""

import itertools
import os
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpvideo.errors import MPVideoError, OutputError
from mpvideo.video.decode import FrameStream, UnreadableVideo
from mpvideo.video.ffmpeg import ffmpeg_program
from mpvideo.video.folder import natural_key, png_frames
from tests.video.conftest import Frames, worst
from tests.videos import counting, make_video, save_gif, save_pngs

ENCODINGS = {
    ".avi": ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj444p"),
    ".m4v": ("-c:v", "libx264", "-pix_fmt", "yuv444p"),
    ".mkv": ("-c:v", "ffv1"),
    ".mov": ("-c:v", "libx264", "-crf", "1", "-pix_fmt", "yuv444p"),
    ".MP4": ("-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv444p", "-f", "mp4"),
    ".webm": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuv444p", "-deadline", "realtime", "-cpu-used", "8"),
}


def decoded(path: Path) -> tuple[Frames, Fraction | None]:
    stream = FrameStream(path)
    return np.stack(list(stream)), stream.fps


def problem(path: Path) -> UnreadableVideo:
    with pytest.raises(UnreadableVideo) as caught:
        list(FrameStream(path))
    assert str(path) in caught.value.message and caught.value.clause in caught.value.message
    return caught.value


@pytest.mark.parametrize("suffix", ENCODINGS)
def test_flat_colours_size_count_and_rate(tmp_path: Path, suffix: str) -> None:
    source = "color=c=0xd08030:s=40x24:r=30000/1001:d=0.5"
    frames, fps = decoded(make_video(tmp_path / f"a clip{suffix}", source, *ENCODINGS[suffix]))
    assert frames.shape == (15, 24, 40, 3) and frames.dtype == np.uint8
    assert worst(frames, np.broadcast_to(np.uint8([0xD0, 0x80, 0x30]), frames.shape)) <= 4
    # Matroska and WebM count milliseconds, of which the rate is made out.
    assert fps is not None and abs(fps - Fraction(30000, 1001)) < (0.05 if suffix in (".mkv", ".webm") else 1e-9)


def test_av1(tmp_path: Path) -> None:
    options = ("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime")
    frames, fps = decoded(make_video(tmp_path / "a.webm", "color=c=0xd08030:s=64x64:r=10:d=0.3", *options))
    assert (len(frames), fps) == (3, 10)
    assert worst(frames, np.broadcast_to(np.uint8([0xD0, 0x80, 0x30]), frames.shape)) <= 4


def test_frames_are_those_of_the_source_in_order(tmp_path: Path) -> None:
    """A lossless file against ffmpeg's source written as pictures."""
    source = "testsrc=s=64x48:r=5:d=1"
    frames, _ = decoded(make_video(tmp_path / "a.mkv", source, "-c:v", "libx264rgb", "-crf", "0", "-bf", "3"))
    make_video(tmp_path / "%d.png", source)
    wanted = np.stack([np.asarray(Image.open(tmp_path / f"{i}.png").convert("RGB")) for i in range(1, 6)])
    assert np.array_equal(frames, wanted)


def test_every_frame_comes_once_whatever_its_time(tmp_path: Path) -> None:
    """Frames at 0, 1, 4, 9 and 16 tenths of a second: five frames in four intervals of 0.4 s on the mean."""
    options = ("-vf", "setpts=N*N/10/TB", "-fps_mode", "passthrough", "-enc_time_base", "1/10", "-c:v", "ffv1")
    frames, fps = decoded(make_video(tmp_path / "a.mkv", "testsrc=s=32x32:r=10:d=0.5", *options))
    assert len(frames) == 5 and fps == Fraction(4, 1) / Fraction(16, 10)


def test_turned_and_stretched_as_the_file_says(tmp_path: Path) -> None:
    plain = make_video(tmp_path / "plain.mp4", "testsrc=s=64x32:r=5:d=0.4", "-pix_fmt", "yuv444p")
    turn = (ffmpeg_program(), "-v", "error", "-display_rotation", "90", "-i", plain, "-c", "copy")
    subprocess.run([*turn, tmp_path / "turned.mp4"], check=True)
    upright, turned = decoded(plain)[0], decoded(tmp_path / "turned.mp4")[0]
    assert np.array_equal(turned, np.rot90(upright, axes=(1, 2)))
    wide = make_video(tmp_path / "wide.mp4", "testsrc=s=64x32:r=5:d=0.4", "-vf", "setsar=2")
    assert decoded(wide)[0].shape == (2, 32, 128, 3)


def test_sound_is_no_matter(tmp_path: Path) -> None:
    sound = ("-f", "lavfi", "-i", "sine=d=1", "-shortest")
    assert len(decoded(make_video(tmp_path / "a.mp4", "color=s=32x32:r=8:d=1", *sound))[0]) == 8


def test_gif_is_what_ffmpeg_makes_of_it(tmp_path: Path) -> None:
    wanted = counting(4, start=50, side=16)
    wanted[:, 3:9, 4:7] = (10, 200, 30)
    path = save_gif(tmp_path / "a.gif", wanted, delay=40)
    frames, fps = decoded(path)
    assert np.array_equal(frames, wanted) and fps == 25
    raw = subprocess.run(
        [ffmpeg_program(), "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        check=True,
        capture_output=True,
    ).stdout
    assert raw == wanted.tobytes()


def test_gif_without_delays_has_no_rate(tmp_path: Path) -> None:
    assert decoded(save_gif(tmp_path / "a.gif", counting(3), delay=0))[1] is None


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (4, 4), (200, 100, 50, 255))
    picture.putpixel((1, 2), (200, 100, 50, 0))
    picture.save(tmp_path / "a.gif")
    folder = tmp_path / "frames"
    folder.mkdir()
    picture.putpixel((3, 0), (200, 100, 50, 128))
    picture.save(folder / "1.png")
    gif, png = decoded(tmp_path / "a.gif")[0][0], decoded(folder)[0][0]
    assert gif[2, 1].tolist() == png[2, 1].tolist() == [0, 0, 0]
    assert gif[0, 0].tolist() == png[0, 0].tolist() == [200, 100, 50]
    assert png[0, 3].tolist() == [100, 50, 25]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mkv", ("-c:v", "ffv1", "-pix_fmt", "bgra")),
        ("a.webm", ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-lossless", "1")),
        ("vp8.webm", ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", "-crf", "4", "-b:v", "5M")),
        ("a.mov", ("-c:v", "qtrle", "-pix_fmt", "argb")),
    ],
)
def test_transparency_of_a_file_is_laid_over_black(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    """Players show no colour where there is none; a decoder has one in its place."""
    source = "color=c=red@0.0:s=64x64:r=8:d=0.5,format=rgba,drawbox=c=red@1.0:x=0:y=0:w=64:h=32:t=fill:replace=1"
    frames, _ = decoded(make_video(tmp_path / name, source, *options))
    assert frames.shape == (4, 64, 64, 3)
    assert frames[:, :28, :, 0].min() > 245 and frames[:, 36:].max() < 10


def test_png_folder_in_natural_order(tmp_path: Path) -> None:
    names = ["frame 2.png", "frame 10.PNG", "frame 1.png", "frame 03.png"]
    folder = save_pngs(tmp_path / "clip", counting(4), names)
    (folder / "notes.txt").write_text("no frame")
    (folder / ".hidden.png").write_text("no frame")
    frames, fps = decoded(folder)
    assert frames[:, 0, 0, 0].tolist() == [2, 0, 3, 1] and fps is None
    assert [path.name for path in png_frames(folder)] == ["frame 1.png", "frame 2.png", "frame 03.png", "frame 10.PNG"]


@pytest.mark.parametrize(
    "wanted",
    [["a", "a1", "a2", "a10", "b"], ["01", "1", "2", "10"], ["2b", "10a", "x"], ["²", "³"]],
)
def test_natural_key(wanted: list[str]) -> None:
    for order in itertools.permutations(wanted):
        assert sorted(order, key=natural_key) == wanted


def test_gray_and_sixteen_bit_png(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 5), 0x80FF, np.uint16)).save(tmp_path / "1.png")
    Image.fromarray(np.full((3, 5), 77, np.uint8)).save(tmp_path / "2.png")
    assert decoded(tmp_path)[0][:, 0, 0].tolist() == [[0x80] * 3, [77] * 3]


def test_frames_of_two_sizes(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "1.png")
    Image.new("RGB", (6, 8)).save(tmp_path / "2.png")
    assert problem(tmp_path).clause == "its frames must have one size, got 8x6 and 6x8 (2.png)"


def test_folder_without_frames(tmp_path: Path) -> None:
    assert problem(tmp_path).clause == "it has no PNG frames"


@pytest.mark.parametrize("content", [b"", b"not a video", b"\0" * 5000, b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.avi", "clip/1.png"])
def test_files_of_something_else(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / name).write_bytes(content)
    error = problem(tmp_path / name.removesuffix("/1.png"))
    assert error.lasting and error.clause
    if name == "clip/1.png":
        assert error.clause == "its frame 1.png is damaged"


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".gif"])
@pytest.mark.parametrize("left", [0.5, 0.9])
def test_files_that_are_cut_short(tmp_path: Path, suffix: str, left: float) -> None:
    """ffmpeg itself plays some of them without complaint as far as they go."""
    options = {".mp4": ("-movflags", "+faststart"), ".webm": ("-deadline", "realtime"), ".mkv": ("-c:v", "ffv1")}
    path = make_video(tmp_path / f"a{suffix}", "testsrc=s=64x48:r=10:d=2", *options.get(suffix, ()))
    assert len(decoded(path)[0]) == 20
    data = path.read_bytes()
    path.write_bytes(data[: int(left * len(data))])
    assert problem(path).lasting


def test_bytes_that_were_turned_in_the_middle(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "testsrc=s=64x48:r=10:d=2", "-g", "5")
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 1500
    data[middle : middle + 400] = bytes(range(200)) * 2
    path.write_bytes(data)
    assert "ffmpeg ended with exit code" in problem(path).clause


def test_sound_alone(tmp_path: Path) -> None:
    error = problem(make_video(tmp_path / "a.mp4", "sine=d=0.2"))
    assert error.lasting and "matches no streams" in error.clause


def test_what_is_not_the_files_fault(tmp_path: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    error = problem(tmp_path / "missing.mp4")
    assert not error.lasting and error.clause == "no such file or directory"
    video = make_video(tmp_path / "a.mp4", "color=s=32x32:r=8:d=1")
    fake_ffmpeg("kill -9 $$")
    error = problem(video)
    assert not error.lasting and error.clause == "ffmpeg was killed by signal 9 (SIGKILL)"
    fake_ffmpeg('echo "[out#0] Error writing trailer: No space left on device" >&2; exit 228')
    with pytest.raises(OutputError, match="the disk is full"):
        list(FrameStream(video))


def test_an_ffmpeg_without_a_decoder_is_not_the_files_fault(tmp_path: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    video = make_video(tmp_path / "a.mp4", "color=s=32x32:r=8:d=1")
    fake_ffmpeg("echo \"Unknown decoder 'libvpx-vp9'\" >&2; exit 8")
    error = problem(video)
    assert not error.lasting and "Unknown decoder 'libvpx-vp9'" in error.clause
    assert error.hint is not None and "IMAGEIO_FFMPEG_EXE" in error.hint


def pam(width: str, height: str, depth: int = 4) -> str:
    """The header of a picture, as `printf` takes it."""
    return rf"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"


def test_pictures_that_are_none(tmp_path: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    video = make_video(tmp_path / "a.mp4", "color=s=32x32:r=8:d=1")
    for output, clause in (
        (r"P6\n2 2\n255\n", "ffmpeg's pictures are not what was asked for"),
        (pam("2", "2", depth=3), "ffmpeg's pictures are not what was asked for"),
        (pam("x", "2"), "ffmpeg's pictures are not what was asked for"),
        (pam("", "2"), "ffmpeg's pictures are not what was asked for"),
        (r"P7\n" + r"A 1\n" * 1000, "ffmpeg's pictures are not what was asked for"),
        (pam("99999", "2"), "its sides must be at most 32768 pixels, got 99999x2"),
        (pam("2", "0"), "its sides must be at most 32768 pixels, got 2x0"),
    ):
        fake_ffmpeg(f"printf '{output}'")
        assert problem(video).clause == clause
    fake_ffmpeg("exit 0")
    with pytest.raises(MPVideoError):
        list(FrameStream(video))


def test_a_stream_left_alone_ends_its_ffmpeg(tmp_path: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    video = make_video(tmp_path / "a.mp4", "color=s=32x32:r=8:d=1")
    fake_ffmpeg(f'echo $$ > "{tmp_path}/pid"; printf "{pam("1", "1")}RGB\\377"; exec sleep 100')
    frames = iter(FrameStream(video))
    assert next(frames).tolist() == [[[82, 71, 66]]]
    began = time.monotonic()
    frames.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)

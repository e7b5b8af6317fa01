"""Decoded once, noticed when changed, whole or not there at all."""

import errno
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mpvideo.errors import OutputError, UsageError
from mpvideo.training import cache
from mpvideo.training.cache import FrameCache, default_cache, open_cache
from mpvideo.video.decode import Frames, FrameStream, UnreadableVideo
from tests.videos import counting, make_video, save_gif, save_pngs


class Folder:
    """A folder of videos and its cache."""

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.home = root / "cache"
        self.lines: list[str] = []
        self.data.mkdir()

    def open(self, size: int = 8, channels: Any = 3) -> FrameCache:
        self.lines = []
        names = sorted(path.name for path in self.data.iterdir())
        videos = {name: self.data / name for name in names}
        return open_cache(videos, self.home, data=self.data, size=size, channels=channels, say=self.lines.append)

    @property
    def files(self) -> set[Path]:
        return {path for path in self.home.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Three videos whose red counts from 10, from 50 and from 90, one a frame."""
    folder = Folder(tmp_path)
    save_gif(folder.data / "a.gif", counting(4, start=10), delay=50)
    save_pngs(folder.data / "b", counting(3, start=50))
    save_gif(folder.data / "c.gif", counting(5, start=90), delay=200)
    return folder


def reds(opened: FrameCache, name: str) -> list[int]:
    video = opened.videos[name]
    return [int(frame[0, 0, 0]) for frame in opened.frames[video.first : video.first + video.count]]


def count_decoding(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the videos that are decoded from now on."""
    names = []

    class Counting(FrameStream):
        def __init__(self, path: Path) -> None:
            names.append(path.name)
            super().__init__(path)

    monkeypatch.setattr(cache, "FrameStream", Counting)
    return names


def test_first_run_decodes_all(folder: Folder) -> None:
    opened = folder.open()
    assert opened.frames.shape == (12, 8, 8, 3) and opened.frames.dtype == np.uint8
    assert reds(opened, "a.gif") == [10, 11, 12, 13]
    assert reds(opened, "b") == [50, 51, 52]
    assert reds(opened, "c.gif") == [90, 91, 92, 93, 94]
    assert [opened.videos[name].fps for name in ("a.gif", "b", "c.gif")] == [20, None, 5]
    assert folder.lines == ["3 videos: 0 from the cache, 3 decoded, 0 skipped"]


def test_pixels_are_those_of_an_independent_decoding(tmp_path: Path) -> None:
    """ffmpeg's own pictures of the same file, cut and shrunk by Pillow's reduce, which takes means of blocks."""
    folder = Folder(tmp_path)
    video = make_video(folder.data / "a.mkv", "testsrc2=s=64x32:r=5:d=1", "-c:v", "libx264rgb", "-crf", "0")
    opened = folder.open(size=8)
    (tmp_path / "png").mkdir()
    make_video(tmp_path / "png" / "%d.png", f"movie={video}", "-fps_mode", "passthrough")
    for index in range(5):
        wanted = Image.open(tmp_path / "png" / f"{index + 1}.png").convert("RGB").crop((16, 0, 48, 32)).reduce(4)
        assert np.abs(opened.frames[index].astype(int) - np.asarray(wanted, int)).max() <= 1


def test_flat_colours_in_rgb_and_gray(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    make_video(folder.data / "a.mp4", "color=c=0xd08030:s=64x48:r=5:d=1", "-pix_fmt", "yuv444p")
    colour, gray = folder.open(channels=3).frames, folder.open(channels=1).frames
    assert colour.shape == (5, 8, 8, 3) and gray.shape == (5, 8, 8, 1)
    assert np.abs(colour.astype(int) - [0xD0, 0x80, 0x30]).max() <= 3
    assert np.abs(gray.astype(int) - round(0.299 * 0xD0 + 0.587 * 0x80 + 0.114 * 0x30)).max() <= 3


def test_second_run_decodes_and_writes_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder.open()
    before = {path: path.stat() for path in folder.files}
    names = count_decoding(monkeypatch)
    second = folder.open()
    assert names == [] and second.videos == first.videos and np.array_equal(second.frames, first.frames)
    assert {path: path.stat().st_mtime_ns for path in folder.files} == {p: s.st_mtime_ns for p, s in before.items()}
    assert isinstance(second.frames, np.memmap) and not second.frames.flags.writeable
    assert folder.lines == ["3 videos: 3 from the cache, 0 decoded, 0 skipped"]


def test_only_what_changed_is_decoded_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    old = folder.open()
    names = count_decoding(monkeypatch)
    save_gif(folder.data / "a.gif", counting(2, start=30))
    save_gif(folder.data / "0 new.gif", counting(3, start=70))
    (folder.data / "c.gif").unlink()
    opened = folder.open()
    assert names == ["0 new.gif", "a.gif"]
    assert list(opened.videos) == ["0 new.gif", "a.gif", "b"] and len(opened.frames) == 8
    assert (reds(opened, "0 new.gif"), reds(opened, "a.gif")) == ([70, 71, 72], [30, 31])
    assert reds(opened, "b") == [50, 51, 52]
    assert folder.lines == ["3 videos: 1 from the cache, 2 decoded, 0 skipped"]
    # The old frames are gone from the disk, but not for those who still read them.
    assert len(folder.files) == 2 and reds(old, "a.gif") == [10, 11, 12, 13] and reds(old, "c.gif")[-1] == 94


@pytest.mark.parametrize("change", ["time", "frame", "frame's time", "frame's name", "one frame more", "gone"])
def test_every_kind_of_change_is_noticed(folder: Folder, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    folder.open()
    names = count_decoding(monkeypatch)
    gif, frame = folder.data / "a.gif", folder.data / "b" / "2.png"
    if change == "time":
        os.utime(gif, ns=(0, gif.stat().st_mtime_ns + 1))
    elif change == "frame":
        Image.new("RGB", (8, 8), (200, 0, 0)).save(frame)
    elif change == "frame's time":
        os.utime(frame, ns=(0, frame.stat().st_mtime_ns - 1))
    elif change == "frame's name":
        frame.rename(frame.with_name("9.png"))
    elif change == "one frame more":
        Image.new("RGB", (8, 8), (200, 0, 0)).save(frame.with_name("4.png"))
    else:
        gif.unlink()
    opened = folder.open()
    assert names == ([] if change == "gone" else ["a.gif" if change == "time" else "b"])
    wanted = {"frame": [50, 200, 52], "frame's name": [50, 52, 51], "one frame more": [50, 51, 52, 200]}
    assert reds(opened, "b") == wanted.get(change, [50, 51, 52]) and reds(opened, "c.gif")[0] == 90
    assert ("a.gif" in opened.videos) == (change != "gone")
    assert len(opened.frames) == sum(video.count for video in opened.videos.values())


@pytest.mark.parametrize("name", ["aa broken", "zz broken"])
def test_broken_videos_leave_no_trace_and_are_not_tried_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Cut in the middle: some of its frames come out before the damage does."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    save_pngs(folder.data / name, noise)
    (folder.data / name / "5.png").write_bytes((folder.data / name / "5.png").read_bytes()[:100])
    opened = folder.open()
    assert opened.videos[name].problem == "its frame 5.png is damaged"
    assert opened.videos[name].count == 0 and len(opened.frames) == 12 and reds(opened, "b") == [50, 51, 52]
    assert folder.lines == ["4 videos: 0 from the cache, 3 decoded, 1 skipped"]
    names = count_decoding(monkeypatch)
    assert folder.open().videos == opened.videos and names == []
    assert folder.lines == ["4 videos: 3 from the cache, 0 decoded, 1 skipped"]
    save_pngs(folder.data / name, counting(6, start=120))
    assert reds(folder.open(), name)[-1] == 125 and names == [name]


def test_what_was_not_the_files_fault_is_tried_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(FrameStream):
        def __iter__(self) -> Any:
            if self.path.name == "b":
                raise UnreadableVideo(self.path, "input/output error", lasting=False)
            return super().__iter__()

    monkeypatch.setattr(cache, "FrameStream", Failing)
    opened = folder.open()
    assert opened.videos["b"].problem == "input/output error" and reds(opened, "c.gif")[0] == 90
    monkeypatch.undo()
    assert reds(folder.open(), "b") == [50, 51, 52]
    assert folder.lines == ["3 videos: 2 from the cache, 1 decoded, 0 skipped"]


def test_no_usable_video_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    (folder.data / "a.gif").write_bytes(b"GIF89a")
    assert folder.open().frames.shape == (0, 8, 8, 3)
    names = count_decoding(monkeypatch)
    assert folder.open().videos["a.gif"].problem == "it is cut short" and names == []


def test_formats_live_side_by_side(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    formats = [(8, 3), (8, 1), (4, 3)]
    for size, channels in formats:
        folder.open(size, channels)
    names = count_decoding(monkeypatch)
    for size, channels in formats:
        assert folder.open(size, channels).frames.shape == (12, size, size, channels)
    assert names == [] and len(folder.files) == 6


@pytest.mark.parametrize("damage", ["short", "long", "no frames", "no json", "no text", "other format", "gap", "list"])
def test_a_damaged_cache_is_made_anew_and_says_so(folder: Folder, damage: str) -> None:
    folder.open()
    index = next(path for path in folder.files if path.name == "index.json")
    frames = next(path for path in folder.files if path.suffix == ".bin")
    content = json.loads(index.read_text())
    if damage in ("short", "long"):
        os.truncate(frames, frames.stat().st_size + (1 if damage == "long" else -1))
    elif damage == "no frames":
        frames.unlink()
    elif damage == "no json":
        index.write_text("{" * 10)
    elif damage == "no text":
        index.write_bytes(b"\xff\xfe")
    elif damage == "other format":
        index.write_text(json.dumps({**content, "format": 0}))
    elif damage == "gap":
        content["videos"]["b"]["first"] += 1
        index.write_text(json.dumps(content))
    else:
        index.write_text("[]")
    opened = folder.open()
    assert reds(opened, "b") == [50, 51, 52] and len(folder.lines) == 2
    assert "is made anew: its index " in folder.lines[0]
    assert folder.lines[1] == "3 videos: 0 from the cache, 3 decoded, 0 skipped"
    folder.open()
    assert folder.lines == ["3 videos: 3 from the cache, 0 decoded, 0 skipped"]


class FullDisk:
    """Lets a few bytes through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        decode = cache.square_frame

        def refuse(*arguments: Any) -> Frames:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return decode(*arguments)

        monkeypatch.setattr(cache, "square_frame", refuse)


@pytest.mark.parametrize("after", [0, 5])
def test_a_full_disk_leaves_the_cache_as_it_was(folder: Folder, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    folder.open()
    before = {path: path.read_bytes() for path in folder.files}
    save_gif(folder.data / "d.gif", counting(9))
    FullDisk(monkeypatch, after)
    with pytest.raises(OutputError, match="the disk is full"):
        folder.open()
    assert {path: path.read_bytes() for path in folder.files} == before


def test_the_kernel_itself_stops_the_writing(folder: Folder) -> None:
    script = """
        import resource, signal, sys
        from pathlib import Path
        from mpvideo.errors import OutputError
        from mpvideo.training.cache import open_cache
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        data, home = map(Path, sys.argv[1:])
        videos = {path.name: path for path in data.iterdir()}
        try:
            open_cache(videos, home, data=data, size=8, channels=3, say=print)
        except OutputError as error:
            print("refused", error.message)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder.data), str(folder.home)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "refused" in done.stdout and "could not be written: file too large" in done.stdout.lower(), done
    assert folder.files == set()


def test_being_killed_leaves_nothing_that_looks_whole(folder: Folder) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from mpvideo.training import cache
        data, home = map(Path, sys.argv[1:])
        cache._publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        videos = {path.name: path for path in data.iterdir()}
        cache.open_cache(videos, home, data=data, size=8, channels=3, say=print)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder.data), str(folder.home)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    (left,) = folder.files
    assert reds(folder.open(), "b") == [50, 51, 52]
    assert folder.lines == ["3 videos: 0 from the cache, 3 decoded, 0 skipped"]
    assert left in folder.files  # it could be in the making, for all we know
    os.utime(left, (0, time.time() - 100_000))
    save_gif(folder.data / "d.gif", counting(2))
    folder.open()
    assert left not in folder.files and len(folder.files) == 2


def test_an_exception_in_the_middle_leaves_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "_publish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.open()
    assert folder.files == set()


def test_two_that_build_at_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second starts and ends while the first is decoding, and sees one video more: both are right."""
    publish = cache._publish
    others: list[FrameCache] = []

    def meanwhile(*arguments: Any) -> None:
        monkeypatch.setattr(cache, "_publish", publish)
        save_gif(folder.data / "0.gif", counting(2, start=200))
        others.append(folder.open())
        publish(*arguments)

    monkeypatch.setattr(cache, "_publish", meanwhile)
    first = folder.open()
    for opened in (first, others[0]):
        assert reds(opened, "a.gif") == [10, 11, 12, 13] and reds(opened, "c.gif")[-1] == 94
    assert "0.gif" not in first.videos and reds(others[0], "0.gif") == [200, 201]
    assert len(folder.files) == 2
    assert reds(folder.open(), "0.gif") == [200, 201] and len(folder.files) == 2


def test_frames_that_are_replaced_while_they_are_opened(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is read, then another process puts new frames in the place of those that it names."""
    folder.open()
    mapped, decoded = cache._mapped, count_decoding(monkeypatch)

    def gone(*arguments: Any) -> Any:
        monkeypatch.setattr(cache, "_mapped", mapped)
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(cache, "_mapped", gone)
    assert reds(folder.open(), "a.gif") == [10, 11, 12, 13]
    assert not decoded


def test_progress_is_told_now_and_then(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_BETWEEN_LINES", -1.0)
    folder.open()
    assert folder.lines[:3] == [f"decoding: {done} of 3 videos" for done in range(3)]


def test_memory_holds_one_frame_and_not_the_video(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame is written before the next is asked for."""
    written: list[int] = []

    class Endless(FrameStream):
        def __iter__(self) -> Any:
            for _ in range(200):
                yield np.zeros((8, 8, 3), np.uint8)
                (making,) = (path for path in folder.files if ".part" in path.name)
                written.append(making.stat().st_size)

    monkeypatch.setattr(cache, "FrameStream", Endless)
    folder.open(size=64)
    sizes = np.array(written[:200])
    assert (sizes >= np.arange(200) * 64 * 64 * 3).all()


def test_where_nothing_can_be_written(folder: Folder) -> None:
    folder.home.write_text("a file in the way")
    with pytest.raises(OutputError):
        folder.open()


def test_odd_names_survive(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b'odd "\xff\n.gif')
    save_gif(folder.data / name, counting(2, start=7))
    folder.open()
    names = count_decoding(monkeypatch)
    assert reds(folder.open(), name) == [7, 8] and names == []


def test_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "mpvideo"
    monkeypatch.setenv("HOME", "/home/someone")
    for ignored in ("relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert default_cache() == Path("/home/someone/.cache/mpvideo")
    monkeypatch.setattr(Path, "home", lambda: Path("~unknown").expanduser())
    with pytest.raises(UsageError):
        default_cache()

"""Decoded videos: small square frames in one file, which is mapped into memory, and an index of them.

CACHE/<hash of the folder's path, size and channels>/
    index.json               which videos, and where their frames are
    frames-<random>.bin      the frames, (total, size, size, channels) uint8, as the index names it

Neither file is ever changed, only replaced, the index last: so there is no moment at which they do not fit, and
whoever reads the old frames goes on reading them.
"""

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from mpvideo.errors import UsageError, naming
from mpvideo.files import atomic_path, make_folder, reason
from mpvideo.text import counted, printable
from mpvideo.training import Say
from mpvideo.video.decode import Frames, FrameStream, UnreadableVideo
from mpvideo.video.folder import png_frames
from mpvideo.video.square import square_frame

_FORMAT = 2  # in 1 the transparent parts of WebM and MKV files had colours
_INDEX = "index.json"
_BETWEEN_LINES = 5.0  # seconds, while decoding
_ABANDONED = 86_400.0  # seconds after which a file in the making is taken for one whose maker was killed


@dataclass(frozen=True)
class CachedVideo:
    """One video of a cache.

    Attributes:
        stamp: size and time of its file or files, by which a change is noticed.
        first, count: its frames are first .. first + count - 1 of all.
        digest: a hash of its frames.
        fps: its mean frames a second, if it says.
        problem: what is wrong with it, if it could not be decoded; it has no frames then.
    """

    stamp: str
    first: int
    count: int
    digest: str = ""
    fps: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class FrameCache:
    """All videos of a folder, decoded.

    Attributes:
        videos: by their names, those that could not be decoded among them.
        frames: all frames, (total, size, size, channels) uint8, in a file that is mapped into memory: processes that
            read it share it.
    """

    videos: dict[str, CachedVideo]
    frames: Frames


@dataclass
class _Making:
    """A cache in the making: the videos whose frames are in the file so far, and their number."""

    file: IO[bytes]
    videos: dict[str, CachedVideo] = field(default_factory=dict)
    total: int = 0

    def add(self, name: str, video: CachedVideo) -> None:
        self.videos[name] = replace(video, first=self.total)
        self.total += video.count


def default_cache() -> Path:
    """Where decoded videos are kept unless the user says otherwise: mpvideo's folder in the user's cache folder.

    Raises:
        UsageError: the user has no home.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # what the XDG specification says to ignore
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise UsageError("decoded videos need a place", hint="Give --cache a folder.") from error
    return base / "mpvideo"


def open_cache(
    videos: Mapping[str, Path], cache: Path, *, data: Path, size: int, channels: Literal[1, 3], say: Say
) -> FrameCache:
    """Opens the cache of a folder, having decoded what is not in it yet.

    Videos whose files are as they were are taken from the cache, those that could not be decoded among them; the
    others are decoded, one frame in memory at a time. Where nothing changed nothing is written.

    Args:
        videos: the files, and folders of PNG frames, by their names.
        cache: the folder of all caches.
        data: the folder of the videos.
        size, channels: of the frames; see `square_frame`.
        say: told how it goes, and what was done.

    Raises:
        OutputError: the cache cannot be written; the one before is as it was.
        MPVideoError: there is no ffmpeg.
    """
    data = data.resolve()
    folder = cache / _folder_name(data, size, channels)
    stamps = {name: _stamp(path) for name, path in videos.items()}
    before = _load(folder, size, channels, say)
    known = {} if before is None else before.videos
    kept = {name: video for name, video in known.items() if stamps.get(name) == video.stamp}
    fresh = {name: path for name, path in videos.items() if name not in kept}
    if before is None or fresh or len(kept) < len(known):
        about = {"data": str(data), "size": size, "channels": channels}
        after = _build(folder, about, before, kept, {name: (videos[name], stamps[name]) for name in fresh}, say)
    else:
        after = before
    skipped = sum(video.problem is not None for video in after.videos.values())
    reused = sum(video.problem is None for video in kept.values())
    decoded = len(after.videos) - skipped - reused
    say(f"{counted(len(videos), 'video')}: {reused} from the cache, {decoded} decoded, {skipped} skipped")
    return FrameCache({name: after.videos[name] for name in videos}, after.frames)


def _folder_name(data: Path, size: int, channels: int) -> str:
    return hashlib.blake2b(os.fsencode(data) + f"\0{size} {channels}".encode(), digest_size=12).hexdigest()


def _stamp(path: Path) -> str | None:
    """What changes when a video changes: size in bytes and time of a file, or a digest of those of all frames."""
    try:
        if not path.is_dir():
            status = path.stat()
            return f"{status.st_size} bytes {status.st_mtime_ns}"
        digest = hashlib.blake2b(digest_size=12)
        for frame in png_frames(path):
            status = frame.stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()
    except OSError:
        return None  # decoding it will tell why


def _load(folder: Path, size: int, channels: int, say: Say, *, again: bool = True) -> FrameCache | None:
    """The cache as it is on the disk, or None if there is none, or none that fits its index.

    Where the frames that the index names are gone, another process may have put others in their place: unless not
    `again`, both are looked for once more.
    """
    try:
        text = (folder / _INDEX).read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        say(f"{printable(folder)} is made anew: its index cannot be read: {reason(error)}")
        return None
    try:
        index = json.loads(text)
        if (index["format"], index["size"], index["channels"]) != (_FORMAT, size, channels):
            raise ValueError("its format is another")
        videos = {name: CachedVideo(**video) for name, video in index["videos"].items()}
        total = 0
        for video in videos.values():
            if video.first != total or video.count < 0:
                raise ValueError("its videos do not follow one another")
            total += video.count
        return FrameCache(videos, _mapped(folder / index["frames"], total, size, channels))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if again and isinstance(error, FileNotFoundError):
            return _load(folder, size, channels, say, again=False)
        say(f"{printable(folder)} is made anew: its index does not fit: {reason(error)}")
        return None


def _mapped(path: Path, total: int, size: int, channels: int) -> Frames:
    shape = (total, size, size, channels)
    wanted, got = total * size * size * channels, path.stat().st_size
    if got != wanted:
        raise ValueError(f"{printable(path.name)} should have {wanted} bytes, got {got}")
    return np.memmap(path, np.uint8, "r", shape=shape) if total else np.zeros(shape, np.uint8)


def _build(
    folder: Path,
    about: dict[str, Any],
    before: FrameCache | None,
    kept: Mapping[str, CachedVideo],
    fresh: Mapping[str, tuple[Path, str | None]],
    say: Say,
) -> FrameCache:
    """Writes a new cache: the kept videos copied from the one before, the fresh ones decoded."""
    size, channels = about["size"], about["channels"]
    with naming("--cache", folder):
        make_folder(folder)
    path = folder / f"frames-{secrets.token_hex(6)}.bin"
    try:
        with atomic_path(path) as aside, aside.open("wb") as file:
            making = _Making(file)
            for name, video in kept.items():
                assert before is not None
                if video.count:
                    file.write(before.frames[video.first : video.first + video.count].data)
                making.add(name, video)
            transient = _decode_all(fresh, making, size, channels, say)
            if before is not None and making.videos == before.videos:
                raise _NothingNew
        # Mapped before anybody else can know, and remove, the file.
        frames = _mapped(path, making.total, size, channels)
        _publish(folder, about, path.name, making.videos)
    except _NothingNew:
        assert before is not None
        return FrameCache(before.videos | transient, before.frames)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return FrameCache(making.videos | transient, frames)


class _NothingNew(Exception):
    """No video could be decoded that is not in the cache; raised so that the file in the making is discarded."""


def _decode_all(
    fresh: Mapping[str, tuple[Path, str | None]], making: _Making, size: int, channels: Literal[1, 3], say: Say
) -> dict[str, CachedVideo]:
    """Decodes videos into the cache; returns those that the system kept from being read, to be tried again next time.

    Raises:
        OSError: the file cannot be written.
        MPVideoError: there is no ffmpeg.
    """
    transient = {}
    spoken = time.monotonic()
    for done, (name, (path, stamp)) in enumerate(fresh.items()):
        if time.monotonic() - spoken > _BETWEEN_LINES:
            say(f"decoding: {done} of {counted(len(fresh), 'video')}")
            spoken = time.monotonic()
        start = making.file.tell()
        try:
            making.add(name, _decode(path, stamp or "", making.file, size, channels))
        except UnreadableVideo as error:
            making.file.seek(start)
            making.file.truncate()
            video = CachedVideo(stamp or "", 0, 0, problem=error.clause)
            if error.lasting:
                making.add(name, video)
            else:
                transient[name] = video
    return transient


def _decode(path: Path, stamp: str, file: IO[bytes], size: int, channels: Literal[1, 3]) -> CachedVideo:
    """Writes the frames of one video to the file."""
    stream, count, digest = FrameStream(path), 0, hashlib.blake2b(digest_size=12)
    for frame in stream:
        pixels = square_frame(frame, size, channels).tobytes()
        file.write(pixels)
        digest.update(pixels)
        count += 1
    return CachedVideo(stamp, 0, count, digest.hexdigest(), None if stream.fps is None else float(stream.fps))


def _publish(folder: Path, about: dict[str, Any], frames: str, videos: Mapping[str, CachedVideo]) -> None:
    """Writes the index, from when on this is the cache, and removes what nothing refers to any more."""
    path = folder / _INDEX
    replaced = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        replaced = folder / Path(json.loads(path.read_text("utf-8"))["frames"]).name
    index = {
        "format": _FORMAT,
        **about,
        "frames": frames,
        "videos": {name: asdict(video) for name, video in videos.items()},
    }
    with atomic_path(path, overwrite=True) as aside:
        aside.write_text(json.dumps(index, indent=1) + "\n", "utf-8")
    for old in folder.iterdir():
        with contextlib.suppress(OSError):  # another process may be quicker, and some systems keep what is in use
            abandoned = old.name not in (frames, _INDEX) and time.time() - old.stat().st_mtime > _ABANDONED
            if old == replaced or abandoned:
                old.unlink()

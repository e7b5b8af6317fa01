"""A folder of videos as training data."""

import hashlib
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mpvideo.checks import check_int
from mpvideo.config import MAX_FPS, MIN_FPS
from mpvideo.errors import UsageError
from mpvideo.text import SHOWN, counted, first_ten, printable
from mpvideo.training import Say
from mpvideo.training.cache import CachedVideo, FrameCache, open_cache
from mpvideo.training.draws import draw_index, generator_for
from mpvideo.training.layout import Layout, find_videos, holds_videos, leads_back

UNKNOWN_FPS = 8.0
"""Frames a second where no video says, as folders of PNG frames do not."""

_LAYOUTS = "DATA holds videos (MP4, WebM, GIF, folders of PNG frames), or a folder of videos for each class."


@dataclass(frozen=True)
class ClipFormat:
    """What samples are cut out of videos.

    Attributes:
        size: side of the square frames in pixels.
        frames: their number.
        stride: how many frames of the video one of them is after the other.
        channels: 3 (RGB) or 1 (gray).

    Raises:
        ValueError: one of them is out of range.
    """

    size: int
    frames: int
    stride: int = 1
    channels: Literal[1, 3] = 3

    def __post_init__(self) -> None:
        check_int("size", self.size, 1, 4096)
        check_int("frames", self.frames, 1, 65_536)
        check_int("stride", self.stride, 1, 65_536)
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels!r}")

    def span(self, frames: int | None = None) -> int:
        """How many frames of a video a clip reaches over; a whole one, or one of fewer `frames`."""
        return ((self.frames if frames is None else frames) - 1) * self.stride + 1


class FolderData:
    """Clips of the videos of a folder; see `mpvideo.training.data.Dataset`.

    The samples of an epoch are as many as there are videos: sample n belongs to epoch n // N, where each video gives
    one clip, in an order that the seed and the epoch shuffle, from a start that the seed and n draw.

    Args:
        cache: the decoded videos.
        videos: those to use, each at least `clip.span()` frames long, and the label of each.
        classes: the names of the classes, or None.
        clip: what to cut out of them.
        seed: of the order and the starts.
        name: of the folder.

    Attributes:
        frames: the decoded frames of all videos, (total, H, W, C) uint8, mapped into memory.
        fps: frames a second of a clip: the median over the videos that say theirs, over the stride.
        description: what the data are, in a few words.
        fingerprint: of the videos' frames, order and labels, which decide the samples together with the seed.
        arrangement: a hash of where in `frames` which of them are.
    """

    factors: tuple[int, ...] | None = None

    def __init__(
        self,
        cache: FrameCache,
        videos: Sequence[tuple[CachedVideo, int]],
        classes: tuple[str, ...] | None,
        clip: ClipFormat,
        *,
        seed: int,
        name: str,
    ) -> None:
        self.classes = classes
        self.clip = clip
        self.frames = cache.frames
        self._videos = tuple(videos)
        self._seed = seed
        self._epoch: tuple[int, npt.NDArray[np.int64]] | None = None
        rates = [video.fps for video, _ in videos if video.fps]
        fps = statistics.median(rates) / clip.stride if rates else UNKNOWN_FPS
        self.fps = min(max(fps, MIN_FPS), MAX_FPS)
        kinds = "" if classes is None else f" in {counted(len(classes), 'class')}"
        self.fingerprint = _hash(f"{video.digest} {video.count} {label}" for video, label in videos)
        self.arrangement = _hash(f"{video.digest} {video.first}" for video in cache.videos.values() if video.count)
        self.description = f"{printable(name)}: {counted(len(videos), 'video')}{kinds}"

    def __len__(self) -> int:
        return len(self._videos)

    def batch(
        self, numbers: Sequence[int], frames: int | None = None, *, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """Samples by their numbers, which may be any, in any order and any process.

        Args:
            numbers: of the samples.
            frames: for clips of fewer frames than `clip` has.
            device: where the frames are wanted.

        Returns:
            Frames (B, T, H, W, C) uint8, on the device, and labels (B,) int64, on the CPU; zeros without classes.

        Raises:
            ValueError: more frames than `clip` has, or none.
        """
        clips, labels = self.clips(numbers, frames)
        length = self.clip.frames if frames is None else frames
        # Stacking copies them out of the file.
        empty = np.empty((0, length, *self.frames.shape[1:]), np.uint8)
        stacked = np.stack([self.frames[clip] for clip in clips]) if clips else empty
        return torch.from_numpy(stacked).to(device), labels

    def clips(self, numbers: Sequence[int], frames: int | None = None) -> tuple[list[slice], Tensor]:
        """Where in `frames` the samples are, and their labels; see `batch`."""
        if frames is not None:
            check_int("frames", frames, 1, self.clip.frames)
        span, step = self.clip.span(frames), self.clip.stride
        clips, labels = [], []
        for number in numbers:
            epoch, place = divmod(int(number), len(self))
            video, label = self._videos[self._order(epoch)[place]]
            first = video.first + draw_index(video.count - span + 1, self._seed, "start", int(number))
            clips.append(slice(first, first + span, step))
            labels.append(label)
        return clips, torch.tensor(labels, dtype=torch.int64)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """The videos in the order of an epoch: a permutation, kept until another epoch is asked for."""
        if self._epoch is None or self._epoch[0] != epoch:
            generator = generator_for(self._seed, "order", epoch)
            self._epoch = epoch, torch.randperm(len(self), generator=generator).numpy()
        return self._epoch[1]


def open_folder(data: Path, cache: Path, clip: ClipFormat, *, seed: int, say: Say) -> FolderData:
    """Opens a folder of videos, decoding those that are not in the cache yet.

    What layouts a folder can have is described at `find_videos`. Videos that cannot be read or are too short, and
    files that are no videos, are told and skipped; a class without a video left is told and left out.

    Args:
        data: the folder.
        cache: the folder of caches, for instance `default_cache()`.
        clip: what to cut out of the videos.
        seed: of the order of the videos and the starts of clips.
        say: told how it goes.

    Raises:
        UsageError: no videos, none that can be used, or they are laid out so that their classes are not clear.
        OutputError: the cache cannot be written.
        MPVideoError: there is no ffmpeg.
    """
    layout = find_videos(data)
    _tell_others(data, layout.others, say)
    if not layout.videos:
        raise UsageError(f"there must be videos in {printable(data)}, got none", hint=_LAYOUTS)
    decoded = open_cache(layout.videos, cache, data=data, size=clip.size, channels=clip.channels, say=say)
    usable = _usable(decoded, clip, say)
    if not usable:
        raise _none_usable(data, decoded, clip)
    classes, labels = _classes_left(layout, usable, say)
    videos = [(video, labels[name]) for name, video in usable.items()]
    return FolderData(decoded, videos, classes, clip, seed=seed, name=data.resolve().name)


def _tell_others(data: Path, others: Sequence[str], say: Say) -> None:
    """Says what was found that is no video: folders, too, in which the videos lie deeper than they are looked for."""
    folders = {name: holds_videos(data / name) for name in others if name.endswith("/") and not leads_back(data / name)}
    empty = [name for name, deeper in folders.items() if not deeper]
    too_deep = [name for name, deeper in folders.items() if deeper]
    if files := [name for name in others if name not in folders]:
        say(f"skipped {len(files):,} other than videos: {first_ten(files)}")
    if empty:
        say(f"skipped {counted(len(empty), 'folder')} without videos: {first_ten(empty)}")
    if too_deep:
        say(f"skipped {counted(len(too_deep), 'folder')} whose videos lie too deep: {first_ten(too_deep)}")


def _usable(decoded: FrameCache, clip: ClipFormat, say: Say) -> dict[str, CachedVideo]:
    """The videos that clips can be cut out of; says what is wrong with the others."""
    broken = {name: video.problem for name, video in decoded.videos.items() if video.problem is not None}
    for name in list(broken)[:SHOWN]:
        say(f"skipped {printable(name)}: {printable(broken[name])}")
    if len(broken) > SHOWN:
        say(f"skipped {len(broken) - SHOWN:,} more that cannot be read: {first_ten(list(broken)[SHOWN:])}")
    whole = {name: video for name, video in decoded.videos.items() if video.problem is None}
    short = [f"{name} ({video.count})" for name, video in whole.items() if video.count < clip.span()]
    if short:
        say(f"skipped {counted(len(short), 'video')} shorter than {clip.span()} frames: {first_ten(short)}")
    return {name: video for name, video in whole.items() if video.count >= clip.span()}


def _none_usable(data: Path, decoded: FrameCache, clip: ClipFormat) -> UsageError:
    longest = max(video.count for video in decoded.videos.values())
    if longest == 0:
        return UsageError(
            f"there must be videos in {printable(data)} that can be read, got none of {len(decoded.videos)}",
            hint=_LAYOUTS,
        )
    return UsageError(
        f"a clip of {clip.frames} frames with stride {clip.stride} needs a video of {clip.span()} frames, "
        f"and the longest in {printable(data)} has {longest}",
        hint="Give smaller --frames or --stride, or longer videos.",
    )


def _classes_left(
    layout: Layout, usable: dict[str, CachedVideo], say: Say
) -> tuple[tuple[str, ...] | None, dict[str, int]]:
    """Names and labels of the classes that have a video left."""
    if layout.classes is None:
        return None, layout.labels
    left = sorted({layout.labels[name] for name in usable})
    gone = [name for label, name in enumerate(layout.classes) if label not in left]
    if gone:
        say(f"left out {len(gone)} of the classes, which have no video that can be used: {first_ten(gone)}")
    renumbered = {old: new for new, old in enumerate(left)}
    return tuple(layout.classes[old] for old in left), {name: renumbered[layout.labels[name]] for name in usable}


def _hash(lines: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()

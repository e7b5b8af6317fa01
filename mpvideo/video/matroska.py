"""What a Matroska or WebM file says about its first video track and how it was made (RFC 9559).

An element is an ID, a size and a payload, which for some IDs is again elements. The first byte of an ID or size tells
by its leading zeros how many bytes follow it.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from mpvideo.video.index import MAX_TEXT, VideoIndex

_EBML, _SEGMENT, _TRACKS, _TAGS, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0x1254C367, 0x1F43B675
_TRACK, _TRACK_NUMBER, _TRACK_TYPE, _CODEC, _FRAME_NANOSECONDS = 0xAE, 0xD7, 0x83, 0x86, 0x23E383
_VIDEO, _WIDTH, _HEIGHT, _ALPHA_MODE = 0xE0, 0xB0, 0xBA, 0x53C0
_TAG, _TARGETS, _SIMPLE_TAG, _TAG_NAME, _TAG_STRING, _TAG_TRACK = 0x7373, 0x63C0, 0x67C8, 0x45A3, 0x4487, 0x63C5
_BLOCK_GROUP, _BLOCK, _SIMPLE_BLOCK = 0xA0, 0xA1, 0xA3
_MAX_ELEMENTS = 100_000  # in one: a few bytes can make one that takes a hundred to hold
_MAX_INTEGER = 8  # bytes
_IS_VIDEO = 1


@dataclass(frozen=True)
class Matroska(VideoIndex):
    """The index of a Matroska file.

    Attributes:
        codec: the ID of its codec, such as V_VP9.
        alpha: whether it says that some of it is transparent.
    """

    codec: str
    alpha: bool


def read_matroska(path: Path) -> Matroska:
    """Reads the index of a Matroska or WebM file, and counts its frames.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, is cut short, or has no video track.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if next(_elements(file, size), (0, 0))[0] != _EBML:
            raise ValueError("it does not begin like a Matroska file")
        track, comment, frames = None, None, 0
        for kind, end in _segment(file, size):
            if kind == _TRACKS:
                track = _video_track(_payload(file, end))
            elif kind == _TAGS:
                comment = _comment(_payload(file, end)) if comment is None else comment
            elif kind == _CLUSTER and track is not None:
                frames += _count(file, end, track[0])
    if track is None:
        raise ValueError("it has no video track")
    _, width, height, rate, codec, alpha = track
    return Matroska(width, height, frames, rate, comment, codec, alpha)


def _elements(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """The ID of each element up to the byte `end`, and where it ends itself; the file stands at its payload."""
    at = file.tell()
    while at < end:
        file.seek(at)
        kind, size = _number(file, marked=True), _number(file, marked=False)
        if size is None:  # so live streams are written: it lasts as long as what it is in
            after = end
        elif (after := file.tell() + size) > end:
            raise ValueError("it is cut short")
        yield kind or 0, after
        at = after


def _segment(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    file.seek(0)
    for kind, end in _elements(file, size):
        if kind == _SEGMENT:
            yield from _elements(file, end)
            return
    raise ValueError("it has no segment: cut short")


def _number(file: BinaryIO, *, marked: bool) -> int | None:
    """A number of variable length, with its length's mark as IDs have it or without; None if all its bits are set."""
    first = file.read(1)
    if not first or not first[0]:
        raise ValueError("it is cut short or damaged")
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        raise ValueError("it is cut short")
    value = int.from_bytes(first + rest, "big")
    if marked:
        return value
    value &= (1 << 7 * length) - 1
    return None if value == (1 << 7 * length) - 1 else value


def _payload(file: BinaryIO, end: int) -> bytes:
    size = end - file.tell()
    if size > MAX_TEXT:
        raise ValueError("its index is damaged")
    return file.read(size)


def _children(data: bytes) -> Iterator[tuple[int, bytes]]:
    file = io.BytesIO(data)
    for count, (kind, end) in enumerate(_elements(file, len(data))):
        if count == _MAX_ELEMENTS:
            raise ValueError(f"it has an element with more than {_MAX_ELEMENTS:,} elements")
        yield kind, data[file.tell() : end]


def _video_track(tracks: bytes) -> tuple[int, int, int, Fraction | None, str, bool] | None:
    """Number, width, height, rate, codec and whether there is alpha, of the first video track."""
    for kind, track in _children(tracks):
        about = dict(_children(track)) if kind == _TRACK else {}
        if _integer(about, _TRACK_TYPE) == _IS_VIDEO and _VIDEO in about:
            video = dict(_children(about[_VIDEO]))
            duration = _integer(about, _FRAME_NANOSECONDS)
            return (
                _integer(about, _TRACK_NUMBER),
                _integer(video, _WIDTH),
                _integer(video, _HEIGHT),
                _rate(duration) if duration else None,
                about.get(_CODEC, b"").decode("ascii", "replace"),
                _integer(video, _ALPHA_MODE) > 0,
            )
    return None


def _integer(elements: dict[int, bytes], kind: int) -> int:
    """The number in an element, 0 where there is none."""
    data = elements.get(kind, b"")
    if len(data) > _MAX_INTEGER:
        raise ValueError(f"it has a number of {len(data):,} bytes, of which there must be at most {_MAX_INTEGER}")
    return int.from_bytes(data)


def _rate(nanoseconds: int) -> Fraction:
    """The likeliest rate whose frames last so many nanoseconds: a whole one, one of television, or the simplest.

    ffmpeg cuts fractions off (60 a second are 16,666,666), others round them.
    """
    second = Fraction(1_000_000_000)
    low, high = second / (nanoseconds + 1), second / (nanoseconds - Fraction(1, 2))
    television = Fraction(round(second / nanoseconds * 1001 / 1000) * 1000, 1001)
    whole = round(second / nanoseconds)
    return next((Fraction(rate) for rate in (whole, television) if low <= rate <= high), _simplest(low, high))


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction of smallest denominator from `low` to `high`, by continued fractions."""
    whole = low.numerator // low.denominator
    if low == whole:
        return Fraction(whole)
    if whole + 1 <= high:
        return Fraction(whole + 1)
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))


def _comment(tags: bytes) -> str | None:
    """The comment on the whole file; ffmpeg writes the names of tags in upper case."""
    for kind, tag in _children(tags):
        if kind != _TAG:
            continue
        inside = list(_children(tag))
        if any(kind == _TARGETS and _TAG_TRACK in dict(_children(data)) for kind, data in inside):
            continue
        for kind, data in inside:
            words = dict(_children(data)) if kind == _SIMPLE_TAG else {}
            if words.get(_TAG_NAME, b"").rstrip(b"\0").upper() == b"COMMENT":
                return words.get(_TAG_STRING, b"").rstrip(b"\0").decode("utf-8", "replace")
    return None


def _count(file: BinaryIO, end: int, track: int) -> int:
    """How many frames of a track a cluster has."""
    found = 0
    for kind, after in _elements(file, end):
        if kind == _BLOCK_GROUP:
            for inner, _ in _elements(file, after):
                found += inner == _BLOCK and _number(file, marked=False) == track
        elif kind == _SIMPLE_BLOCK:
            found += _number(file, marked=False) == track
    return found

"""What an MP4 file says about its first video track and how it was made, by a walk over its boxes (ISO 14496-12).

A box is a 32-bit size, a four-letter kind and a payload, which for some kinds is again boxes. Numbers are big-endian.
"""

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from mpvideo.video.index import VideoIndex

_MAX_INDEX = 1 << 26  # bytes of a `moov` box: several of them hold two hours at 60 frames a second
_MAX_FILE = 1 << 60  # bytes: no box is longer, and seeking behind one cannot overflow


def read_mp4(path: Path) -> VideoIndex:
    """Reads the index of an MP4 file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no MP4 file, is cut short, or has no video track.
    """
    with path.open("rb") as file:
        moov = _read_moov(file)
    try:
        for kind, trak in _boxes(moov):
            if kind == b"trak" and bytes(_find(trak, b"mdia", b"hdlr")[8:12]) == b"vide":
                return _video_track(trak, _comment(moov))
    except (struct.error, IndexError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"its index is damaged ({error})") from error
    raise ValueError("it has no video track")


def _read_moov(file: BinaryIO) -> memoryview:
    """The payload of the `moov` box; the frames, which may be gigabytes, are skipped over, but have to be there."""
    end, moov, has_frames = file.seek(0, os.SEEK_END), None, False
    file.seek(0)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        payload = size - 8
        if size == 1:  # the real size follows in 64 bits
            payload = int.from_bytes(file.read(8), "big") - 16
        if kind == b"moov":
            if payload > _MAX_INDEX:
                raise ValueError(f"its index must have at most {_MAX_INDEX:,} bytes, it has {payload:,}")
            data = file.read(payload) if payload > 0 else b""
            if not data or len(data) < payload:
                raise ValueError("its index is cut short")
            moov = memoryview(data)
            continue
        if kind == b"mdat":
            if file.tell() + payload > end:
                raise ValueError("it is cut short")
            has_frames = True
        if not 0 <= payload < _MAX_FILE:  # damaged, or size 0: a box that lasts to the end of the file
            break
        file.seek(payload, 1)
    if moov is None:
        raise ValueError("it has no index (moov box): no MP4 file, or cut short")
    if not has_frames:
        raise ValueError("it has no frames (mdat box): cut short")
    return moov


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and payload of each box in `data`."""
    offset = 0
    while offset + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        if size < 8 or offset + size > len(data):
            raise ValueError(f"box {kind!r} of {size} bytes does not fit")
        yield kind, data[offset + 8 : offset + size]
        offset += size


def _find(data: memoryview, *kinds: bytes) -> memoryview:
    """The payload of the first box of that kind inside the first box of ... inside `data`."""
    for kind in kinds:
        found = next((payload for name, payload in _boxes(data) if name == kind), None)
        if found is None:
            raise ValueError(f"no box {kind!r}")
        data = found
    return data


def _video_track(trak: memoryview, comment: str | None) -> VideoIndex:
    table = _find(trak, b"mdia", b"minf", b"stbl")
    # A sample entry: its own size and kind, 24 bytes of no interest here, then width and height.
    width, height = struct.unpack_from(">HH", _find(table, b"stsd"), 8 + 32)
    (frames,) = struct.unpack_from(">I", _find(table, b"stsz"), 8)
    header = _find(trak, b"mdia", b"mdhd")
    (ticks_per_second,) = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)
    times = _find(table, b"stts")
    (runs,) = struct.unpack_from(">I", times, 4)
    durations = times[8 : 8 + 8 * runs]
    if len(durations) < 8 * runs:
        raise ValueError("its times are cut short")
    ticks = sum(count * delta for count, delta in struct.iter_unpack(">II", durations))
    return VideoIndex(width, height, frames, Fraction(frames * ticks_per_second, ticks), comment)


def _comment(moov: memoryview) -> str | None:
    """The text of the iTunes-style comment, as ffmpeg, QuickTime and most others write it."""
    try:
        meta = _find(moov, b"udta", b"meta")[4:]  # after version and flags
        data = _find(meta, b"ilst", b"\xa9cmt", b"data")
    except ValueError:
        return None
    return bytes(data[8:]).decode("utf-8", "replace")  # after type and language

"""PNG files, chunk by chunk, still or animated: count frames, put in and take out the comment.

A chunk is a 32-bit size, a four-letter kind, a payload and a checksum (PNG, third edition). Numbers are big-endian.
"""

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from mpvideo.video.index import MAX_TEXT, VideoIndex

COMMENT = "Comment"
"""The keyword that PNG has for such a text."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AFTER_HEADER = len(_SIGNATURE) + 25  # where IHDR, 13 bytes and 12 around them, ends


def read_png(path: Path) -> VideoIndex:
    """Reads size, number of frames, mean rate and comment of a PNG file; a still one is a single frame without a rate.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no PNG file or is cut short.
    """
    size, frames, comment, animated, seconds = (0, 0), 1, None, False, Fraction(0)
    with path.open("rb") as file:
        for kind, length in _chunks(file):
            if kind == b"IHDR" and length == 13:
                size = struct.unpack(">II", _read(file, 8))
            elif kind == b"acTL" and length == 8:
                (frames,), animated = struct.unpack(">I", _read(file, 4)), True
            elif kind == b"fcTL" and length == 26:
                numerator, denominator = struct.unpack(">HH", _read(file, 24)[20:])
                seconds += Fraction(numerator, denominator or 100)
            elif kind == b"tEXt" and comment is None and length <= MAX_TEXT:
                keyword, _, text = _read(file, length).partition(b"\0")
                comment = text.decode("latin-1") if keyword == COMMENT.encode() else None
    if 0 in size:
        raise ValueError("it has no header")
    return VideoIndex(*size, frames, frames / seconds if animated and seconds else None, comment)


def begins_as_png(path: Path) -> bool:
    """Whether a file has the first bytes of a PNG file."""
    with path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def put_comment(path: Path, comment: str) -> None:
    """Puts a comment in ASCII right behind a PNG file's header, where every reader finds it first."""
    data = path.read_bytes()
    payload = f"{COMMENT}\0{comment}".encode("ascii")
    chunk = struct.pack(">I", len(payload)) + b"tEXt" + payload + struct.pack(">I", zlib.crc32(b"tEXt" + payload))
    path.write_bytes(data[:_AFTER_HEADER] + chunk + data[_AFTER_HEADER:])


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk up to the last; the file stands at its payload."""
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        raise ValueError("it does not begin like a PNG file")
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", _read(file, 8))
        payload = file.tell()
        yield kind, length
        file.seek(payload + length)
        _read(file, 4)  # the checksum


def _read(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise ValueError("it is cut short")
    return data

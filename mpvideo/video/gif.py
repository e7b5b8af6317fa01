"""GIF files, block by block (GIF89a): count frames, set their delays, put in and take out the comment.

ffmpeg makes the pictures. It rounds times in a way of its own and writes no comment, and Pillow, which does, merges
equal frames: so the few bytes in question are set here.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

_TRAILER, _EXTENSION, _IMAGE = 0x3B, 0x21, 0x2C
_CONTROL, _COMMENT = 0xF9, 0xFE
_TO_BACKGROUND = 2 << 2  # disposal method 2, where the control block's packed byte has it
_DISPOSAL_BITS = 7 << 2
_HAS_TRANSPARENT = 1


@dataclass(frozen=True)
class Gif:
    """Where things are in a GIF file.

    Attributes:
        images: number of pictures.
        controls: offset of each graphic control block (delay, disposal, transparency); as a rule one a picture.
        body: offset of the first block that belongs to a picture: everything before it is about the whole file.
        comment: the first comment, or None.
    """

    images: int
    controls: tuple[int, ...]
    body: int
    comment: bytes | None


def gif_bytes(path: Path) -> bytes:
    """All bytes of a GIF file; of any other, which may be longer than memory, only the first are read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no GIF file.
    """
    with path.open("rb") as file:
        _check_signature(file.read(6))
        file.seek(0)
        return file.read()


def walk_gif(data: bytes) -> Gif:
    """Finds the blocks of a GIF file.

    Raises:
        ValueError: it is no GIF file or is cut short.
    """
    _check_signature(data)
    images, controls, body, comment = 0, [], 0, None
    try:
        offset = 13 + _table_size(data[10])
        while (kind := data[offset]) != _TRAILER:
            start = offset
            if kind == _EXTENSION:
                label = data[offset + 1]
                offset, content = _sub_blocks(data, offset + 2)
                if label == _CONTROL:
                    if len(content) < 4:
                        raise ValueError(f"the control block at byte {start} is too short")
                    controls.append(start)
                if label == _COMMENT and comment is None:
                    comment = content
            elif kind == _IMAGE:
                offset, _ = _sub_blocks(data, offset + 10 + _table_size(data[offset + 9]) + 1)
                label, images = None, images + 1
            else:
                raise ValueError(f"block 0x{kind:02x} at byte {offset} is of no known kind")
            if not body and label in (_CONTROL, None):
                body = start
    except IndexError:
        raise ValueError("it is cut short") from None
    return Gif(images, tuple(controls), body, comment)


def _check_signature(start: bytes) -> None:
    if not start.startswith((b"GIF87a", b"GIF89a")):
        raise ValueError("it does not begin like a GIF file")


def delays(frames: int, rate: Fraction) -> list[int]:
    """How many centiseconds each frame stays, so that frame i ends within half a centisecond of (i + 1) / rate."""
    ends = [_round(100 * i / rate) for i in range(frames + 1)]
    return [after - before for before, after in pairwise(ends)]


def finish_gif(data: bytes, *, delays: Sequence[int], comment: bytes | None, see_through: bool) -> bytes:
    """A GIF file with these delays and this comment, in ffmpeg's pictures.

    Args:
        data: the file as ffmpeg wrote it.
        delays: centiseconds for each picture.
        comment: placed before the first picture, where every reader finds it.
        see_through: have every picture cleared before the next. ffmpeg decides that picture by picture, and leaves an
            opaque one standing under a transparent one; needs pictures that cover the whole canvas.

    Raises:
        ValueError: damaged, or not as many pictures as delays.
    """
    layout = walk_gif(data)
    if not layout.images == len(layout.controls) == len(delays):
        raise ValueError(f"it has {layout.images} frames of {len(delays)}")
    result = bytearray(data)
    for offset, delay in zip(layout.controls, delays, strict=True):
        struct.pack_into("<H", result, offset + 4, delay)
    if see_through:
        _clear_each(result, layout.controls)
    if comment is not None:
        result[layout.body : layout.body] = _comment_block(comment)
    return bytes(result)


def _clear_each(data: bytearray, controls: Sequence[int]) -> None:
    """Has each picture cleared to transparent before the next one is drawn."""
    # Readers clear to transparent only where a picture names a transparent colour, so opaque pictures name it too; the
    # palette is common to all and keeps that entry for nothing else.
    transparent = next((data[at + 6] for at in controls if data[at + 3] & _HAS_TRANSPARENT), None)
    for at in controls:
        data[at + 3] = (data[at + 3] & ~_DISPOSAL_BITS) | _TO_BACKGROUND
        if transparent is not None:
            data[at + 3] |= _HAS_TRANSPARENT
            data[at + 6] = transparent


def _comment_block(comment: bytes) -> bytes:
    """The comment extension: text in pieces of at most 255 bytes, each after its length, then an empty one."""
    pieces = (comment[i : i + 255] for i in range(0, len(comment), 255))
    return bytes([_EXTENSION, _COMMENT]) + b"".join(bytes([len(p)]) + p for p in pieces) + b"\0"


def _sub_blocks(data: bytes, offset: int) -> tuple[int, bytes]:
    """The offset behind a chain of sub-blocks, and their contents joined."""
    pieces = []
    while length := data[offset]:
        pieces.append(data[offset + 1 : offset + 1 + length])
        offset += 1 + length
    return offset + 1, b"".join(pieces)


def _table_size(packed: int) -> int:
    """Bytes of the colour table that a packed byte announces."""
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0


def _round(value: Fraction) -> int:
    return int(value + Fraction(1, 2))  # halves up, where round() would go to even and jitter

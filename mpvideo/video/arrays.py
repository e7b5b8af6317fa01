"""Videos as bare arrays, for programs: .npy and .safetensors. Layout: (T, H, W, C) uint8.

The number of frames stands in front of them and is known when the last has come: so room is left for it.

.npy: NumPy's format 1.0. The comment is a second array behind the first, of bytes and without dimensions: `np.load` of
the file gives the frames, and calling it twice on one open file the frames and the comment.
.safetensors: a tensor `frames`; in the metadata the comment as `comment`, and as `fps` a fraction such as 24000/1001.
"""

import json
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mpvideo.files import write_all
from mpvideo.video.index import MAX_TEXT, MAX_VALUES, VideoIndex, holds_too_many
from mpvideo.video.pixels import Frame
from mpvideo.video.sink import Pictures

_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_HEADER = 128  # bytes: enough for any shape, and a multiple of 64 as the format wants
_NPY_FIELDS = re.compile(rb"\{'descr': '([^']*)', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n")
_MANY = 10**15  # more frames than ever will be


class ArraySink:
    """Writes frames one behind the other, between a header and a trailer; see `Sink`.

    Args:
        pictures: what to write, and where.
        header: makes the header for a number of frames, of always the same length.
        trailer: what follows the frames.
    """

    def __init__(self, pictures: Pictures, header: Callable[[int], bytes], trailer: bytes = b"") -> None:
        self._header, self._trailer = header, trailer
        # Unbuffered: a write that fails is seen at once, and nothing is left that could fail on closing.
        self._file = pictures.aside.open("r+b", buffering=0)
        try:
            write_all(self._file, header(0))
        except BaseException:
            self._file.close()
            raise

    def write(self, frame: Frame) -> None:
        """See `Sink`."""
        write_all(self._file, np.ascontiguousarray(frame).data)

    def finish(self, frames: int) -> None:
        """See `Sink`."""
        write_all(self._file, self._trailer)
        self._file.seek(0)
        write_all(self._file, self._header(frames))
        self._file.close()

    def abandon(self) -> None:
        """See `Sink`."""
        self._file.close()


def npy_sink(pictures: Pictures) -> ArraySink:
    """A sink for .npy."""
    shape = f"{pictures.height}, {pictures.width}, {pictures.channels}"
    trailer = b""
    if pictures.comment is not None:
        text = pictures.comment.encode("ascii")
        trailer = _npy_header(f"|S{len(text)}", "") + text
    return ArraySink(pictures, lambda frames: _npy_header("|u1", f"{frames}, {shape}"), trailer)


def safetensors_sink(pictures: Pictures) -> ArraySink:
    """A sink for .safetensors."""
    shape = (pictures.height, pictures.width, pictures.channels)
    metadata = {"fps": str(pictures.encoding.rate)}
    if pictures.comment is not None:
        metadata["comment"] = pictures.comment

    def text(frames: int) -> bytes:
        size = frames * pictures.height * pictures.width * pictures.channels
        tensor = {"dtype": "U8", "shape": [frames, *shape], "data_offsets": [0, size]}
        return json.dumps({"__metadata__": metadata, "frames": tensor}).encode("ascii")

    length = -(-len(text(_MANY)) // 8) * 8
    return ArraySink(pictures, lambda frames: struct.pack("<Q", length) + text(frames).ljust(length))


def read_npy(path: Path) -> VideoIndex:
    """Reads the headers of a .npy file, and the comment behind its frames.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, has no frames as described above, or is cut short.
    """
    with path.open("rb") as file:
        kind, shape = _read_npy_header(file)
        if kind != "|u1":
            raise ValueError(f"its array must have the dtype uint8, got {kind!r}")
        frames, height, width = _checked(shape, path.stat().st_size - file.tell())
        file.seek(_size(shape), 1)
        comment = None
        if file.peek(1):
            kind, shape = _read_npy_header(file)
            length = int(kind[2:]) if re.fullmatch(r"\|S[0-9]{1,9}", kind) and shape == () else 0
            comment = _read(file, length).decode("latin-1") if length else None
    return VideoIndex(width, height, frames, None, comment)


def read_safetensors(path: Path) -> VideoIndex:
    """Reads the header of a .safetensors file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, has no frames as described above, or is cut short.
    """
    with path.open("rb") as file:
        header = _read_safetensors_header(file)
        tensor, metadata = header.get("frames"), header.get("__metadata__", {})
        if not isinstance(tensor, dict) or tensor.get("dtype") != "U8" or len(header.keys() - {"__metadata__"}) != 1:
            raise ValueError("it must have one tensor, frames, of the dtype U8")
        shape = tensor.get("shape")
        if not isinstance(shape, list) or not all(type(side) is int for side in shape):
            raise ValueError("its header is damaged")
        frames, height, width = _checked(tuple(shape), path.stat().st_size - file.tell())
    rate = metadata.get("fps", "") if isinstance(metadata, dict) else ""
    known = re.fullmatch(r"[1-9][0-9]{0,9}(/[1-9][0-9]{0,9})?", rate) if isinstance(rate, str) else None
    comment = metadata.get("comment") if isinstance(metadata, dict) else None
    return VideoIndex(
        width, height, frames, Fraction(rate) if known else None, comment if isinstance(comment, str) else None
    )


def read_array(path: Path) -> Frame:
    """The frames of a .npy or .safetensors file that `read_npy` or `read_safetensors` could read, (T, H, W, C)."""
    with path.open("rb") as file:
        if path.suffix.lower() == ".npy":
            _, shape = _read_npy_header(file)
        else:
            shape = tuple(_read_safetensors_header(file)["frames"]["shape"])
        return np.frombuffer(bytearray(_read(file, _size(shape))), np.uint8).reshape(shape)


def _npy_header(kind: str, shape: str) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}".encode("ascii")
    length = _NPY_HEADER - len(_MAGIC) - 2
    return _MAGIC + struct.pack("<H", length) + text.ljust(length - 1) + b"\n"


def _read_npy_header(file: BinaryIO) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of the array that begins here."""
    if _read(file, len(_MAGIC)) != _MAGIC:
        raise ValueError("it does not begin like a .npy file of version 1.0")
    (length,) = struct.unpack("<H", _read(file, 2))
    found = _NPY_FIELDS.fullmatch(_read(file, length))
    if found is None:
        raise ValueError("its header is not that of an array of frames")
    shape = found[2].decode("ascii").replace(" ", "").strip(",")
    return found[1].decode("latin-1"), tuple(int(side[:18]) for side in shape.split(",")) if shape else ()


def _read_safetensors_header(file: BinaryIO) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", _read(file, 8))
    if length > MAX_TEXT:
        raise ValueError("its header is damaged")
    try:
        text = _read(file, length).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("its header is damaged") from error
    if holds_too_many(text):
        raise ValueError(f"its header must hold at most {MAX_VALUES:,} values")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("its header is damaged") from error
    if not isinstance(header, dict):
        raise ValueError("its header is damaged")
    return header


def _checked(shape: tuple[int, ...], available: int) -> tuple[int, int, int]:
    """T, H and W of a shape that frames can have and the file is long enough for."""
    if len(shape) != 4 or min(shape) < 1 or shape[3] not in (1, 3, 4):
        raise ValueError(f"its array must have the shape (T, H, W, C), C = 1, 3 or 4, got {shape}")
    if _size(shape) > available:
        raise ValueError("it is cut short")
    return shape[0], shape[1], shape[2]


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _read(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise ValueError("it is cut short")
    return data

"""What a PyTorch .pt file holds, listed without running anything of it and without torch.

Such a file is a zip archive with a pickle, data.pkl, that describes the tensors, and the bytes of each storage in a
file of its own; before 2020 it was a row of pickles with the bytes behind. `mpvideo.checkpoint.inert` reads either.
"""

import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

from mpvideo.checkpoint.container import FLOAT8_DTYPES
from mpvideo.checkpoint.inert import Call, Name, read_pickle
from mpvideo.checkpoint.reading import open_regular, read_start, stamp_of
from mpvideo.errors import CheckpointError
from mpvideo.files import reason
from mpvideo.text import first_ten, printable

LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickle of one large number that the old format begins with."""

_MAX_PICKLE = 16_000_000
_MAX_DIRECTORY = 8_000_000  # a tensor takes about a hundred bytes of it
_ZIP_RECORD = 22  # bytes of its last record
_ZIP_TAIL = _ZIP_RECORD + (1 << 16) + 76  # with room for a comment after it, as zipfile looks, and zip64's before it
_MAX_ENTRIES = 500_000
_MAX_DEPTH = 64
_MAX_NAME = 1000
_MAX_CHARACTERS = _MAX_PICKLE  # of a listing: what a pickle holds in many places, it has in its bytes only once
_MAX_AXES = 64  # as many as torch allows
_ITEM_BYTES = {
    **dict.fromkeys(("float64", "int64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
    "complex128": 16,
}
_STORAGES: dict[str, str] = {
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.storage.UntypedStorage": "uint8",
}
_DTYPES = frozenset(f"torch.{name}" for name in (*_ITEM_BYTES, *FLOAT8_DTYPES.values(), "uint16", "uint32"))
Plain = str | int | float | bool | None


@dataclass(frozen=True)
class TorchTensor:
    """A tensor in a .pt file: its dtype in torch's words and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class TorchFile:
    """What a .pt file holds.

    Attributes:
        path: the file.
        size: its bytes.
        tensors: by name; what is nested is joined by dots, e.g. 'ema_model.input_block.weight'.
        values: numbers and strings beside them, named in the same way.
        damage: what is wrong with the bytes of the tensors, or None.
    """

    path: Path
    size: int
    tensors: dict[str, TorchTensor]
    values: dict[str, Plain]
    damage: str | None


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    count: int


def is_torch_file(start: bytes) -> bool:
    """Whether a file that begins with these bytes (a few hundred) is a .pt file or another pickle."""
    zipped = start.startswith(b"PK\x03\x04") and (b"data.pkl" in start or b"byteorder" in start)
    pickled = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    # The length of a safetensors header may begin with the same bytes; the header itself follows it.
    return zipped or (pickled and start[8:9] != b"{")


def read_torch_file(path: Path) -> TorchFile:
    """Lists a .pt file.

    Raises:
        CheckpointError: it cannot be read, is damaged, or holds anything but tensors and plain values, and what.
    """
    shown = printable(path)
    storages: dict[str, int] = {}
    with open_regular(path) as file:
        size = stamp_of(file).size
        try:
            start = read_start(file, len(LEGACY_START), path)
            file.seek(0)
            if start.startswith(b"PK"):
                content, damage = _read_zip(file, storages)
            else:
                content, damage = _read_legacy(io.BytesIO(read_start(file, _MAX_PICKLE, path)), storages), None
            entries = dict(_flat(content))
        # zipfile calls an unknown compression NotImplementedError, an encrypted entry RuntimeError, and an entry beyond
        # what the system can count to OverflowError.
        except (
            ValueError, zipfile.BadZipFile, EOFError, NotImplementedError, OSError, OverflowError, RuntimeError
        ) as error:  # fmt: skip
            raise CheckpointError(
                f"{shown} is no file of weights alone: {printable(reason(error), 400)}",
                hint="Nothing of it was run. What `torch.save(model.state_dict(), FILE)` writes is read.",
            ) from None
    tensors = {name: value for name, value in entries.items() if isinstance(value, TorchTensor)}
    values = {name: value for name, value in entries.items() if not isinstance(value, TorchTensor)}
    return TorchFile(path, size, tensors, values, damage)


def _read_zip(file: FileIO, storages: dict[str, int]) -> tuple[Any, str | None]:
    if (size := _directory_size(file)) > _MAX_DIRECTORY:
        raise ValueError(f"its directory must have at most {_MAX_DIRECTORY:,} bytes, it has {size:,}")
    with zipfile.ZipFile(file) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if any("/code/" in name for name in sizes):
            raise ValueError("it is a TorchScript program")
        pickles = [name for name in sizes if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"it must hold one data.pkl, it has {len(pickles)}")
        with archive.open(pickles[0]) as entry:
            data = entry.read(_MAX_PICKLE + 1)
    if len(data) > _MAX_PICKLE:
        raise ValueError(f"its data.pkl has more than {_MAX_PICKLE:,} bytes")
    content = _read(io.BytesIO(data), storages)
    folder = pickles[0].removesuffix("data.pkl")
    wrong = [key for key, size in storages.items() if sizes.get(f"{folder}data/{key}") != size]
    damage = f"the bytes of storages are missing or of another length: {first_ten(wrong)}" if wrong else None
    return content, damage


def _directory_size(file: FileIO) -> int:
    """Bytes of a zip archive's directory, which `zipfile` would read whole: its last record says so.

    The record is looked for as `zipfile` does: at the very end, or, where a comment follows it, by its last signature
    (in a record without a comment, that may be part of a number). Where it has no room for the number, one of 56 bytes
    stands before the 20 that stand before it (zip64).

    Raises:
        ValueError: there is no such record.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(max(length - _ZIP_TAIL, 0))
    tail = file.read(_ZIP_TAIL) or b""
    end = len(tail) - _ZIP_RECORD
    if not (tail[max(end, 0) :].startswith(b"PK\x05\x06") and tail.endswith(b"\0\0")):
        end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + _ZIP_RECORD > len(tail):
        raise ValueError("it begins like a zip archive and does not end like one: cut short")
    size = int.from_bytes(tail[end + 12 : end + 16], "little")
    if end >= 76 and tail[end - 20 : end - 16] == b"PK\x06\x07" and tail[end - 76 : end - 72] == b"PK\x06\x06":
        size = int.from_bytes(tail[end - 36 : end - 28], "little")
    return min(size, length)


def _read_legacy(file: io.BytesIO, storages: dict[str, int]) -> Any:
    if file.getvalue().startswith(LEGACY_START):
        file.seek(len(LEGACY_START))
        for _ in range(2):  # the format's version, and sizes of integers on the machine that wrote it
            _read(file, storages)
    return _read(file, storages)


def _read(file: io.BytesIO, storages: dict[str, int]) -> Any:
    def resolve(identity: tuple[Any, ...]) -> _Storage:
        kind, name, key, _, count = identity[:5]
        dtype = _STORAGES.get(str(name)) if isinstance(name, Name) else None
        if kind != "storage" or dtype is None or not isinstance(key, str) or not _is_size(count):
            raise ValueError("it describes a storage of no known kind")
        storages[key] = count * _ITEM_BYTES[dtype]
        return _Storage(dtype, key, count)

    return read_pickle(file, _CALLS, _DTYPES | frozenset(_STORAGES), resolve)


def _tensor(arguments: tuple[Any, ...]) -> TorchTensor:
    """torch._utils._rebuild_tensor, _v2 and _v3: a storage, an offset, sizes, strides, and in _v3 later on a dtype."""
    storage, offset, shape = arguments[:3]
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not all(map(_is_size, (offset, *shape))):
        raise ValueError("it describes a tensor without a storage, an offset or a shape")
    if len(shape) > _MAX_AXES or prod(shape) >= 2**63:
        raise ValueError(f"it describes a tensor of {len(shape):,} axes, or of more values than there can be")
    named = [str(item) for item in arguments[4:] if isinstance(item, Name) and str(item) in _DTYPES]
    return TorchTensor(named[0].removeprefix("torch.") if named else storage.dtype, shape)


def _parameter(arguments: tuple[Any, ...]) -> TorchTensor:
    if not isinstance(arguments[0], TorchTensor):
        raise ValueError("it describes a parameter without a tensor")
    return arguments[0]


def _dictionary(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if arguments:
        raise ValueError("it describes a dictionary by a list, as no version of torch does")
    return {}


def _size(arguments: tuple[Any, ...]) -> Any:
    return arguments[0]


_CALLS: dict[str, Call] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "collections.OrderedDict": _dictionary,
    "torch.Size": _size,
    "torch.device": _size,
}


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _flat(content: Any) -> Iterator[tuple[str, TorchTensor | Plain]]:
    """Tensors and plain values by their names, in the order of the file; what is held in two places counts twice."""
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    seen = characters = 0
    while waiting:
        name, value, depth = waiting.pop()
        seen += 1
        inner: list[tuple[Any, Any]] = []  # sets, bytes, and names such as a dtype have no place in a listing
        if isinstance(value, dict):
            inner = list(value.items())
        elif isinstance(value, list | tuple):
            inner = list(enumerate(value))
        # A few bytes of pickle can hold one list in itself, or a long one in a long one a thousand times.
        if seen + len(waiting) + len(inner) > _MAX_ENTRIES or depth > _MAX_DEPTH or len(name) > _MAX_NAME:
            raise ValueError("it holds too many values, too deep inside each other, or under too long names")
        characters += sum(len(name) + len(str(key)) for key, _ in inner) + _characters(value)
        if characters > _MAX_CHARACTERS:
            raise ValueError(f"a listing of its names and values must have at most {_MAX_CHARACTERS:,} characters")
        if isinstance(value, TorchTensor | Plain):
            yield name, value
        waiting += [(f"{name}.{key}" if name else str(key), item, depth + 1) for key, item in reversed(inner)]


def _characters(value: Any) -> int:
    """Characters of a value in a listing, as far as a stranger decides how many."""
    if isinstance(value, TorchTensor):
        return len(str(value.shape))
    return len(value) if isinstance(value, str) else 0

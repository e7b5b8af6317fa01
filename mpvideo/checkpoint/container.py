"""One safetensors file: its header, checked, without its tensors and without torch.

The format: eight bytes, the length N of the header (unsigned, little-endian); N bytes of JSON, an object that maps each
tensor's name to its `dtype`, `shape` and `data_offsets` (begin and end, counted from the end of the header), and
`__metadata__` to an object of strings; then the tensors' bytes, without gaps.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mpvideo.checkpoint.foreign import FORMAT_MAX_BYTES, SNIFFED, not_safetensors
from mpvideo.checkpoint.reading import (
    MAX_JSON_BYTES,
    Stamp,
    open_regular,
    parse_object,
    read_into,
    read_start,
    stamp_of,
)
from mpvideo.errors import CheckpointError
from mpvideo.text import printable

DTYPE_BITS: dict[str, int] = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Bits of one element of every dtype that the format knows."""

WEIGHT_DTYPES: dict[str, str] = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
"""The dtypes that weights may have here, in the format's words and in torch's."""

FLOAT8_DTYPES: dict[str, str] = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
"""Dtypes that conversion reads and turns into bfloat16, which holds all their values; in both words as well."""

MAX_AXES = 64
_AGAIN = "The file is incomplete or damaged: download or copy it again."


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and what it is.

    Attributes:
        name: its name.
        dtype: the format's word, e.g. 'F32'.
        shape: its shape; () for a scalar.
        file: the file that holds it.
        start, stop: offsets of its bytes from the beginning of that file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.stop - self.start

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Container:
    """What the header of one safetensors file says.

    Attributes:
        path: the file.
        stamp: which file it was; its size.
        tensors: by name, in the order of their bytes.
        metadata: its free strings.
        damage: what is wrong with the file's length, or None.
    """

    path: Path
    stamp: Stamp
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    damage: CheckpointError | None


def read_container(path: Path) -> Container:
    """Reads the header of one safetensors file; the time does not depend on the size of its tensors.

    Raises:
        CheckpointError: it cannot be opened, is something else, or its header breaks a rule of the format. A file
            that is shorter or longer than its header says is described all the same, with `damage` set.
    """
    shown = printable(path)
    with open_regular(path) as file:
        stamp = stamp_of(file)
        size = stamp.size
        start = read_start(file, SNIFFED, path)
        length = struct.unpack("<Q", start[:8])[0] if len(start) > 8 else 0
        # A header begins with a brace; a git-lfs pointer, a web page or a pickle do not have one just there.
        if start[8:9] != b"{" or length < 2 or length > FORMAT_MAX_BYTES:
            raise not_safetensors(start, shown)
        if 8 + length > size:
            raise CheckpointError(
                f"{shown} is truncated: its header needs {8 + length:,} bytes, the file has {size:,}", hint=_AGAIN
            )
        if length > MAX_JSON_BYTES:
            raise CheckpointError(
                f"{shown}: the header must have at most {MAX_JSON_BYTES:,} bytes, got {length:,}",
                hint="The format allows more, but no network that mpvideo knows needs it.",
            )
        text = bytearray(length)
        read_into(file, 8, memoryview(text), path)
    entries = parse_object(bytes(text), f"{shown}: header")
    del text
    metadata = _metadata(entries.pop("__metadata__", {}), shown)
    tensors = [_tensor(name, entry, path, 8 + length) for name, entry in entries.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.stop))
    end = _check_gaps(tensors, 8 + length, shown)
    return Container(path, stamp, {tensor.name: tensor for tensor in tensors}, metadata, _damage(shown, end, size))


def _metadata(value: object, shown: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
        raise CheckpointError(f"{shown}: __metadata__ must be an object of strings")
    return dict(value)


def _tensor(name: str, entry: Any, path: Path, base: int) -> TensorInfo:
    """Checks one entry of the header; `base` is the offset at which the data begin."""
    where = f"{printable(path)}: tensor {printable(name)}"
    if not isinstance(entry, Mapping) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise CheckpointError(f"{where}: dtype must be one of {', '.join(DTYPE_BITS)}; got {printable(dtype, 40)}")
    if not _are_sizes(shape) or len(shape) > MAX_AXES:
        raise CheckpointError(
            f"{where}: shape must be a list of at most {MAX_AXES} whole numbers from 0, got {printable(shape, 80)}"
        )
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            f"{where}: data_offsets must be two whole numbers from 0 in rising order, got {printable(offsets, 80)}"
        )
    bits = prod(shape) * DTYPE_BITS[dtype]
    if bits != 8 * (offsets[1] - offsets[0]):
        raise CheckpointError(
            f"{where}: {dtype} of shape {printable(tuple(shape), 80)} takes {printable(-(-bits // 8), 40)} bytes, "
            f"its data_offsets give {offsets[1] - offsets[0]:,}"
        )
    return TensorInfo(name, dtype, tuple(shape), path, base + offsets[0], base + offsets[1])


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_gaps(tensors: list[TensorInfo], base: int, shown: str) -> int:
    """Checks that the tensors, sorted, follow each other without gap or overlap; returns where the last one ends."""
    end = base
    for tensor in tensors:
        if tensor.start != end:
            fault = "overlaps the one before it" if tensor.start < end else "leaves a gap before it"
            raise CheckpointError(
                f"{shown}: tensor {printable(tensor.name)} {fault}: it must start at byte {end:,}, "
                f"its data_offsets say {tensor.start:,}"
            )
        end = tensor.stop
    return end


def _damage(shown: str, end: int, size: int) -> CheckpointError | None:
    if size < end:
        return CheckpointError(f"{shown} is truncated: it must have {end:,} bytes, it has {size:,}", hint=_AGAIN)
    if size > end:
        return CheckpointError(
            f"{shown} has {size - end:,} bytes after its last tensor: it must have {end:,}, it has {size:,}",
            hint=_AGAIN,
        )
    return None

"""Reading the weights of a checkpoint."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from itertools import groupby
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from mpvideo.checkpoint.container import FLOAT8_DTYPES, WEIGHT_DTYPES, TensorInfo
from mpvideo.checkpoint.header import Header
from mpvideo.checkpoint.reading import open_regular, read_into, stamp_of
from mpvideo.errors import CheckpointError, DeviceError
from mpvideo.text import amount, counted, first_ten, printable

_TORCH: dict[str, torch.dtype] = {word: getattr(torch, name) for word, name in WEIGHT_DTYPES.items()}
_FLOAT8: dict[str, torch.dtype] = {word: getattr(torch, name) for word, name in FLOAT8_DTYPES.items()}


def load_tensors(header: Header) -> tuple[dict[str, Tensor], str]:
    """Reads all weights of a checkpoint into CPU memory, once, in the dtypes of the file.

    Returns:
        The tensors by name; and the SHA-256, in hex, of just these: of names, dtypes, shapes and bytes, sorted by name.
        It is the same for the same tensors in one file, in a folder or in shards; the config does not count.

    Raises:
        CheckpointError: a file cannot be read or became shorter, a dtype is none that weights can have, or weights are
            not finite (the message names the tensors).
        DeviceError: there is not enough memory.
    """
    tensors: dict[str, Tensor] = {}
    broken: list[str] = []
    for info, tensor in read_tensors(header):
        if not is_finite(tensor):
            broken.append(info.name)
        tensors[info.name] = tensor
    if broken:
        raise CheckpointError(
            f"{printable(header.path)}: weights must be finite, but {counted(len(broken), 'tensor')} "
            f"{'contains' if len(broken) == 1 else 'contain'} NaN or infinity: {first_ten(broken)}",
            hint="The training diverged or the file is damaged; take an earlier checkpoint.",
        )
    # From memory: on the disk the file may have changed since.
    return tensors, _hash(header, tensors.__getitem__)


def read_tensors(header: Header) -> Iterator[tuple[TensorInfo, Tensor]]:
    """Yields a checkpoint's tensors one after the other, as they lie on the disk, finite or not.

    Raises:
        CheckpointError, DeviceError: as `load_tensors`.
    """
    # The tensors of a shard follow one another: one open file will do, however many shards there are.
    for path, infos in groupby(header.tensors.values(), key=lambda info: info.file):
        with open_regular(path) as file:
            _check_unchanged(file, path, header, "between the reading of its header and of its weights")
            for info in infos:
                yield info, _read(file, info)
            # What was written in between is neither the old file nor the new one.
            _check_unchanged(file, path, header, "while its weights were read")


def read_tensor(header: Header, name: str) -> Tensor:
    """Reads one tensor of a checkpoint; of float8 too, which only conversion takes.

    Raises:
        CheckpointError, DeviceError: as `load_tensors`, but it may hold NaN.
    """
    info = header.tensors[name]
    with open_regular(info.file) as file:
        _check_unchanged(file, info.file, header, "between the reading of its header and of its weights")
        return _read(file, info, {**_TORCH, **_FLOAT8})


def _check_unchanged(file: FileIO, path: Path, header: Header, when: str) -> None:
    if stamp_of(file) != header.stamps[path]:
        raise CheckpointError(
            f"{printable(path)} changed {when}",
            hint="It was replaced, or is being written to: try again when that is done.",
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor an infinity."""
    return all(map(isfinite, value_range(tensor)))


def value_range(tensor: Tensor) -> tuple[float, float]:
    """Least and greatest value, both NaN if any is; (0, 0) for a tensor without elements.

    One pass without a temporary, which `torch.isfinite` would need in the tensor's own size.
    """
    if not tensor.numel():
        return 0.0, 0.0
    low, high = torch.aminmax(tensor.detach())
    return low.item(), high.item()


def hash_tensors(header: Header) -> str:
    """The hash that `load_tensors` returns, without keeping the weights.

    Raises:
        CheckpointError, DeviceError: as `load_tensors`, but they may hold NaN.
    """
    return _hash(header, lambda name: read_tensor(header, name))


def _hash(header: Header, tensor_of: Callable[[str], Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(header.tensors):
        info = header.tensors[name]
        digest.update(json.dumps([name, info.dtype, list(info.shape)], separators=(",", ":")).encode() + b"\n")
        digest.update(tensor_of(name).reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(file: FileIO, info: TensorInfo, dtypes: Mapping[str, torch.dtype] = _TORCH) -> Tensor:
    if info.dtype not in dtypes:
        raise CheckpointError(
            f"{printable(info.file)}: weights must be {', '.join(WEIGHT_DTYPES.values())}; "
            f"{printable(info.name)} is {info.dtype}"
        )
    # The header says the size, and the file is known to be that large only if it was read strictly.
    try:
        raw = torch.empty(info.size, dtype=torch.uint8)
    except RuntimeError:
        raise DeviceError(
            f"not enough memory for tensor {printable(info.name)}: it takes {amount(info.size, 'B')}",
            hint="Close other programs, or use a smaller model.",
        ) from None
    if info.size:
        read_into(file, info.start, raw.numpy().data, info.file)
    return raw.view(dtypes[info.dtype]).reshape(info.shape)

"""Writing a checkpoint: the same bytes for the same content, whole or not at all."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpvideo.architecture import checkpoint_shapes
from mpvideo.checkpoint.container import DTYPE_BITS, WEIGHT_DTYPES
from mpvideo.checkpoint.header import CONFIG_KEY
from mpvideo.checkpoint.load import is_finite
from mpvideo.config import CheckpointConfig
from mpvideo.errors import CheckpointError
from mpvideo.files import atomic_path
from mpvideo.text import first_ten, printable

_WORDS: dict[torch.dtype, str] = {getattr(torch, name): word for word, name in WEIGHT_DTYPES.items()}


def save_checkpoint(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    config: CheckpointConfig,
    *,
    overwrite: bool = False,
    verify: Callable[[Path], None] | None = None,
) -> None:
    """Writes a checkpoint as one safetensors file with its config in the header.

    Args:
        path: the file to write; a symbolic link is followed.
        tensors: exactly the tensors of `checkpoint_shapes(config)`, on any device, float16, bfloat16, float32 or
            float64.
        config: what the checkpoint is.
        overwrite: whether an existing file may be replaced.
        verify: called with the path of the whole file before it takes its name; if it raises, `path` is as it was.

    Raises:
        ValueError: tensors are missing, left over, misshapen or of another dtype.
        CheckpointError: weights are not finite; such a file could not be loaded again.
        OutputError: the file exists or cannot be written; nothing half written is left behind.
    """
    path = Path(path)
    _check_fit(tensors, config)
    broken = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if broken:
        raise CheckpointError(
            f"{printable(path)} is not written: weights must be finite, NaN or infinity is in {first_ten(broken)}"
        )
    # Wide dtypes first, as the reference writer does, so that every tensor starts at a multiple of its item's size.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header = _header({name: tensors[name] for name in names}, config)
    with atomic_path(path, overwrite=overwrite) as aside:
        with aside.open("r+b") as file:
            file.write(struct.pack("<Q", len(header)))
            file.write(header)
            for name in names:
                values = tensors[name].detach().to("cpu").reshape(-1)
                # One tensor's bytes at a time: neither a second copy of the weights nor of the file.
                file.write(values.contiguous().view(torch.uint8).numpy().data)
        if verify is not None:
            verify(aside)


def _check_fit(tensors: Mapping[str, Tensor], config: CheckpointConfig) -> None:
    wanted = checkpoint_shapes(config)
    if missing := [name for name in wanted if name not in tensors]:
        raise ValueError(f"tensors lack {first_ten(missing)}")
    if extra := [name for name in tensors if name not in wanted]:
        raise ValueError(f"tensors must be those of the config, it has no {first_ten(extra)}")
    for name, shape in wanted.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {tuple(tensors[name].shape)}")
        if tensors[name].dtype not in _WORDS:
            raise ValueError(f"{name} must be {', '.join(WEIGHT_DTYPES.values())}; got {tensors[name].dtype}")


def _header(tensors: Mapping[str, Tensor], config: CheckpointConfig) -> bytes:
    """The header's JSON, padded with spaces to a multiple of eight bytes so that the tensors lie aligned."""
    entries: dict[str, Any] = {"__metadata__": {CONFIG_KEY: config.to_json()}}
    end = 0
    for name, tensor in tensors.items():
        word = _WORDS[tensor.dtype]
        start, end = end, end + tensor.numel() * DTYPE_BITS[word] // 8
        entries[name] = {"dtype": word, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)

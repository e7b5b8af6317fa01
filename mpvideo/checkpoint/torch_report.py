"""A PyTorch .pt file as one JSON object, for `mpvideo inspect --json`.

The keys, which stay:

    kind            "torch"
    path, name, bytes
                    as given; the last part of it; its size
    cached          where the copy of a file on the hub lies
    dtypes          {dtype: number of tensors}
    parameters      {total, parts: {first part of the names: number of elements}}
    networks, convert
                    see `mpvideo.checkpoint.prospect`
    tensors         [{name, dtype, shape}], if asked for
    values          {name: value}, the plain values beside the tensors
    loads, problems
                    false, and why: mpvideo samples safetensors only
"""

from collections import Counter
from math import isfinite
from pathlib import Path
from typing import Any

from mpvideo.checkpoint.contents import torch_contents
from mpvideo.checkpoint.prospect import conversion_hint, prospect
from mpvideo.checkpoint.torch_file import TorchFile
from mpvideo.errors import CheckpointError
from mpvideo.text import printable


def describe_torch_file(file: TorchFile, given: Path | None = None) -> dict[str, Any]:
    """Describes a .pt file; the keys stand above.

    Args:
        file: what it holds.
        given: the file as the user gives it, where it is on the hub.
    """
    dtypes: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for name, tensor in file.tensors.items():
        dtypes[tensor.dtype] += 1
        parts[name.split(".")[0]] += tensor.count
    problems: list[dict[str, str | None]] = []
    if file.damage:
        problems.append({"message": file.damage, "hint": "Download or copy it again."})
    found: dict[str, Any] = {"networks": [], "convert": None}
    hint = None
    try:
        found = prospect(torch_contents(file.path, [file]), given)
        hint = conversion_hint(found)
    except CheckpointError:
        pass  # its damage is told already
    message = f"{printable(file.path.name)} must be safetensors to be sampled, it is a PyTorch .pt file"
    if found["convert"] and found["convert"]["problem"]:
        message += f", and cannot be converted as it is: {found['convert']['problem']}"
    problems.append({"message": message, "hint": hint})
    return {
        "kind": "torch",
        "path": str(file.path),
        "name": file.path.name,
        "cached": None,
        "bytes": file.size,
        "dtypes": dict(dtypes.most_common()),
        "parameters": {"total": sum(parts.values()), "parts": dict(parts)},
        **found,
        "tensors": [
            {"name": name, "dtype": tensor.dtype, "shape": list(tensor.shape)} for name, tensor in file.tensors.items()
        ],
        "values": {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in file.values.items()
        },
        "loads": False,
        "problems": problems,
    }

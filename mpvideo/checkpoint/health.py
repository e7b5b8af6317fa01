"""What only the weights tell of a checkpoint: are they those of a trained network, and how far are two apart.

The object that `check_weights` returns, as `mpvideo inspect --check --json` prints it under `check`:

    nonfinite       names of tensors with NaN or infinity: they keep the checkpoint from loading
    zero            names of tensors that are all zero
    zero_gains      names of those that are gains, which training moves away from 0
    unnormalized    [{name, low, high}], weights whose root mean square in some output unit is far from 1; null where
                    that is beyond the range of float64
"""

import dataclasses
from math import isfinite, sqrt
from typing import Any

import torch
from torch import Tensor

from mpvideo.checkpoint.container import WEIGHT_DTYPES
from mpvideo.checkpoint.header import Header
from mpvideo.checkpoint.load import read_tensor, read_tensors, value_range
from mpvideo.errors import CheckpointError
from mpvideo.text import counted, first_ten

RMS_LOW, RMS_HIGH = 0.5, 2.0
"""Where the root mean square of an output unit's weights may lie without a word. Forced weight normalisation (EDM2,
arXiv 2312.02696, algorithm 1) leaves 1; averages of weights over the training are shorter, steps after it longer."""

OUTPUT_GAIN = "output_block.1.gain"


def check_weights(header: Header) -> dict[str, Any]:
    """Reads all weights once, one tensor at a time.

    Raises:
        CheckpointError, DeviceError: as `mpvideo.checkpoint.load.read_tensors`.
    """
    check: dict[str, list[Any]] = {"nonfinite": [], "zero": [], "zero_gains": [], "unnormalized": []}
    known = {name: info for name, info in header.tensors.items() if info.dtype in WEIGHT_DTYPES}
    for info, tensor in read_tensors(dataclasses.replace(header, tensors=known)):
        low, high = value_range(tensor)
        if not -float("inf") < low <= high < float("inf"):
            check["nonfinite"].append(info.name)
        elif low == high == 0 and info.count:
            check["zero"].append(info.name)
            if info.name.endswith(".gain"):
                check["zero_gains"].append(info.name)
        elif _is_normalized(info.name, tensor):
            low, high = value_range(unit_rms(tensor))
            if low < RMS_LOW or high > RMS_HIGH:
                entry = {"low": low if isfinite(low) else None, "high": high if isfinite(high) else None}
                check["unnormalized"].append({"name": info.name, **entry})
    return check


def unit_rms(weight: Tensor) -> Tensor:
    """Root mean square of each output unit's weights (axis 0), in float64: squares of large float32 are beyond it."""
    rows = weight.reshape(len(weight), -1)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return norms / sqrt(rows.shape[1])


def problems_of(check: dict[str, Any]) -> list[CheckpointError]:
    """What in a check keeps the checkpoint from loading."""
    if not (names := check["nonfinite"]):
        return []
    return [
        CheckpointError(
            f"{counted(len(names), 'tensor')} with NaN or infinity: {first_ten(names)}",
            hint="The training diverged or the file is damaged; take an earlier checkpoint.",
        )
    ]


def warnings_of(check: dict[str, Any]) -> list[CheckpointError]:
    """What in a check is odd, though it loads."""
    warnings = []
    if names := check["zero"]:
        untrained = OUTPUT_GAIN in names
        hint = f"With {OUTPUT_GAIN} at zero the network says nothing: it is untrained." if untrained else None
        if hint is None and (gains := check["zero_gains"]):
            hint = f"Gains begin at zero and training moves them; {counted(len(gains), 'of these')} still there."
        warnings.append(CheckpointError(f"{counted(len(names), 'tensor')} all zero: {first_ten(names)}", hint=hint))
    if found := check["unnormalized"]:
        words = [f"{entry['name']} ({_shown(entry['low'])} to {_shown(entry['high'])})" for entry in found]
        warnings.append(
            CheckpointError(
                f"{counted(len(found), 'weight')} far from the root mean square of 1 per output unit that training "
                f"leaves: {first_ten(words)}",
                hint="The network normalises weights, so these work; but a trained checkpoint looks otherwise: it may "
                "be half loaded, untrained, or of another network.",
            )
        )
    return warnings


def relative_differences(a: Header, b: Header) -> tuple[dict[str, float | None], list[str]]:
    """How far the tensors are apart that two checkpoints share: the norm of the difference over the greater norm.

    Returns:
        For each name of one shape in both 0 if they are equal, about 1.4 if unrelated, None where either has NaN or
        infinity; and the names that were passed over, since one side has a dtype that weights cannot have.

    Raises:
        CheckpointError, DeviceError: as `mpvideo.checkpoint.load.read_tensors`.
    """
    apart: dict[str, float | None] = {}
    passed_over = []
    for name, info in a.tensors.items():
        other = b.tensors.get(name)
        if other is None or other.shape != info.shape:
            continue
        if not {info.dtype, other.dtype} <= set(WEIGHT_DTYPES):
            passed_over.append(name)
            continue
        first, second = (read_tensor(header, name).double() for header in (a, b))
        scale = max(first.norm().item(), second.norm().item())
        difference = (first - second).norm().item() / scale if scale else 0.0
        apart[name] = difference if isfinite(difference) else None
    return apart, passed_over


def _shown(rms: float | None) -> str:
    return "beyond float64" if rms is None else f"{rms:.2g}"


def _is_normalized(name: str, tensor: Tensor) -> bool:
    """Whether the network normalises a tensor: its convolutions and linear layers, not those of the codec."""
    return name.endswith(".weight") and not name.startswith("codec.") and tensor.ndim > 1 and tensor.numel() > 0

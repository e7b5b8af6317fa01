"""A network of a foreign file becomes a checkpoint: read, cast, saved, read again and compared. Nothing is executed.

plan = plan_conversion(find_source(path), overrides={"model": {"image_size": 32, "frames": 16}})
convert(plan, Path("model.safetensors"))
"""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpvideo import __version__
from mpvideo.checkpoint import open_checkpoint
from mpvideo.checkpoint.container import FLOAT8_DTYPES
from mpvideo.checkpoint.conversion import Plan
from mpvideo.checkpoint.load import is_finite, load_tensors, read_tensor, value_range
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.config import CheckpointConfig
from mpvideo.device import memory_errors
from mpvideo.errors import CheckpointError, MPVideoError, UsageError
from mpvideo.files import reason
from mpvideo.nn import KarrasUnet3D
from mpvideo.text import first_ten, printable

MAX_DIFFERENCE = 1e-5
"""Relative difference of two forward passes of the same weights beyond which something is wrong."""

MAX_ROUNDING = 0.1
"""The same where a narrower dtype rounds the weights: for sound ones some 0.005 to bfloat16, 0.0005 to float16."""

_FLOAT8 = frozenset(getattr(torch, name) for name in FLOAT8_DTYPES.values())


@dataclass(frozen=True)
class Converted:
    """What came of a conversion.

    Attributes:
        step: the training step, if the file says it.
        dtypes: of the tensors written, in torch's words.
        difference: relative difference of one forward pass of the source's weights and of the file's.
        exact: whether the weights are the very ones of the source, none rounded by a narrower dtype.
    """

    step: int | None
    dtypes: tuple[str, ...]
    difference: float
    exact: bool


def convert(plan: Plan, out: Path, *, dtype: torch.dtype | None = None, overwrite: bool = False) -> Converted:
    """Writes the checkpoint, and lets it take its name only when it has been read again and found equal.

    Args:
        plan: which network, and with which config.
        out: the file to write.
        dtype: of the weights; None for that of the source, and bfloat16 for float8.
        overwrite: whether an existing file may be replaced.

    Raises:
        CheckpointError: the source cannot be read, or changed, or its weights or what they compute are not finite.
        UsageError: its weights are beyond what `dtype` holds, or too small for it.
        MPVideoError: what was written is not what was read.
        OutputError: the file exists or cannot be written.
    """
    with memory_errors("the weights", "Close other programs, or use a machine with more memory."):
        source, step = _read(plan)
    tensors = {name: tensor.to(dtype or _target(tensor.dtype)) for name, tensor in source.items()}
    _check_range(source, tensors)
    exact = all(torch.equal(tensors[name].double(), source[name].double()) for name in source)
    config = _with_record(plan, step)
    difference = 0.0

    def verify(path: Path) -> None:
        nonlocal difference
        difference = _compare(path, config, source, tensors, exact=exact)

    save_checkpoint(out, tensors, config, overwrite=overwrite, verify=verify)
    words = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    return Converted(step, tuple(words), difference, exact)


def _check_range(source: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Refuses a dtype that is too narrow for weights that are finite."""
    for name, tensor in tensors.items():
        if not is_finite(tensor) and is_finite(source[name].float()):
            low, high = value_range(source[name].float())
            largest = torch.finfo(tensor.dtype).max
            raise UsageError(
                f"--dtype {str(tensor.dtype).removeprefix('torch.')} holds values up to {largest:,.0f}, "
                f"{printable(name)} has {max(-low, high):,.4g}",
                hint="Take --dtype bfloat16, or leave --dtype out.",
            )


def _target(dtype: torch.dtype) -> torch.dtype:
    return torch.bfloat16 if dtype in _FLOAT8 else dtype


def _read(plan: Plan) -> tuple[dict[str, Tensor], int | None]:
    """The network's tensors by its own names, and the step."""
    source = plan.source
    contents, names = source.contents, source.network.names
    if (header := contents.header) is not None:
        return {own: read_tensor(header, name) for own, name in names.items()}, source.step
    present: dict[str, Tensor] = {}
    for file in contents.files:
        present |= dict(_flat("", _load(file)))
    listed = contents.tensors
    changed = [
        name for name in names.values() if name not in present or tuple(present[name].shape) != listed[name].shape
    ]
    if changed:
        raise CheckpointError(f"{printable(contents.path)} changed while it was read: {first_ten(changed)}")
    step = source.step
    # ema_pytorch counts in a tensor beside the average.
    beside = source.network.prefix.rpartition("ema_model.")[0] + "step"
    if step is None and beside in present and present[beside].numel() == 1:
        step = int(present[beside].item())
    return {own: present[name].detach().contiguous() for own, name in names.items()}, step


def _load(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError, TypeError) as error:
        first_line = printable(reason(error).split("\\n")[0], 300)
        raise CheckpointError(
            f"{printable(file)} cannot be read as weights alone: {first_line}", hint="Nothing of it was run."
        ) from None


def _flat(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors by their names, nested ones joined by dots, as `mpvideo.checkpoint.torch_file` lists them."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(f"{name}.{key}" if name else str(key), item)


def _with_record(plan: Plan, step: int | None) -> CheckpointConfig:
    """The config with a word on where the weights come from."""
    network, name = plan.source.network, plan.source.contents.path.name
    record: dict[str, Any] = {"from": name, "mpvideo": __version__}
    if network.is_average:  # weights under other prefixes may be an average, too
        record["ema"] = True
    if network.prefix:
        record["prefix"] = network.shown
    if step is not None:
        record["step"] = step
    return replace(plan.config, training={**plan.config.training, "converted": record})


def _compare(
    path: Path, config: CheckpointConfig, source: dict[str, Tensor], tensors: dict[str, Tensor], *, exact: bool
) -> float:
    """Reads the file again, and returns how far one forward pass is from the source's."""
    checkpoint = open_checkpoint(path)
    again, _ = load_tensors(checkpoint.header)
    different = [name for name, tensor in tensors.items() if not torch.equal(again[name], tensor)]
    if different or checkpoint.config.to_dict() != config.to_dict():
        raise MPVideoError(f"the checkpoint read again is not what was written: {first_ten(different) or 'its config'}")
    before, after = _forward(config, source), _forward(config, again)
    if not is_finite(before):
        raise CheckpointError(
            "one forward pass of the source's weights must be finite, it gives NaN or infinity",
            hint="The training diverged or the file is damaged; take an earlier one.",
        )
    difference = ((after - before).norm() / before.norm().clamp_min(1e-12)).item()
    if exact and not difference <= MAX_DIFFERENCE:
        raise MPVideoError(
            f"one forward pass of the checkpoint must equal the source's, it differs by {difference:.1e}",
            hint="The disk or the memory may be faulty: run it again.",
        )
    if not difference <= MAX_ROUNDING:  # NaN, too
        words = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
        raise UsageError(
            f"--dtype {', '.join(words)} rounds these weights too coarsely: one forward pass must be within "
            f"{MAX_ROUNDING:g} of the source's, it is {difference:.2g} away",
            hint="Leave --dtype out, or take a wider one; bfloat16 has the range of float32, float16 has not.",
        )
    return float(difference)


@torch.inference_mode()
def _forward(config: CheckpointConfig, tensors: dict[str, Tensor]) -> Tensor:
    """One pass of the network in float32, on few frames of noise."""
    model = config.model
    with torch.device("meta"):
        net = KarrasUnet3D(legacy_fan_in=config.edm.legacy_fan_in, **vars(model))
    weights = {name: tensor.float() for name, tensor in tensors.items() if not name.startswith("codec.")}
    net.load_state_dict(weights, assign=True)
    shape = (1, model.channels, model.frames_multiple, model.image_size, model.image_size)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    labels = None if model.num_classes is None else torch.zeros(1, dtype=torch.int64)
    return net.eval()(x, torch.tensor([log(0.5) / 4]), class_labels=labels)  # type: ignore[no-any-return]

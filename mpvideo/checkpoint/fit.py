"""Whether the tensors that are there are the ones that a config asks for."""

from collections.abc import Mapping

from mpvideo.architecture import Shape, checkpoint_shapes
from mpvideo.checkpoint.container import WEIGHT_DTYPES
from mpvideo.checkpoint.header import Header
from mpvideo.config import CheckpointConfig
from mpvideo.text import counted, first_ten


def find_problems(header: Header, config: CheckpointConfig) -> list[str]:
    """What keeps a checkpoint's tensors from being the ones its config asks for; empty if nothing does.

    One sentence for each kind: missing, left over, misshapen, of a dtype that weights cannot have. Each names the first
    ten tensors with their shapes.
    """
    present = header.tensors
    problems = misfits(checkpoint_shapes(config), {name: tensor.shape for name, tensor in present.items()})
    mistyped = [f"{name} ({tensor.dtype})" for name, tensor in present.items() if tensor.dtype not in WEIGHT_DTYPES]
    if mistyped:
        allowed = ", ".join(WEIGHT_DTYPES.values())
        problems.append(f"{counted(len(mistyped), 'tensor')} not of dtype {allowed}: {first_ten(mistyped)}")
    return problems


def misfits(wanted: Mapping[str, Shape], present: Mapping[str, Shape]) -> list[str]:
    """How the tensors that are there differ from those wanted: missing, left over, misshapen, a sentence each."""
    missing = [f"{name} {_words(shape)}" for name, shape in wanted.items() if name not in present]
    extra = [f"{name} {_words(shape)}" for name, shape in present.items() if name not in wanted]
    misshapen = [
        f"{name} {_words(present[name])} instead of {_words(shape)}"
        for name, shape in wanted.items()
        if name in present and present[name] != shape
    ]
    problems = []
    if missing:
        problems.append(f"{counted(len(missing), 'tensor')} missing: {first_ten(missing)}")
    if extra:
        problems.append(f"{counted(len(extra), 'tensor')} left over: {first_ten(extra)}")
    if misshapen:
        problems.append(f"{counted(len(misshapen), 'tensor')} misshapen: {first_ten(misshapen)}")
    return problems


def _words(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"

"""Averages of any width after the training, made of snapshots of two (EDM2, arXiv 2312.02696, section 3.2).

A run keeps snapshots as RUN/ema/std-0.050-step-00001024.safetensors: the averaged weights in float16, and in the header
key `mpvideo` a JSON object with `format` (1), `ema_std`, `step`, and `factors`, the sizes of a factored class embedding
or null. Float16 rounds the weights by 2e-4, a fiftieth of what the reconstruction may be wrong by.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mpvideo.architecture import Shape, network_shapes
from mpvideo.checkpoint import Checkpoint, Header, read_header
from mpvideo.checkpoint.container import WEIGHT_DTYPES
from mpvideo.checkpoint.header import CONFIG_KEY
from mpvideo.checkpoint.load import is_finite, read_tensors
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.config import CheckpointConfig
from mpvideo.errors import CheckpointError
from mpvideo.files import atomic_path, reason, write_error
from mpvideo.text import first_ten, printable
from mpvideo.training.ema import coefficients
from mpvideo.training.factored import full_table

FORMAT = 1
FOLDER = "ema"

_NAME = re.compile(r"std-(0\.\d{3,})-step-(\d{8,})\.safetensors")
_CLASS_TABLE = "to_class_emb.weight"


@dataclass(frozen=True)
class EMASnapshot:
    """One average at one step, its weights still on the disk.

    Attributes:
        header: where its tensors lie.
        ema_std: relative width of the average.
        step: optimiser steps that it has seen.
        factors: sizes of the factored class embedding, or None if the embedding is a plain table.
    """

    header: Header
    ema_std: float
    step: int
    factors: tuple[int, ...] | None

    @property
    def shapes(self) -> dict[str, Shape]:
        """Names and shapes of its tensors."""
        return {name: info.shape for name, info in self.header.tensors.items()}

    def read(self, name: str) -> Tensor:
        """Reads one tensor.

        Raises:
            CheckpointError: the file changed, cannot be read, or the tensor is not finite.
        """
        [(_, tensor)] = read_tensors(replace(self.header, tensors={name: self.header.tensors[name]}))
        if not is_finite(tensor):
            raise CheckpointError(
                f"{printable(self.header.path)}: weights must be finite, {printable(name)} contains NaN or infinity",
                hint="The training diverged or the file is damaged. Move the file away to do without it.",
            )
        return tensor


def save_ema_snapshot(
    run: Path, average: nn.Module, *, ema_std: float, step: int, factors: tuple[int, ...] | None = None
) -> None:
    """Writes the snapshot of an average, in the place of the same one from before a restart.

    Args:
        run: the run's folder.
        average: a network that holds the averaged weights; parameters and buffers are kept.
        ema_std: its relative width.
        step: optimiser steps that it has seen.
        factors: sizes of its `FactoredClassEmbedding`, or None if it has a plain one.

    Raises:
        OutputError: it cannot be written.
    """
    path = run / FOLDER / f"std-{std_word(ema_std)}-step-{step:08d}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path.parent, error) from error
    tensors = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in average.state_dict().items()}
    about = {"format": FORMAT, "ema_std": ema_std, "step": step, "factors": factors}
    with atomic_path(path, overwrite=True) as aside:
        aside.write_bytes(save(tensors, {CONFIG_KEY: json.dumps(about)}))


def forget_after(run: Path, step: int) -> None:
    """Removes the snapshots of later steps than `step`: a run that goes on from there takes those steps anew.

    Raises:
        OutputError: one cannot be removed.
    """
    for path, (_, written) in _names(run):
        if written > step:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise write_error(path, error) from error


def find_snapshots(run: Path, step: int | None = None) -> list[EMASnapshot]:
    """A run's snapshots up to a step, by step and width; only their headers are read.

    Args:
        run: the run's folder.
        step: the last step to look at, one that has snapshots; None for the last there is.

    Raises:
        ValueError: that step has no snapshots.
        CheckpointError: there are none, one is damaged, or they are not of the same network.
    """
    found = _names(run)
    if not found:
        found_instead = "it has none" if run.is_dir() else "there is no such folder"
        raise CheckpointError(
            f"{printable(run)} must hold snapshots of its averages, such as "
            f"{FOLDER}/std-0.050-step-00000064.safetensors; {found_instead}",
            hint="`mpvideo train` writes them once its network has begun; give the folder of such a run.",
        )
    steps = sorted({written for _, (_, written) in found})
    if step is not None and step not in steps:
        raise ValueError(f"step must be one that has snapshots ({_some(steps)}), got {step}")
    last = steps[-1] if step is None else step
    snapshots = [_open(path, *said) for path, said in found if said[1] <= last]
    snapshots.sort(key=lambda snapshot: (snapshot.step, snapshot.ema_std))
    newest = snapshots[-1]
    for snapshot in snapshots:
        if (snapshot.shapes, snapshot.factors) != (newest.shapes, newest.factors):
            raise CheckpointError(
                f"{printable(snapshot.header.path)} must hold the tensors that {printable(newest.header.name)} holds",
                hint="It comes from another run: move it away.",
            )
    return snapshots


def reconstruct(snapshots: Sequence[EMASnapshot], ema_std: float) -> Iterator[tuple[str, Tensor]]:
    """Makes the average of another width at the step of the last snapshot.

    One tensor after the other is added up over the files; no more than one tensor of one of them is in memory.

    Args:
        snapshots: what `find_snapshots` returns.
        ema_std: the relative width that is wanted.

    Yields:
        Names and tensors in float64, in the order of the last snapshot.

    Raises:
        ValueError: ema_std is out of range.
        CheckpointError: a snapshot is damaged.
    """
    steps, stds = [snapshot.step for snapshot in snapshots], [snapshot.ema_std for snapshot in snapshots]
    shares = coefficients(steps, stds, steps[-1], ema_std)
    for name, shape in snapshots[-1].shapes.items():
        total = torch.zeros(shape, dtype=torch.float64)
        for snapshot, share in zip(snapshots, shares, strict=True):
            total.add_(snapshot.read(name), alpha=float(share))
        yield name, total


def save_average(
    path: Path,
    checkpoint: Checkpoint,
    snapshots: Sequence[EMASnapshot],
    ema_std: float,
    *,
    overwrite: bool = False,
    on_tensor: Callable[[int], object] = lambda amount: None,
) -> None:
    """Writes a run's checkpoint with the average of another width in the place of its network.

    Args:
        path: the file to write.
        checkpoint: the run's own; its config, autoencoder and dtypes are kept.
        snapshots: what `find_snapshots` returns.
        ema_std: the relative width that is wanted.
        overwrite: whether an existing file may be replaced.
        on_tensor: is told 1 after each tensor of the network.

    Raises:
        CheckpointError: snapshots and checkpoint are not of the same network, or a file is damaged.
        OutputError: the file cannot be written.
    """
    header, last = checkpoint.header, snapshots[-1]
    _check_same_network(last, checkpoint)
    beside = {name: info for name, info in header.tensors.items() if name not in last.shapes}
    tensors = {info.name: tensor for info, tensor in read_tensors(replace(header, tensors=beside))}
    for name, tensor in reconstruct(snapshots, ema_std):
        if name == _CLASS_TABLE and last.factors is not None:
            tensor = full_table(tensor, last.factors)
        tensors[name] = tensor.to(getattr(torch, WEIGHT_DTYPES[header.tensors[name].dtype]))
        on_tensor(1)
    save_checkpoint(path, tensors, _config(checkpoint.config, last.step, ema_std), overwrite=overwrite)


def std_word(ema_std: float) -> str:
    """A width as names of files have it: '0.100'; with more digits where it has more."""
    word = f"{ema_std:.3f}"
    return word if float(word) == ema_std else str(ema_std)


def _names(run: Path) -> list[tuple[Path, tuple[float, int]]]:
    """Files that are called like snapshots, with the width and the step in their names."""
    folder = run / FOLDER
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{printable(folder)} cannot be read: {reason(error)}") from None
    matches = [(path, _NAME.fullmatch(path.name)) for path in paths]
    return [(path, (float(match[1]), int(match[2]))) for path, match in matches if match]


def _open(path: Path, ema_std: float, step: int) -> EMASnapshot:
    header = read_header(path)
    about = header.config or {}
    if about.get("format") != FORMAT or about.get("ema_std") != ema_std or about.get("step") != step:
        raise CheckpointError(
            f"{printable(path)} is not the snapshot that its name says: its header must have format {FORMAT}, "
            f"ema_std {ema_std:g} and step {step}",
            hint="Move it away, or give it its name back.",
        )
    factors = about.get("factors")
    if factors is not None and not _are_sizes(factors):
        raise CheckpointError(f"{printable(path)}: factors must be a list of whole numbers from 1, or null")
    return EMASnapshot(header, ema_std, step, None if factors is None else tuple(factors))


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(size) is int and size > 0 for size in value)


def _check_same_network(snapshot: EMASnapshot, checkpoint: Checkpoint) -> None:
    """Makes sure that a snapshot has the network's tensors, or makes them, if its class table is in factors."""
    wanted, shapes = network_shapes(checkpoint.config.model), snapshot.shapes
    if snapshot.factors is not None and _CLASS_TABLE in shapes:
        rows, *columns = shapes[_CLASS_TABLE]
        # (E, 0) is no network's, should the factors not be those of the tensor.
        shapes[_CLASS_TABLE] = (rows, prod(snapshot.factors) if columns == [sum(snapshot.factors)] else 0)
    if different := [name for name in {**wanted, **shapes} if wanted.get(name) != shapes.get(name)]:
        raise CheckpointError(
            f"{printable(snapshot.header.path)} is not of the network of {printable(checkpoint.path)}: "
            f"they differ in {first_ten(different)}",
            hint="Snapshots and checkpoint must come from one run.",
        )


def _config(config: CheckpointConfig, step: int, ema_std: float) -> CheckpointConfig:
    training = {**config.training, "ema_std": ema_std}
    if training.get("steps") != step:
        training["steps"] = step
        training.pop("samples", None)  # of the checkpoint's step, not of this one
    return replace(config, training=training)


def _some(steps: list[int]) -> str:
    shown = [str(step) for step in steps]
    return ", ".join(shown) if len(shown) <= 10 else f"{', '.join(shown[:5])}, ..., {', '.join(shown[-4:])}"

"""Snapshots: all of a training's state in one file, to go on from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mpvideo.errors import CheckpointError
from mpvideo.files import atomic_path, reason
from mpvideo.text import printable


def load_snapshot(path: Path) -> dict[str, Any]:
    """Reads what `save_snapshot` wrote, on the CPU; it executes nothing of the file.

    Raises:
        CheckpointError: it is no snapshot, or damaged.
    """
    try:
        with path.open("rb") as file:
            state = _unpickled(path, file)
    except OSError as error:
        raise _unreadable(path, reason(error)) from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{printable(path)} is not a snapshot: it holds {type(state).__name__}, not a state",
            hint="Put a copy of it in its place, or train in another folder.",
        )
    return state


def _unpickled(path: Path, file: BinaryIO) -> object:
    try:
        return torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # damage makes torch stumble anywhere, and its own words advise to trust the file
        raise _unreadable(path, "it is damaged, or something else") from error


def _unreadable(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{printable(path)} is not a snapshot that can be read: {why}",
        hint="Put a copy of it in its place, or train in another folder.",
    )


@contextmanager
def going_back_to(path: Path) -> Iterator[None]:
    """Has what is wrong with the state of a snapshot, inside the block, name its file.

    Raises:
        CheckpointError: whatever was raised of a state that is another one, or none.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error.message}", hint=error.hint) from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "state_dict" not in str(error):  # not enough memory, for instance
            raise
        raise _unreadable(path, "its state is not that of a training") from error


def save_snapshot(state: dict[str, Any], path: Path) -> None:
    """Writes a state of tensors and plain values aside and gives it its name when it is whole.

    Raises:
        OutputError: it cannot be written; the snapshot before is as it was.
    """
    # Into an open file: given a path, torch would write its name into the file and hide what the system said.
    with atomic_path(path, overwrite=True) as aside, aside.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # "unexpected pos", says torch where the disk is full
                raise error.__context__ from error
            raise

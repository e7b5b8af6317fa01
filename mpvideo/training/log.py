"""The log of a run: one JSON object a line, added to as training goes on.

A run may be killed at any moment, so the last line may be cut off: it is left out when read, and ended when added to.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpvideo.errors import MPVideoError
from mpvideo.files import atomic_path, reason, write_error
from mpvideo.text import printable


@dataclass(frozen=True, kw_only=True)
class LogRecord:
    """What the steps since the record before were like.

    Attributes:
        step, samples: how many there were in all, at its end.
        loss: mean over the samples; 1 for an untrained network.
        loss_by_sigma: the same by ranges of noise levels; None where there were no samples.
        learning_rate: of the last step.
        samples_per_second, seconds: speed and duration.
        nonfinite_gradients: how many gradients were replaced because they were no numbers.
    """

    step: int
    samples: int
    loss: float
    loss_by_sigma: dict[str, float | None]
    learning_rate: float
    samples_per_second: float
    seconds: float
    nonfinite_gradients: int

    def to_json(self) -> str:
        """The record as one line, without its end; NaN and infinity, which JSON has no words for, become null."""
        return json.dumps(_finite(asdict(self)), allow_nan=False)


def append_record(path: Path, record: LogRecord) -> None:
    """Adds a record as a line; the file is begun if there is none.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with path.open("a+b") as file:
            # What a killed run left unfinished must not take this record with it.
            torn = file.tell() > 0 and (file.seek(-1, 2), file.read(1))[1] != b"\n"
            file.write(b"\n" * torn + record.to_json().encode() + b"\n")
    except OSError as error:
        raise write_error(path, error) from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log, in the order they were made; none if there is no file.

    Each has at least an integer "step"; the rest is as it was written. Lines that are no records are left out, such
    as one that was cut off.

    Raises:
        MPVideoError: it cannot be read.
    """
    return [record for _, record in _lines(path)]


def truncate_log(path: Path, step: int) -> None:
    """Drops the records after a step: a run that goes on from there makes them anew.

    Lines that are no records go with them, the others stay to the letter. Whatever happens, the file is there as it
    was or as it shall be.

    Raises:
        MPVideoError: it cannot be read.
        OutputError: it cannot be written.
    """
    if path.exists():
        kept = "".join(f"{line}\n" for line, record in _lines(path) if record["step"] <= step)
        with atomic_path(path, overwrite=True) as aside:
            aside.write_bytes(kept.encode())


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The lines that hold records, without their ends, and the records."""
    try:
        text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    except OSError as error:
        raise MPVideoError(f"{printable(path)} cannot be read: {reason(error)}") from error
    found = []
    for line in text.split("\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        # A bool is an int to Python, and true is no number of steps.
        if isinstance(record, dict) and type(record.get("step")) is int:
            found.append((line, record))
    return found


def _finite(value: Any) -> Any:
    """The same with None in place of numbers that are none."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value

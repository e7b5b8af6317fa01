"""What can go wrong, as far as a user is concerned, and the exit code of each kind.

Library code raises ValueError for a bad argument of a Python call and one of these for everything that has to do with
the outside world: files, devices, encoders. The command line turns both into one message and an exit code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from mpvideo.text import printable


class ExitCode(IntEnum):
    """Exit codes of the `mpvideo` program."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CHECKPOINT = 3
    DEVICE = 4
    OUTPUT = 5
    INTERRUPTED = 130
    TERMINATED = 143


class MPVideoError(Exception):
    """A failure that a user can understand and act on.

    Args:
        message: one sentence: the rule, the place, the value seen and the value wanted.
        hint: what to do next, shown on a line of its own.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MPVideoError):
    """The options do not fit together, or do not fit the checkpoint."""

    exit_code = ExitCode.USAGE


class CheckpointError(MPVideoError):
    """A checkpoint or a config cannot be read, is not what it says it is, or does not fit."""

    exit_code = ExitCode.CHECKPOINT


class DeviceError(MPVideoError):
    """The device is missing, does not compute well, or is out of memory."""

    exit_code = ExitCode.DEVICE


class OutOfMemoryError(DeviceError):
    """There is not enough memory, on whatever device."""


class OutputError(MPVideoError):
    """A result could not be written; nothing half written was left behind."""

    exit_code = ExitCode.OUTPUT


def interruption(error: BaseException | None) -> ExitCode | None:
    """The exit code of the signal that is an exception's cause, or None if none is.

    Python before 3.12 turns whatever is raised while it makes a class, as by a signal during an import, into a
    RuntimeError: `Error calling __set_name__`.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return ExitCode.INTERRUPTED
        if isinstance(error, SystemExit) and error.code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
            return ExitCode(error.code)
        seen.add(id(error))
        error = error.__cause__
    return None


@contextmanager
def naming(option: str, path: Path | None) -> Iterator[None]:
    """Has errors about a path say which option gave it: several may, and some paths are in no option.

    Args:
        option: such as `--ckpt`.
        path: what it gives; None if it is left out.
    """
    try:
        yield
    except MPVideoError as error:
        if path is not None and not error.message.startswith(("--", "config ")):
            between = "" if error.message.startswith(printable(path)) else ":"
            error.message = f"{option}{between} {error.message}"
            error.args = (error.message,)
        raise

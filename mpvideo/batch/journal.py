"""The journal of a batch: JSON lines, one for each thing that happened, put on the disk at once.

Every line is an object with `time` (UTC, ISO 8601) and `state`:

    begin       a run began: its `share` of the batch (such as 3/16), how many videos are `planned` for it (null if that
                is not known), and how many of these it `found` finished
    made        a file is complete: `path`, `seconds` since the one before
    failed      a video could not be made: `path` or `where`, `error`, `code` (exit code)
    stopped     the run was stopped: by an `error`; or by a signal, with so many `left` and `found` if it ended in order
    end         the run is over; so many were `found` finished by then

Videos that were found have no lines of their own. A run that ends without `stopped` or `end` was killed, or is going
on. The file is appended to and never rewritten: what a full disk left of a line stays, and is passed over.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mpvideo.batch.share import Share
from mpvideo.errors import MPVideoError, OutputError, UsageError, naming
from mpvideo.files import irregular, reason, sync, write_all, write_error
from mpvideo.formats import STANDARD_OUTPUT
from mpvideo.text import printable

_LONGEST = 1 << 20  # characters of a line

_START = b'{"time": "'
"""What every line starts with."""

_MOST = 10**12
"""The greatest number in a line that is believed; of seconds, too."""

_ENDS = ("end", "stopped")
"""States after which nothing comes."""


class Journal:
    """A journal to be written, as a context.

    Args:
        path: the file, made if need be; None for no journal.

    Leaving it with an exception says that the run was stopped, unless its end was written before.

    Raises:
        UsageError: on entering: the file is there, and is no journal.
        OutputError: on entering and on writing: the system refused.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._torn = self._running = False

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                _check_is_journal(self._path)
                self._file = self._path.open("ab+", buffering=0)
                if size := self._file.seek(0, os.SEEK_END):
                    self._file.seek(size - 1)
                    self._torn = self._file.read(1) != b"\n"  # by a process that was killed
                else:
                    with contextlib.suppress(OSError):  # where a folder cannot be synced
                        sync(self._path.parent, os.O_RDONLY)
            except OSError as error:
                self._close()
                with naming("--journal", self._path):
                    raise write_error(self._path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running and error is not None:
            with contextlib.suppress(OutputError):
                self.write("stopped", **({"error": _words(error)} if isinstance(error, Exception) else {}))
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def write(self, state: str, **about: Any) -> None:
        """Appends a line and has it put on the disk."""
        if self._file is None or self._path is None:
            return
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "state": state, **about}
        start = b"\n" if self._torn else b""  # behind what there is of a line that could not be written
        try:
            self._torn = True
            write_all(self._file, start + json.dumps(line).encode("ascii") + b"\n")
            self._torn = False
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self._path, error) from error
        self._running = state not in _ENDS


def _check_is_journal(path: Path) -> None:
    """Makes sure that a file that is there may be appended to."""
    if path == STANDARD_OUTPUT:
        raise UsageError("--journal must be a file, got -", hint="For example --journal made.jsonl.")
    if path.exists():
        _check_is_regular(path, "--journal ")
        with path.open("rb") as file:
            start = file.read(64).lstrip(b"\n")[: len(_START)]
        if not _START.startswith(start):
            raise UsageError(
                f"--journal {printable(path)} is there, and is no journal: nothing is appended to it",
                hint="Choose another name.",
            )


def _check_is_regular(path: Path, option: str = "") -> None:
    if kind := irregular(path):
        raise UsageError(f"{option}{printable(path)} must be a regular file, but is {kind}")


def _words(error: Exception) -> str:
    return printable(str(error) or type(error).__name__, 300)


@dataclass
class PastRun:
    """The last run that a journal tells of.

    Attributes:
        path: the journal.
        share: which part of the batch it made.
        began, latest: times of its first and its latest line.
        planned, found: how many videos fell to it, and how many of these it found finished.
        made: how many it made.
        failed: what could not be made, by its path or place: the error.
        ended: `end` or `stopped`; None if it was killed, or goes on.
        error: what stopped it, if an error did.
        seconds: what the videos took that it made.
    """

    path: Path
    share: str = "1/1"
    began: str = ""
    latest: str = ""
    planned: int | None = None
    found: int = 0
    made: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    ended: str | None = None
    error: str | None = None
    seconds: float = 0.0

    @property
    def left(self) -> int | None:
        """How many are neither there nor failed; None where it is not known how many there are."""
        if self.planned is None:
            return None
        return max(0, self.planned - self.found - self.made - len(self.failed))


def read_journal(path: Path) -> PastRun:
    """The last run that a journal tells of; what is out of any range in it, as in a forged one, is passed over.

    Raises:
        UsageError: it is no regular file.
        MPVideoError: the file cannot be read, or tells of no run.
    """
    run: PastRun | None = None
    try:
        _check_is_regular(path)
        for line in _lines(path):
            if line.get("state") == "begin":
                run = PastRun(path, share=_text(line.get("share", "1/1")), began=_text(line.get("time")))
            if run is not None:
                _note(run, line)
    except OSError as error:
        raise MPVideoError(f"the journal {printable(path)} cannot be read: {reason(error)}") from error
    if run is None:
        raise MPVideoError(f"{printable(path)} tells of no run", hint="`mpvideo batch` writes journals.")
    return run


def _note(run: PastRun, line: dict[str, Any]) -> None:
    state = line.get("state")
    run.latest = _text(line.get("time"))
    if state == "begin":
        run.planned, run.found = _number(line.get("planned")), _number(line.get("found")) or 0
    elif state == "made":
        run.made += 1
        seconds = line.get("seconds")
        run.seconds += seconds if isinstance(seconds, int | float) and 0 <= seconds < _MOST else 0.0
    elif state == "failed":
        run.failed[_text(line.get("path", line.get("where")))] = _text(line.get("error"))
    elif state in _ENDS:
        run.ended = str(state)
        run.found = max(run.found, _number(line.get("found")) or 0)
        run.error = _text(line["error"]) if "error" in line else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < _MOST else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in a file of JSON lines; what is none, such as half a line of a killed process, is passed over."""
    with path.open(encoding="utf-8", errors="replace") as file:
        while text := file.readline(_LONGEST):
            with contextlib.suppress(ValueError, RecursionError):
                line = json.loads(text)
                if isinstance(line, dict):
                    yield line


def journal_of(path: Path, share: Share) -> Path:
    """The journal of a share: of several, each has a file of its own, because network drives mix what two append.

    A path without a name, . or /, stays: opening it says that it is a folder.
    """
    if not path.name or share.count == 1:
        return path
    return path.with_name(f"{path.stem}.{share.number}-of-{share.count}{path.suffix}")


def journals_of(path: Path) -> list[Path]:
    """The journals that there are: that of the whole, and those of shares."""
    shares = re.compile(rf"{re.escape(path.stem)}(\.[0-9]+-of-[0-9]+)?{re.escape(path.suffix)}")
    return sorted(other for other in path.parent.iterdir() if shares.fullmatch(other.name))

"""Jobs as files and pipes have them: JSON lines, CSV or TOML, one object of options for each job."""

import csv
import os
import queue
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpvideo.checkpoint.reading import parse_json
from mpvideo.errors import MPVideoError, UsageError
from mpvideo.files import reason
from mpvideo.text import printable

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".toml")

_LONGEST = 1 << 20  # bytes of a line, or of the whole of a TOML file 16 times that
_PIECE = 1 << 16
"""Bytes that are read at once."""

_WAITING = 256
"""Lines that are read ahead from a pipe."""

_PATIENCE = 0.2
"""Seconds between two looks at whether to stop, while nothing comes."""


@dataclass(frozen=True)
class Entry:
    """One job as it is written.

    Attributes:
        where: the file and the line, or the number of the job, for messages.
        values: its options by name.
        error: why it cannot be read; then `values` are empty.
    """

    where: str
    values: Mapping[str, Any]
    error: MPVideoError | None = None


def read_jobs(path: Path) -> Iterator[Entry]:
    """The jobs in a file, one by one; a TOML file, whose jobs are `[[job]]` tables, is read as a whole.

    Raises:
        UsageError: its name does not end in one of `SUFFIXES`, or it is no such file.
        MPVideoError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"a file of jobs must end in {', '.join(SUFFIXES)}, got {printable(path.name)!r}",
            hint="For standard input, JSON lines, give - in its place.",
        )
    read = {".csv": _read_csv, ".toml": _read_toml}.get(suffix, _read_json_lines)
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a pipe, socket or device"
            raise UsageError(
                f"{printable(path)} must be a regular file, for it is read more than once, but is {kind}",
                hint="To take jobs as they come in, as JSON lines by standard input, give - in its place.",
            )
        yield from read(path)
    except OSError as error:
        raise MPVideoError(f"{printable(path)} cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{printable(path)} must be text in UTF-8: {error}") from None


def stream_jobs(descriptor: int, stopping: Callable[[], bool]) -> Iterator[Entry | None]:
    """The jobs that come in through a pipe as JSON lines; None whenever there is none for now.

    Args:
        descriptor: of the pipe.
        stopping: whether to stop; asked while nothing comes.
    """
    lines: queue.Queue[bytes | OSError | None] = queue.Queue(_WAITING)
    threading.Thread(target=_pump, args=(descriptor, lines), daemon=True).start()
    number = 0
    while True:
        try:
            line = lines.get_nowait()
        except queue.Empty:
            yield None
            while True:
                if stopping():
                    return
                try:
                    line = lines.get(timeout=_PATIENCE)
                    break
                except queue.Empty:
                    continue
        if line is None:
            return
        number += 1
        yield from _json_entries(f"line {number} of standard input", line)


def _pump(descriptor: int, lines: "queue.Queue[bytes | OSError | None]") -> None:
    """Reads lines in a thread of its own. Not by way of sys.stdin, whose lock would hold up the end of the program."""
    for line in _lines(lambda: os.read(descriptor, _PIECE)):
        lines.put(line)
    lines.put(None)


def _lines(read: Callable[[], bytes]) -> Iterator[bytes | OSError]:
    """The lines of what is read piece by piece, without their ends; of one that is too long, one byte too many.

    An error of the system is the last of them.
    """
    line = b""
    try:
        while piece := read():
            *ends, rest = piece.split(b"\n")
            for end in ends:
                yield _joined(line, end)
                line = b""
            line = _joined(line, rest)
    except OSError as error:
        yield error
        return
    if line:
        yield line


def _joined(line: bytes, more: bytes) -> bytes:
    return line + more[: _LONGEST + 1 - len(line)]


def _read_json_lines(path: Path) -> Iterator[Entry]:
    with path.open("rb", buffering=0) as file:
        for number, line in enumerate(_lines(lambda: file.read(_PIECE)), 1):
            yield from _json_entries(f"{printable(path.name)}, line {number}", line)


def _json_entries(where: str, line: bytes | OSError) -> Iterator[Entry]:
    """The job on a line, if there is one; or what is wrong."""
    if isinstance(line, OSError):
        yield Entry(where, {}, MPVideoError(f"the jobs cannot be read from here on: {reason(line)}"))
        return
    try:
        if len(line) > _LONGEST:
            raise UsageError(f"a line must have at most {_LONGEST:,} bytes")
        text = line.decode("utf-8-sig")
        if text.strip():
            yield Entry(where, _json_object(text))
    except UnicodeDecodeError as error:
        yield Entry(where, {}, UsageError(f"a job must be text in UTF-8: {error}"))
    except UsageError as error:
        yield Entry(where, {}, error)


def _json_object(text: str) -> dict[str, Any]:
    try:
        values = parse_json(text)
    except ValueError as error:
        raise UsageError(f"a job must be a JSON object on one line: {printable(error)}") from None
    if not isinstance(values, dict):
        raise UsageError(f"a job must be a JSON object, got {printable(text.strip(), 40)}")
    return values


def _read_csv(path: Path) -> Iterator[Entry]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            for row in rows:
                where = f"{printable(path.name)}, line {rows.line_num}"
                if None in row:
                    yield Entry(where, {}, UsageError("a row must not have more cells than the first line has names"))
                else:  # an empty cell, or one that is missing at the end, is an option that is not given
                    yield Entry(where, {name.strip(): cell for name, cell in row.items() if cell and cell.strip()})
        except csv.Error as error:
            raise UsageError(f"{printable(path)} is not CSV: line {rows.line_num}: {error}") from None


def _read_toml(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        data = file.read(16 * _LONGEST + 1)
    if len(data) > 16 * _LONGEST:
        raise UsageError(f"{printable(path)} is too large for TOML", hint="A file of JSON lines may be of any length.")
    try:
        content = tomllib.loads(data.decode("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{printable(path)} is not TOML: {printable(error)}") from None
    jobs = content.get("job")
    if set(content) != {"job"} or not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise UsageError(f"{printable(path)} must consist of [[job]] tables, one for each job")
    for number, job in enumerate(jobs, 1):
        yield Entry(f"{printable(path.name)}, job {number}", job)

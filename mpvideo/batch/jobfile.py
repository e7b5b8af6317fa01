"""Jobs as files and pipes have them: JSON lines, CSV or TOML, one object of options for each job."""

import csv
import os
import queue
import re
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mpvideo.checkpoint.reading import parse_json
from mpvideo.errors import MPVideoError, UsageError
from mpvideo.files import irregular, reason
from mpvideo.text import printable

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".toml")

_LONGEST = 1 << 20  # bytes of a line, or of the whole of a TOML file 16 times that
_PIECE = 1 << 16
"""Bytes that are read at once."""

_WAITING = 256
"""Lines that are read ahead from a pipe."""

_PATIENCE = 0.2
"""Seconds between two looks at whether to stop, while nothing comes."""


Reader = Callable[[Path], "Iterator[Entry]"]


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


def read_jobs(path: Path, check: Callable[[str], object] = lambda name: None) -> Iterator[Entry]:
    """The jobs in a file, one by one; a TOML file, whose jobs are `[[job]]` tables, is read as a whole.

    Args:
        path: the file.
        check: raises a UsageError for the name of an option that no job can have; asked of what all jobs have in
            common, the columns of CSV.

    Raises:
        UsageError: its name does not end in one of `SUFFIXES`, or it is no such file.
        MPVideoError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"a file of jobs must end in {', '.join(SUFFIXES)}, got {printable(path.name or path)!r}",
            hint="For standard input, JSON lines, give - in its place.",
        )
    readers: dict[str, Reader] = {".csv": partial(_read_csv, check=check), ".toml": _read_toml}
    read = readers.get(suffix, _read_json_lines)
    try:
        if kind := irregular(path):
            raise UsageError(
                f"{printable(path)} must be a regular file, for it is read more than once, but is {kind}",
                hint="To take jobs as they come in, as JSON lines by standard input, give - in its place.",
            )
        yield from read(path)
    except OSError as error:
        raise MPVideoError(f"{printable(path)} cannot be read: {reason(error)}") from error


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
        yield Entry(where, {}, UsageError(f"a job must be text in UTF-8, got the byte {line[error.start]:#04x}"))
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


def _read_csv(path: Path, check: Callable[[str], object]) -> Iterator[Entry]:
    # What is no text becomes surrogates, so that it costs its row alone.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file, strict=True)
        names: list[str] | None = None
        while True:
            line = rows.line_num + 1  # where a row begins: it may go over several
            try:
                row = next(rows, None)
            except csv.Error as error:
                raise UsageError(f"{printable(path)} is not CSV: the row that begins in line {line}: {error}") from None
            if row is None:
                return
            if row and names is None:
                names = _columns(f"{printable(path)}, line {line}", row, check)
            elif row and names is not None:
                yield _csv_entry(f"{printable(path.name)}, line {line}", names, row)


def _columns(where: str, row: Sequence[str], check: Callable[[str], object]) -> list[str]:
    """The names in the first line of CSV, checked: what is wrong with one is wrong with every job."""
    names = [name.strip() for name in row]
    if len(names) == 1 and (found := re.search("[;\t|]", names[0])):
        raise UsageError(
            f"{where}: commas must separate the names of options, got {printable(names[0])!r}",
            hint=f"It has {'tabs' if found[0] == chr(9) else found[0]} in their place: write it anew with commas.",
        )
    for number, name in enumerate(names):
        if name in names[:number] and name:
            raise UsageError(f"{where}: two columns have the name {printable(name)}")
        try:
            _check_text("a name", name)
            if name:
                check(name)
        except UsageError as error:
            raise UsageError(f"{where}: {error.message}", hint=error.hint) from None
    return names


def _csv_entry(where: str, names: Sequence[str], row: Sequence[str]) -> Entry:
    if len(row) > len(names):
        return Entry(where, {}, UsageError("a row must not have more cells than the first line has names"))
    try:
        for cell in row:
            _check_text("a job", cell)
    except UsageError as error:
        return Entry(where, {}, error)
    # An empty cell, or one that is missing at the end, is an option that is not given.
    return Entry(where, {name: cell for name, cell in zip(names, row, strict=False) if cell.strip()})


def _check_text(what: str, text: str) -> None:
    """Refuses what `surrogateescape` has made of bytes that are no text."""
    if (found := re.search("[\udc80-\udcff]", text)) is not None:
        raise UsageError(f"{what} must be text in UTF-8, got the byte {ord(found[0]) - 0xDC00:#04x}")


def _read_toml(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        data = file.read(16 * _LONGEST + 1)
    if len(data) > 16 * _LONGEST:
        raise UsageError(f"{printable(path)} is too large for TOML", hint="A file of JSON lines may be of any length.")
    try:
        content = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{printable(path)} must be text in UTF-8, got the byte {data[error.start]:#04x} in line {line}"
        ) from None
    except ValueError as error:  # of TOML; or of a number with thousands of digits
        raise UsageError(f"{printable(path)} is not TOML: {printable(error)}") from None
    except RecursionError:
        raise UsageError(f"{printable(path)} is not TOML of this kind: it is nested too deeply") from None
    jobs = content.get("job")
    if set(content) != {"job"} or not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise UsageError(f"{printable(path)} must consist of [[job]] tables, one for each job")
    for number, job in enumerate(jobs, 1):
        yield Entry(f"{printable(path.name)}, job {number}", job)

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

_LONGEST = 1 << 20  # characters of a line, or of the whole of a TOML file 16 times that
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
    error: UsageError | None = None


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
    lines: queue.Queue[bytes | None] = queue.Queue(_WAITING)
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
        text = line.decode("utf-8", "replace")
        if text.strip():
            yield _json_entry(f"line {number} of standard input", text)


def _pump(descriptor: int, lines: "queue.Queue[bytes | None]") -> None:
    """Reads lines in a thread of its own. Not by way of sys.stdin, whose lock would hold up the end of the program."""
    rest = b""
    try:
        while data := os.read(descriptor, 1 << 16):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                lines.put(line)
            if len(rest) > _LONGEST:
                break
    except OSError:
        pass  # as if it had ended
    if rest:
        lines.put(rest)
    lines.put(None)


def _read_json_lines(path: Path) -> Iterator[Entry]:
    with path.open(encoding="utf-8-sig") as file:
        number = 0
        while line := file.readline(_LONGEST):
            number += 1
            if line.strip():
                yield _json_entry(f"{printable(path.name)}, line {number}", line)


def _json_entry(where: str, text: str) -> Entry:
    try:
        values = parse_json(text)
    except ValueError as error:
        return Entry(where, {}, UsageError(f"a job must be a JSON object on one line: {printable(error)}"))
    if not isinstance(values, dict):
        return Entry(where, {}, UsageError(f"a job must be a JSON object, got {printable(text.strip(), 40)}"))
    return Entry(where, values)


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
        raise UsageError(f"{printable(path)} is too large for TOML", hint="JSON lines may be of any length.")
    try:
        content = tomllib.loads(data.decode("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{printable(path)} is not TOML: {printable(error)}") from None
    jobs = content.get("job")
    if set(content) != {"job"} or not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise UsageError(f"{printable(path)} must consist of [[job]] tables, one for each job")
    for number, job in enumerate(jobs, 1):
        yield Entry(f"{printable(path.name)}, job {number}", job)

"""Files and JSON from strangers, read without trust and without torch.

Every failure is a CheckpointError that names the file. Nothing is mapped into memory: a file that somebody truncates
while it is read gives a message, not a SIGBUS.
"""

import json
import math
import os
import stat
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from mpvideo.errors import CheckpointError
from mpvideo.files import reason
from mpvideo.text import printable

MAX_JSON_BYTES = 16_000_000
"""Largest header, index or config that is read: ten times what the largest network of this kind needs."""

MAX_JSON_VALUES = 250_000
"""Most values in one of them. Three bytes can make an object that takes sixty to hold, so bytes alone bound neither the
time nor the memory that a hostile file costs; 20,000 tensors fit."""

MAX_DEPTH = 64
"""Deepest nesting of a JSON value."""


def open_regular(path: Path) -> FileIO:
    """Opens a regular file for unbuffered reading.

    Raises:
        CheckpointError: it is missing, a folder, a pipe or a device, or may not be read.
    """
    # Without O_NONBLOCK, opening a pipe would wait for its writer for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        dangling = os.path.islink(path)  # noqa: PTH114 - is_symlink() may raise
        kind = "is a link to a file that does not exist" if dangling else "does not exist"
        raise CheckpointError(f"{printable(path)} {kind}", hint="Check the path.") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
            raise CheckpointError(f"{printable(path)} must be a regular file, but is {kind}")
        return FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def exists(path: Path) -> bool:
    """Whether there is something at `path`; what a symbolic link leads to counts.

    Raises:
        CheckpointError: the folder may not be entered, or the path is none that the system could have.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return True


class Stamp(NamedTuple):
    """What tells a file from another one, or from itself after a change."""

    device: int
    inode: int
    size: int
    modified: int


def stamp_of(file: FileIO | Path) -> Stamp:
    """The stamp of an open file, or of what is at a path, which may raise OSError."""
    status = file.stat() if isinstance(file, Path) else os.fstat(file.fileno())
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def read_into(file: FileIO, start: int, buffer: memoryview, path: Path) -> None:
    """Fills a buffer of bytes from offset `start` on.

    Raises:
        CheckpointError: the file ends too early or the disk fails.
    """
    done = 0
    try:
        file.seek(start)
        while done < len(buffer):
            count = file.readinto(buffer[done:])
            if not count:
                break
            done += count
    except OSError as error:
        raise _unreadable(path, error) from None
    if done < len(buffer):
        raise CheckpointError(
            f"{printable(path)} is truncated: {len(buffer):,} bytes wanted from byte {start:,} on, got {done:,}",
            hint="It changed while it was read; download or copy it again.",
        )


def read_start(file: FileIO, count: int, path: Path) -> bytes:
    """The first `count` bytes of a file, or all of a shorter one."""
    data = bytearray(min(count, stamp_of(file).size))
    read_into(file, 0, memoryview(data), path)
    return bytes(data)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
        CheckpointError: it cannot be read, is larger than `MAX_JSON_BYTES`, or is refused by `parse_object`.
    """
    with open_regular(path) as file:
        if (size := stamp_of(file).size) > MAX_JSON_BYTES:
            raise CheckpointError(f"{printable(path)} must be JSON of at most {MAX_JSON_BYTES:,} bytes, got {size:,}")
        return parse_object(read_start(file, size, path), printable(path))


def parse_object(text: bytes | str, where: str) -> dict[str, Any]:
    """Parses one JSON object.

    Args:
        text: UTF-8 bytes, or text.
        where: the file (and part of it) for messages, printable.

    Raises:
        CheckpointError: it is refused by `parse_json`, or the value is not an object.
    """
    try:
        value = parse_json(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except ValueError as error:
        raise CheckpointError(f"{where} is not valid JSON: {printable(error)}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{where} must be a JSON object, got {printable(json.dumps(value), 40)}")
    return value


def parse_json(text: str) -> Any:
    """Parses JSON, more strictly than `json.loads`.

    Refused besides bad syntax: a key given twice, NaN and infinities, numbers of more than 20 digits, strings that
    are not Unicode, nesting deeper than `MAX_DEPTH`, and more than `MAX_JSON_VALUES` values.

    Raises:
        json.JSONDecodeError: bad syntax.
        ValueError: any of the others.
    """
    # Every value but the first comes after one of these; those inside strings count too, which errs on the safe side.
    if sum(map(text.count, "{[,")) > MAX_JSON_VALUES:
        raise ValueError(f"it must hold at most {MAX_JSON_VALUES:,} values")
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite, parse_int=_short_int
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate fails here
        deep = _deeper_than(value, MAX_DEPTH)
    except RecursionError:
        deep = True
    if deep:
        raise ValueError(f"it must be nested at most {MAX_DEPTH} levels deep")
    return value


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{printable(path)} cannot be read: {reason(error)}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {double!r} is given twice")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"numbers must be finite, got {text}")
    return value


def _short_int(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"whole numbers must have at most 20 digits, got {len(text)}")
    return int(text)


def _deeper_than(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(item, levels - 1) for item in inner)

"""RUN/run.json, which says what a run was begun with, and the lock that keeps a second call out of its folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mpvideo
from mpvideo.errors import MPVideoError, UsageError, naming
from mpvideo.files import atomic_path, make_folder, reason, remove_abandoned, write_error
from mpvideo.text import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def alone_in(folder: Path, *subfolders: str) -> Iterator[None]:
    """Makes a run's folder, and keeps other calls of a training out of it until the block ends.

    Raises:
        UsageError: another call is at work there.
        OutputError: the folder cannot be written to.
    """
    folders = [folder, *(folder / name for name in subfolders)]
    with naming("--out", folder):
        for each in folders:
            make_folder(each)
        try:
            lock = (folder / ".lock").open("w")
        except OSError as error:
            raise write_error(folder, error) from error
    with lock:
        if fcntl is not None:  # the system lets go of it however this process ends
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"{printable(folder)} is being trained in by another process",
                    hint="Wait for it or stop it; or give --out another folder.",
                ) from None
            except OSError:
                pass  # a file system without locks
        for each in folders:
            remove_abandoned(each)
        yield


def check_record(folder: Path, now: dict[str, Any]) -> None:
    """Writes down what a new run is begun with, or makes sure that one goes on with the same.

    Raises:
        UsageError: something differs, and what; or the record is none.
        MPVideoError: it cannot be read.
        OutputError: it cannot be written.
    """
    path = folder / "run.json"
    try:
        text = path.read_bytes().decode("utf-8", "replace") if path.exists() else None
    except OSError as error:
        raise MPVideoError(f"{printable(path)} cannot be read: {reason(error)}") from error
    if text is None:
        try:
            with atomic_path(path, overwrite=True) as aside:
                aside.write_text(json.dumps({"version": mpvideo.__version__, **now}, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise write_error(path, error) from error
        return
    try:
        before = json.loads(text)
        changed = [
            f"{group}.{name} is {printable(now[group].get(name))}, was {printable(before[group].get(name))}"
            for group in now
            for name in {**before[group], **now[group]}
            if before[group].get(name) != now[group].get(name)
        ]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(
            f"{printable(path)} is not the record of a run", hint="Give --out a new folder, or put the file back."
        ) from error
    if changed:
        raise UsageError(
            f"{printable(folder)} was begun with other settings: {'; '.join(changed[:3])}",
            hint="Give the settings and the data that it was begun with; or --out another folder, and --init this one "
            "to begin with its weights.",
        )


def recorded_dtype(folder: Path) -> str | None:
    """The dtype that a run was begun with, or None if there is no such run."""
    try:
        dtype = json.loads((folder / "run.json").read_text("utf-8"))["recipe"]["dtype"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dtype if isinstance(dtype, str) else None

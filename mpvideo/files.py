"""Writing a file so that it is there whole or not at all."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from mpvideo.errors import OutputError
from mpvideo.text import printable


@contextlib.contextmanager
def atomic_path(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields the path of an empty file beside `target`, which takes the target's place when the block ends well.

    The file carries the target's suffix (some writers look at it) and the permissions of any new file under the
    user's umask. A symbolic link is followed: what it points to is replaced, the link stays. Before the renaming the
    bytes are forced to disk, after it the folder. When the block fails, the file beside is removed and the target is
    as it was.

    Args:
        target: the file to write.
        overwrite: whether an existing file may be replaced. If not, even one that appears meanwhile is left alone.

    Raises:
        OutputError: the target exists, is no regular file, has no folder, or the system refused (full disk,
            permissions); an OSError raised inside the block is turned into one as well.
    """
    shown = printable(target)
    try:
        final = Path(os.path.realpath(target))
        _check_target(final, shown, overwrite)
        # Short enough for the 255 bytes that file systems grant, whatever the length of the target's name.
        aside = final.with_name(f".{secrets.token_hex(8)}.part{final.suffix[:16]}")
        os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except (OSError, ValueError) as error:
        raise OutputError(f"{shown} cannot be written: {_reason(error)}") from None
    try:
        yield aside
        _sync(aside, os.O_RDWR)
        _put(aside, final, overwrite)
    except FileExistsError:
        raise _exists(shown) from None
    except OSError as error:
        raise OutputError(f"{shown} could not be written: {_reason(error)}") from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
    # The file is in place: where a folder cannot be synced (Windows, some network drives) it is still no failure.
    with contextlib.suppress(OSError):
        _sync(final.parent, os.O_RDONLY)


def _check_target(final: Path, shown: str, overwrite: bool) -> None:
    if not final.parent.is_dir():
        raise OutputError(f"{shown} cannot be written: its folder does not exist", hint="Make the folder first.")
    try:
        mode = final.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise OutputError(f"{shown} cannot be written: it is {kind}")
    if not overwrite:
        raise _exists(shown)


def _put(aside: Path, final: Path, overwrite: bool) -> None:
    """Renames; without `overwrite` by way of a hard link, which fails where a rename would silently replace."""
    if not overwrite:
        try:
            os.link(aside, final)
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if final.exists():
                raise FileExistsError from None
    os.replace(aside, final)  # noqa: PTH105 - the tests make this very call fail


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exists(shown: str) -> OutputError:
    return OutputError(f"{shown} exists already", hint="Choose another name, or -y to overwrite it.")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or printable(error)

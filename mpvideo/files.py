"""Writing a file so that it is there whole or not at all."""

import contextlib
import errno
import os
import secrets
import shlex
import stat
import sys
import time
import unicodedata
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import IO

from mpvideo.errors import OutputError
from mpvideo.text import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_HINTS = {
    errno.EACCES: "Choose a folder you may write to.",
    errno.EPERM: "Choose a folder you may write to.",
    errno.ENOENT: "Choose another folder.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EFBIG: "Raise the file size limit (ulimit -f) or write a smaller file.",
}
_ASIDE = ".mpvideo-"
_REMOVAL = 0.5
"""Seconds for which removing what was left may hold a folder's lock: many times what it takes."""


class PendingFile:
    """A file in the making: written aside under a hidden name, renamed when it is whole.

    `create` it, write to `aside`, then `commit` and, whatever happened, `discard`; `atomic_path` does so around a
    block. Constructing it touches nothing. A symbolic link is followed: what it points to is replaced, the link stays.
    While it is in the making, its folder is locked against `remove_abandoned`.

    Args:
        path: the file to write.
        overwrite: whether an existing file may be replaced.

    Attributes:
        path: the file as messages name it: as given, or for a link what it points to.
        aside: the path to write to, in the same folder and with the same suffix (some writers look at it).

    Raises:
        OutputError: the path is none that the system could have.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        try:
            self._target = Path(os.path.realpath(path))
            self.path = self._target if path.is_symlink() else path
        except (OSError, ValueError) as error:
            raise write_error(path, error) from error
        # Short enough for the 255 bytes that file systems grant, whatever the length of the target's name.
        name = f"{_ASIDE}{secrets.token_hex(6)}.part{self._target.suffix[:16]}"
        self.aside = self._target.parent / name
        self._overwrite = overwrite
        self._lock: int | None = None

    def create(self) -> None:
        """Checks the target and creates the empty file beside it, with the permissions that the umask gives.

        Raises:
            OutputError: the target cannot be written, and why.
        """
        try:
            self._check_folder()
            self._check_target()
            self._lock = _locked(self._target.parent, shared=True)
            self._make_aside()
        except (OSError, ValueError) as error:
            raise write_error(self.path, error) from error

    def commit(self) -> None:
        """Forces the file's bytes to the disk and gives it its name.

        Raises:
            OutputError: the disk is full, the folder is gone, or, unless it may be replaced, the target has appeared
                in the meantime.
        """
        try:
            self._publish()
        except OSError as error:
            raise write_error(self.path, error) from error
        # The file is in place: where a folder cannot be synced (Windows, some network drives) it is still no failure.
        with contextlib.suppress(OSError):
            sync(self._target.parent, os.O_RDONLY)

    def discard(self) -> None:
        """Removes what was created and not renamed, if anything."""
        # A folder that is gone or was made read-only since has nothing to clean up, or nothing we could.
        with contextlib.suppress(OSError):
            self._remove_aside()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _remove_aside(self) -> None:
        self.aside.unlink()

    def _make_aside(self) -> None:
        os.close(os.open(self.aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))

    def _publish(self) -> None:
        sync(self.aside, os.O_RDWR)
        if self._overwrite:
            self._replace()
        else:
            self._publish_new()

    def _replace(self) -> None:
        # Windows refuses while somebody has the target open, and scanners and readers have it for a moment only.
        waits = iter((0.05, 0.1, 0.2, 0.4, 0.8) if sys.platform == "win32" else ())
        while True:
            try:
                self.aside.replace(self._target)
            except PermissionError as error:
                if (wait := next(waits, None)) is not None:
                    time.sleep(wait)
                elif sys.platform == "win32":
                    raise OutputError(
                        f"{printable(self.path)} cannot be replaced: {reason(error)}",
                        hint="Close whatever has it open, or choose another name.",
                    ) from error
                else:
                    raise
            else:
                return

    def _publish_new(self) -> None:
        # A hard link fails where the name is taken, a rename does not: two runs cannot overwrite each other's file.
        try:
            os.link(self.aside, self._target)
        except FileExistsError:
            raise already_there(self.path) from None
        except OSError:
            # FAT and some network shares have no hard links: between these two lines a file could still appear.
            if os.path.lexists(self._target):
                raise already_there(self.path) from None
            self.aside.replace(self._target)
        else:
            self.discard()

    def _check_folder(self) -> None:
        folder = self._target.parent
        # lstat, unlike exists(), tells "is not there" from "may not look" and from "name too long".
        if _mode(folder) is None:
            command = f"mkdir -p {shlex.quote(str(folder))}"
            raise OutputError(
                f"the folder {printable(folder)} does not exist",
                hint=f"Run `{command}` first." if command.isprintable() else "Make that folder first.",
            )
        if not folder.is_dir():
            raise OutputError(f"{printable(folder)} must be a folder, and is none", hint="Choose another folder.")

    def _check_target(self) -> None:
        mode, shown = _mode(self._target), printable(self.path)
        if mode is None:
            return
        if stat.S_ISDIR(mode):
            example = self._target / f"name{self._target.suffix}"
            raise OutputError(f"{shown} must be a file, but is a folder", hint=f"For example {printable(example)}.")
        if stat.S_ISLNK(mode):  # what realpath could not resolve is a loop
            raise OutputError(f"{shown} is a symbolic link that leads to itself", hint="Choose another name.")
        if not stat.S_ISREG(mode):
            raise OutputError(
                f"{shown} must be a regular file, but is a pipe, socket or device", hint="Choose another name."
            )
        if not self._overwrite:
            raise already_there(self.path)


@contextlib.contextmanager
def atomic_path(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields the path of an empty file beside `target`, which takes the target's place when the block ends well.

    When the block fails, the file beside is removed and the target is as it was. See `PendingFile`.

    Args:
        target: the file to write.
        overwrite: whether an existing file may be replaced. If not, one that appears meanwhile is left alone as well;
            where the file system has no hard links (FAT, some network shares), unless it appears in the last instant.

    Raises:
        OutputError: the target exists, is no regular file, has no folder, or the system refused (full disk,
            permissions); an OSError raised inside the block is turned into one as well.
    """
    file = PendingFile(target, overwrite=overwrite)
    try:
        file.create()
        yield file.aside
        file.commit()
    except OSError as error:
        raise write_error(file.path, error) from error
    finally:
        file.discard()


def remove_abandoned(folder: Path) -> None:
    """Removes what killed writers left beside their targets in a folder, unless somebody writes there now.

    Where the system has no such locks, that is not known, and everything stays.
    """
    if (lock := _locked(folder, shared=False)) is None:
        return
    try:
        for path in folder.glob(f"{_ASIDE}*"):
            with contextlib.suppress(OSError):
                path.unlink()
    finally:
        os.close(lock)


def _locked(folder: Path, *, shared: bool) -> int | None:
    """The descriptor of a folder that is locked until it is closed; None if others hold it, or there are no locks."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # one that may be written to, but not read
        return None
    began = time.monotonic()
    try:
        while True:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                # It is held for a removal, or by another program, which may be the one that started us.
                if not shared or time.monotonic() - began > _REMOVAL:
                    raise
                time.sleep(0.01)
    except BaseException as error:
        os.close(descriptor)
        if not isinstance(error, OSError):
            raise
        return None


def check_writable(path: Path, *, overwrite: bool = False) -> None:
    """Makes sure, before any work, that `path` can be written.

    Creates an empty file in the folder and removes it again: permission bits alone do not tell (root, access lists and
    network shares go by other rules).

    Raises:
        OutputError: it cannot, and why.
    """
    file = PendingFile(path, overwrite=overwrite)
    try:
        file.create()
    finally:
        file.discard()


def write_all(file: RawIOBase | IO[bytes], data: bytes | memoryview) -> None:
    """Writes all of `data` to an unbuffered file, which may take less at a time."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[file.write(rest) or 0 :]


def irregular(path: Path) -> str | None:
    """What a path is that is no regular file, a link followed; None for one that is, and where nothing is.

    Raises:
        OSError: the system does not tell.
    """
    try:
        mode = path.stat().st_mode  # from Python 3.14 on, exists() is false where the system does not tell
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link that leads to itself"
        raise
    if stat.S_ISREG(mode):
        return None
    return "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"


def file_key(path: str | Path) -> str:
    """What all spellings and links that lead to one file have in common, to compare: its path; on systems whose disks
    usually do not tell cases apart, in lower case."""
    return spelling(os.path.realpath(path))


def spelling(name: str) -> str:
    """A name as it is to be compared, see `file_key`; on macOS two compositions of an accent are the same as well."""
    if sys.platform == "darwin":
        name = unicodedata.normalize("NFC", name)
    return name.lower() if sys.platform in ("darwin", "win32") else name


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where they are missing.

    Raises:
        OutputError: the system refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


def write_error(path: Path, error: OSError | ValueError) -> OutputError:
    """The error for a system call that failed on the way to `path`."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _DISK_FULL:
        return disk_full(path)
    return OutputError(
        f"{printable(path)} could not be written: {reason(error)}",
        hint=_HINTS.get(number or 0, "Choose another name, folder or disk."),
    )


def disk_full(path: Path) -> OutputError:
    """The error for a disk, or a quota, with no room left for `path`."""
    return OutputError(
        f"the disk is full: {printable(path)} could not be written",
        hint="Free some space, or write to another disk.",
    )


def reason(error: Exception) -> str:
    """What an exception says, as a clause: 'no such file or directory'."""
    words = printable((error.strerror if isinstance(error, OSError) else None) or error)
    return words[:1].lower() + words[1:] if words[1:2].islower() else words  # not 'NFS' to 'nFS'


def already_there(path: Path) -> OutputError:
    """The error for a file that is not to be replaced."""
    return OutputError(f"{printable(path)} exists already", hint="Choose another name, or give -y to overwrite it.")


def _mode(path: Path) -> int | None:
    """Kind and permissions of what is at `path`, a link not followed; None if nothing is."""
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def sync(path: Path, flags: int) -> None:
    """Forces what is at `path` to the disk, opened with `flags` of `os.open`."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

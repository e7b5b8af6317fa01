"""Where a video goes: a file that appears under its name only when it is whole."""

import contextlib
import errno
import os
import secrets
from pathlib import Path

from mpvideo.errors import OutputError, UsageError

SUFFIXES = (".mp4", ".gif")

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_HINTS = {
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.ENOENT: "choose another folder",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EFBIG: "raise the file size limit (ulimit -f) or write a smaller video",
}


def disk_full(target: Path) -> OutputError:
    """The error for a disk, or a quota, with no room left for `target`."""
    return OutputError(
        f"the disk is full: {target} could not be written",
        hint="free some space, or write to another disk",
    )


def write_error(target: Path, error: OSError) -> OutputError:
    """The error for a system call that failed on the way to `target`."""
    if error.errno in _DISK_FULL:
        return disk_full(target)
    reason = error.strerror or str(error)
    return OutputError(
        f"{target} could not be written: {reason[:1].lower()}{reason[1:]}",
        hint=_HINTS.get(error.errno or 0),
    )


def suffix_of(path: Path) -> str:
    """The kind of file that `path` asks for: its suffix in lower case, one of `SUFFIXES`.

    Raises:
        UsageError: any other suffix, or none.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"a video's name must end in {' or '.join(SUFFIXES)}, got {path.name!r}",
            hint=f"for example {path.stem or 'video'}.mp4",
        )
    return suffix


class PendingFile:
    """A file in the making: written under a temporary name beside its target, renamed when it is whole.

    Constructing it touches nothing. `create`, then write to `temporary`, then `commit` or `discard`.

    Args:
        path: the final name; a symbolic link is followed, so that the link stays a link.
        overwrite: whether an existing file may be replaced.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.target = Path(os.path.realpath(path))
        self.temporary = self.target.parent / f".mpvideo-{secrets.token_hex(6)}.part"
        self._overwrite = overwrite

    def create(self) -> None:
        """Check the target and create the empty temporary file; its mode follows the umask.

        Raises:
            OutputError: the target cannot be written, and why.
        """
        try:
            self._check()
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            os.close(os.open(self.temporary, flags, 0o666))
        except OSError as error:
            raise write_error(self.target, error) from error

    def commit(self) -> None:
        """Bring the temporary file to the disk and give it its final name.

        Raises:
            OSError: the disk is full, the folder is gone, ... (`write_error` makes a message of it).
            OutputError: somebody else has created the target in the meantime and it is not to be replaced.
        """
        _sync(self.temporary, os.O_RDWR)
        if self._overwrite:
            self.temporary.replace(self.target)
        else:
            self._publish_new()
        # The video is whole and under its name; some file systems cannot sync a folder, and that is no failure.
        with contextlib.suppress(OSError):
            _sync(self.target.parent, os.O_RDONLY)

    def discard(self) -> None:
        """Remove the temporary file if there is one."""
        # A folder that is gone or was made read-only since has nothing to clean up, or nothing we could.
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)

    def _publish_new(self) -> None:
        # A hard link fails where the name is taken, a rename does not: two runs cannot overwrite each other's file.
        try:
            os.link(self.temporary, self.target)
        except FileExistsError:
            raise _exists(self.target) from None
        except OSError:
            # FAT and some network shares have no hard links.
            if os.path.lexists(self.target):
                raise _exists(self.target) from None
            self.temporary.replace(self.target)
        else:
            self.temporary.unlink()

    def _check(self) -> None:
        target, folder = self.target, self.target.parent
        # lstat, unlike exists(), tells "is not there" from "may not look" and from "name too long".
        if not _is_there(folder):
            raise OutputError(
                f"the folder of {target.name} must exist, got {folder}",
                hint=f"mkdir -p {folder}",
            )
        if not folder.is_dir():
            raise OutputError(f"the folder of {target.name} must be a folder, got the file {folder}")
        if not _is_there(target):
            return
        if target.is_dir():
            raise OutputError(
                f"a video needs the name of a file, got the folder {target}",
                hint=f"for example {target / 'video'}{target.suffix}",
            )
        if target.is_symlink():  # what realpath could not resolve is a loop
            raise OutputError(f"{target} is a symbolic link that leads to itself")
        if not target.is_file():
            raise OutputError(f"a video goes into a regular file, got the device or pipe {target}")
        if not self._overwrite:
            raise _exists(target)


def _exists(target: Path) -> OutputError:
    return OutputError(f"{target} exists already", hint="-y replaces it, or choose another name")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Writing a folder of files so that it is there whole or not at all."""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from mpvideo.errors import OutputError
from mpvideo.files import PendingFile, already_there, sync
from mpvideo.text import printable


class PendingFolder(PendingFile):
    """A folder in the making: its files are written aside in a hidden one, which is renamed when all are there.

    See `PendingFile`. A folder that may be replaced is moved aside for the moment between two renames; whoever is
    killed in that moment leaves it there under its hidden name, and nothing in its place.

    Args:
        path: the folder to write.
        overwrite: whether an existing one may be replaced.
        is_ours: whether a file's name, of those in an existing folder, is one that this program gives. A folder with
            any other file is never replaced: it may be somebody's home.
    """

    def __init__(self, path: Path, *, overwrite: bool, is_ours: Callable[[str], bool]) -> None:
        super().__init__(path, overwrite=overwrite)
        self._is_ours = is_ours

    def _remove_aside(self) -> None:
        shutil.rmtree(self.aside)

    def _make_aside(self) -> None:
        self.aside.mkdir()

    def _check_target(self) -> None:
        try:
            mode = self._target.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
        if not stat.S_ISDIR(mode):
            raise OutputError(f"{printable(self.path)} must be a folder, but is a file", hint="Choose another name.")
        if not self._overwrite:
            raise already_there(self.path)
        strange = sorted(path.name for path in self._target.iterdir() if not self._is_ours(path.name))
        if strange:
            raise OutputError(
                f"{printable(self.path)} must hold frames and nothing else to be replaced, got {printable(strange[0])}",
                hint="Choose another name, or empty that folder.",
            )

    def _publish(self) -> None:
        for path in self.aside.iterdir():
            sync(path, os.O_RDWR)
        with contextlib.suppress(OSError):  # where folders cannot be synced, see `PendingFile.commit`
            sync(self.aside, os.O_RDONLY)
        self._check_target()  # it may have appeared, or changed, meanwhile
        try:
            self.aside.rename(self._target)  # onto nothing, or an empty folder
        except OSError:
            if not self._overwrite or not self._target.is_dir():
                raise
            self._swap()

    def _swap(self) -> None:
        """Puts the new folder in the place of one that has files in it."""
        old = self.aside.with_suffix(".old")
        self._target.rename(old)
        try:
            self.aside.rename(self._target)
        except BaseException:
            old.rename(self._target)
            raise
        shutil.rmtree(old, ignore_errors=True)

"""Where a video may go: a file, a folder of frames, or standard output."""

import io
import os
import sys
import tempfile
from pathlib import Path

from mpvideo.errors import OutputError, UsageError
from mpvideo.files import PendingFile, reason, write_all, write_error
from mpvideo.folders import PendingFolder
from mpvideo.formats import STANDARD_OUTPUT, Format, format_of
from mpvideo.video.ffmpeg import ffmpeg_program
from mpvideo.video.folder import may_go

_AT_ONCE = 1 << 20  # bytes


def check_destination(path: str | Path, *, overwrite: bool, format_name: str | None = None) -> None:
    """Makes sure, before any work, that a video can be written to `path`, by way of an empty file beside it.

    Args:
        path: where the video shall go; a symbolic link stands for the file it points to.
        overwrite: whether an existing file may be replaced.
        format_name: as in `Encoding.format`.

    Raises:
        UsageError: the format is not known, or standard output is a terminal or wanted for a folder.
        OutputError: no such folder, not writable, a folder or a device in the place, or a file that is not to be lost.
        MPVideoError: there is no ffmpeg where one is needed.
    """
    path = Path(path)
    wanted = format_of(path, format_name)
    if wanted.needs_ffmpeg:
        ffmpeg_program()
    file = pending(path, wanted, overwrite=overwrite)
    try:
        file.create()
    finally:
        file.discard()


def pending(path: Path, kind: Format, *, overwrite: bool) -> "PendingFile | PendingStream":
    """What is to become the video at `path`: to be created, written to `aside`, committed, and in any case discarded.

    Raises:
        UsageError: standard output is a terminal or wanted for a folder.
        OutputError: the path is none that the system could have.
    """
    if path == STANDARD_OUTPUT:
        return PendingStream(kind)
    if kind.is_folder:
        return PendingFolder(path, overwrite=overwrite, is_ours=may_go)
    return PendingFile(path, overwrite=overwrite)


class PendingStream:
    """A file in the making that goes to standard output when it is whole; see `PendingFile`.

    A reader gets the very bytes that the file would have, with the index where it belongs, or none.

    Args:
        kind: what is written.

    Attributes:
        path: what messages call it.
        aside: the temporary file to write to.

    Raises:
        UsageError: standard output is a terminal, or the format a folder.
        OutputError: standard output is closed.
    """

    def __init__(self, kind: Format) -> None:
        if kind.is_folder:
            raise UsageError(
                f"--format {kind.name} makes {kind.title}, which cannot go to standard output",
                hint="For example --format apng.",
            )
        if sys.__stdout__ is None:
            raise OutputError(
                "standard output, which is to have the video, is closed", hint="Give --out a file's name."
            )
        if sys.stdout.isatty():
            raise UsageError(
                "a video cannot go to a terminal", hint="Redirect standard output, or give --out a file's name."
            )
        self.path = Path("standard output")
        self._suffix = kind.suffixes[0]
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def aside(self) -> Path:
        """See `PendingFile`."""
        assert self._folder is not None
        return Path(self._folder.name) / f"video{self._suffix}"

    def create(self) -> None:
        """See `PendingFile`."""
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="mpvideo-")
            self.aside.touch()
        except OSError as error:
            raise OutputError(
                f"no temporary file for the video: {reason(error)}", hint="Set TMPDIR to a folder you may write to."
            ) from error

    def commit(self) -> None:
        """Sends the file.

        Raises:
            OutputError: its reader went away, or the disk is full.
        """
        try:
            sys.stdout.flush()
            # Unbuffered: nothing is left that would fail once more when the program ends.
            stream = io.FileIO(os.dup(sys.stdout.fileno()), "wb")
            with self.aside.open("rb") as file, stream:
                while data := file.read(_AT_ONCE):
                    write_all(stream, data)
        except OSError as error:
            raise write_error(self.path, error) from error

    def discard(self) -> None:
        """See `PendingFile`."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

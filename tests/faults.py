"""Failing the system one call at a time: every write, fsync, rename and encoder call by which files come to be.

Within the context `Faults(at=k)`, call number k fails as on a full disk or a broken one, and all others work; or the
process is killed there and then. `Faults()` fails none and counts them.
"""

import builtins
import errno
import io
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from mpvideo.video.ffmpeg import EncoderProcess

_OF_THE_SYSTEM = ("/dev/", "/proc/", "/sys/")


class Faults:
    """Counts the calls by which files come to be, and fails one of them.

    Args:
        at: which, from 0; None for none.
        number: the error that it fails with.
        kill: whether instead the process is killed, as by `kill -9`.

    Attributes:
        calls: what was called, in order: open, write, fsync, rename, link, mkdir, encoder start, feed or finish.
    """

    def __init__(self, at: int | None = None, number: int = errno.EIO, *, kill: bool = False) -> None:
        self.at, self._number, self._kill = at, number, kill
        self.calls: list[str] = []
        self._patch = pytest.MonkeyPatch()

    @property
    def kind(self) -> str:
        """What kind of call failed."""
        return "none" if self.at is None or self.at >= len(self.calls) else self.calls[self.at]

    def __enter__(self) -> Self:
        for name in ("fsync", "link"):
            self._wrap(os, name, name)
        for name in ("rename", "replace"):
            self._wrap(os, name, "rename")
        self._wrap(os, "mkdir", "mkdir")
        self._patch_open()
        self._patch_encoder()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patch.undo()

    def fails(self, kind: str) -> bool:
        """Counts a call; whether it is the one to fail."""
        self.calls.append(kind)
        reached = len(self.calls) - 1 == self.at
        if reached and self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return reached

    def error(self) -> OSError:
        """What the call that fails says."""
        return OSError(self._number, os.strerror(self._number))

    def _wrap(self, module: Any, name: str, kind: str) -> None:
        call = getattr(module, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if self.fails(kind):
                raise self.error()
            return call(*arguments, **options)

        self._patch.setattr(module, name, wrapped)

    def _patch_open(self) -> None:
        """Files opened to be written, by Python's `open` or the system's."""
        open_file, open_descriptor, write_descriptor = io.open, os.open, os.write

        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            named = isinstance(file, str | os.PathLike) and not os.fspath(file).startswith(_OF_THE_SYSTEM)
            if not named or not set(mode) & set("wax+"):
                return open_file(file, mode, *arguments, **options)
            if self.fails("open"):
                raise self.error()
            return _File(open_file(file, mode, *arguments, **options), self)

        def opened_descriptor(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            written = flags & (os.O_WRONLY | os.O_RDWR) and not os.fspath(path).startswith(_OF_THE_SYSTEM)
            if written and self.fails("open"):
                raise self.error()
            return open_descriptor(path, flags, *arguments, **options)

        def written(descriptor: int, data: bytes) -> int:
            if self.fails("write"):
                raise self.error()
            return write_descriptor(descriptor, data)

        self._patch.setattr(io, "open", opened)
        self._patch.setattr(builtins, "open", opened)
        self._patch.setattr(os, "open", opened_descriptor)
        self._patch.setattr(os, "write", written)

    def _patch_encoder(self) -> None:
        """ffmpeg: it cannot be started, or is dead when it gets a frame or is to end."""
        start, feed, finish = subprocess.Popen.__init__, EncoderProcess.feed, EncoderProcess.finish

        def started(process: Any, *arguments: Any, **options: Any) -> None:
            if self.fails("encoder start"):
                raise self.error()
            start(process, *arguments, **options)

        def dying(name: str, call: Callable[..., None]) -> Callable[..., None]:
            def wrapped(encoder: EncoderProcess, *arguments: Any) -> None:
                if self.fails(f"encoder {name}"):
                    encoder._process.kill()
                    encoder._process.wait()
                call(encoder, *arguments)

            return wrapped

        self._patch.setattr(subprocess.Popen, "__init__", started)
        self._patch.setattr(EncoderProcess, "feed", dying("feed", feed))
        self._patch.setattr(EncoderProcess, "finish", dying("finish", finish))


class _File:
    """A file whose writes may fail, half done, as on a disk that fills up."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def write(self, data: Any) -> Any:
        if self._faults.fails("write"):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            raise self._faults.error()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *about: Any) -> Any:
        return self._file.__exit__(*about)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, hidden ones too, by its path within."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

"""The ffmpeg process: found, started, fed, watched and, whatever happens, ended.

The ready-made wrappers around ffmpeg do not look at its exit status, so that a full disk passes for success. Here every
way to end is told apart and put into words.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from mpvideo.errors import MPVideoError, OutputError
from mpvideo.files import disk_full, reason, write_all, write_error
from mpvideo.text import printable

QUIET = ("-hide_banner", "-nostats", "-nostdin", "-loglevel", "error")

_OURS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that are for us to hear, and ffmpeg to end when we say so."""

_DISK_FULL = ("No space left on device", "Disk quota exceeded")
_SIGNAL_HINTS = {
    "SIGKILL": "The system kills programs when memory runs out: try a smaller video or --scale 1.",
    "SIGXFSZ": "Raise the file size limit (ulimit -f) or write a smaller video.",
}
_LACKING = ("Unknown encoder", "Unknown decoder", "Unrecognized option")
_LACKING_HINT = (
    "This ffmpeg lacks a part: update imageio-ffmpeg and unset IMAGEIO_FFMPEG_EXE, or set that to another one."
)
_CHATTER = re.compile(r"Conversion failed!|Svt\[(info|warn)\].*|")
_LOG_TAIL = 16_384
_PATIENCE = 30.0  # seconds that an ffmpeg which has stopped reading is given to end by itself


def ffmpeg_program() -> str:
    """The path of the ffmpeg to use: $IMAGEIO_FFMPEG_EXE, or the one that imageio-ffmpeg brings.

    Raises:
        MPVideoError: there is none.
    """
    try:
        # Not before a video is written: training works without it.
        import imageio_ffmpeg  # noqa: PLC0415

        program = str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise MPVideoError(
            "video files need ffmpeg, and none was found",
            hint="Run `pip install imageio-ffmpeg`, or set IMAGEIO_FFMPEG_EXE to an ffmpeg.",
        ) from error
    if shutil.which(program) is None:
        raise MPVideoError(
            f"IMAGEIO_FFMPEG_EXE must name a program, got {printable(program)}",
            hint="Set it to an ffmpeg, or unset it.",
        )
    return program


def start_ffmpeg(command: Sequence[str], **streams: Any) -> "subprocess.Popen[bytes]":
    """Starts it so that a signal to end, which a terminal or torchrun sends to all of our group, does not end it.

    Args:
        command: the program and its arguments.
        **streams: what subprocess.Popen takes.

    Raises:
        OSError: it cannot be started.
    """
    if os.name != "posix":
        return subprocess.Popen(command, creationflags=0x200, **streams)  # CREATE_NEW_PROCESS_GROUP
    # It keeps them blocked from its first moment on, while a process group of its own it would only enter a little
    # later. For us they come after the start.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
    try:
        process = subprocess.Popen(command, **streams)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # one that came meanwhile may raise here
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def ffmpeg_abilities() -> tuple[str, frozenset[str]]:
    """The version of the ffmpeg to use, and the names of its encoders.

    Raises:
        MPVideoError: there is no ffmpeg, or it does not run.
    """
    program = ffmpeg_program()
    try:
        version, encoders = (
            subprocess.run(
                [program, "-hide_banner", argument],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=True,
            ).stdout.decode("utf-8", "replace")
            for argument in ("-version", "-encoders")
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = reason(error) if isinstance(error, OSError) else printable(error, 1000)
        raise MPVideoError(
            f"ffmpeg does not run: {why}", hint="Set IMAGEIO_FFMPEG_EXE to an ffmpeg that runs here."
        ) from error
    found = re.match(r"ffmpeg version (\S+)", version)
    names = re.findall(r"^ [VAS][A-Z.]{5} ([\w-]+)", encoders, flags=re.MULTILINE)
    return printable(found[1]) if found else "unknown", frozenset(names)


def how_it_ended(status: int, log: str) -> tuple[str, str | None]:
    """What became of an ffmpeg with this exit status (negative: a signal) and log: a clause and a hint.

    The clause quotes the line of the log that says most about a failure: what ffmpeg lacks, or else the last one that
    is not a bare epilogue.
    """
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = "unknown"
        return f"ffmpeg was killed by signal {-status} ({name})", _SIGNAL_HINTS.get(name)
    lines = [re.sub(r"^(\[[^\]]*\] ?)+", "", line).strip() for line in log.splitlines()]
    meaningful = [line for line in lines if not _CHATTER.fullmatch(line)]
    lacking = next((line for line in meaningful if line.startswith(_LACKING)), None)
    line = printable(lacking or (meaningful[-1] if meaningful else ""))
    clause = f"ffmpeg ended with exit code {status}" + (f": {line}" if line else " and no message")
    return clause, None if lacking is None else _LACKING_HINT


class EncoderProcess:
    """One ffmpeg that reads raw frames from its standard input and writes a file.

    Args:
        arguments: everything after the global options.
        target: the file the user asked for, to name it in messages.
        ffmetadata: text in ffmpeg's metadata format; becomes input 0, and the frames input 1. By way of a file, as
            the system limits the length of an argument.

    Raises:
        OutputError: ffmpeg could not be started.
    """

    def __init__(self, arguments: Sequence[str], *, target: Path, ffmetadata: str | None) -> None:
        self._target = target
        program = ffmpeg_program()
        try:
            self._scratch = tempfile.TemporaryDirectory(prefix="mpvideo-")
        except OSError as error:
            raise _no_scratch(error) from error
        try:
            self._log = self._open_log()
            try:
                metadata = self._metadata_input(ffmetadata)
                self._process = self._start([program, *QUIET, "-y", *metadata, *arguments])
            except BaseException:
                self._log.close()
                raise
        except BaseException:
            self._scratch.cleanup()
            raise

    def feed(self, data: memoryview) -> None:
        """Hands bytes to ffmpeg, waiting while it is busy.

        Raises:
            OutputError: ffmpeg has ended, and why.
        """
        assert self._process.stdin is not None
        try:
            write_all(self._process.stdin, data)
        except OSError as error:  # a broken pipe: the reason is what ffmpeg ended with
            raise self._failure() from error

    def finish(self) -> None:
        """Says that all frames are there, waits for ffmpeg to end, and insists on exit status 0.

        Raises:
            OutputError: ffmpeg failed, and why.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait() != 0:
            raise self._failure()
        self._release()

    def kill(self) -> None:
        """Ends ffmpeg now, if it still runs, and releases everything it held. May be called again."""
        try:
            self._process.kill()
        finally:
            self._process.wait()
            self._release()

    def _open_log(self) -> IO[bytes]:
        try:
            return (Path(self._scratch.name) / "log").open("w+b")
        except OSError as error:
            raise _no_scratch(error) from error

    def _start(self, command: list[str]) -> "subprocess.Popen[bytes]":
        try:
            # bufsize=0: a write that fails is seen at once, and nothing is left to flush into a broken pipe.
            return start_ffmpeg(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log, bufsize=0)
        except OSError as error:
            raise OutputError(
                f"ffmpeg could not be started: {printable(command[0])}: {reason(error)}",
                hint="Set IMAGEIO_FFMPEG_EXE to an ffmpeg that runs here.",
            ) from error

    def _metadata_input(self, ffmetadata: str | None) -> list[str]:
        if ffmetadata is None:
            return []
        file = Path(self._scratch.name) / "metadata"
        try:
            file.write_text(ffmetadata, encoding="utf-8", newline="\n")
        except OSError as error:
            raise write_error(file, error) from error
        return ["-f", "ffmetadata", "-i", f"file:{file}"]

    def _failure(self) -> OutputError:
        """Waits for an ffmpeg that has failed, and says what happened to it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            status = self._process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL))
        log = self._log.read().decode("utf-8", "replace")
        self._release()
        if any(words in log for words in _DISK_FULL):
            return disk_full(self._target)
        clause, hint = how_it_ended(status, log)
        return OutputError(f"{printable(self._target)} could not be written: {clause}", hint=hint)

    def _release(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._log.close()
        with contextlib.suppress(OSError):
            self._scratch.cleanup()


def _no_scratch(error: OSError) -> OutputError:
    return OutputError(
        f"no temporary folder for ffmpeg: {reason(error)}", hint="Set TMPDIR to a folder you may write to."
    )

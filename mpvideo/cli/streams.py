"""Where words go: results to standard output, everything else to standard error."""

import os
import sys
from contextlib import suppress

from mpvideo.errors import OutputError
from mpvideo.files import reason


def write_result(text: str) -> None:
    """Writes to standard output, at once; characters that its encoding lacks become escapes.

    Raises:
        OutputError: it cannot be written. A pipe that its reader has closed is no error: files still count.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        try:
            data = text.encode(encoding, "surrogateescape")  # a name's bytes, as the system has them
        except UnicodeEncodeError:
            data = text.encode(encoding, "backslashreplace")
        _write_bytes(data)
    except OSError as error:
        # What is stuck in the buffer would fail once more at exit, with an exit code of its own.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return
        raise OutputError(
            f"standard output could not be written: {reason(error)}", hint="Files that were finished before are whole."
        ) from None


def _write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(data)
    else:  # a stand-in, such as a test's
        sys.stdout.write(data.decode(sys.stdout.encoding or "utf-8", "surrogateescape"))
    sys.stdout.flush()


def tell(line: str, *, quiet: bool = False) -> None:
    """Writes a line to standard error."""
    if not quiet:
        with suppress(OSError):  # nobody listens any more: the videos still count
            print(f"{line}\n", end="", file=sys.stderr, flush=True)  # at once: other processes may write there, too

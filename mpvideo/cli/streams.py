"""Where words go: results to standard output, everything else to standard error."""

import os
import sys
from contextlib import suppress

from mpvideo.errors import OutputError
from mpvideo.files import reason


def write_result(text: str) -> None:
    """Writes to standard output, at once; characters that its encoding lacks become escapes.

    Raises:
        OutputError: it cannot be written. A closed pipe stays a BrokenPipeError, which ends the program quietly.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is stuck in the buffer would fail once more at exit, with an exit code of its own.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(
            f"standard output could not be written: {reason(error)}", hint="Files that were finished before are whole."
        ) from None


def tell(line: str, *, quiet: bool = False) -> None:
    """Writes a line to standard error."""
    if not quiet:
        with suppress(OSError):  # nobody listens any more: the videos still count
            print(line, file=sys.stderr, flush=True)

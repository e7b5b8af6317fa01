"""`python -m mpvideo`, and the program `mpvideo`."""

import sys

from mpvideo.errors import ExitCode


def run() -> None:
    """Runs the program; Ctrl-C is quiet even while it is still being loaded."""
    try:
        from mpvideo.cli import main  # noqa: PLC0415

        main()
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    run()

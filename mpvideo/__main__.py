"""`python -m mpvideo`, and the program `mpvideo`."""

import sys

from mpvideo.errors import interruption


def run() -> None:
    """Runs the program; Ctrl-C is quiet even while it is still being loaded."""
    try:
        from mpvideo.cli import main  # noqa: PLC0415

        main()
    except (KeyboardInterrupt, Exception) as error:
        if (code := interruption(error)) is None:
            raise
        sys.exit(code)


if __name__ == "__main__":
    run()

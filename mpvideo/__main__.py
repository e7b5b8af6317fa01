"""`python -m mpvideo` is `mpvideo`."""

from mpvideo.cli import main

if __name__ == "__main__":
    main()

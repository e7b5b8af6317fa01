"""Where a video may go."""

from pathlib import Path

from mpvideo.errors import UsageError
from mpvideo.files import check_writable
from mpvideo.text import printable
from mpvideo.video.ffmpeg import ffmpeg_program

SUFFIXES = (".mp4", ".gif")


def suffix_of(path: Path) -> str:
    """The kind of file that `path` asks for: its suffix in lower case, one of `SUFFIXES`.

    Raises:
        UsageError: any other suffix, or none.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"a video's name must end in {' or '.join(SUFFIXES)}, got {printable(path.name)!r}",
            hint=f"For example {printable(path.stem) or 'video'}.mp4.",
        )
    return suffix


def check_destination(path: Path, *, overwrite: bool) -> None:
    """Makes sure, before any work, that a video can be written to `path`, by way of an empty file beside it.

    Args:
        path: where the video shall go; a symbolic link stands for the file it points to.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: the suffix is not one of `SUFFIXES`.
        OutputError: no such folder, not writable, a folder or a device in the place, or a file that is not to be lost.
        MPVideoError: there is no ffmpeg.
    """
    suffix_of(path)
    ffmpeg_program()
    check_writable(path, overwrite=overwrite)

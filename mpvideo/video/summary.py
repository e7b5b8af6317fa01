"""What a finished video says of itself, without its frames being decoded.

The object that `summarize_video` returns, as `mpvideo inspect VIDEO --json` prints it. Where nothing is known, a value
is null.

    kind            "video"
    path, name      as given; the last part of it
    bytes           its size
    container       what its name ends in, without the dot, or "png" for a folder of frames
    width, height, frames
                    in pixels, of the file
    fps             frames a second, the mean for a GIF or APNG; null where it does not say
    record          how it was made, if mpvideo made it: the object that `mpvideo.record` describes
    problems        why there is none: objects with a message and a hint; only where `inspect` prints it
"""

from pathlib import Path
from typing import Any

from mpvideo.video.containers import is_frames_folder, read_index
from mpvideo.video.index import unreadable
from mpvideo.video.metadata import read_record


def summarize_video(path: Path) -> dict[str, Any]:
    """Reads size and record of a video.

    Raises:
        UsageError: its name does not end like a video's.
        MPVideoError: it is missing, unreadable or damaged.
    """
    index = read_index(path)
    folder = is_frames_folder(path)
    try:
        files = path.iterdir() if folder else [path]
        size = sum(file.stat().st_size for file in files)
    except OSError as error:
        raise unreadable(path, error) from error
    return {
        "kind": "video",
        "path": str(path),
        "name": path.name,
        "bytes": size,
        "container": "png" if folder else path.suffix.lower().removeprefix("."),
        "width": index.width,
        "height": index.height,
        "frames": index.frames,
        "fps": None if index.rate is None else float(index.rate),
        "record": read_record(path),
    }

"""What a finished video says of itself, without its frames being decoded.

The object that `summarize_video` returns, as `mpvideo inspect VIDEO --json` prints it. Where nothing is known, a value
is null.

    kind            "video"
    path, name      as given; the last part of it
    bytes           its size
    container       "mp4" or "gif"
    width, height, frames
                    in pixels, of the file
    fps             frames a second; null for a GIF, which times each frame by itself
    record          how it was made, if mpvideo made it: the object that `mpvideo.record` describes
    problems        why there is none: objects with a message and a hint; only where `inspect` prints it
"""

import struct
from pathlib import Path
from typing import Any

from mpvideo.video.destination import suffix_of
from mpvideo.video.gif import walk_gif
from mpvideo.video.metadata import read_record, unreadable
from mpvideo.video.mp4 import read_mp4


def summarize_video(path: Path) -> dict[str, Any]:
    """Reads size and record of a video.

    Raises:
        UsageError: its name does not end like a video's.
        MPVideoError: it is missing, unreadable or damaged.
    """
    kind = suffix_of(path).removeprefix(".")
    fps: float | None = None
    try:
        size = path.stat().st_size
        if kind == "mp4":
            mp4 = read_mp4(path)
            width, height, frames, fps = mp4.width, mp4.height, mp4.frames, float(mp4.rate)
        else:
            data = path.read_bytes()
            frames = walk_gif(data).images
            width, height = struct.unpack_from("<HH", data, 6)
    except (OSError, ValueError, OverflowError) as error:
        raise unreadable(path, ValueError(error) if isinstance(error, OverflowError) else error) from error
    return {
        "kind": "video",
        "path": str(path),
        "name": path.name,
        "bytes": size,
        "container": kind,
        "width": width,
        "height": height,
        "frames": frames,
        "fps": fps,
        "record": read_record(path),
    }

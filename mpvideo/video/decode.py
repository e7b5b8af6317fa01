"""Reading a video file back into frames."""

import io
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence, UnidentifiedImageError

from mpvideo.errors import MPVideoError
from mpvideo.text import printable
from mpvideo.video.destination import suffix_of
from mpvideo.video.ffmpeg import OWN_GROUP, QUIET, ffmpeg_program, how_it_ended
from mpvideo.video.gif import walk_gif
from mpvideo.video.metadata import unreadable
from mpvideo.video.mp4 import read_mp4

Frames = npt.NDArray[np.uint8]


def read_frames(path: Path) -> tuple[Frames, Fraction]:
    """Decodes a whole .mp4 (with ffmpeg) or .gif (with Pillow).

    Args:
        path: the file; the suffix decides.

    Returns:
        The frames, (T, H, W, C) uint8, C = 3 (RGB; gray comes back as three equal channels), or 4 for a GIF with at
        least one transparent pixel. And the mean frames per second: exact for MP4, for GIF the number of frames over
        the sum of their delays, so within half a centisecond in all of what was asked for; 0 for a GIF without delays.

    Raises:
        UsageError: the suffix is neither.
        MPVideoError: the file is missing, unreadable, damaged or cut short.
    """
    suffix = suffix_of(path)
    try:
        return _read_mp4_frames(path) if suffix == ".mp4" else _read_gif_frames(path)
    except (UnidentifiedImageError, EOFError, SyntaxError) as error:  # so Pillow says that a file is damaged
        raise unreadable(path, ValueError("it is damaged")) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def _read_mp4_frames(path: Path) -> tuple[Frames, Fraction]:
    index = read_mp4(path)
    command = [
        *(ffmpeg_program(), *QUIET, "-xerror", "-noautorotate", "-ignore_editlist", "1"),
        *("-i", f"file:{path.absolute()}", "-map", "0:v:0"),
        *("-vf", "scale=flags=accurate_rnd+full_chroma_int,format=rgb24"),
        *("-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, **OWN_GROUP)
    if done.returncode != 0:
        clause, hint = how_it_ended(done.returncode, done.stderr.decode("utf-8", "replace"))
        raise MPVideoError(f"{printable(path)} cannot be read as a video: {clause}", hint=hint)
    wanted = index.frames * index.height * index.width * 3
    if len(done.stdout) != wanted:
        raise ValueError(f"it should have {wanted} bytes of pixels, got {len(done.stdout)}")
    # A bytearray, as an array over immutable bytes could not be written to.
    frames = np.frombuffer(bytearray(done.stdout), np.uint8)
    return frames.reshape(index.frames, index.height, index.width, 3), index.rate


def _read_gif_frames(path: Path) -> tuple[Frames, Fraction]:
    data = path.read_bytes()
    expected = walk_gif(data).images  # Pillow plays a file that is cut short as far as it goes
    with Image.open(io.BytesIO(data), formats=("GIF",)) as image:
        pictures, centiseconds = [], 0
        for picture in ImageSequence.Iterator(image):
            pictures.append(np.asarray(picture.convert("RGBA")))
            centiseconds += round(picture.info.get("duration", 0) / 10)
    if not pictures or len(pictures) != expected:
        raise ValueError(f"it should have {expected} frames, got {len(pictures)}")
    frames = np.stack(pictures)
    if frames[..., 3].min() == 255:
        frames = np.ascontiguousarray(frames[..., :3])
    return frames, Fraction(100 * len(frames), centiseconds) if centiseconds else Fraction(0)

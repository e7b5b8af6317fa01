"""Reading a file of this program back into frames. Layout: (T, H, W, C)."""

import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from mpvideo.errors import MPVideoError
from mpvideo.text import printable
from mpvideo.video.arrays import read_array
from mpvideo.video.containers import is_frames_folder, read_index
from mpvideo.video.decode import PILLOWS, Frames, gif_pictures
from mpvideo.video.ffmpeg import QUIET, ffmpeg_program, how_it_ended, start_ffmpeg
from mpvideo.video.folder import png_frames
from mpvideo.video.index import VideoIndex, unreadable
from mpvideo.video.matroska import Matroska


def read_frames(path: str | Path) -> tuple[Frames, Fraction]:
    """Decodes a whole video of one of the formats that `VideoWriter` writes.

    Args:
        path: a file, whose suffix decides, or a folder of PNG frames.

    Returns:
        The frames, (T, H, W, C) uint8: C = 3 (RGB; gray comes back as three equal channels), or 4 where at least one
        pixel is transparent; from .npy and .safetensors as they are. And the mean frames per second: exact for MP4,
        for GIF the number of frames over the sum of their delays, so within half a centisecond in all of what was
        asked for; 0 where the file does not say.

    Raises:
        UsageError: the name ends in anything else.
        MPVideoError: the file is missing, unreadable, damaged or cut short.
    """
    path = Path(path)
    index = read_index(path)
    try:
        frames = _decoded(path, index)
    except ValueError as error:
        raise unreadable(path, error) from error
    except PILLOWS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(path, error) from error
        raise unreadable(path, ValueError("it is damaged")) from error
    return frames, index.rate or Fraction(0)


def _decoded(path: Path, index: VideoIndex) -> Frames:
    suffix = path.suffix.lower()
    if is_frames_folder(path):
        return _opaque_as_rgb(np.stack([_read_rgba(file) for file in png_frames(path)]))
    if suffix in (".npy", ".safetensors"):
        return read_array(path)
    if suffix == ".gif":
        return _opaque_as_rgb(np.stack([np.asarray(picture) for picture, _ in gif_pictures(path)]))
    if suffix in (".apng", ".png"):
        with Image.open(path, formats=("PNG",)) as image:
            pictures = [np.asarray(picture.convert("RGBA")) for picture in ImageSequence.Iterator(image)]
        if len(pictures) != index.frames:
            raise ValueError(f"it should have {index.frames} frames, got {len(pictures)}")
        return _opaque_as_rgb(np.stack(pictures))
    return _opaque_as_rgb(_ffmpeg_frames(path, index))


def _read_rgba(path: Path) -> Frames:
    with Image.open(path, formats=("PNG",)) as image:
        return np.asarray(image.convert("RGBA"))


def _opaque_as_rgb(frames: Frames) -> Frames:
    """RGBA without its alpha where that says nothing."""
    return np.ascontiguousarray(frames[..., :3]) if frames.shape[-1] == 4 and frames[..., 3].min() == 255 else frames


def _ffmpeg_frames(path: Path, index: VideoIndex) -> Frames:
    """Frames of an MP4 as RGB, of a WebM or MKV as RGBA, (T, H, W, C)."""
    channels, layout, options = 3, "rgb24", ["-ignore_editlist", "1"]
    if isinstance(index, Matroska):
        # ffmpeg's own decoder of VP9 passes over the alpha, libvpx does not.
        channels, layout, options = 4, "rgba", ["-c:v", "libvpx-vp9"] if index.codec == "V_VP9" else []
    command = [
        *(ffmpeg_program(), *QUIET, "-xerror", "-noautorotate"),
        *(*options, "-i", f"file:{path.absolute()}", "-map", "0:v:0"),
        *("-vf", f"scale=flags=accurate_rnd+full_chroma_int,format={layout}"),
        *("-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"),
    ]
    with start_ffmpeg(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            pixels, log = process.communicate()
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        clause, hint = how_it_ended(process.returncode, log.decode("utf-8", "replace"))
        raise MPVideoError(f"{printable(path)} cannot be read as a video: {clause}", hint=hint)
    wanted = index.frames * index.height * index.width * channels
    if len(pixels) != wanted:
        raise ValueError(f"it should have {wanted} bytes of pixels, got {len(pixels)}")
    # A bytearray, as an array over immutable bytes could not be written to.
    frames = np.frombuffer(bytearray(pixels), np.uint8)
    return frames.reshape(index.frames, index.height, index.width, channels)

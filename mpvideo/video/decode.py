"""Reading any video, of this program or not, frame by frame."""

import contextlib
import io
import re
import subprocess
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence

from mpvideo.errors import MPVideoError, OutputError
from mpvideo.files import disk_full, reason
from mpvideo.text import printable
from mpvideo.video.ffmpeg import QUIET, ffmpeg_program, how_it_ended, start_ffmpeg
from mpvideo.video.folder import png_frames
from mpvideo.video.gif import gif_bytes, walk_gif
from mpvideo.video.matroska import read_matroska

Frames = npt.NDArray[np.uint8]

VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
"""What `FrameStream` reads, besides folders of PNG frames; in lower case."""

_PAM_FIELDS = 8  # of a header: more than there are
_MAX_SIDE = 1 << 15  # pixels: above any video, and far below what would fill the memory
_CUT_SHORT = "File ended prematurely"  # so ffmpeg says of a WebM or MKV file, and calls it a success
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I")  # what Pillow calls gray PNG of that depth; it cuts colours to 8 itself
PILLOWS = (OSError, EOFError, SyntaxError, Image.DecompressionBombError)
"""So Pillow says that a file is damaged; but an OSError with a number is the system's, not the file's."""


def gif_pictures(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """The pictures of a GIF file as RGBA, each with its delay in centiseconds.

    Raises:
        OSError, EOFError, SyntaxError, ValueError: it cannot be read, or is damaged.
    """
    data = gif_bytes(path)
    expected = walk_gif(data).images  # Pillow plays a file that is cut short as far as it goes
    count = 0
    with Image.open(io.BytesIO(data), formats=("GIF",)) as image:
        for picture in ImageSequence.Iterator(image):
            count += 1
            yield picture.convert("RGBA"), round(picture.info.get("duration", 0) / 10)
    if not count or count != expected:
        raise ValueError(f"it should have {expected} frames, got {count}")


class UnreadableVideo(MPVideoError):
    """A video that `FrameStream` cannot read.

    Attributes:
        clause: what is wrong with it.
        lasting: whether the fault is its own, so that trying again is in vain until it is another file.
    """

    def __init__(self, path: Path, clause: str, *, lasting: bool = True, hint: str | None = None) -> None:
        super().__init__(f"{printable(path)} cannot be read as a video: {clause}", hint=hint)
        self.clause = clause
        self.lasting = lasting


class FrameStream:
    """The frames of any video, one after another, so that its length takes no memory.

    Iterating gives (H, W, 3) uint8 arrays, RGB: turned as the file says a player should, with square pixels, and
    laid over black where it is transparent. A GIF is read with Pillow, a folder as PNG frames in natural order (2
    before 10), anything else with ffmpeg.

    Args:
        path: a file with one of `VIDEO_SUFFIXES`, or a folder with PNG files.

    Attributes:
        fps: mean frames a second, once all frames were read; None if the video does not say.

    Raises:
        UnreadableVideo: on iterating: it cannot be opened, is no video, damaged, cut short, or a folder whose frames
            differ in size.
        MPVideoError: on iterating: there is no ffmpeg, or no room for its notes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fps: Fraction | None = None

    def __iter__(self) -> Iterator[Frames]:
        read = self._folder if self.path.is_dir() else self._gif if self.path.suffix.lower() == ".gif" else self._file
        try:
            yield from read()
        except PILLOWS as error:
            if isinstance(error, OSError) and error.errno is not None:  # the system's error, not the file's
                raise UnreadableVideo(self.path, reason(error), lasting=False) from error
            raise UnreadableVideo(self.path, "it is damaged") from error
        except ValueError as error:
            raise UnreadableVideo(self.path, reason(error)) from error

    def _gif(self) -> Iterator[Frames]:
        count, centiseconds = 0, 0
        for picture, delay in gif_pictures(self.path):
            yield _over_black(picture)
            count, centiseconds = count + 1, centiseconds + delay
        self.fps = Fraction(100 * count, centiseconds) if centiseconds else None

    def _folder(self) -> Iterator[Frames]:
        shape = None
        for path in png_frames(self.path):
            frame = _read_png(path)
            shape = shape or frame.shape
            if frame.shape != shape:
                sizes = " and ".join(f"{width}x{height}" for height, width, _ in (shape, frame.shape))
                raise ValueError(f"its frames must have one size, got {sizes} ({printable(path.name)})")
            yield frame
        if shape is None:
            raise ValueError("it has no PNG frames")

    def _file(self) -> Iterator[Frames]:
        self.path.open("rb").close()  # the system's reasons are told better than by ffmpeg
        program = ffmpeg_program()
        with contextlib.ExitStack() as stack:
            try:
                scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpvideo-")))
                log = stack.enter_context((scratch / "log").open("w+b"))
            except OSError as error:
                raise OutputError(
                    f"no temporary folder for ffmpeg: {reason(error)}", hint="Set TMPDIR to a folder you may write to."
                ) from error
            command = [program, *QUIET, *_stream_options(self.path, scratch / "times")]
            process = start_ffmpeg(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
            assert process.stdout is not None
            try:
                count = 0
                while (frame := _read_pam(process.stdout)) is not None:
                    count += 1
                    yield frame
                status = process.wait()
            finally:
                process.stdout.close()
                process.kill()
                process.wait()
            log.seek(0)
            self._check_end(status, log.read().decode("utf-8", "replace"), scratch)
            self.fps = _mean_rate((scratch / "times").read_text("ascii"))
        if not count:
            raise ValueError("it has no frames")

    def _check_end(self, status: int, log: str, scratch: Path) -> None:
        """Makes sure that ffmpeg read the file to its true end."""
        if "No space left on device" in log:
            raise disk_full(scratch)
        # The cause comes first, then what it led to.
        clause, hint = how_it_ended(status, log.strip().partition("\n")[0])
        if status < 0 or hint is not None:  # killed, or without what it takes: no fault of the file
            raise UnreadableVideo(self.path, clause, lasting=False, hint=hint)
        if status > 0:
            raise ValueError(clause)
        if _CUT_SHORT in log:
            raise ValueError("it is cut short")


def _stream_options(path: Path, times: Path) -> list[str]:
    """Options of an ffmpeg that writes every frame as PAM to its standard output, and their times to a file."""
    every = ("-map", "0:V:0", "-fps_mode", "passthrough")  # V: no cover pictures
    scale = "scale=w='max(1,round(iw*sar))':h=ih:flags=accurate_rnd+full_chroma_int,format=rgba"
    return [
        *("-xerror", *_decoder(path), "-i", f"file:{path.absolute()}"),
        *(*every, "-vf", scale, "-c:v", "pam", "-f", "image2pipe", "pipe:1"),
        *(*every, "-f", "framecrc", f"file:{times}"),
    ]


def _decoder(path: Path) -> list[str]:
    """The option for the decoder of a WebM or MKV file that is transparent: ffmpeg's own pass over its alpha."""
    try:
        index = read_matroska(path)
    except (OSError, ValueError):  # none of them, or ffmpeg will say what is wrong with it
        return []
    libvpx = {"V_VP8": "libvpx", "V_VP9": "libvpx-vp9"}.get(index.codec)
    return ["-c:v", libvpx] if index.alpha and libvpx else []


def _read_pam(file: IO[bytes]) -> Frames | None:
    """Reads one picture, laid over black, or None at the end of the file."""
    if not (magic := file.readline(16)):
        return None
    header: dict[bytes, bytes] = {}
    while (line := file.readline(32)) not in (b"ENDHDR\n", b"") and len(header) < _PAM_FIELDS:
        name, _, value = line.rstrip(b"\n").partition(b" ")
        header[name] = value
    size = [header.get(name, b"") for name in (b"WIDTH", b"HEIGHT")]
    kind = header.get(b"TUPLTYPE"), header.get(b"DEPTH"), header.get(b"MAXVAL")
    if magic != b"P7\n" or kind != (b"RGB_ALPHA", b"4", b"255") or not all(map(bytes.isdigit, size)):
        raise ValueError("ffmpeg's pictures are not what was asked for")
    width, height = map(int, size)
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise ValueError(f"its sides must be at most {_MAX_SIDE} pixels, got {width}x{height}")
    data = file.read(height * width * 4)
    if len(data) < height * width * 4:  # ffmpeg was stopped in the middle: what ended it says more than what is missing
        return None
    rgba = np.frombuffer(data, np.uint8).reshape(height, width, 4)
    return np.ascontiguousarray(rgba[..., :3]) if rgba[..., 3].min() == 255 else _over_black(Image.fromarray(rgba))


def _mean_rate(times: str) -> Fraction | None:
    """Mean frames a second from ffmpeg's framecrc format: a time base, and a line with a time for each frame."""
    base = re.search(r"^#tb 0: ([0-9]+)/([0-9]+)$", times, re.MULTILINE)
    rows = [line.split(",") for line in times.splitlines() if not line.startswith("#")]
    if base is None or len(rows) < 2:
        return None
    ticks = int(rows[-1][2]) - int(rows[0][2])
    return Fraction(len(rows) - 1, ticks) / Fraction(int(base[1]), int(base[2])) if ticks > 0 else None


def _read_png(path: Path) -> Frames:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return _over_black(image)
    except PILLOWS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"its frame {printable(path.name)} is damaged") from error


def _over_black(image: Image.Image) -> Frames:
    """A picture as (H, W, 3), laid over black; 16-bit gray as 8-bit."""
    if image.mode in _SIXTEEN_BITS:
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    rgba = image.convert("RGBA")
    black = Image.new("RGB", rgba.size)
    black.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(black)

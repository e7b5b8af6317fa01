"""Writing frames to an MP4 or GIF file as they come.

A video is written beside its target and gets its name only when ffmpeg has said yes and the frames in it have been
counted. Layout: T frames, H rows, W columns, C channels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mpvideo.config import MAX_FPS, MIN_FPS
from mpvideo.errors import OutputError, UsageError
from mpvideo.files import PendingFile, write_error
from mpvideo.text import printable
from mpvideo.video.destination import suffix_of
from mpvideo.video.ffmpeg import EncoderProcess
from mpvideo.video.gif import delays, finish_gif
from mpvideo.video.metadata import ffmetadata, record_text
from mpvideo.video.mp4 import read_mp4

SMALL_SIDE = 256  # videos whose shorter side is below this are enlarged unless told otherwise
GIF_MAX_FPS = 50  # faster than two centiseconds a frame, browsers slow a GIF down to ten frames a second

_MAX_SIDE = {".mp4": 16_384, ".gif": 4_096}  # libx264's limit; and ffmpeg holds all of a GIF's frames in memory
_MAX_DENOMINATOR = 4_000  # ffmpeg keeps a rate exact up to a numerator of 1,001,000: 240 times this
_THREADS = 4  # fixed: the bytes x264 writes depend on the number of threads, and must not on the machine
_GIF_ALPHA = 128  # opaque from here on


@dataclass(frozen=True)
class Encoding:
    """How to write a video.

    Attributes:
        fps: frames per second, 0.01 to 240. An MP4 gets it exactly: as a fraction (24000/1001) or as the shortest
            fraction a float stands for (12.5, 23.976), denominators up to 4,000. A GIF's frames end within half a
            centisecond of their time.
        scale: every pixel becomes a block of scale x scale; at least 1. None: the smallest that brings the shorter
            side to 256 (and, for MP4, both sides to even numbers).
        crf: x264's quality, 1 (best) to 51 (smallest); MP4 only. 0 would be lossless, in a profile of H.264 that
            neither QuickTime nor browsers play.

    Raises:
        ValueError: a value out of its range.
    """

    fps: float | Fraction
    scale: int | None = None
    crf: int = 16

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and MIN_FPS <= self.fps <= MAX_FPS):
            raise ValueError(f"fps must be from {MIN_FPS:g} to {MAX_FPS:g}, got {self.fps}")
        if self.scale is not None and self.scale < 1:
            raise ValueError(f"scale must be at least 1, got {self.scale}")
        if self.crf == 0:
            raise ValueError(
                "crf must be from 1 to 51, got 0: lossless H.264 has a profile that QuickTime and browsers do not play;"
                " use 1"
            )
        if not 1 <= self.crf <= 51:
            raise ValueError(f"crf must be from 1 to 51, got {self.crf}")

    @property
    def rate(self) -> Fraction:
        """Frames per second as ffmpeg gets them."""
        return Fraction(self.fps).limit_denominator(_MAX_DENOMINATOR)


def enlargement(path: Path, *, width: int, height: int, encoding: Encoding) -> int:
    """By how much a video of `width` x `height` pixels is enlarged in the file at `path`.

    Raises:
        UsageError: unknown suffix, or the result would have an odd side, which H.264 in yuv420p cannot have, or would
            be too large.
    """
    suffix = suffix_of(path)
    step = 2 if suffix == ".mp4" and (width % 2 or height % 2) else 1
    scale = encoding.scale
    if scale is None:
        scale = math.ceil(max(1, SMALL_SIDE / min(width, height)) / step) * step
    if scale % step:
        raise UsageError(
            f"both sides of an MP4 must be even, got {width * scale}x{height * scale} for {printable(path.name)}",
            hint=f"Use --scale {scale + 1}, or write a .gif.",
        )
    if max(width, height) * scale > _MAX_SIDE[suffix]:
        raise UsageError(
            f"the sides of {printable(path.name)} must be at most {_MAX_SIDE[suffix]} pixels,"
            f" got {width * scale}x{height * scale}",
            hint="Choose a smaller --scale." if scale > 1 else None,
        )
    return scale


def warnings_about(path: Path, *, channels: int, encoding: Encoding) -> tuple[str, ...]:
    """What the file at `path` will not show as asked, one sentence each; for the caller to pass on.

    Raises:
        UsageError: unknown suffix.
    """
    found, name = [], printable(path.name)
    if suffix_of(path) == ".mp4":
        if channels == 4:
            found.append(f"{name}: MP4 has no transparency, the video is laid over black; a .gif keeps it")
    else:
        if encoding.fps > GIF_MAX_FPS:
            found.append(
                f"{name}: browsers play a GIF above {GIF_MAX_FPS} frames a second slowly,"
                f" this one has {float(encoding.fps):g}; an .mp4 keeps its pace"
            )
        if channels == 4:
            found.append(f"{name}: a GIF's pixels are transparent or opaque, nothing between")
    return tuple(found)


class VideoWriter:
    """A video file in the making, as a context manager.

    Frames go to ffmpeg as they are written; an MP4 is never in memory as a whole. (ffmpeg itself keeps the enlarged
    frames of a GIF until the last has come, four bytes a pixel: one palette is chosen for all.) Leaving the `with`
    block normally completes the file; leaving it with an exception, Ctrl-C included, ends ffmpeg and removes what it
    wrote. Until the very end an existing file stays as it was. The same frames and arguments give the same bytes.

    MP4: H.264 High, yuv420p, BT.709 and tagged so, index at the front. GIF: a palette of 256 colours chosen for the
    clip, plays for ever; every frame is kept, equal ones too.

    Args:
        path: .mp4 or .gif.
        width, height: pixels of the frames to come, before enlargement.
        channels: 1 gray, 3 RGB, 4 RGBA (colour not premultiplied).
        encoding: how to write.
        record: how the video was made; kept in the file as JSON, see `read_record`.
        overwrite: whether an existing file may be replaced.

    Raises:
        ValueError: a size, number of channels or record that cannot be.
        UsageError: unknown suffix, or odd or too large sides.
        OutputError: an impossible path. On entering: the destination cannot be written. On
            writing and on leaving: the encoder failed, the disk is full, ..., or no frame was written.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        channels: int,
        encoding: Encoding,
        record: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        if width < 1 or height < 1:
            raise ValueError(f"a frame must have at least one pixel, got {width}x{height}")
        if channels not in (1, 3, 4):
            raise ValueError(f"channels must be 1 (gray), 3 (RGB) or 4 (RGBA), got {channels}")
        self._suffix = suffix_of(path)
        self._scale = enlargement(path, width=width, height=height, encoding=encoding)
        self._frame_shape = (height, width, channels)
        self._encoding = encoding
        self._comment = None if record is None else record_text(record)
        self._file = PendingFile(path, overwrite=overwrite)
        self._encoder: EncoderProcess | None = None
        self._error: BaseException | None = None
        self._open = False
        self.frames_written = 0
        self.warnings = warnings_about(path, channels=channels, encoding=encoding)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the file's pictures, in pixels."""
        height, width, _ = self._frame_shape
        return width * self._scale, height * self._scale

    def __enter__(self) -> Self:
        try:
            self._file.create()
            arguments = self._mp4_arguments() if self._suffix == ".mp4" else self._gif_arguments()
            metadata = ffmetadata(self._comment) if self._suffix == ".mp4" else None
            self._encoder = EncoderProcess(arguments, target=self._file.path, ffmetadata=metadata)
            self._open = True
        except BaseException:
            self._abandon()
            raise
        return self

    def write(self, frames: npt.NDArray[np.uint8]) -> None:
        """Appends frames.

        Args:
            frames: (T, H, W, C) uint8; H, W and C as announced, any T.

        Raises:
            ValueError: another shape or dtype, or not inside the `with` block.
            OutputError: the encoder has failed, and why.
        """
        if self._encoder is None or not self._open:
            raise ValueError("a VideoWriter takes frames only inside its `with` block")
        if self._error is not None:
            raise self._error
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != self._frame_shape:
            raise ValueError(
                f"frames must be uint8 of shape (T, {', '.join(map(str, self._frame_shape))}),"
                f" got {frames.dtype} of shape {frames.shape}"
            )
        for frame in frames:
            try:
                self._encoder.feed(np.ascontiguousarray(self._pixels(frame)).data)
            except BaseException as error:
                self._error = error  # perhaps half a frame is in the pipe: nothing can follow it
                raise
            self.frames_written += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        if error is not None:
            self._abandon()
            return
        try:
            self._complete()
        except BaseException:
            self._abandon()
            raise

    def _complete(self) -> None:
        assert self._encoder is not None
        target = self._file.path
        if self._error is not None:  # swallowed inside the block, but there is no video
            raise self._error
        if self.frames_written == 0:
            raise OutputError(f"{printable(target)} must have at least one frame, got none")
        self._encoder.finish()
        try:
            self._check_mp4() if self._suffix == ".mp4" else self._finish_gif()
        except OSError as error:
            raise write_error(target, error) from error
        except ValueError as error:
            raise OutputError(
                f"{printable(target)} could not be written: ffmpeg reported success, but the file is not right: {error}"
            ) from error
        self._file.commit()

    def _abandon(self) -> None:
        try:
            if self._encoder is not None:
                self._encoder.kill()
        finally:
            self._file.discard()

    def _pixels(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """One frame as ffmpeg gets it: RGB, or for a GIF with transparency RGBA."""
        channels = frame.shape[-1]
        if channels == 1:
            return np.repeat(frame, 3, axis=-1)
        if channels == 3:
            return frame
        if self._suffix == ".gif":
            opaque = frame[..., 3:] >= _GIF_ALPHA
            # Colours nobody sees would still claim their share of the palette.
            return np.concatenate([frame[..., :3] * opaque, opaque * np.uint8(255)], axis=-1)
        alpha = frame[..., 3:].astype(np.uint16)
        return ((frame[..., :3] * alpha + 127) // 255).astype(np.uint8)  # over black

    def _frames_input(self, pixels: str, rate: Fraction) -> list[str]:
        height, width, _ = self._frame_shape
        return [
            *("-f", "rawvideo", "-pixel_format", pixels, "-video_size", f"{width}x{height}"),
            *("-framerate", f"{rate.numerator}/{rate.denominator}", "-i", "pipe:0"),
        ]

    def _enlarge(self) -> str:
        return "scale={}:{}:flags=neighbor".format(*self.size)

    def _mp4_arguments(self) -> list[str]:
        # Untagged, players take the colours for BT.709 where swscale made BT.601. The rounding flags keep them within
        # 2/255; "area" averages the colour of 2 x 2 pixels, which lie in one block where pixels were enlarged.
        colours = (
            "scale=out_color_matrix=bt709:out_range=tv:flags=area+accurate_rnd+full_chroma_int,format=yuv420p,"
            "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
        )
        return [
            *self._frames_input("rgb24", self._encoding.rate),
            *("-map", "1:v", "-map_metadata", "0", "-vf", f"{self._enlarge()},{colours}"),
            *("-fps_mode", "passthrough", "-c:v", "libx264", "-preset", "medium", "-profile:v", "high"),
            *("-crf", str(self._encoding.crf), "-threads", str(_THREADS)),
            *("-flags:v", "+bitexact", "-fflags", "+bitexact", "-movflags", "+faststart"),
            *("-f", "mp4", f"file:{self._file.aside}"),
        ]

    def _gif_arguments(self) -> list[str]:
        see_through = self._frame_shape[2] == 4
        # Enlarged pixels stay flat blocks; at their own size, error diffusion hides the steps of 256 colours better.
        dither = "none" if self._scale > 1 else "sierra2_4a"
        graph = (
            f"split[small][pictures];[small]palettegen=reserve_transparent={int(see_through)}[palette];"
            f"[pictures]{self._enlarge()}[large];[large][palette]paletteuse=dither={dither}"
        )
        # Whole pictures where some are transparent, see `finish_gif`; else only what changes.
        flags = "-offsetting-transdiff" if see_through else "+offsetting+transdiff"
        return [
            *self._frames_input("rgba" if see_through else "rgb24", Fraction(10)),  # delays are set afterwards
            *("-filter_complex", graph, "-fps_mode", "passthrough", "-gifflags", flags, "-loop", "0"),
            *("-fflags", "+bitexact", "-f", "gif", f"file:{self._file.aside}"),
        ]

    def _check_mp4(self) -> None:
        written = read_mp4(self._file.aside)
        if written.frames != self.frames_written:
            raise ValueError(f"it has {written.frames} frames of {self.frames_written}")

    def _finish_gif(self) -> None:
        finished = finish_gif(
            self._file.aside.read_bytes(),
            delays=delays(self.frames_written, self._encoding.rate),
            comment=None if self._comment is None else self._comment.encode("ascii"),
            see_through=self._frame_shape[2] == 4,
        )
        self._file.aside.write_bytes(finished)

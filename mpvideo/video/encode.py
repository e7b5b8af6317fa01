"""Writing frames to a video file as they come.

A video is written beside its target and gets its name only when it is whole and the frames in it have been counted. How
each format is written is a `Sink`. Layout: T frames, H rows, W columns, C channels.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mpvideo.errors import OutputError
from mpvideo.files import write_error
from mpvideo.formats import Encoding, enlargement
from mpvideo.text import printable
from mpvideo.video.arrays import npy_sink, safetensors_sink
from mpvideo.video.destination import pending
from mpvideo.video.ffmpeg_sink import apng_sink, av1_sink, gif_sink, mkv_sink, mp4_sink, webm_sink
from mpvideo.video.folder import FolderSink
from mpvideo.video.metadata import record_text
from mpvideo.video.pixels import enlarged
from mpvideo.video.sink import Pictures, Sink

SINKS: Mapping[str, Callable[[Pictures], Sink]] = {
    "mp4": mp4_sink,
    "webm": webm_sink,
    "av1": av1_sink,
    "gif": gif_sink,
    "apng": apng_sink,
    "mkv": mkv_sink,
    "png": FolderSink,
    "npy": npy_sink,
    "safetensors": safetensors_sink,
}
"""What writes each of `mpvideo.formats.FORMATS`."""


class VideoWriter:
    """A video file in the making, as a context manager.

    Frames are written as they come; the file is never in memory as a whole. (But ffmpeg keeps the pictures of a GIF
    until the last has come, four bytes a pixel: one palette is chosen for all.) Leaving the `with` block normally
    completes the file; leaving it with an exception, Ctrl-C included, ends what runs and removes what it wrote. Until
    the very end an existing file stays as it was. The same frames and arguments give the same bytes.

    Args:
        path: of the file, or of a folder for PNG frames; or `mpvideo.formats.STANDARD_OUTPUT`, which gets the bytes of
            the file when it is whole.
        width, height: pixels of the frames to come, before enlargement.
        channels: 1 gray, 3 RGB, 4 RGBA (colour not premultiplied).
        encoding: how to write.
        record: how the video was made; kept in the file as JSON, see `read_record`.
        overwrite: whether an existing file may be replaced.

    Raises:
        ValueError: a size, number of channels or record that cannot be.
        UsageError: a name or settings that no format has, or odd or too large sides.
        OutputError: an impossible path. On entering: the destination cannot be written. On
            writing and on leaving: the encoder failed, the disk is full, ..., or no frame was written.
    """

    def __init__(
        self,
        path: str | Path,
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
        path = Path(path)
        self._format = encoding.format_for(path)
        self._scale = enlargement(path, width=width, height=height, encoding=encoding)
        self._frame_shape = (height, width, channels)
        self._encoding = encoding
        self._comment = None if record is None else record_text(record)
        self._file = pending(path, self._format, overwrite=overwrite)
        self._sink: Sink | None = None
        self._error: BaseException | None = None
        self._open = False
        self.frames_written = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the file's pictures, in pixels."""
        height, width, _ = self._frame_shape
        return width * self._scale, height * self._scale

    def __enter__(self) -> Self:
        try:
            self._file.create()
            self._sink = self._make_sink()
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
        if self._sink is None or not self._open:
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
                self._sink.write(enlarged(frame, self._scale, self._encoding.filter))
            except OSError as error:
                self._error = write_error(self._file.path, error)
                raise self._error from error
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

    def _make_sink(self) -> Sink:
        width, height = self.size
        pictures = Pictures(
            format=self._format,
            target=self._file.path,
            aside=self._file.aside,
            width=width,
            height=height,
            channels=self._frame_shape[2],
            encoding=self._encoding,
            comment=self._comment,
            blocks=self._scale > 1 and self._encoding.filter == "nearest",
        )
        try:
            return SINKS[self._format.name](pictures)
        except OSError as error:
            raise write_error(self._file.path, error) from error

    def _complete(self) -> None:
        assert self._sink is not None
        target = self._file.path
        if self._error is not None:  # swallowed inside the block, but there is no video
            raise self._error
        if self.frames_written == 0:
            raise OutputError(f"{printable(target)} must have at least one frame, got none")
        try:
            self._sink.finish(self.frames_written)
        except OSError as error:
            raise write_error(target, error) from error
        except ValueError as error:
            who = "ffmpeg reported success" if self._format.needs_ffmpeg else "nothing failed"
            raise OutputError(
                f"{printable(target)} could not be written: {who}, but the file is not right: {error}"
            ) from error
        self._file.commit()

    def _abandon(self) -> None:
        try:
            if self._sink is not None:
                self._sink.abandon()
        finally:
            self._file.discard()

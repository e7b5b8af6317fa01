"""The formats that ffmpeg writes: what it is told for each of them.

Layout: H rows, W columns, C channels. The same pictures give the same bytes: the number of threads is fixed where the
bytes depend on it, and nothing of the machine or the time is written.
"""

from collections.abc import Callable, Sequence

import numpy as np

from mpvideo.video.containers import READERS
from mpvideo.video.ffmpeg import EncoderProcess
from mpvideo.video.gif import delays, finish_gif
from mpvideo.video.metadata import ffmetadata
from mpvideo.video.pixels import Frame, rgb_or_cut_out, rgb_over_black
from mpvideo.video.png import put_comment
from mpvideo.video.sink import Pictures

_THREADS = 4  # fixed: the bytes of x264 and others depend on the number of threads, and must not on the machine
_PIXELS = {1: "gray", 3: "rgb24", 4: "rgba"}
_WEBM = ("-cues_to_front", "1", "-f", "webm")


class FfmpegSink:
    """Writes pictures through ffmpeg; see `Sink`.

    Args:
        pictures: what to write, and where.
        output: ffmpeg's options, from filters to the container's name, which comes last.
        adapt: makes of a picture what the format can hold.
        tagged: whether the container has tags, in which ffmpeg writes the comment.
        complete: what is to be done to the file when ffmpeg is done, given the number of pictures.
    """

    def __init__(
        self,
        pictures: Pictures,
        output: Sequence[str],
        *,
        adapt: Callable[[Frame], Frame] | None = None,
        tagged: bool = True,
        complete: Callable[[int], None] | None = None,
    ) -> None:
        self._pictures, self._adapt, self._complete = pictures, adapt, complete
        pixel = np.zeros((1, 1, pictures.channels), np.uint8)
        channels = (pixel if adapt is None else adapt(pixel)).shape[-1]
        rate = pictures.encoding.rate
        # -r and not -framerate: ffmpeg takes that for a guess, and 119.88 for 120.
        arguments = [
            *("-f", "rawvideo", "-pixel_format", _PIXELS[channels]),
            *("-video_size", f"{pictures.width}x{pictures.height}"),
            *("-r", f"{rate.numerator}/{rate.denominator}", "-i", "pipe:0"),
            *(("-map", "1:v", "-map_metadata", "0") if tagged else ()),
            *("-fps_mode", "passthrough", "-threads", str(_THREADS), "-flags:v", "+bitexact", "-fflags", "+bitexact"),
            *(*output, f"file:{pictures.aside}"),
        ]
        comment = ffmetadata(pictures.comment) if tagged else None
        self._encoder = EncoderProcess(arguments, target=pictures.target, ffmetadata=comment)

    def write(self, frame: Frame) -> None:
        """See `Sink`."""
        self._encoder.feed(np.ascontiguousarray(self._adapt(frame) if self._adapt else frame).data)

    def finish(self, frames: int) -> None:
        """See `Sink`."""
        self._encoder.finish()
        aside = self._pictures.aside
        if self._complete is not None:
            self._complete(frames)
        # By the format: the file aside ends like the one that a symbolic link leads to, in whatever that may be.
        written = READERS[self._pictures.format.suffixes[0]](aside)
        if written.frames != frames:
            raise ValueError(f"it has {written.frames} frames of {frames}")

    def abandon(self) -> None:
        """See `Sink`."""
        self._encoder.kill()


def mp4_sink(pictures: Pictures) -> FfmpegSink:
    """H.264 High in yuv420p, BT.709 and tagged so, or lossless RGB as High 4:4:4 Predictive; index at the front."""
    if pictures.encoding.lossless:
        codec = ["-c:v", "libx264rgb", "-preset", "medium", "-qp", "0"]
    else:
        colours = _to_bt709("yuv420p")
        codec = [*colours, "-c:v", "libx264", "-preset", "medium", "-profile:v", "high", "-crf", _crf(pictures)]
    return FfmpegSink(pictures, [*codec, "-movflags", "+faststart", "-f", "mp4"], adapt=rgb_over_black)


def webm_sink(pictures: Pictures) -> FfmpegSink:
    """VP9 in yuv420p or, with alpha, yuva420p, BT.709 and tagged so; or lossless RGB, in profile 1."""
    see_through = pictures.channels == 4
    if pictures.encoding.lossless:
        colours = ["-pix_fmt", "gbrp", "-lossless", "1"]
    else:
        colours = [*_to_bt709("yuva420p" if see_through else "yuv420p"), "-crf", _crf(pictures), "-b:v", "0"]
    codec = ["-c:v", "libvpx-vp9", "-deadline", "good", "-cpu-used", "2", "-tile-columns", "0", "-row-mt", "0"]
    return FfmpegSink(pictures, [*colours, *codec, *_WEBM], adapt=None if see_through else rgb_over_black)


def av1_sink(pictures: Pictures) -> FfmpegSink:
    """AV1 in yuv420p, BT.709 and tagged so."""
    codec = ["-c:v", "libsvtav1", "-preset", "6", "-crf", _crf(pictures), "-svtav1-params", f"lp={_THREADS}"]
    return FfmpegSink(pictures, [*_to_bt709("yuv420p"), *codec, *_WEBM], adapt=rgb_over_black)


def mkv_sink(pictures: Pictures) -> FfmpegSink:
    """FFV1, version 3 with checksums, every picture by itself."""
    pixels = {1: "gray", 3: "bgr0", 4: "bgra"}[pictures.channels]
    codec = ["-pix_fmt", pixels, "-c:v", "ffv1", "-level", "3", "-slices", "4", "-slicecrc", "1", "-g", "1"]
    return FfmpegSink(pictures, [*codec, "-f", "matroska"])


def gif_sink(pictures: Pictures) -> FfmpegSink:
    """A palette of 256 colours chosen for the clip; every picture is kept, equal ones too."""
    see_through = pictures.channels == 4
    # Enlarged pixels stay flat blocks; at their own size, error diffusion hides the steps of 256 colours better.
    dither = "none" if pictures.blocks else "sierra2_4a"
    graph = (
        f"split[counted][shown];[counted]palettegen=reserve_transparent={int(see_through)}[palette];"
        f"[shown][palette]paletteuse=dither={dither}"
    )
    # Whole pictures where some are transparent, see `finish_gif`; else only what changes.
    flags = "-offsetting-transdiff" if see_through else "+offsetting+transdiff"
    # The file says how often it is repeated, -1 for never; 0 is for ever in both ways to count.
    plays = pictures.encoding.loop or 0
    repeats = plays - 1 or -1 if plays else 0

    def complete(frames: int) -> None:
        finished = finish_gif(
            pictures.aside.read_bytes(),
            delays=delays(frames, pictures.encoding.rate),
            comment=None if pictures.comment is None else pictures.comment.encode("ascii"),
            see_through=see_through,
        )
        pictures.aside.write_bytes(finished)

    options = ["-filter_complex", graph, "-gifflags", flags, "-loop", str(repeats), "-f", "gif"]
    return FfmpegSink(pictures, options, adapt=rgb_or_cut_out, tagged=False, complete=complete)


def apng_sink(pictures: Pictures) -> FfmpegSink:
    """Of each picture what differs from the one before."""
    rate = pictures.encoding.rate

    def complete(_: int) -> None:
        if pictures.comment is not None:
            put_comment(pictures.aside, pictures.comment)

    codec = ["-pix_fmt", _PIXELS[pictures.channels], "-c:v", "apng", "-pred", "mixed"]
    muxer = ["-plays", str(pictures.encoding.loop or 0), "-final_delay", f"{rate.denominator}/{rate.numerator}"]
    return FfmpegSink(pictures, [*codec, *muxer, "-f", "apng"], tagged=False, complete=complete)


def _to_bt709(pixels: str) -> list[str]:
    """Options that convert to BT.709 in such a pixel format, and tag it."""
    # Untagged, players take the colours for BT.709 where swscale made BT.601. The rounding flags keep them within
    # 2/255; "area" averages the colour of 2 x 2 pixels, which lie in one block where pixels were enlarged.
    colours = (
        f"scale=out_color_matrix=bt709:out_range=tv:flags=area+accurate_rnd+full_chroma_int,format={pixels},"
        "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    )
    return ["-vf", colours]


def _crf(pictures: Pictures) -> str:
    scale = pictures.format.crf
    assert scale is not None
    return str(scale.default if pictures.encoding.crf is None else pictures.encoding.crf)

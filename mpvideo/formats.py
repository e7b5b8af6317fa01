"""The kinds of video files: what each is called and can keep, its settings, and how large a picture gets in it.

Standard library only, so that options are checked before anything slow is imported. How each kind is written and read
is in `mpvideo.video`.
"""

import math
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

from mpvideo.checks import check_bool, check_choice, check_int
from mpvideo.config import MAX_FPS, MIN_FPS
from mpvideo.errors import UsageError
from mpvideo.text import printable

SMALL_SIDE = 256  # videos whose shorter side is below this are enlarged unless told otherwise
GIF_MAX_FPS = 50  # faster than two centiseconds a frame, browsers slow a GIF down to ten frames a second

FIRST_FRAME = "frame-000001.png"
"""The first file of a folder of PNG frames."""

STANDARD_OUTPUT = Path("-")
"""The path that stands for standard output."""

Filter = Literal["nearest", "lanczos"]
Transparency = Literal["none", "on or off", "full"]
Exactness = Literal["never", "asked", "always"]

_MAX_DENOMINATOR = 4_000  # ffmpeg keeps a rate exact up to a numerator of 1,001,000: 240 times this
_MAX_LOOP = 65_535  # 16 bits of a GIF


@dataclass(frozen=True, kw_only=True)
class Crf:
    """An encoder's constant rate factor: the `best` quality, the `smallest` file, and what is taken by default."""

    best: int
    smallest: int
    default: int


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of video file.

    Attributes:
        name: what it is called.
        suffixes: what names of such files end in; none for a folder.
        title: what is in it, in a few words.
        transparency: what it keeps of it. Where none, videos are laid over black.
        exact: whether pixels come back as they were: never, with `Encoding.lossless`, or always.
        crf: the range of its quality, if there is such a setting.
        even: whether both sides must be even, as colours have half the resolution; not where it is lossless.
        max_side: the longest side, in pixels.
        to_look_at: whether small videos are enlarged by default; what is made for programs keeps its pixels.
        loops: whether it says how often it is to be played.
        needs_ffmpeg: whether it takes ffmpeg to write it.
    """

    name: str
    suffixes: tuple[str, ...]
    title: str
    transparency: Transparency
    exact: Exactness
    crf: Crf | None = None
    even: bool = False
    max_side: int = 16_384
    to_look_at: bool = True
    loops: bool = False
    needs_ffmpeg: bool = True

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder and no file."""
        return not self.suffixes


_ALL = (
    Format(
        name="mp4",
        suffixes=(".mp4",),
        title="H.264 in MP4",
        transparency="none",
        exact="asked",
        crf=Crf(best=1, smallest=51, default=16),
        even=True,
    ),
    Format(
        name="webm",
        suffixes=(".webm",),
        title="VP9 in WebM",
        transparency="full",
        exact="asked",
        crf=Crf(best=0, smallest=63, default=16),
    ),
    Format(
        name="av1",
        suffixes=(".webm",),
        title="AV1 in WebM",
        transparency="none",
        exact="never",
        crf=Crf(best=1, smallest=63, default=20),
        even=True,  # SVT-AV1 cuts the last row and column off otherwise
        max_side=8_192,
    ),
    Format(
        name="gif",
        suffixes=(".gif",),
        title="GIF",
        transparency="on or off",
        exact="never",
        max_side=4_096,  # ffmpeg holds all frames in memory
        loops=True,
    ),
    Format(
        name="apng", suffixes=(".apng", ".png"), title="animated PNG", transparency="full", exact="always", loops=True
    ),
    Format(
        name="mkv", suffixes=(".mkv",), title="FFV1 in Matroska", transparency="full", exact="always", to_look_at=False
    ),
    Format(
        name="png",
        suffixes=(),
        title="a folder of PNG frames",
        transparency="full",
        exact="always",
        to_look_at=False,
        needs_ffmpeg=False,
    ),
    Format(
        name="npy",
        suffixes=(".npy",),
        title="NumPy array (T, H, W, C)",
        transparency="full",
        exact="always",
        to_look_at=False,
        needs_ffmpeg=False,
    ),
    Format(
        name="safetensors",
        suffixes=(".safetensors",),
        title="tensor `frames` (T, H, W, C)",
        transparency="full",
        exact="always",
        to_look_at=False,
        needs_ffmpeg=False,
    ),
)
FORMATS = {kind.name: kind for kind in _ALL}
"""All formats by their names; where two share a suffix, the first is what it stands for."""

SUFFIXES = tuple(dict.fromkeys(suffix for kind in _ALL for suffix in kind.suffixes))
"""What names of video files end in."""


@dataclass(frozen=True)
class Encoding:
    """How to write a video.

    Attributes:
        fps: frames per second, 0.01 to 240. An MP4 gets it exactly: as a fraction (24000/1001) or as the shortest
            fraction a float stands for (12.5, 23.976), denominators up to 4,000; and so does an APNG where both numbers
            have 16 bits. Frames end within half a centisecond of their time in a GIF, and half a millisecond in WebM
            and MKV. PNG frames and .npy have no time.
        scale: every pixel becomes scale x scale of them; at least 1. None: in formats to look at the smallest that
            brings the shorter side to 256 (and, where they must be, both sides to even numbers), in others 1.
        crf: quality, from best to smallest as `Format.crf` says; None for its default.
        format: one of `FORMATS`; None for what the name of the file ends in.
        lossless: whether every pixel must come back as it was.
        loop: how often a GIF or APNG is played; 0 for ever, which is also what None means.
        filter: how pixels are made larger: as blocks, or smoothly by Lanczos' kernel.

    Raises:
        ValueError: a value that no format has, or crf and lossless together.
    """

    fps: float | Fraction
    scale: int | None = None
    crf: int | None = None
    format: str | None = None
    lossless: bool = False
    loop: int | None = None
    filter: Filter = "nearest"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and MIN_FPS <= float(self.fps) <= MAX_FPS):
            raise ValueError(f"fps must be from {MIN_FPS:g} to {MAX_FPS:g}, got {self.fps}")
        if self.scale is not None:
            check_int("scale", self.scale, 1)
        if self.crf is not None:
            check_int("crf", self.crf, 0)  # to what, `format_for` knows
        if self.format is not None:
            check_choice("format", self.format, tuple(FORMATS))
        check_bool("lossless", self.lossless)
        if self.loop is not None:
            check_int("loop", self.loop, 0, _MAX_LOOP)
        check_choice("filter", self.filter, get_args(Filter))
        if self.crf is not None and self.lossless:
            raise ValueError(f"crf cannot be given together with lossless, got {self.crf}")

    @property
    def rate(self) -> Fraction:
        """Frames per second as files get them."""
        return Fraction(self.fps).limit_denominator(_MAX_DENOMINATOR)

    def format_for(self, path: str | Path) -> Format:
        """The format of a file at `path`, able to do what this asks for.

        Raises:
            UsageError: the name does not say which, says another one, or the format has no such setting.
        """
        path = Path(path)
        kind = format_of(path, self.format)
        if self.lossless and kind.exact == "never":
            exact = [other.name for other in _ALL if other.exact != "never"]
            raise UsageError(
                f"--lossless must be left out for {kind.name}, which always loses something: {printable(path.name)}",
                hint=f"Formats that can be lossless: {', '.join(exact)}.",
            )
        crf = kind.crf
        if crf and self.crf is not None and not crf.best <= self.crf <= crf.smallest:
            raise UsageError(
                f"--crf must be from {crf.best} to {crf.smallest} for {kind.name}, got {self.crf}",
                hint="--lossless loses nothing at all." if self.crf < crf.best and kind.exact == "asked" else None,
            )
        return kind


def format_of(path: str | Path, name: str | None = None) -> Format:
    """The format of a video at `path`.

    Args:
        path: of a file or folder, or `STANDARD_OUTPUT`.
        name: of the kind, where the path does not decide: one of `FORMATS`.

    Raises:
        UsageError: the path ends in no suffix of a kind, or not in one of this kind.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if name is None:
        if path == STANDARD_OUTPUT:
            raise UsageError("--format must say what goes to standard output", hint="For example --format mp4.")
        found = next((kind for kind in _ALL if suffix in kind.suffixes), None)
        if found is None:
            raise UsageError(
                f"a video's name must end in {_either(SUFFIXES)}, got {printable(path.name or path)!r}",
                hint=f"For example {printable(_example(path, '.mp4'))}; or --format png for a folder of frames.",
            )
        return found
    kind = FORMATS[name]
    if path == STANDARD_OUTPUT or suffix in kind.suffixes:
        return kind
    if not kind.is_folder:
        raise UsageError(
            f"the name of a video in --format {name} must end in {_either(kind.suffixes)},"
            f" got {printable(path.name or path)!r}",
            hint=f"For example {printable(_example(path, kind.suffixes[0]))}.",
        )
    if suffix in SUFFIXES:
        raise UsageError(
            f"--format {name} makes {kind.title}, whose name must not end in {suffix}, got {printable(path.name)!r}",
            hint=f"For example {printable(path.stem)}.",
        )
    return kind


def _example(path: Path, suffix: str) -> Path:
    """A name like `path` that ends so; in it, if it is a folder."""
    return path / f"video{suffix}" if os.path.isdir(path) else path.with_suffix(suffix)  # noqa: PTH112 - never raises


def enlargement(path: str | Path, *, width: int, height: int, encoding: Encoding) -> int:
    """By how much a video of `width` x `height` pixels is enlarged in the file at `path`.

    Raises:
        UsageError: no such kind, or the result would have an odd side where colours have half the resolution, or
            would be too large.
    """
    path = Path(path)
    kind = encoding.format_for(path)
    step = 2 if kind.even and not encoding.lossless and (width % 2 or height % 2) else 1
    scale = encoding.scale
    if scale is None:
        wanted = SMALL_SIDE / min(width, height) if kind.to_look_at else 1
        scale = math.ceil(max(1, wanted) / step) * step
    name = printable(path.name)
    if scale % step:
        raise UsageError(
            f"both sides must be even in {kind.name}, got {width * scale}x{height * scale} for {name}",
            hint=f"Use --scale {scale + 1}, or write a .webm or .gif.",
        )
    if max(width, height) * scale > kind.max_side:
        raise UsageError(
            f"the sides of {name} must be at most {kind.max_side} pixels, got {width * scale}x{height * scale}",
            hint="Choose a smaller --scale." if scale > 1 else None,
        )
    return scale


def warnings_about(path: str | Path, *, channels: int, encoding: Encoding) -> tuple[str, ...]:
    """What the file at `path` will not show as asked, one sentence each; for the caller to pass on.

    Raises:
        UsageError: no such kind, or one that cannot keep transparency without loss as asked.
    """
    path = Path(path)
    kind, name, found = encoding.format_for(path), printable(path.name), []
    if channels == 4:
        if kind.name == "webm" and encoding.lossless:
            raise UsageError(
                f"--lossless must be left out for a WebM with transparency: {name}", hint="An .mkv or .apng keeps all."
            )
        if kind.transparency == "none":
            found.append(f"{name}: {kind.name} has no transparency, the video is laid over black; a .webm keeps it")
        elif kind.transparency == "on or off":
            found.append(f"{name}: a GIF's pixels are transparent or opaque, nothing between; an .apng keeps all")
    if kind.name == "gif" and encoding.fps > GIF_MAX_FPS:
        found.append(
            f"{name}: browsers play a GIF above {GIF_MAX_FPS} frames a second slowly,"
            f" this one has {float(encoding.fps):g}; an .mp4 keeps its pace"
        )
    if kind.name == "mp4" and encoding.lossless:
        found.append(f"{name}: QuickTime and some browsers do not play lossless H.264")
    if encoding.crf is not None and kind.crf is None:
        found.append(f"{name}: --crf has no effect on {kind.name}")
    if encoding.loop is not None and not kind.loops:
        found.append(f"{name}: --loop has no effect on {kind.name}, which leaves that to the player")
    return tuple(found)


def _either(words: tuple[str, ...]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last

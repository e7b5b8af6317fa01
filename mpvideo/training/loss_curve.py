"""The loss curve of a run: loss against samples seen, over all noise levels and for ranges of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from mpvideo.text import counted
from mpvideo.training.axes import Axis, spread
from mpvideo.video.lettering import FAINT, INK, drawable, font, shortened

SIZE = (900, 540)
LEFT, TOP, RIGHT, BOTTOM = 64, 76, 736, 488  # of the plot, in pixels; the lines' labels stand at its right

COLOURS = (
    (230, 159, 0),  # orange
    (0, 114, 178),  # blue
    (86, 180, 233),  # sky blue
    (213, 94, 0),  # vermilion
    (0, 158, 115),  # green
    (204, 121, 167),  # purple
    (218, 200, 0),  # yellow, darkened: theirs cannot be seen on white
    (140, 140, 140),  # gray
)
"""Of the ranges of noise levels: those of Okabe and Ito, which colour-blind people can tell apart."""

BROKEN = (213, 94, 0)  # marks where there is no loss; vermilion
RAW = (196, 196, 196)
GRID = (234, 234, 234)

_FINE = 3  # lines are drawn this much larger and then reduced, so that they have no steps
_POINTS = 600  # the most points of a line, about one a pixel: longer logs are averaged
_SMOOTHING = 1 / 60  # standard deviation of the smoothing, as a part of the number of points
_FEW = 20  # lines with so few points, or fewer, are not smoothed, and have dots
_LOGARITHMIC = 5.0  # ratio of the highest to the lowest loss from which on the axis is logarithmic
_MOST = 1e30  # what is larger, or smaller than its inverse, is taken for no number

Values = npt.NDArray[np.float64]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Line:
    """A line of the chart: its points, NaN where it is broken, its colour, its width in pixels, and its label."""

    samples: Values
    loss: Values
    colour: Colour
    width: float
    label: str = ""


def loss_curve(log: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Draws the loss against the number of samples seen; RGB, 900 x 540 pixels.

    Black: the loss over all noise levels, smoothed, over what was logged, in gray. In colours: ranges of noise levels,
    smoothed alike, at their right the last value of each. The loss axis begins at 0, unless the losses differ more
    than fivefold: then it is logarithmic.

    Args:
        log: records as `mpvideo.training.log.read_log` gives them, see `LogRecord`; those without a number of samples
            are left out. Where the loss is null, NaN, infinite or not above 0, the line is broken, a mark stands on
            the axis, and the heading says how many records that are.
    """
    samples, loss, ranges = _columns(log)
    raw = Line(*averaged(samples, loss), RAW, 1)
    lines = _lines(samples, loss, ranges)
    x, y = axes([raw, *lines])
    image = Image.new("RGB", (SIZE[0] * _FINE, SIZE[1] * _FINE), "white")
    pen = _Pen(ImageDraw.Draw(image), x, y)
    pen.grid()
    pen.marks(samples[np.isnan(loss)])
    for line in (raw, *lines):
        pen.line(line)
    ends = [(line, y.place(last)) for line in lines if not math.isnan(last := _last(line))]
    heights = spread([end for _, end in ends], gap=17, low=TOP, high=BOTTOM)
    for (line, end), height in zip(ends, heights, strict=True):
        pen.leader(line, end, height)
    image = image.reduce(_FINE)
    draw = ImageDraw.Draw(image)
    _write_axes(draw, x, y)
    for (line, _), height in zip(ends, heights, strict=True):
        _write_label(draw, line, height)
    _write_heading(draw, samples, loss, three_digits(lines[-1].loss[-1]) if len(samples) else "none")
    return image


def axes(lines: Sequence[Line]) -> tuple[Axis, Axis]:
    """The axes that hold all points of these lines: samples, and loss."""
    seen = max((float(line.samples.max(initial=0)) for line in lines), default=0.0)
    x = Axis(0, seen or 1000, LEFT, RIGHT)
    values = np.concatenate([line.loss[~np.isnan(line.loss)] for line in lines] or [np.empty(0)])
    if not len(values):
        return x, Axis(0, 1, BOTTOM, TOP)
    low, high = float(values.min()), float(values.max())
    if high / low > _LOGARITHMIC:
        return x, Axis(low / 1.1, high * 1.1, BOTTOM, TOP, logarithmic=True)
    return x, Axis(0, high * 1.08, BOTTOM, TOP)


def range_labels(names: Sequence[str]) -> list[str]:
    """Names of ranges that say where they begin: '<0.1', '<0.2', '>=0.2' become '<0.1', '0.1 to 0.2', '>=0.2'."""
    labels = []
    for before, name in zip(["", *names], names, strict=False):
        between = before.startswith("<") and name.startswith("<")
        labels.append(drawable(f"{before[1:]} to {name[1:]}" if between else name))
    return labels


def _columns(log: Sequence[Mapping[str, Any]]) -> tuple[Values, Values, dict[str, Values]]:
    """Samples, loss, and the loss by range, of all records; NaN where there is none."""
    rows = sorted((row for row in log if _number(row.get("samples")) >= 0), key=lambda row: _number(row["samples"]))
    samples = np.array([_number(row["samples"]) for row in rows], dtype=np.float64)
    loss = np.array([_loss(row.get("loss")) for row in rows], dtype=np.float64)
    parts = [levels if isinstance(levels := row.get("loss_by_sigma"), Mapping) else {} for row in rows]
    names = dict.fromkeys(name for levels in parts for name in levels)
    return samples, loss, {name: np.array([_loss(levels.get(name)) for levels in parts]) for name in names}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and -_MOST < value < _MOST else math.nan


def _loss(value: object) -> float:
    number = _number(value)
    return number if number > 1 / _MOST else math.nan


def _lines(samples: Values, loss: Values, ranges: Mapping[str, Values]) -> list[Line]:
    """The smoothed lines in the order they are drawn, that of all noise levels last."""
    lines = []
    for index, (label, values) in enumerate(zip(range_labels(list(ranges)), ranges.values(), strict=True)):
        # None only says that the range was not drawn from: its line goes on with the next value.
        known = ~np.isnan(values)
        points = averaged(samples[known], values[known])
        lines.append(Line(points[0], smoothed(points[1]), COLOURS[index % len(COLOURS)], 1.4, label))
    samples, loss = averaged(samples, loss)
    return [*lines, Line(samples, smoothed(loss), INK, 3, "all")]


def averaged(samples: Values, values: Values) -> tuple[Values, Values]:
    """Both with neighbours averaged until they are few enough to draw; NaN among the values does not count."""
    if len(samples) <= _POINTS:
        return samples, values
    starts = np.linspace(0, len(samples), _POINTS, endpoint=False).astype(np.int64)
    known = np.add.reduceat(~np.isnan(values), starts, dtype=np.float64)
    sums = np.add.reduceat(np.nan_to_num(values), starts)
    sizes = np.diff([*starts, len(samples)])
    return np.add.reduceat(samples, starts) / sizes, _ratio(sums, known)


def smoothed(values: Values) -> Values:
    """Means weighted by a bell around each point, so that the line does not lag; NaN stays, and does not count."""
    if len(values) <= _FEW:
        return values
    deviation = len(values) * _SMOOTHING
    reach = int(3 * deviation)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    known = ~np.isnan(values)
    sums = np.convolve(np.nan_to_num(values), bell, "same")
    weights = np.convolve(known.astype(np.float64), bell, "same")
    return _ratio(sums, np.where(known, weights, 0))


def _ratio(sums: Values, counts: Values) -> Values:
    """Their ratio, NaN where there is nothing to count."""
    return np.divide(sums, counts, out=np.full_like(sums, math.nan), where=counts > 0)


def _last(line: Line) -> float:
    """The last loss of a line that is a number; NaN if none is."""
    known = line.loss[~np.isnan(line.loss)]
    return float(known[-1]) if len(known) else math.nan


class _Pen:
    """Draws on the enlarged picture what is given in pixels of the finished one."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: Axis, y: Axis) -> None:
        self.draw, self.x, self.y = draw, x, y

    def grid(self) -> None:
        """The lines at the ticks, each filling a row or column of pixels, as a blurred one would be restless."""
        for value in self.y.ticks():
            self._bar(LEFT, round(self.y.place(value)), RIGHT, round(self.y.place(value)), GRID)
        for value in self.x.ticks():
            self._bar(round(self.x.place(value)), BOTTOM, round(self.x.place(value)), BOTTOM + 4, FAINT)
        self._bar(LEFT, BOTTOM, RIGHT, BOTTOM, FAINT)

    def marks(self, samples: Values) -> None:
        """Marks on the axis where there is no loss."""
        for column in {round(self.x.place(float(number))) for number in samples}:
            self._bar(column, BOTTOM - 7, column, BOTTOM - 1, BROKEN)

    def line(self, line: Line) -> None:
        """A line, broken where it is NaN; with dots if it is short, and for points that stand alone."""
        points = [
            (self.x.place(float(s)), self.y.place(float(v))) for s, v in zip(line.samples, line.loss, strict=True)
        ]
        for broken, group in groupby(points, key=lambda point: math.isnan(point[1])):
            if not broken:
                part = list(group)
                self._stroke(part, line.colour, line.width)
                for point in part if len(points) <= _FEW or len(part) == 1 else ():
                    self._dot(point, line.colour, 1.2 * line.width + 0.6)

    def leader(self, line: Line, end: float, height: float) -> None:
        """Leads from where a line ends at the plot's right side to its label."""
        self._stroke([(RIGHT + 5, end), (RIGHT + 17, height)], line.colour, 1)
        self._stroke([(RIGHT + 17, height), (RIGHT + 33, height)], line.colour, line.width)

    def _stroke(self, points: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
        self.draw.line([self._fine(point) for point in points], colour, round(width * _FINE), joint="curve")

    def _dot(self, point: tuple[float, float], colour: Colour, radius: float) -> None:
        (x, y), reach = self._fine(point), radius * _FINE
        self.draw.ellipse((x - reach, y - reach, x + reach, y + reach), colour)

    def _bar(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        """Fills whole pixels, all four included."""
        corners = (left * _FINE, top * _FINE, (right + 1) * _FINE - 1, (bottom + 1) * _FINE - 1)
        self.draw.rectangle(corners, colour)

    def _fine(self, point: tuple[float, float]) -> tuple[float, float]:
        """The middle of the enlarged pixel."""
        return point[0] * _FINE + (_FINE - 1) / 2, point[1] * _FINE + (_FINE - 1) / 2


def _write_axes(draw: ImageDraw.ImageDraw, x: Axis, y: Axis) -> None:
    small = font(13)
    for value in y.ticks():
        draw.text((LEFT - 10, y.place(value)), f"{value:g}", FAINT, small, anchor="rm")
    for value in x.ticks():
        draw.text((x.place(value), BOTTOM + 8), amount_seen(value), FAINT, small, anchor="ma")
    draw.text(((LEFT + RIGHT) / 2, BOTTOM + 28), "samples seen", FAINT, small, anchor="ma")
    draw.text((16, TOP - 22), "loss, logarithmic" if y.logarithmic else "loss", FAINT, small, anchor="lm")
    draw.text((RIGHT + 42, TOP - 22), "noise level", FAINT, small, anchor="lm")
    draw.text((SIZE[0] - 12, TOP - 22), "loss", FAINT, small, anchor="rm")


def _write_label(draw: ImageDraw.ImageDraw, line: Line, height: float) -> None:
    """A line's name and its loss at the end."""
    small = font(13)
    draw.text((RIGHT + 42, height), shortened(line.label, small, 70), INK, small, anchor="lm")
    draw.text((SIZE[0] - 12, height), three_digits(line.loss[-1]), INK, small, anchor="rm")


def _write_heading(draw: ImageDraw.ImageDraw, samples: Values, loss: Values, last: str) -> None:
    words = f"Loss after {amount_seen(samples[-1])} samples: {last}" if len(samples) else "No records yet"
    draw.text((16, 26), words, INK, font(17), anchor="lm")
    small = font(13)
    if missing := int(np.isnan(loss).sum()):
        note = f"{missing:,} of {counted(len(loss), 'record')} without a finite loss"
        draw.text((SIZE[0] - 12, 26), note, BROKEN, small, anchor="rm")
    if len(samples) > _FEW:
        draw.text((SIZE[0] - 12, BOTTOM + 28), "smoothed; gray: as logged", FAINT, small, anchor="ra")


def three_digits(value: float) -> str:
    """'0.320', '12.0', '320'; 'none' for NaN."""
    return "none" if math.isnan(value) else f"{value:#.3g}".rstrip(".")


def amount_seen(samples: float) -> str:
    """A number of samples: '0', '500', '20 k', '1.5 M'."""
    for prefix, unit in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if samples >= unit:
            return f"{samples / unit:.4g}{prefix}"
    return f"{samples:g}"

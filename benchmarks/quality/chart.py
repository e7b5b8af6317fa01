"""The measurements as a chart: how far videos are from the reference, and from real ones, by evaluations."""

from collections.abc import Sequence
from itertools import cycle

from cells import REFERENCE, Row
from PIL import Image, ImageDraw

from mpvideo.training.axes import Axis, spread
from mpvideo.training.loss_curve import COLOURS, GRID
from mpvideo.video.lettering import FAINT, INK, drawable, font

SIZE = (1180, 480)
TOP, BOTTOM = 64, 424
PANELS = (
    ("difference", "difference from the reference, of 255", 60, 430),
    ("frechet", drawable("Fréchet distance to renderings"), 650, 1020),
)
"""Field, heading, left and right end of each panel, in pixels; the lines' names stand at its right."""

_MORE_COLOURS = (INK, (120, 70, 30), (150, 120, 220), (160, 160, 60))

_FINE = 3  # lines are drawn this much larger and then reduced


def chart(rows: Sequence[Row]) -> Image.Image:
    """Draws both panels: a line for each solver, a dot for each measurement.

    RGB, 1180 x 480 pixels; both axes are logarithmic.
    """
    shown = [row for row in rows if row["name"] != REFERENCE]
    names = sorted({row["name"] for row in shown})
    colours = dict(zip(names, cycle(COLOURS + _MORE_COLOURS), strict=False))
    large = Image.new("RGB", (SIZE[0] * _FINE, SIZE[1] * _FINE), "white")
    axes = [_axes(shown, field, left, right) for field, _, left, right in PANELS]
    for (field, *_), (x, y) in zip(PANELS, axes, strict=True):
        _draw(ImageDraw.Draw(large), shown, field, x, y, colours)
    image = large.reduce(_FINE)
    draw = ImageDraw.Draw(image)
    draw.text((16, 20), "Videos of the same noise, by solver and number of evaluations", INK, font(17), anchor="lm")
    for (field, heading, left, _), (x, y) in zip(PANELS, axes, strict=True):
        _write(draw, shown, field, heading, left, x, y)
    return image


def _axes(rows: Sequence[Row], field: str, left: int, right: int) -> tuple[Axis, Axis]:
    numbers = [row["evaluations"] for row in rows]
    values = [max(row[field], 1e-3) for row in rows]
    x = Axis(min(numbers) / 1.05, max(numbers) * 1.05, left, right, logarithmic=True)
    return x, Axis(min(values) / 1.1, max(values) * 1.1, BOTTOM, TOP, logarithmic=True)


def _line(rows: Sequence[Row], name: str, field: str, x: Axis, y: Axis) -> list[tuple[float, float]]:
    own = sorted((row for row in rows if row["name"] == name), key=lambda row: row["evaluations"])
    return [(x.place(row["evaluations"]), y.place(max(row[field], 1e-3))) for row in own]


def _draw(
    draw: ImageDraw.ImageDraw, rows: Sequence[Row], field: str, x: Axis, y: Axis, colours: dict[str, tuple[int, ...]]
) -> None:
    """The grid and the lines, in the enlarged picture."""
    for value in y.ticks():
        draw.line([_fine((x.start, y.place(value))), _fine((x.end, y.place(value)))], GRID, _FINE)
    draw.line([_fine((x.start, BOTTOM)), _fine((x.end, BOTTOM))], FAINT, _FINE)
    for number in _numbers(rows):
        draw.line([_fine((x.place(number), BOTTOM)), _fine((x.place(number), BOTTOM + 4))], FAINT, _FINE)
    ends = _ends(rows, field, x, y)
    for name, colour in colours.items():
        points = _line(rows, name, field, x, y)
        draw.line([_fine(point) for point in points], colour, 2 * _FINE, joint="curve")
        for point in points:
            _dot(draw, point, colour)
        (_, end), height = ends[name]
        draw.line([_fine((points[-1][0] + 6, end)), _fine((x.end + 14, height))], colour, _FINE)


def _dot(draw: ImageDraw.ImageDraw, point: tuple[float, float], colour: tuple[int, ...]) -> None:
    (x, y), reach = _fine(point), 3 * _FINE
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), colour)


def _ends(rows: Sequence[Row], field: str, x: Axis, y: Axis) -> dict[str, tuple[tuple[float, float], float]]:
    """Where each line ends, and how high its name stands."""
    names = sorted({row["name"] for row in rows})
    ends = [_line(rows, name, field, x, y)[-1] for name in names]
    heights = spread([end for _, end in ends], gap=17, low=TOP, high=BOTTOM)
    return dict(zip(names, zip(ends, heights, strict=True), strict=True))


def _write(
    draw: ImageDraw.ImageDraw, rows: Sequence[Row], field: str, heading: str, left: int, x: Axis, y: Axis
) -> None:
    """Numbers and names, in the finished picture."""
    small = font(13)
    draw.text((left - 44, TOP - 18), heading, FAINT, small, anchor="lm")
    for value in y.ticks():
        draw.text((left - 8, y.place(value)), f"{value:g}", FAINT, small, anchor="rm")
    before = 0.0
    for number in _numbers(rows):
        if (place := x.place(number)) - before > 18:
            draw.text((place, BOTTOM + 8), str(number), FAINT, small, anchor="ma")
            before = place
    draw.text(((x.start + x.end) / 2, BOTTOM + 30), "evaluations", FAINT, small, anchor="ma")
    for name, (_, height) in _ends(rows, field, x, y).items():
        draw.text((x.end + 20, height), name, INK, small, anchor="lm")


def _numbers(rows: Sequence[Row]) -> list[int]:
    return sorted({row["evaluations"] for row in rows})


def _fine(point: tuple[float, float]) -> tuple[float, float]:
    """The middle of the enlarged pixel."""
    return point[0] * _FINE + (_FINE - 1) / 2, point[1] * _FINE + (_FINE - 1) / 2

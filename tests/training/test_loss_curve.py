"""The loss curve: what it is computed from, and pixels of known logs."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mpvideo.training.loss_curve import (
    BOTTOM,
    BROKEN,
    COLOURS,
    LEFT,
    RAW,
    RIGHT,
    SIZE,
    TOP,
    Line,
    amount_seen,
    averaged,
    axes,
    loss_curve,
    range_labels,
    smoothed,
    three_digits,
)
from mpvideo.video.lettering import INK


def record(samples: Any, loss: Any, **ranges: Any) -> dict[str, Any]:
    return {"step": 1, "samples": samples, "loss": loss, "loss_by_sigma": ranges}


def line(samples: Sequence[float], loss: Sequence[float]) -> Line:
    return Line(np.array(samples, float), np.array(loss, float), INK, 3)


def plot(image: Image.Image) -> npt.NDArray[np.int64]:
    """The picture with everything outside of the plot made white."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 255)
    pixels[TOP:BOTTOM, LEFT:RIGHT] = np.asarray(image)[TOP:BOTTOM, LEFT:RIGHT]
    return pixels


def near(pixels: npt.NDArray[np.int64], colour: tuple[int, int, int], tolerance: int = 24) -> npt.NDArray[np.bool_]:
    """Where the picture has a colour, about."""
    return np.asarray((np.abs(pixels - np.array(colour)) <= tolerance).all(-1))


def test_size() -> None:
    image = loss_curve([record(100, 1.0)])
    assert image.size == (900, 540)
    assert image.mode == "RGB"


def test_axes_of_close_losses_begin_at_zero() -> None:
    x, y = axes([line([100, 200], [0.5, math.nan]), line([400], [2.0])])
    assert (x.low, x.high, x.start, x.end) == (0, 400, LEFT, RIGHT)
    assert (y.low, y.high, y.start, y.end, y.logarithmic) == (0, 2.16, BOTTOM, TOP, False)


def test_axes_of_losses_that_differ_more_than_fivefold_are_logarithmic() -> None:
    _, y = axes([line([100, 200], [1.0, 0.19])])
    assert y.logarithmic
    assert (y.low, y.high) == pytest.approx((0.19 / 1.1, 1.1))
    assert not axes([line([100, 200], [1.0, 0.21])])[1].logarithmic


def test_axes_of_nothing() -> None:
    for lines in ([], [line([], [])], [line([0], [math.nan])]):
        x, y = axes(lines)
        assert (x.low, x.high, y.low, y.high) == (0, 1000, 0, 1)


def test_line_passes_through_the_expected_pixels() -> None:
    """From (500, 1.0) to (1000, 0.5): 1.08 is at the top and 0 at the bottom, 1000 at the right."""
    pixels = plot(loss_curve([record(500, 1.0), record(1000, 0.5)]))
    dark = near(pixels, INK)
    for samples, loss in ((505, 0.995), (600, 0.9), (750, 0.75), (900, 0.6)):
        column = LEFT + samples / 1000 * (RIGHT - LEFT)
        row = BOTTOM - loss / 1.08 * (BOTTOM - TOP)
        assert dark[round(row), round(column)]
        rows = np.nonzero(dark[:, round(column)])[0]
        assert rows.mean() == pytest.approx(row, abs=1 if samples > 505 else 2)
        assert 2 <= len(rows) <= 4 or samples == 505  # three pixels wide, less the blurred ones; the first has a dot
    assert not dark[:, : round(LEFT + 0.49 * (RIGHT - LEFT))].any()


def test_line_on_a_logarithmic_axis_is_straight_where_the_loss_decays_exponentially() -> None:
    log = [record(100 * n, 0.5**n) for n in range(1, 8)]
    dark = near(plot(loss_curve(log)), INK)
    high, low = math.log(0.5 * 1.1), math.log(0.5**7 / 1.1)
    for samples in (150, 333, 650):
        column = LEFT + samples / 700 * (RIGHT - LEFT)
        row = TOP + (high + samples / 100 * math.log(2)) / (high - low) * (BOTTOM - TOP)
        assert np.nonzero(dark[:, round(column)])[0].mean() == pytest.approx(row, abs=1)


def test_lines_are_antialiased() -> None:
    column = plot(loss_curve([record(500, 1.0), record(1000, 0.9)]))[:, 600]
    shades = {tuple(shade) for shade in column.tolist() if shade[0] == shade[1] == shade[2]}
    assert len(shades) > 3


def test_ranges_have_their_colours_and_values() -> None:
    """Eight ranges of constant losses: horizontal lines, at the heights of their losses."""
    names = [f"<{n}" for n in range(8)]
    levels = {name: 0.3 + 0.1 * n for n, name in enumerate(names)}
    pixels = plot(loss_curve([record(n, 0.25, **levels) for n in range(40)]))
    for colour, loss in zip(COLOURS, levels.values(), strict=True):
        rows, _ = np.nonzero(near(pixels, colour, 90))  # a thin line may lie between two rows
        expected = BOTTOM - loss / 1.08 * (BOTTOM - TOP)
        assert np.abs(rows - expected).min() <= 1
        middle = pixels[round(expected) - 2 : round(expected) + 3, 400]
        assert near(middle, colour, 90).any(), "in the middle too"
    assert len(set(COLOURS)) == len(COLOURS) == 8


def test_more_ranges_than_colours() -> None:
    loss_curve([record(n, 0.5, **{f"<{k}": 0.5 + k / 100 for k in range(40)}) for n in range(3)])


def test_noise_is_drawn_faintly_and_its_mean_strongly() -> None:
    log = [record(100 * n, 0.6 + 0.2 * (-1) ** n) for n in range(1, 301)]
    pixels = plot(loss_curve(log))
    rows, columns = np.nonzero(near(pixels, INK))
    inner = (columns > LEFT + 60) & (columns < RIGHT - 60)
    height = BOTTOM - 0.6 / (0.8 * 1.08) * (BOTTOM - TOP)
    assert np.abs(rows[inner] - height).max() <= 2
    rows, _ = np.nonzero(near(pixels, RAW, 40))
    assert rows.min() < height - 50 and rows.max() > height + 50


def test_smoothing() -> None:
    constant = np.full(100, 0.7)
    assert np.allclose(smoothed(constant), 0.7)
    straight = np.arange(600.0)
    assert np.allclose(smoothed(straight)[30:-30], straight[30:-30]), "no lag"
    noisy = np.random.default_rng(0).standard_normal(600)
    assert smoothed(noisy).std() < 0.25 * noisy.std()
    few = np.array([1.0, 5.0, 2.0])
    assert (smoothed(few) == few).all()
    holes = np.where(np.arange(100) % 3 == 0, math.nan, 0.7)
    smooth = smoothed(holes)
    assert (np.isnan(smooth) == np.isnan(holes)).all()
    assert np.allclose(smooth[~np.isnan(smooth)], 0.7), "what is missing does not count"


@pytest.mark.parametrize("count", [0, 1, 599, 600, 601, 1999, 50_000])
def test_long_logs_are_averaged(count: int) -> None:
    samples = np.arange(count, dtype=np.float64)
    x, y = averaged(samples, 2 * samples)
    assert len(x) == min(count, 600)
    assert np.allclose(y, 2 * x)
    assert (np.diff(x) > 0).all()
    if count:
        # Groups differ in size by one at most.
        assert x.mean() == pytest.approx(samples.mean(), rel=0.01)
        assert samples[0] <= x[0] and x[-1] <= samples[-1]
        assert samples[-1] - x[-1] <= count / 600 + 1


def test_averages_leave_out_what_is_missing() -> None:
    values = np.full(1200, 3.0)
    values[::2] = math.nan  # one of each pair
    values[:4] = math.nan  # two whole pairs
    _, y = averaged(np.arange(1200.0), values)
    assert np.isnan(y[:2]).all()
    assert (y[2:] == 3).all()


BAD = [None, math.nan, math.inf, -math.inf, 0, -1.0, "0.5", [0.5], 1e300, 10**400, 1e-300]


@pytest.mark.parametrize("bad", BAD)
def test_where_there_is_no_loss_the_line_breaks(bad: object) -> None:
    """Of ten records the fifth and sixth have none: nothing from the fourth to the seventh but marks at the axis."""
    log = [record(100 * n, bad if n in (5, 6) else 0.5) for n in range(1, 11)]
    image = loss_curve(log)
    dark = near(plot(image), INK)

    def column(samples: float) -> int:
        return round(LEFT + samples / 1000 * (RIGHT - LEFT))

    assert not dark[:, column(412) : column(688)].any()
    assert dark[:, column(110) : column(390)].any(0).all() and dark[:, column(710) : column(990)].any(0).all()
    marked = near(np.asarray(image).astype(np.int64)[BOTTOM - 7 : BOTTOM], BROKEN)
    assert np.nonzero(marked.all(0))[0].tolist() == [column(500), column(600)]
    note = near(np.asarray(image).astype(np.int64)[: TOP - 30, SIZE[0] // 2 :], BROKEN)
    assert note.any(), "and it is told"


def test_nothing_is_marked_where_nothing_is_missing() -> None:
    image = loss_curve([record(100 * n, 0.5, low=None) for n in range(1, 11)])
    assert not near(np.asarray(image).astype(np.int64), BROKEN).any()


@pytest.mark.parametrize("bad", BAD)
def test_range_that_was_not_drawn_from_goes_on(bad: object) -> None:
    log = [record(100 * n, 0.9, low=bad if n in (5, 6) else 0.5) for n in range(1, 11)]
    middle = plot(loss_curve(log))[:, round(LEFT + 0.55 * (RIGHT - LEFT))]
    assert near(middle, COLOURS[0], 60).any()


@pytest.mark.parametrize(
    ("count", "loss", "low"), [*product([0, 1, 2, 20, 21], [0.5, None, math.nan], [0.5, None, math.nan])]
)
def test_any_number_of_records(count: int, loss: Any, low: Any) -> None:
    dark = near(plot(loss_curve([record(10 * n, loss, low=low) for n in range(1, count + 1)])), INK)
    assert dark.any() == (count > 0 and loss == 0.5)


def test_one_record_is_a_dot() -> None:
    dark = near(plot(loss_curve([record(10, 0.5)])), INK)
    rows, columns = np.nonzero(dark)
    assert columns.max() == RIGHT - 1 and columns.min() >= RIGHT - 6
    assert rows.mean() == pytest.approx(BOTTOM - 0.5 / 0.54 * (BOTTOM - TOP), abs=1)


@pytest.mark.parametrize("samples", [None, math.nan, -5, "10", [], 1e300])
def test_records_without_samples_are_left_out(samples: Any) -> None:
    log = [record(100, 0.5), record(200, 0.4)]
    strange = [*log, record(samples, 0.9), {}, {"samples": 150, "loss_by_sigma": 3, "loss": 0.45}]
    expected = [*log, record(150, 0.45)]
    assert loss_curve(strange).tobytes() == loss_curve(expected).tobytes()


def test_order_of_the_log_does_not_matter() -> None:
    log = [record(100 * n, 1 / n, low=2 / n) for n in range(1, 30)]
    assert loss_curve(log).tobytes() == loss_curve(log[::-1]).tobytes()


def test_labels_of_ranges() -> None:
    assert range_labels(["<0.1", "<0.2", "<6.4", ">=6.4"]) == ["<0.1", "0.1 to 0.2", "0.2 to 6.4", ">=6.4"]
    assert range_labels(["low", "hig\x1bh é"]) == ["low", "hig\\x1bh e"]
    assert range_labels([]) == []


def test_labels_beside_the_plot() -> None:
    """As many labels as lines that have a value, each at its line's end if there is room."""
    log = [record(100 * n, 0.25, low=0.6, high=1.0, none=None) for n in range(1, 31)]
    text = np.asarray(loss_curve(log)).astype(np.int64)[TOP : BOTTOM + 10, RIGHT + 42 :]
    inked = near(text, INK, 60).any(1)
    starts = np.nonzero(inked & ~np.roll(inked, 1))[0]
    ends = np.nonzero(inked & ~np.roll(inked, -1))[0]
    middles = (starts + ends) / 2
    expected = [BOTTOM - TOP - loss / 1.08 * (BOTTOM - TOP) for loss in (1.0, 0.6, 0.25)]
    assert middles == pytest.approx(expected, abs=3)


@pytest.mark.parametrize(("value", "expected"), [(0.32, "0.320"), (12, "12.0"), (320, "320"), (math.nan, "none")])
def test_losses_in_words(value: float, expected: str) -> None:
    assert three_digits(value) == expected


@pytest.mark.parametrize(
    ("samples", "expected"), [(0, "0"), (500, "500"), (20_000, "20 k"), (1_500_000, "1.5 M"), (2e9, "2 G")]
)
def test_samples_in_words(samples: float, expected: str) -> None:
    assert amount_seen(samples) == expected


def test_the_same_log_gives_the_same_picture() -> None:
    log = [record(100 * n, 1 / n) for n in range(1, 50)]
    assert loss_curve(log).tobytes() == loss_curve(log).tobytes()

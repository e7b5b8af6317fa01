import itertools
import math

import pytest

from mpvideo.training.axes import Axis, logarithmic_ticks, spread, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 1.08, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0.6, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        (0.3, 0.9, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (0, 7, [0, 2, 4, 6]),
        (0, 210_000, [0, 50_000, 100_000, 150_000, 200_000]),
        (0, 1_300_000, [0, 200_000, 400_000, 600_000, 800_000, 1_000_000, 1_200_000]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (1001, 1002, [1001, 1001.2, 1001.4, 1001.6, 1001.8, 1002]),
        (2e-9, 6e-9, [2e-9, 3e-9, 4e-9, 5e-9, 6e-9]),
    ],
)
def test_ticks(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected  # exactly: no 0.30000000000000004


def test_ticks_of_any_range_are_few_round_and_within() -> None:
    for low, length in itertools.product((0, -3.7, 12.3, 1e6), (1e-3, 0.17, 1, 9.99, 12_345, 7e8)):
        found = ticks(low, low + length)
        assert 3 <= len(found) <= 7
        assert low - 1e-3 * length <= found[0] and found[-1] <= low + length * (1 + 1e-3)
        step = found[1] - found[0]
        assert step / 10 ** math.floor(math.log10(step) + 1e-6) == pytest.approx(1, abs=1e-2) or any(
            step / 10 ** math.floor(math.log10(step) + 1e-6) == pytest.approx(digit, rel=1e-2) for digit in (2, 5)
        )
        assert found[0] - step < low and found[-1] + step > low + length, "none is missing at the ends"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.18, 1.1, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        (0.045, 1.1, [0.05, 0.1, 0.2, 0.5, 1]),
        (0.1, 100, [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]),
        (0.1, 1000, [0.1, 1, 10, 100, 1000]),
        (1e-12, 1e8, [1e-12, 1e-9, 1e-6, 1e-3, 1, 1e3, 1e6]),
    ],
)
def test_logarithmic_ticks(low: float, high: float, expected: list[float]) -> None:
    assert logarithmic_ticks(low, high) == expected


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, math.inf), (math.nan, 1)])
def test_ticks_of_no_range(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="low < high"):
        ticks(low, high)
    with pytest.raises(ValueError, match="0 < low < high"):
        logarithmic_ticks(low, high)


def test_places() -> None:
    across, up = Axis(0, 1000, 64, 764), Axis(0, 2, 480, 80)
    assert [across.place(value) for value in (0, 500, 1000)] == [64, 414, 764]
    assert [up.place(value) for value in (0, 0.5, 2)] == [480, 380, 80]
    assert math.isnan(up.place(math.nan))
    assert up.ticks() == [0, 0.5, 1, 1.5, 2]
    decades = Axis(0.01, 1, 480, 80, logarithmic=True)
    assert [decades.place(value) for value in (0.01, 0.1, 1)] == pytest.approx([480, 280, 80])
    assert math.isnan(decades.place(math.nan))
    assert decades.ticks() == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]


def test_spread() -> None:
    room = {"gap": 10, "low": 0, "high": 100}
    assert spread([], **room) == []
    assert spread([50, 20, 80], **room) == [50, 20, 80], "what is far apart stays"
    assert spread([50, 50], **room) == [45, 55], "what is close moves apart, evenly"
    assert spread([52, 48], **room) == [55, 45], "and stays in order"
    assert spread([50, 50, 58], **room) == pytest.approx([128 / 3, 158 / 3, 188 / 3])
    assert spread([2, 1, 50], **room) == [10, 0, 50]
    assert spread([99, 98], **room) == [100, 90]
    assert spread([50] * 11, **room) == list(range(0, 101, 10))


def test_spread_is_closest() -> None:
    """Against all places on a grid."""
    wanted = [3, 4, 4, 9]
    found = spread(wanted, gap=2, low=1, high=10)
    best = min(
        (
            places
            for places in itertools.product([n / 2 for n in range(2, 21)], repeat=4)
            if all(b - a >= 2 for a, b in itertools.pairwise(places))
        ),
        key=lambda places: sum((a - b) ** 2 for a, b in zip(places, wanted, strict=True)),
    )
    assert found == pytest.approx(best, abs=0.5)
    assert found == pytest.approx([5 / 3, 11 / 3, 17 / 3, 9])

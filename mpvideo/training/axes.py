"""Axes of a chart: where a value lies, and which round values to mark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Attributes:
        low, high: the values at its ends, low < high; both above 0 if it is logarithmic.
        start, end: where those lie, in pixels; either may be the larger one.
        logarithmic: whether equal ratios are equally long, instead of equal differences.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, in pixels; NaN for NaN."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values to mark, from `low` to `high`."""
        return logarithmic_ticks(self.low, self.high) if self.logarithmic else ticks(self.low, self.high)


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten from `low` to `high`, both included: at most `most` of them.

    The step is the smallest that gives so few.

    Raises:
        ValueError: low < high does not hold, or one of them is not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"ticks need finite numbers low < high, got {low} and {high}")
    exponent = math.floor(math.log10((high - low) / most))
    while True:
        for digit in (1, 2, 5):
            step = digit * 10.0**exponent
            # A thousandth of a step beyond the ends is rounding: 0.3 / 0.1 is less than 3.
            first, last = math.ceil(low / step - 1e-3), math.floor(high / step + 1e-3)
            if last - first < most:
                return [_scaled(digit * number, exponent) for number in range(first, last + 1)]
        exponent += 1


def logarithmic_ticks(low: float, high: float, most: int = 10) -> list[float]:
    """Round values from `low` to `high`, both included: at most `most` of them.

    The multiples 1 to 9 of the powers of ten; if these are too many, then 1, 2 and 5 times the powers of ten, or these
    alone, or every other one of them, and so on.

    Raises:
        ValueError: 0 < low < high does not hold, or one of them is not finite.
    """
    if not (math.isfinite(high) and 0 < low < high):
        raise ValueError(f"logarithmic ticks need finite numbers 0 < low < high, got {low} and {high}")
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in (range(1, 10), (1, 2, 5), (1,)):
        found = [_scaled(digit, exponent) for exponent in exponents for digit in digits]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]


def spread(places: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Places in the order of the given ones, at least `gap` apart and from `low` to `high`, else as close as can be.

    Close: with the least sum of squared distances. Less i * gap, the i-th place may equal the one before but not be
    below it, so this is isotonic regression, for which neighbours out of order are pooled into their mean.
    If there is no room for all of them, the last ones lie beyond `high`.
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    pools: list[tuple[float, int]] = []  # mean and size
    for rank, index in enumerate(order):
        mean, size = places[index] - rank * gap, 1
        while pools and pools[-1][0] >= mean:
            other, others = pools.pop()
            mean, size = (mean * size + other * others) / (size + others), size + others
        pools.append((mean, size))
    means = [mean for mean, size in pools for _ in range(size)]
    found = [0.0] * len(places)
    for rank, (index, mean) in enumerate(zip(order, means, strict=True)):
        found[index] = max(min(mean, high - (len(order) - 1) * gap), low) + rank * gap
    return found


def _scaled(number: int, exponent: int) -> float:
    """number * 10**exponent, rounded once: 3 / 10 is 0.3, 3 * 0.1 is not."""
    return float(number * 10**exponent) if exponent >= 0 else number / 10**-exponent

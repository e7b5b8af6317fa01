"""A share of videos, and how sure it is."""

import math
from dataclasses import dataclass

_Z95 = 1.959963984540054  # the standard normal's quantile at 0.975


@dataclass(frozen=True)
class Proportion:
    """So many of so many, with Wilson's 95% interval (Wilson 1927).

    Unlike the textbook's ± it stays within 0..1 and says something where all or none succeed.

    Attributes:
        hits: how many succeeded, 0 .. total.
        total: of how many, at least 1.
    """

    hits: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.total or self.total < 1:
            raise ValueError(f"hits must be 0 .. total and total at least 1, got {self.hits} of {self.total}")

    @property
    def value(self) -> float:
        """The share, 0..1."""
        return self.hits / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the 95% interval."""
        p, n, z = self.value, self.total, _Z95
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, centre - half), min(1.0, centre + half)

    def to_dict(self) -> dict[str, float | int]:
        """As JSON takes it."""
        low, high = self.interval
        return {"value": self.value, "low": low, "high": high, "hits": self.hits, "total": self.total}

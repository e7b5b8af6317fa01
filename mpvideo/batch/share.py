"""The part of a batch that falls to one of several processes, which need not know of each other."""

import re
from dataclasses import dataclass

from mpvideo.checks import check_int
from mpvideo.text import printable

_MOST = 1_000_000


@dataclass(frozen=True)
class Share:
    """Of `count` processes, number `number` makes every `count`-th request.

    Attributes:
        number: from 1 to `count`.
        count: how many processes there are.

    Raises:
        ValueError: one of them is out of range.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        check_int("the number of shards", self.count, 1, _MOST)
        check_int("the shard", self.number, 1, self.count)

    def __contains__(self, index: int) -> bool:
        """Whether the request with this index falls to this process."""
        return index % self.count == self.number - 1

    def part(self, rank: int, ranks: int) -> "Share":
        """The share of one of several processes that divide this one among themselves; `rank` from 0."""
        return Share(rank * self.count + self.number, self.count * ranks)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_share(text: str) -> Share:
    """A share from `3/16`.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if found is None:
        raise ValueError(f"the shard must be a number of how many, such as 3/16, got {printable(text)!r}")
    return Share(int(found[1]), int(found[2]))

"""Several classes at once, or a place between two seeds: how they are said, written and read.

    207:0.5+307:0.5     a blend: whole numbers (classes also by name) with weights, which count in proportion
    207..307:9          a walk: nine of them, from the first to the last in even steps

Neither has a comma in it, so that both are entries of a list like any other. Only the standard library is imported.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpvideo.checks import check_float, check_int
from mpvideo.text import printable

MAX_PARTS = 16
MAX_WALK = 10_000

_WEIGHTED = re.compile(r"(.*\S)\s*:\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e-?[0-9]+)?)", re.IGNORECASE | re.DOTALL)
_WITH_EXPONENT = re.compile(r"-?[0-9.]+e\+[0-9]+", re.IGNORECASE)  # as Python writes 1e30: its plus adds nothing
_WALK = re.compile(r"(.*?\S)\s*\.\.\s*(\S(?:.*\S)?)\s*:\s*([0-9]{1,9})", re.DOTALL)


@dataclass(frozen=True)
class Blend:
    """Whole numbers with weights.

    Attributes:
        parts: each number with its weight, at least 0; only their proportions count.

    Raises:
        ValueError: fewer than two parts or too many, one twice, a number or weight out of range, or no weight above 0.
    """

    parts: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        check_int("the number of parts of a blend", len(self.parts), 2, MAX_PARTS)
        for number, weight in self.parts:
            check_int("a part of a blend", number, 0, 2**63 - 1)
            check_float("a weight of a blend", weight, 0.0, 1e6)
        if len(dict(self.parts)) < len(self.parts):
            raise ValueError(f"a blend must have different parts, got {self}")
        if not any(weight for _, weight in self.parts):
            raise ValueError(f"a blend must have a weight above 0, got {self}")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers without their weights."""
        return tuple(number for number, _ in self.parts)

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights, made to sum up to 1."""
        total = sum(weight for _, weight in self.parts)
        return tuple(weight / total for _, weight in self.parts)

    def __str__(self) -> str:
        return "+".join(f"{number}:{str(float(weight)).removesuffix('.0')}" for number, weight in self.parts)

    def is_like(self, other: "int | Blend | None") -> bool:
        """Whether another is the same mixture, be it with other weights in the same proportion."""
        return isinstance(other, Blend) and (self.numbers, self.shares) == (other.numbers, other.shares)

    def to_list(self) -> list[list[float]]:
        """Its parts as JSON has them."""
        return [[number, weight] for number, weight in self.parts]

    @classmethod
    def from_list(cls, data: Any) -> "Blend":
        """A blend from JSON.

        Raises:
            ValueError: it is no list of pairs, or a pair is out of range.
        """
        if not isinstance(data, list) or not all(isinstance(part, list) and len(part) == 2 for part in data):
            raise ValueError(f"a blend must be a list of numbers with weights, got {printable(repr(data), 80)}")
        return cls(tuple((number, weight) for number, weight in data))


def one_blend(name: str, text: str) -> str:
    """A list all of whose entries have a weight as the one blend that it means: `a:1,b:2` is `a:1+b:2`.

    Raises:
        ValueError: some have one and some have not, so that it would mean nothing; the message begins with `name`.
    """
    entries = text.split(",")
    alone = [bool(_WEIGHTED.fullmatch(entry)) and not _WALK.fullmatch(entry) and "+" not in entry for entry in entries]
    if len(entries) < 2 or not any(alone):
        return text
    if not all(alone):
        one, other = (printable(entries[alone.index(weighted)].strip()) for weighted in (True, False))
        raise ValueError(
            f"{name} must have a weight for all entries, which makes one blend of them, or for none, got {one!r} "
            f"beside {other!r}"
        )
    return "+".join(entries)


def misspelt(entry: str) -> str | None:
    """What keeps an entry from being the blend or the walk that it looks like; None if it looks like neither."""
    if ".." in entry:
        _, colon, count = entry.rpartition(":")
        if not colon:
            return "a walk must end in its number of videos, as in 3..8:9"
        return f"the number of steps of a walk must be a whole number, as in 3..8:9, got {printable(count.strip())!r}"
    parts = [part.strip() for part in entry.split("+")]
    for part in parts:
        _, colon, weight = part.rpartition(":")
        if colon and not _WEIGHTED.fullmatch(part):
            return f"a weight must be a number from 0, as in 3:1+8:0.5, got {printable(weight.strip())!r}"
    if (len(parts) > 1 and not _WITH_EXPONENT.fullmatch(entry)) or re.fullmatch(r"[0-9.]+\s*%", entry):
        return "a blend must have a weight for each part, as in 3:1+8:0.5"
    return None


def to_json(value: int | Blend | None) -> int | list[list[float]] | None:
    """A class or seed as JSON has it."""
    return value.to_list() if isinstance(value, Blend) else value


def parse_blends(name: str, entry: str, find: Callable[[str], int], *, keep_ends: bool) -> list[int | Blend] | None:
    """What an entry of a list means, if it is a blend or a walk; None if it is neither.

    Args:
        name: of the list, for messages.
        entry: the entry.
        find: the number that a word means.
        keep_ends: whether an end of a walk is a blend, in which the other end has no weight, or the number itself.

    Raises:
        ValueError: a part or a weight is out of range; the message begins with `name`. And what `find` raises.
    """
    if (walk := _WALK.fullmatch(entry)) is not None:
        first, last = find(walk[1]), find(walk[2])
        try:
            check_int("the number of steps of a walk", count := int(walk[3]), 2, MAX_WALK)
            shares = [step / (count - 1) for step in range(count)]
            steps: list[int | Blend] = [Blend(((first, 1 - share), (last, share))) for share in shares]
        except ValueError as error:
            raise ValueError(f"{name} cannot be {printable(entry)!r}: {error}") from None
        return steps if keep_ends else [first, *steps[1:-1], last]
    parts = [_WEIGHTED.fullmatch(part.strip()) for part in entry.split("+")]
    if not any(parts):
        return None
    if not all(parts):
        raise ValueError(f"{name} cannot be {printable(entry)!r}: {misspelt(entry)}")
    weighted = [(find(part[1]), float(part[2])) for part in parts if part]
    if len(weighted) == 1 and weighted[0][1] > 0:
        return [weighted[0][0]]
    try:
        return [_without_zeros(Blend(tuple(weighted)), keep_ends)]
    except ValueError as error:
        raise ValueError(f"{name} cannot be {printable(entry)!r}: {error}") from None


def _without_zeros(blend: Blend, keep: bool) -> int | Blend:
    parts: Sequence[tuple[int, float]] = [part for part in blend.parts if part[1]]
    if keep or len(parts) == len(blend.parts):
        return blend
    return parts[0][0] if len(parts) == 1 else Blend(tuple(parts))

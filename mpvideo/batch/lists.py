"""Lists as options and job files take them: `0-63,100`, `1,1.5,2`, `207,red cat hops`."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from mpvideo.blend import Blend, misspelt, one_blend, parse_blends
from mpvideo.checks import check_int
from mpvideo.errors import MPVideoError
from mpvideo.text import printable

Item = TypeVar("Item")

_RANGE = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")


@dataclass(frozen=True)
class Entries(Generic[Item]):
    """The entries of a list in their order. Ranges among them stay ranges: however long, they take no memory."""

    parts: tuple[Sequence[Item], ...]

    def __len__(self) -> int:
        return self.count

    @property
    def count(self) -> int:
        """How many there are: len() fails above 2**63 - 1, of a range as well."""
        return sum(part.stop - part.start if isinstance(part, range) else len(part) for part in self.parts)

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(self.parts)


def split_list(name: str, text: str) -> list[str]:
    """The entries of a list, which commas separate, without the spaces around them.

    Raises:
        ValueError: one is empty; the message begins with `name`.
    """
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise ValueError(f"{name} has an empty entry, got {printable(text)!r}")
    return items


def parse_numbers(name: str, text: str, low: int, high: int) -> Entries[int]:
    """Whole numbers and ranges of them, both ends included: `0-63,100`.

    Raises:
        ValueError: an entry is neither, or out of range; the message begins with `name`.
    """

    def one(item: str) -> int:
        return _whole(name, item, low, high)

    return Entries(tuple(_range(name, item, low, high) or (one(item),) for item in split_list(name, text)))


def parse_choices(
    name: str, text: str, low: int, high: int, *, find: Callable[[str], int] | None = None, keep_ends: bool
) -> Entries[int | Blend]:
    """Numbers and ranges of them, and also blends and walks (see `mpvideo.blend`): `0-63,3..8:9,207:1+307:2`.

    Args:
        name: of the list, for messages.
        text: the list.
        low, high: the least and the greatest number.
        find: the number that a word means; None if there are no words.
        keep_ends: see `mpvideo.blend.parse_blends`.

    Raises:
        ValueError: an entry is none of these, or out of range; the message begins with `name`. And what `find` raises.
    """

    def one(item: str) -> int:
        return _whole(name, item, low, high) if find is None else find(item)

    parts: list[Sequence[int | Blend]] = []
    for item in split_list(name, one_blend(name, text)):
        part: Sequence[int | Blend] | None = _range(name, item, low, high)
        if part is None:
            part = parse_blends(name, item, one, keep_ends=keep_ends)
        if part is None:
            try:
                part = [one(item)]
            except (MPVideoError, ValueError):  # names may have dots and colons in them, so that this comes last
                if (words := misspelt(item)) is None:
                    raise
                raise ValueError(f"{name} cannot be {printable(item)!r}: {words}") from None
        parts.append(part)
    return Entries(tuple(parts))


def parse_floats(name: str, text: str) -> Entries[float]:
    """Numbers, not yet checked for their range: `1,1.5,2`.

    Raises:
        ValueError: an entry is none; the message begins with `name`.
    """
    numbers = [_number(float, item) for item in split_list(name, text)]
    if None in numbers:
        raise ValueError(f"{name} must be numbers, got {printable(text)!r}")
    return Entries(([number for number in numbers if number is not None],))


def _range(name: str, item: str, low: int, high: int) -> range | None:
    """The numbers that `first-last` means; None for anything else."""
    found = _RANGE.fullmatch(item)
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    check_int(name, first, low, high)
    check_int(name, last, low, high)
    if last < first:
        raise ValueError(f"{name} must have ranges that go up, got {item}")
    return range(first, last + 1)


def _whole(name: str, item: str, low: int, high: int) -> int:
    number = _number(int, item)
    if number is None:
        raise ValueError(f"{name} must be whole numbers or ranges such as 0-63,100, got {printable(item)!r}")
    check_int(name, number, low, high)
    return number


def _number(kind: Callable[[str], Item], text: str) -> Item | None:
    if len(text) > 100 or "_" in text:  # Python takes 1_000 for a number
        return None
    try:
        return kind(text)
    except ValueError:
        return None

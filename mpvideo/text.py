"""How names, lists and amounts are worded in messages and tables.

Names and values may come from files that strangers wrote: `printable` makes them fit for a terminal.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import PurePath

SHOWN = 10
"""How many entries of a long list a message names."""


def printable(text: object, limit: int = 200) -> str:
    """Text that is safe on a terminal: control characters, odd spaces and lone surrogates as escapes.

    Args:
        text: anything; its `str` is taken.
        limit: number of characters after which it is cut, with three dots in place of the rest; a path never is, for
            with a part of one nothing can be done.
    """
    words = str(text)
    limit = len(words) if isinstance(text, PurePath) else limit
    cut = len(words) > limit
    shown = words[:limit]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
    return shown + "..." if cut else shown


def first_ten(items: Sequence[str]) -> str:
    """The first ten entries of a list, each made printable, and how many there are besides."""
    shown = ", ".join(printable(item) for item in items[:SHOWN])
    return f"{shown} and {len(items) - SHOWN:,} more" if len(items) > SHOWN else shown


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The one of some known words that may have been meant by another; None if none is much like it.

    Of three letters two have to be right; shorter words resemble everything, and are not proposed.
    """
    return next(iter(get_close_matches(word, [each for each in known if len(each) > 2], n=1, cutoff=0.65)), None)


def counted(count: int, thing: str) -> str:
    """A number and its noun: '1 tensor', '2 tensors', '3 classes'."""
    plural = "es" if thing.endswith("s") else "s"
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}{plural}"


def amount(value: float, unit: str) -> str:
    """A number with a decimal prefix: `amount(34_816_000, 'B')` is '34.8 MB'."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.95 or prefix == "T":
            break
        value /= 1000
    number = f"{value:,.1f}" if prefix else f"{value:g}"
    return f"{number} {prefix}{unit}".rstrip()

"""Which class a user means."""

import re

from mpvideo.errors import UsageError
from mpvideo.text import first_ten, nearest, printable

_FEW = 10
"""How many classes a message names."""


def find_class(
    text: str, num_classes: int, names: tuple[str, ...] | None, *, listing: str = "mpvideo inspect --classes"
) -> int:
    """Finds the class that `text` means: an index, a whole name, or words that fit exactly one name.

    Words fit a name that has all of them, in any order and case: 'cat red hops' fits 'red cat hops'.

    Args:
        text: what the user wrote.
        num_classes: number of classes; indices are 0 .. num_classes - 1.
        names: a name for each class, or None.
        listing: the command that lists them.

    Raises:
        UsageError: nothing fits, or several names do; the message lists them.
    """
    asked = " ".join(text.split())
    if re.fullmatch(r"[+-]?[0-9]{1,20}", asked):
        if not 0 <= (index := int(asked)) < num_classes:
            raise UsageError(
                f"--class must be from 0 to {num_classes - 1}, got {asked}", hint=_list_hint(names, listing)
            )
        return index
    if names is None:
        raise UsageError(
            f"--class must be an index from 0 to {num_classes - 1}, got {printable(text)!r}: "
            "the checkpoint does not name its classes"
        )
    folded = asked.casefold()
    exact = [index for index, name in enumerate(names) if " ".join(name.split()).casefold() == folded]
    words = set(folded.split())
    found = exact or [index for index, name in enumerate(names) if words <= set(name.casefold().split())]
    if not words or not found:
        raise UsageError(
            f"--class fits none of the {num_classes} classes, got {printable(text)!r}",
            hint=_near_hint(folded.split(), names) or _list_hint(names, listing),
        )
    if len(found) > 1:
        raise UsageError(
            f"--class {printable(text)!r} fits {len(found)} classes{_examples([names[index] for index in found])}",
            hint="Add words, or give the whole name or the index"
            + (f": `{printable(listing, 300)}` lists them." if len(found) > _FEW else "."),
        )
    return found[0]


def _examples(fitting: list[str]) -> str:
    """What fits, or of many names some from the first to the last: neighbours tend to differ in one word only."""
    if len(fitting) <= _FEW:
        return f": {first_ten(fitting)}"
    last = len(fitting) - 1
    return f", such as {first_ten([fitting[last * place // (_FEW - 1)] for place in range(_FEW)])}"


def _near_hint(words: list[str], names: tuple[str, ...]) -> str | None:
    """What may have been meant by words of which some are in no name: all of them, put right, if a name has them."""
    words_of = [set(name.casefold().split()) for name in names]
    known = sorted(set().union(*words_of))
    meant = {word: word if word in known else nearest(word, known) for word in words}
    near = [right for word, right in meant.items() if right and right != word]
    whole = [right for right in meant.values() if right]
    said = whole if any(set(whole) <= each for each in words_of) else near
    return f"Did you mean {' '.join(map(printable, said))}?" if near else None


def _list_hint(names: tuple[str, ...] | None, listing: str) -> str | None:
    if names is None:
        return None
    if len(names) <= _FEW:
        return f"They are {first_ten([*names])}."
    return f"`{printable(listing, 300)}` lists them."

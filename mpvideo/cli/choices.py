"""Which classes and seeds `sample` is asked for: entries of --class and --seed, blends and walks among them."""

from collections.abc import Callable, Sequence

from mpvideo.blend import Blend, one_blend, parse_blends
from mpvideo.checkpoint import Checkpoint
from mpvideo.checks import check_int
from mpvideo.classes import find_class
from mpvideo.cli.options import usage_errors
from mpvideo.config import MAX_SEED
from mpvideo.errors import UsageError
from mpvideo.text import printable


def class_choices(text: str | None, checkpoint: Checkpoint) -> Sequence[int | Blend | None]:
    """The classes of --class: one, a blend, or those of a walk; None lets the seed choose.

    Raises:
        UsageError: there is no such class, or none at all, or a blend is wrong.
    """
    if text is None:
        return [None]
    model, names = checkpoint.config.model, checkpoint.config.classes
    if model.num_classes is None:
        raise UsageError(
            f"--class cannot be given: {printable(checkpoint.name)} has no classes, got {printable(text)!r}",
            hint="Leave --class out.",
        )
    num_classes = model.num_classes

    def find(word: str) -> int:
        return find_class(word, num_classes, names)

    return [find(text)] if names and text in names else _parsed("class", one_blend(text), find, keep_ends=False)


def seed_choices(text: str, num: int) -> Sequence[int | Blend]:
    """The seeds of --seed: one and those after it, `num` in all; or a place between two, or those of a walk.

    Raises:
        UsageError: it is none of these.
    """

    def find(word: str) -> int:
        try:
            seed = int(word)
        except ValueError:
            raise ValueError(f"seed must be a whole number, got {printable(word)!r}") from None
        check_int("seed", seed, 0, MAX_SEED)
        return seed

    seeds = _parsed("seed", one_blend(text), find, keep_ends=True)
    if len(seeds) > 1 or isinstance(seeds[0], Blend):
        if num > 1:
            raise UsageError(
                f"--num must be 1 for a blend or a walk of seeds, got {num}",
                hint="A walk says itself how many: --seed 3..8:9.",
            )
        if any(isinstance(seed, Blend) and len(seed.parts) > 2 for seed in seeds):
            raise UsageError(f"--seed must be between two seeds, got {printable(text)!r}")
        return seeds
    with usage_errors("seed"):
        check_int("seed", seeds[0], 0, MAX_SEED - num + 1)
    return range(seeds[0], seeds[0] + num)


def _parsed(name: str, text: str, find: Callable[[str], int], *, keep_ends: bool) -> list[int | Blend]:
    with usage_errors(name):
        blends = parse_blends(name, text, find, keep_ends=keep_ends)
        return [find(text)] if blends is None else blends

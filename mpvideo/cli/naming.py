"""The files' names, made from --out."""

import os
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpvideo.blend import Blend
from mpvideo.errors import UsageError
from mpvideo.text import printable

if TYPE_CHECKING:
    from mpvideo.generation import Job

FIELDS = ("class", "seed")


class Names:
    """What --out says of the names of one run's videos.

    Args:
        template: a path in which {class} and {seed}, with a format of Python or without, stand for numbers.
        num: how many seeds there are.
        num_classes: how many classes.
        has_classes: whether they have a class.

    Raises:
        UsageError: unknown fields, stray braces, or names that cannot differ.
    """

    def __init__(self, template: Path, *, num: int, num_classes: int = 1, has_classes: bool) -> None:
        self.template = str(template)
        try:
            parts = string.Formatter().parse(self.template)
            fields = [(name, form or "") for _, name, form, _ in parts if name is not None]
        except ValueError as error:
            raise UsageError(
                f"--out has a stray brace, got {printable(template)!r}: {error}",
                hint="Write {{ and }} for braces in a name.",
            ) from None
        for name, form in fields:
            if name not in FIELDS:
                raise UsageError(f"--out may have the fields {{class}} and {{seed}}, got {{{printable(name)}}}")
            if "{" in form:
                raise self._misfit("a format has no fields of its own")
            if re.search(r"\d{4}", form):  # such a name would be too long for any system, and perhaps for the memory
                raise self._misfit("a width has at most 3 digits")
        used = {name for name, _ in fields}
        if "class" in used and not has_classes:
            raise UsageError("--out cannot contain {class}: the checkpoint has no classes")
        if num_classes > 1 and "class" not in used:
            raise UsageError(
                f"--out must contain {{class}} for {num_classes} classes, or the videos would replace each other; "
                f"got {printable(template)!r}",
                hint=f"For example {printable(template.stem)}-{{class}}{printable(template.suffix)}.",
            )
        if num > 1 and "seed" not in used:
            raise UsageError(
                f"--out must contain {{seed}} for {num} seeds, or the videos would replace each other; "
                f"got {printable(template)!r}",
                hint=f"For example {printable(template.stem)}-{{seed}}{printable(template.suffix)}.",
            )

    def paths(self, jobs: Sequence["Job"]) -> list[Path]:
        """The paths of the jobs' videos, all different.

        Raises:
            UsageError: a format does not fit its number, or two videos would get the same name.
        """
        seeds: dict[str, int | Blend] = {}
        paths = []
        for job in jobs:
            path = self._path(job)
            file = os.path.realpath(path)  # two spellings, or two links, may lead to one file
            if file in seeds:
                raise UsageError(
                    f"--out must give every video a file of its own; the seeds {seeds[file]} and {job.seed} both give "
                    f"{printable(path)!r}",
                    hint="{seed} by itself is different for each.",
                )
            seeds[file] = job.seed
            paths.append(path)
        return paths

    def _path(self, job: "Job") -> Path:
        try:
            return Path(self.template.format_map({"class": job.class_index, "seed": job.seed}))
        except (ValueError, OverflowError, TypeError) as error:  # the last one of a format for a blend
            raise self._misfit(str(error)) from None

    def _misfit(self, why: str) -> UsageError:
        return UsageError(f"--out has a format that does not fit, got {printable(self.template)!r}: {printable(why)}")


def literal(path: Path) -> str:
    """A path as --out takes it: braces doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")

"""The names of files, made from a template such as `runs/{class_name}/{seed:06d}.mp4`."""

import os
import re
import string
from collections.abc import Iterable, Mapping
from pathlib import Path

from mpvideo.batch.request import Request
from mpvideo.blend import Blend
from mpvideo.errors import UsageError
from mpvideo.files import file_key
from mpvideo.formats import STANDARD_OUTPUT
from mpvideo.text import printable

FIELDS = ("class", "class_name", "seed", "index", "guidance", "steps", "sampler", "ckpt")
"""What may stand in a template, in braces."""

_FIELDS_OF = {"class": ("class", "class_name")}
"""The fields that tell values of a list apart, where they are not just called like the list."""

_LONGEST = 80
"""Characters of a name in a file's name."""


class Names:
    """What --out says of the names of videos.

    Args:
        template: a path in which `FIELDS`, with a format of Python or without, stand for what a video was made with.
        several: the lists that have more than one entry, by the names of their fields: the file's name has to tell
            them apart.
        lacking: fields that cannot be used, and why.

    Attributes:
        makes_folders: whether its folders are made: those of a name with fields are, the folder of a plain name must be
            there.

    Raises:
        UsageError: unknown fields, stray braces, or names that cannot differ.
    """

    def __init__(
        self, template: Path, *, several: Iterable[str] = (), lacking: Mapping[str, str] | None = None
    ) -> None:
        self.template = str(template)
        try:
            parts = string.Formatter().parse(self.template)
            fields = [(name, form or "") for _, name, form, _ in parts if name is not None]
        except ValueError as error:
            raise UsageError(
                f"--out has a stray brace, got {printable(template)!r}: {error}",
                hint="Write {{ and }} for braces in a name.",
            ) from None
        used = {name for name, _ in fields}
        self.makes_folders = bool(used)
        for name, form in fields:
            if name not in FIELDS:
                known = ", ".join(f"{{{field}}}" for field in FIELDS)
                raise UsageError(f"--out may have the fields {known}, got {{{printable(name)}}}")
            if form.endswith("c"):
                raise self._misfit("c makes characters of numbers, which need not fit a name; d, 06d and x make digits")
            if {os.sep, os.altsep} & {*form}:
                raise self._misfit("a format has no folders")
            if "{" in form:
                raise self._misfit("a format has no fields of its own")
            if re.search(r"\d{4}", form):  # such a name would be too long for any system, and perhaps for the memory
                raise self._misfit("a width has at most 3 digits")
            if lacking and name in lacking:
                raise UsageError(f"--out cannot contain {{{name}}}: {lacking[name]}")
        for name in several:
            fitting = _FIELDS_OF.get(name, (name,))
            if not used & {*fitting, "index"}:
                raise UsageError(
                    f"--out must contain {{{fitting[0]}}} or {{index}} for several --{name}, or the videos would "
                    f"replace each other; got {printable(template)!r}",
                    hint=f"For example {_example(template, fitting[0])}.",
                )

    def path(self, **values: object) -> Path:
        """The path of one video.

        Args:
            values: what the fields stand for; characters that do not fit a file's name are replaced in text.

        Raises:
            UsageError: a format does not fit its value.
        """
        fitting = {
            name: safe(str(value)) if isinstance(value, str | Blend) else value for name, value in values.items()
        }
        try:
            return Path(self.template.format_map(fitting))
        except (ValueError, OverflowError) as error:
            for name, value in values.items():
                if isinstance(value, Blend) and re.search(rf"\{{{name}[^}}]*:", self.template):
                    words = f"{{{name}}} of a blend or a walk is a word, such as {fitting[name]}, and no number"
                    raise self._misfit(words, hint="{index:06d} is a number for every video.") from None
            raise self._misfit(str(error)) from None

    def _misfit(self, why: str, hint: str | None = None) -> UsageError:
        words = f"--out has a format that does not fit, got {printable(self.template)!r}: {printable(why)}"
        return UsageError(words, hint=hint)


def _example(template: Path, field: str) -> str:
    if template == STANDARD_OUTPUT:  # it takes one video
        return f"{{{field}}}.mp4"
    return f"{printable(template.stem)}-{{{field}}}{printable(template.suffix)}"


def safe(text: str) -> str:
    """Text as part of a file's name on any system: letters, digits and `_ . + -`; runs of all else become one `-`."""
    return re.sub(r"[^\w.+-]+", "-", text)[:_LONGEST].strip("-.") or "-"


def literal(path: Path) -> str:
    """A path as a template that means just it: braces doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")


class Taken:
    """The names of files that are given away already, as numbers: about 100 bytes each, however long the names."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def take(self, path: Path) -> bool:
        """Whether the file is still free; from now on it is not."""
        file = hash(file_key(path))  # two spellings, or two links, may lead to one file
        free = file not in self._hashes
        self._hashes.add(file)
        return free


def same_file(requests: Iterable[Request], second: Request) -> UsageError:
    """The error for a request whose file belongs to an earlier one."""
    file = file_key(second.path)
    first = next((_words(request) for request in requests if file_key(request.path) == file), "an earlier one")
    return UsageError(
        f"--out must give every video a file of its own; {first} and {_words(second)} both give "
        f"{printable(second.path)!r}",
        hint="{index} by itself is different for each.",
    )


def _words(request: Request) -> str:
    return f"{request.where or f'number {request.index}'} (seed {request.seed})"

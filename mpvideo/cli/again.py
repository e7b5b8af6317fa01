"""The command that makes one video of a run again."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mpvideo.cli.hub import is_on_hub
from mpvideo.cli.naming import literal

if TYPE_CHECKING:
    from mpvideo.generation import Video

NOT_ABOUT_THE_VIDEO = frozenset({"num", "overwrite", "batch_size", "quiet", "as_json"})
"""Parameters of `sample` that are left out: how many, and how to talk. -y is not repeated: nothing is lost silently."""

_PATHS = frozenset({"ckpt", "config"})


def command_again(context: typer.Context, video: "Video", dtype: str, out: Path | None = None) -> str:
    """The command, for a POSIX shell, that makes one video of this run alone: the same up to rounding.

    Every option that was given is repeated unless it is listed above, so a new one cannot be forgotten.

    Args:
        context: of the run.
        video: the video.
        dtype: what it was computed in; another machine might choose another.
        out: its file. None for the command that the file itself is to carry: without --out, so that the same video has
            the same bytes under any name, and without folders, because what is shared should not tell whose they are.
    """
    words = ["mpvideo", "sample"]
    each = {"seed": video.seed, "class_text": video.class_index, "dtype": dtype}
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in NOT_ABOUT_THE_VIDEO or name == "out":
            continue
        source = context.get_parameter_source(name)
        if name in each:
            words += _words(parameter, each[name])
        elif source is not None and source.name == "COMMANDLINE":
            value = context.params[name]
            private = name in _PATHS and out is None and not is_on_hub(Path(value))
            words += _words(parameter, Path(value).name if private else value)
    if out is not None:
        words += ["--out", literal(out)]
    return shell_join(words)


def _words(option: Any, value: object) -> list[str]:
    flag = option.opts[0]
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else option.secondary_opts[0]]
    if isinstance(value, list | tuple):
        return [word for item in value for word in (flag, str(item))]
    return [flag, str(value)]


def shell_join(words: list[str]) -> str:
    """One line that a shell takes apart into these words again, and a terminal can show."""
    return " ".join(map(_shell_word, words))


def _shell_word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # $'...' with octal escapes of bytes, as bash, zsh, ksh and POSIX 2024 read it.
    escaped = "".join(
        {"\\": "\\\\", "'": "\\'"}.get(c, c) if c.isprintable() else "".join(f"\\{byte:03o}" for byte in os.fsencode(c))
        for c in word
    )
    return f"$'{escaped}'"

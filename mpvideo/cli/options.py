"""Options that several commands share."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mpvideo.checkpoint.reading import MAX_DEPTH, parse_json, read_json
from mpvideo.config import check_format
from mpvideo.errors import UsageError, naming
from mpvideo.text import printable

CONFIG_PANEL = "Checkpoints that do not say what they are"
OUTPUT_PANEL = "What is printed"

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A JSON file with the config, or the part that the checkpoint lacks; it overrides the checkpoint's own.",
        rich_help_panel=CONFIG_PANEL,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One field of the config, such as video.codec=rgb; may be repeated. --set overrides --config, which "
        "overrides the file.",
        rich_help_panel=CONFIG_PANEL,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="No progress and no summary; errors are still told.", rich_help_panel=OUTPUT_PANEL
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="JSON on standard output, for scripts.", rich_help_panel=OUTPUT_PANEL)
]


@contextmanager
def usage_errors(*names: str) -> Iterator[None]:
    """Turns the ValueErrors of checks into UsageErrors that call the parameters `names` as the user does."""
    try:
        yield
    except ValueError as error:
        raise UsageError(as_flags(str(error), *names)) from None


def as_flags(words: str, *names: str) -> str:
    """Words of a check in which parameters `names` are called as the user does."""
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: f"--{found[0].replace('_', '-')}", words)


def given_options(context: typer.Context) -> frozenset[str]:
    """The parameters that a command got on its line, and not from its defaults or from a video of --like."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE")


def check_config_file(config: Path | None) -> None:
    """Makes sure that --config, if it is given, is a JSON file of the format that this version reads.

    Raises:
        CheckpointError: it is none, or cannot be read.
    """
    if config is not None:
        with naming("--config", config):
            check_format(read_json(config), printable(config))


def parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """Turns KEY=VALUE pairs into a nested object; a value is JSON, or else a word.

    Raises:
        UsageError: a pair has no key or no value, a key is a field and a group of fields at once, or a value is JSON
            that `parse_json` refuses (NaN, deep nesting).
    """
    nested: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, text = setting.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise UsageError(
                f"--set must be KEY=VALUE, got {printable(setting)!r}", hint="For example --set model.frames=32."
            )
        if len(path) > MAX_DEPTH:
            raise UsageError(f"--set must name at most {MAX_DEPTH} fields inside each other, got {len(path):,}")
        group = nested
        for part in path[:-1]:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise UsageError(f"--set {printable(key)} must be inside a group, but {part} was set to a value before")
        group[path[-1]] = _value(key.strip(), text.strip())
    return nested


def _value(key: str, text: str) -> Any:
    try:
        return parse_json(text)
    except json.JSONDecodeError:
        return text
    except ValueError as error:
        raise UsageError(
            f"--set {printable(key)} cannot be {printable(text, 40)!r}: {printable(error)}",
            hint="A word that looks like JSON goes in double quotes: --set 'title=\"NaN\"'.",
        ) from None

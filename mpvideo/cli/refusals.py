"""What the library behind Typer refuses of a command line, in this program's words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mpvideo.errors import UsageError
from mpvideo.text import nearest, printable

_OF_FILES = ("FILE", "DATA")
"""Metavars of parameters that are paths although they are read as text."""


def refusal(error: Any, ctx: Any, given: Mapping[str, Any], rest: Sequence[str]) -> UsageError:
    """The error for what the library refuses.

    Its kinds of error are told apart by what they carry: its modules differ between releases of Typer.

    Args:
        error: its exception.
        ctx: its context.
        given: the values as they were written, by the names of their parameters.
        rest: words that are no parameter's; or the one that should have been a command.
    """
    command, list_hint = ctx.command, f"`{ctx.command_path} --help` lists them."
    if (parameter := getattr(error, "param", None)) is not None:
        if (value := given.get(parameter.name)) is not None:
            return misfit(command, parameter, value)
        return UsageError(f"{_name(parameter)} must be given", hint=f"See `{ctx.command_path} --help`.")
    if (flag := getattr(error, "option_name", None)) is not None:
        known = {each: option for option in command.get_params(ctx) for each in (*option.opts, *option.secondary_opts)}
        if (option := known.get(flag)) is None:
            meant = nearest(flag.lstrip("-"), [each.removeprefix("--") for each in known if each.startswith("--")])
            hint = f"Did you mean --{meant}?" if meant else list_hint
            return UsageError(f"{ctx.command_path} has no option {printable(flag)}", hint=hint)
        if option.is_flag:
            return UsageError(f"{flag} takes no value")
        return UsageError(f"{flag} must be followed by {printable(option.metavar or 'a value')}")
    if not rest:
        return UsageError(printable(error.format_message(), 300), hint=f"See `{ctx.command_path} --help`.")
    if hasattr(command, "list_commands"):
        meant = nearest(rest[0], command.list_commands(ctx))
        hint = f"Did you mean {meant}?" if meant else list_hint
        return UsageError(f"{ctx.command_path} has no command {printable(rest[0])!r}", hint=hint)
    return UsageError(
        f"{ctx.command_path} cannot do anything with {' '.join(repr(printable(word)) for word in rest[:10])}",
        hint="A value with spaces in it goes in quotes.",
    )


def misfit(command: Any, parameter: Any, value: Any) -> UsageError:
    """The error for a value that a parameter of a command cannot have."""
    kind = _kind(command, parameter)
    if get_origin(kind) is Literal:
        wanted = f"one of {', '.join(map(str, get_args(kind)))};"
    else:
        wanted = {int: "a whole number,", float: "a number,"}.get(kind, "something else,")
    return UsageError(f"{_name(parameter)} must be {wanted} got {printable(value)!r}")


def check_paths(command: Any, given: Mapping[str, Any]) -> None:
    """Makes sure that no path is empty, which would mean the current folder, or has NUL characters.

    Raises:
        UsageError: one is empty, or has them.
    """
    for parameter in command.params:
        value = given.get(parameter.name)
        values = value if isinstance(value, tuple) else (value,)
        if "" in values and is_path(command, parameter):
            raise UsageError(
                f"{_name(parameter)} must be a path, got ''", hint="Is a variable in the command line empty?"
            )
        if any("\0" in str(each) for each in values) and is_path(command, parameter):
            raise UsageError(f"{_name(parameter)} must be a path, which has no NUL characters, got {printable(value)}")


def is_path(command: Any, parameter: Any) -> bool:
    """Whether a parameter of a command is a path."""
    return Path in (kind := _kind(command, parameter), *get_args(kind)) or parameter.metavar in _OF_FILES


def _kind(command: Any, parameter: Any) -> Any:
    """The type that a parameter's values have, apart from None."""
    hint = get_type_hints(command.callback)[parameter.name]
    if get_origin(hint) is Literal or type(None) not in get_args(hint):
        return hint
    return next(part for part in get_args(hint) if part is not type(None))


def _name(parameter: Any) -> str:
    """What a parameter is called on a command line."""
    return str(parameter.metavar if parameter.param_type_name == "argument" else parameter.opts[0])

"""The commands as the library behind Typer sees them: help pages in groups, refusals in this program's words."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from typer.core import TyperCommand, TyperGroup

from mpvideo.cli.refusals import check_paths, refusal


class GroupedCommand(TyperCommand):
    """A command whose help page has a section for each `rich_help_panel`, in plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options, group by group, in the order of their first members."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (row := parameter.get_help_record(ctx)) is not None:
                other = "Arguments" if parameter.param_type_name == "argument" else "Other options"
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or other, []).append(row)
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=24)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes the command line apart.

        Raises:
            UsageError: something in it cannot be.
        """
        with _in_our_words(ctx):
            given, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        check_paths(self, given)
        with _in_our_words(ctx, given, rest):
            return super().parse_args(ctx, args)


class Program(TyperGroup):
    """The program, which consists of commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `GroupedCommand.parse_args`; without any word there is the help page."""
        if not args:
            return super().parse_args(ctx, args)
        with _in_our_words(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command that the next word names."""
        with _in_our_words(ctx, rest=args[:1]):
            return super().resolve_command(ctx, args)


@contextmanager
def _in_our_words(ctx: Any, given: Mapping[str, Any] | None = None, rest: Sequence[str] = ()) -> Iterator[None]:
    """Turns the library's refusals into UsageErrors; see `refusal`."""
    try:
        yield
    except Exception as error:
        # Of the library that Typer brings along, which is not imported by name.
        if not hasattr(error, "format_message"):
            raise
        raise refusal(error, ctx, given or {}, rest) from None

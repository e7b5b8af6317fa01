"""Sections and tables of screens, the same on and off a terminal."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpvideo.cli.streams import write_result


def write_screen(show: Callable[[Console], None]) -> None:
    """Writes what `show` prints to standard output."""
    # Not markup: a title in brackets is a title. No highlighting: it would colour numbers at random.
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000  # lines in a file or a pipe are for programs to search, and for editors to wrap
    with console.capture() as capture:
        show(console)
    write_result("".join(line.rstrip() + "\n" for line in capture.get().splitlines()))


def section(console: Console, heading: str, rows: Iterable[tuple[str, str]]) -> None:
    """Prints a heading and rows of a name and a value; nothing without rows."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(max_width=30, overflow="fold")
    grid.add_column(overflow="fold")
    for key, value in rows:
        # Not by min_width, which counts the space between columns in some releases of Rich.
        grid.add_row(Text(f"  {key:<10}"), Text(value))
    if grid.row_count:
        console.print(Text("\n" + heading, style="bold"))
        console.print(grid)


def table(headings: str) -> Table:
    """A borderless table, the same on and off a terminal; headings that start with < are flush left."""
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    grid.add_column("", width=0)  # with its padding, the indent under a heading
    for heading in headings.split():
        left = heading.startswith("<")
        grid.add_column(heading.removeprefix("<"), justify="left" if left else "right", overflow="fold")
    return grid


def show_notes(console: Console, notes: Iterable[Mapping[str, Any]]) -> None:
    """Prints problems or warnings, each a `message` and a `hint` or None, as a list."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column(overflow="fold")
    for note in notes:
        grid.add_row(Text("-"), Text(note["message"]))
        if note["hint"]:
            grid.add_row("", Text(f"hint: {note['hint']}"))
    console.print(grid)

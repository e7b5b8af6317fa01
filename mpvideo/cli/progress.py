"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_INTERVAL = 10.0
"""Seconds between lines off a terminal."""

Advance = Callable[[int], None]


@contextmanager
def progress(title: str, total: int, unit: str, *, quiet: bool) -> Iterator[Advance]:
    """Shows how much of `total` is done on standard error; yields what to call with each amount done.

    Args:
        title: what is going on.
        total: amount of all work.
        unit: what is counted, in the plural.
        quiet: show nothing.
    """
    console = Console(stderr=True, markup=False, highlight=False)
    if quiet:
        yield lambda amount: None
    elif console.is_terminal:
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            # On the same terminal, lines go above the bar; into a file or a pipe, results must go untouched.
            redirect_stdout=sys.stdout.isatty(),
        ) as bar:
            task = bar.add_task(title, total=total)
            yield lambda amount: bar.advance(task, amount)
    else:
        yield _Lines(title, total, unit)


class _Lines:
    """Progress as lines of text."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0
        self.began = self.printed = time.monotonic()

    def __call__(self, amount: int) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.printed < LINE_INTERVAL and self.done < self.total:
            return
        self.printed = now
        left = (now - self.began) / self.done * (self.total - self.done)
        print(f"{self.title}: {self.done}/{self.total} {self.unit}, {left:.0f} s left", file=sys.stderr, flush=True)

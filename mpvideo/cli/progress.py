"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mpvideo.batch.crew import Crew
from mpvideo.cli.streams import tell

LINE_INTERVAL = 10.0
"""Seconds between lines off a terminal."""


_ADD_INTERVAL = 0.5
"""Seconds between two messages of a process to the others."""


class Ticker:
    """Is told how much is done; this one shows nothing."""

    def advance(self, amount: int, words: str = "") -> None:
        """Counts `amount` as done, or as undone if negative; `words` say how it goes."""

    def say(self, line: str) -> None:
        """Writes a line to standard error beside the progress; this one, which is quiet, does not."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the terminal to whoever has something to say."""
        yield


@contextmanager
def progress(title: str, total: int | None, unit: str, *, quiet: bool, done: int = 0) -> Iterator[Ticker]:
    """Shows on standard error how much of `total` is done; yields what to tell.

    Args:
        title: what is going on.
        total: amount of all work; None if that is not known.
        unit: what is counted, in the plural.
        quiet: show nothing.
        done: how much of it was done before.
    """
    console = Console(stderr=True, markup=False, highlight=False)
    if quiet:
        yield Ticker()
    elif console.is_terminal:
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
            TextColumn("left{task.fields[words]}", markup=False),
            console=console,
            transient=True,
            # On the same terminal, stray lines go above the bar; a file or a pipe is left alone.
            redirect_stdout=sys.stdout.isatty(),
        ) as bar:
            yield _Bar(bar, title, total, done)
    else:
        yield _Lines(title, total, unit, done)


def smaller_batch_warning(ticker: Ticker) -> Callable[[int, int], None]:
    """What to give `mpvideo.generation.generate` as on_smaller_batch: it warns beside the progress that is shown."""

    def warn(tried: int, size: int) -> None:
        ticker.say(f"warning: not enough memory for {tried} videos at once; going on with {size}")

    return warn


def shared_ticker(ticker: Ticker, crew: Crew) -> Ticker:
    """A ticker that counts what all processes of a crew do, and shows it where `ticker` does."""
    return ticker if crew.count == 1 else _Shared(ticker, crew)


class _Shared(Ticker):
    """Adds to what all processes have done, now and then, and shows the sum."""

    def __init__(self, ticker: Ticker, crew: Crew) -> None:
        self._ticker, self._crew = ticker, crew
        self._pending = self._shown = 0
        self._latest = 0.0

    def advance(self, amount: int, words: str = "") -> None:
        self._pending += amount
        now = time.monotonic()
        if amount and now - self._latest < _ADD_INTERVAL:
            return
        done = self._crew.add("passes made", self._pending)
        self._pending, self._latest = 0, now
        if done != self._shown:
            self._ticker.advance(done - self._shown, words)
            self._shown = done

    def say(self, line: str) -> None:
        self._ticker.say(line)

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._ticker.paused():
            yield


class _Bar(Ticker):
    """Progress as a bar in the terminal's last line."""

    def __init__(self, bar: Progress, title: str, total: int | None, done: int) -> None:
        self.bar = bar
        self.task = bar.add_task(title, total=total, completed=done, words="")

    def advance(self, amount: int, words: str = "") -> None:
        self.bar.update(self.task, advance=amount, words=words and f", {words}")

    def say(self, line: str) -> None:
        with self.paused():
            tell(line)

    @contextmanager
    def paused(self) -> Iterator[None]:
        # Rich would break lines that are printed above a running bar, and a broken command cannot be pasted.
        self.bar.stop()
        try:
            yield
        finally:
            self.bar.start()


class _Lines(Ticker):
    """Progress as lines of text."""

    def __init__(self, title: str, total: int | None, unit: str, done: int) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.begun_at = self.done = done
        self.began = self.printed = time.monotonic()

    def advance(self, amount: int, words: str = "") -> None:
        self.done += amount
        now = time.monotonic()
        if amount < 0 or (now - self.printed < LINE_INTERVAL and self.done != self.total):
            return
        self.printed = now
        words = words and f", {words}"
        if self.total is None:
            tell(f"{self.title}: {self.done} {self.unit}{words}")
        else:
            left = (now - self.began) / (self.done - self.begun_at) * (self.total - self.done)
            tell(f"{self.title}: {self.done}/{self.total} {self.unit}, {left:.0f} s left{words}")

    def say(self, line: str) -> None:
        tell(line)

"""Shows how a training goes, and turns signals into a wish to end it."""

from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from mpvideo.cli.progress import Ticker, progress
from mpvideo.cli.stopping import Stopping
from mpvideo.cli.streams import tell


class TerminalWatcher:
    """A `mpvideo.training.progress.Watcher` for people: a bar for each phase, and Ctrl-C that saves first.

    Used as a context: inside it the first signal asks the training to save and end, and a later one ends the program.

    Args:
        quiet: show nothing.

    Attributes:
        wish: whether to end.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        words = "saving; once more ends at once, and what came after the last snapshot is lost"
        self.wish = Stopping(lambda: self.say(words))
        self._bars = ExitStack()
        self._ticker, self._phase, self._done = Ticker(), "", 0

    def __enter__(self) -> Self:
        self.wish.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._bars.close()
        self.wish.__exit__(kind, error, trace)

    def say(self, line: str) -> None:
        """Shows a line above the bar."""
        with self._ticker.paused():
            tell(line, quiet=self.quiet)

    def advance(self, phase: str, step: int, total: int, words: str) -> None:
        """Moves the bar of a phase to `step` of `total`."""
        if phase != self._phase:
            self._bars.close()
            # Counted from here, so that the time left is that of this call.
            self._phase, self._done = phase, step - 1
            self._ticker = self._bars.enter_context(progress(phase, total, "steps", quiet=self.quiet, done=self._done))
        self._ticker.advance(step - self._done, words)
        self._done = step

    def stopping(self) -> bool:
        """Whether a signal came."""
        return bool(self.wish)

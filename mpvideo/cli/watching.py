"""Shows how a training goes, and turns signals into a wish to end it."""

import signal
import time
from contextlib import ExitStack, suppress
from types import FrameType, TracebackType
from typing import Self

from mpvideo.cli.progress import Ticker, progress
from mpvideo.cli.streams import tell
from mpvideo.errors import ExitCode

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_SAME_KEY = 2.0
"""Seconds in which signals count as one: of a Ctrl-C the terminal tells every process, and torchrun does so again."""


class TerminalWatcher:
    """A `mpvideo.training.progress.Watcher` for people: a bar for each phase, and Ctrl-C that saves first.

    Used as a context: inside it the first signal asks the training to save and end, and a later one ends the program.

    Args:
        quiet: show nothing.

    Attributes:
        signals: those that came.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.signals: list[int] = []
        self._bars = ExitStack()
        self._ticker, self._phase, self._done = Ticker(), "", 0
        self._before: dict[int, object] = {}
        self._first_came = 0.0

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.getsignal(number)
            if self._before[number] != signal.SIG_IGN:  # under nohup a hang-up is to stay ignored
                signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._bars.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)
        if len(self.signals) == 1:
            self._first_came = time.monotonic()
            with suppress(OSError):  # the terminal may be what went away
                self.say("saving; once more ends at once, and what came after the last snapshot is lost")
        elif time.monotonic() - self._first_came > _SAME_KEY:
            raise SystemExit(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED)

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
        return bool(self.signals)

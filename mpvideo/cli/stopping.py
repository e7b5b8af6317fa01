"""Ctrl-C and its kin as a wish to end: the first is noted, a later one ends the program."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import NoReturn, Self

from mpvideo.batch.crew import under_torchrun
from mpvideo.errors import ExitCode

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_SAME_KEY = 2.0
"""Seconds in which signals count as one under torchrun: of a Ctrl-C the terminal tells every process, and torchrun does
so again."""


class Stopping:
    """A context in which the first signal is a wish to end, and a later one ends the program at once.

    Args:
        say: tells the user what the first one does.

    Attributes:
        signals: those that came.
    """

    def __init__(self, say: Callable[[], None]) -> None:
        self.signals: list[int] = []
        self._say = say
        self._patience = _SAME_KEY if under_torchrun() else 0.0
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
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)
        if len(self.signals) == 1:
            self._first_came = time.monotonic()
            with suppress(OSError):  # the terminal may be what went away
                self._say()
        elif time.monotonic() - self._first_came > self._patience:
            self.end()

    def end(self) -> NoReturn:
        """Ends the program as the first signal asked for."""
        raise SystemExit(ExitCode.INTERRUPTED if self.signals[0] == signal.SIGINT else ExitCode.TERMINATED)

    def __bool__(self) -> bool:
        """Whether to end."""
        return bool(self.signals)

"""Tells of every video of a run: to programs, to people, and in the journal."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpvideo.batch.journal import Journal
from mpvideo.batch.names import literal
from mpvideo.batch.plan import Planned, Unusable
from mpvideo.batch.request import Request
from mpvideo.cli.overviews import Shown
from mpvideo.cli.progress import Ticker, smaller_batch_warning
from mpvideo.cli.streams import tell, write_result
from mpvideo.config import DeviceName
from mpvideo.errors import ExitCode, MPVideoError, OutputError, UsageError
from mpvideo.formats import STANDARD_OUTPUT
from mpvideo.text import counted, printable

if TYPE_CHECKING:
    from mpvideo.generation import Video
    from mpvideo.record import Record

STATES = {"made": "made", "found": "there already", "failed": "failed"}
"""What becomes of a video, and how it is called."""

_TOLD = 20
"""Failures that are told one by one; the journal has all."""


class Reporter:
    """Is told what becomes of every request: a `mpvideo.batch.runner.Watcher` and `mpvideo.batch.plan.PlanWatcher`.

    Args:
        ticker: the progress that is shown.
        shown: the overviews in the making.
        journal: of the run.
        device: the device that was asked for.
        total: how many videos there are; None if that is not known.
        stopping: whether to stop.
        quiet: tell of errors only.
        as_json: one object a line on standard output.

    Attributes:
        counts: how many were made, found and failed.
        codes: exit codes of the failures, and of a journal or results that could not be written.
    """

    def __init__(
        self,
        ticker: Ticker,
        shown: Shown,
        journal: Journal,
        device: DeviceName,
        *,
        total: int | None,
        stopping: Callable[[], bool],
        quiet: bool,
        as_json: bool,
    ) -> None:
        self._ticker, self._shown, self._journal, self._total = ticker, shown, journal, total
        self._quiet, self._as_json = quiet, as_json
        self._device_words = [] if device == "auto" else ["--device", device]
        self.stopping, self.evaluated, self.smaller_batch = stopping, ticker.advance, smaller_batch_warning(ticker)
        self.counts: Counter[str] = Counter()
        self.codes: set[ExitCode] = set()
        self._first: MPVideoError | None = None
        self._what: object | None = None
        self._hints: set[str] = set()
        self._warned: set[str] = set()
        self._unwritten: dict[str, OutputError] = {}
        self._latest = time.monotonic()

    def warn(self, words: str) -> None:
        """Says once what the user should know."""
        if words not in self._warned:
            self._warned.add(words)
            with self._ticker.paused():
                tell(f"warning: {words}", quiet=self._quiet)

    def made(self, video: "Video[Request]", record: "Record", size: tuple[int, int]) -> None:
        """Says that a file is there: its path or record to programs, and a summary to people."""
        request, (width, height) = video.job, size
        self.counts["made"] += 1
        # Unlike the one in the file, this command names folders, and the device and the format if they were asked for.
        format_words = ["--format", str(request.encoding.format)] if request.path == STANDARD_OUTPUT else []
        again = video.model.recorder.command(
            record,
            ckpt=request.sources.ckpt,
            guide=request.sources.guide_ckpt,
            extra=[*self._device_words, *format_words, "--out", literal(request.path)],
        )
        rate = Fraction(request.encoding.rate)
        name = f"{printable(record.class_name)}, " if record.class_name else ""
        with self._ticker.paused():
            about = {"width": width, "height": height, "fps": float(rate), **record.to_dict(), "command": again}
            self._result(request.path, about)
            # On a terminal the path stands above, as a result.
            above = sys.stdout.isatty() and sys.stderr.isatty() and not self._as_json
            tell(
                f"{'  ' if above else f'{printable(request.path)}: '}{name}{counted(request.frames, 'frame')} of "
                f"{width}x{height}, {float(request.frames / rate):.1f} s",
                quiet=self._quiet,
            )
            if self._total == 1:  # of many, this would be most of what is told; each file has its own
                tell(f"command: {again}", quiet=self._quiet)
        now = time.monotonic()
        self.note("made", path=str(request.path), seconds=round(now - self._latest, 3))
        self._latest = now
        self._shown.add(video, record)

    def found(self, request: Request) -> None:
        """Says that a file is there already."""
        from mpvideo.record import load_record
        from mpvideo.video import read_index

        self.counts["found"] += 1
        self._shown.add_found(request)
        about: dict[str, Any] = {}
        if self._as_json:
            with suppress(MPVideoError):  # it was there a moment ago
                index = read_index(request.path)
                size = {"width": index.width, "height": index.height, "fps": float(request.encoding.rate)}
                about = {**size, **load_record(request.path).to_dict()}
        with self._ticker.paused():
            self._result(request.path, about)
            if self._total == 1:
                tell(f"{printable(request.path)}: there already, made with these settings", quiet=self._quiet)

    def failed(self, request: Request, error: MPVideoError) -> None:
        """Says what could not be made, and why."""
        # What is asked for wrongly is to be put right where it is written.
        wrong = request.where if isinstance(error, UsageError) else None
        # The one video of `sample` needs no name: there is nothing to tell it from.
        what = None if self._total == 1 and request.where is None else wrong or request.path
        self._failed(what, error, path=str(request.path))

    def refused(self, planned: Planned, error: MPVideoError) -> None:
        """Says what cannot be made, and why."""
        if isinstance(planned, Unusable):
            self._failed(planned.where, error, where=planned.where)
        else:
            self.failed(planned, error)

    def _failed(self, what: object | None, error: MPVideoError, **where: str) -> None:
        self.counts["failed"] += 1
        self.codes.add(error.exit_code)
        self._first, self._what = self._first or error, what
        self.note("failed", **where, error=error.message, code=int(error.exit_code))
        named = what is None or printable(what) in error.message
        words = error.message if named else f"{printable(what)}: {error.message}"
        if self._total == 1:  # it is what the program ends with
            error.message, error.args = words, (words,)
            return
        if self.counts["failed"] > _TOLD:
            return  # the end says how many
        with self._ticker.paused():
            tell(f"error: {words}")
            if error.hint and error.hint not in self._hints:  # once will do
                self._hints.add(error.hint)
                tell(f"hint: {error.hint}")

    def note(self, state: str, **about: Any) -> None:
        """Appends a line to the journal; what fails in that is told once, and costs no video."""
        try:
            self._journal.write(state, **about)
        except OutputError as error:
            with self._ticker.paused():
                self._lost("the journal", error, hint=error.hint)

    def _lost(self, what: str, error: OutputError, *, hint: str | None) -> None:
        if what not in self._unwritten:
            self._unwritten[what] = OutputError(f"{what} lacks lines: {error.message}", hint=hint)
            self.codes.add(error.exit_code)
            tell(f"error: {self._unwritten[what].message}; the videos go on")

    def _result(self, path: Path, about: dict[str, Any]) -> None:
        """Writes the path of a file that is there to standard output, or what there is to say of it.

        What fails in that is told once, and costs no video.
        """
        if path == STANDARD_OUTPUT:
            return  # that has the video
        # A terminal gets no control characters, a program the name as it is.
        plain = printable(path, 10_000) if sys.stdout.isatty() else str(path)
        try:
            write_result((json.dumps({"path": str(path), **about}) if self._as_json else plain) + "\n")
        except OutputError as error:
            self._lost("standard output", error, hint="The files are whole: the same command tells of them again.")

    @property
    def summary(self) -> str:
        """How many were made, there already, and failed, in words."""
        said = [f"{self.counts[state]:,} {words}" for state, words in STATES.items() if self.counts[state]]
        return (", ".join(said) or "none made") + "".join(f"; {what} lacks lines" for what in self._unwritten)

    def failure(self, planned: int | None) -> MPVideoError | None:
        """What the program ends with, if not all went well: the exit code that all failures share, or else 1.

        Args:
            planned: how many videos there are, all in all; None if that is not known.
        """
        if not self.counts["failed"]:
            if self._unwritten or not self.codes:
                return next(iter(self._unwritten.values()), None)
            return OutputError("what another process had to write lacks lines")
        if planned == 1 and self._first is not None:
            return self._first
        return not_made(self.counts["failed"], planned, self.codes, self._what)


def not_made(failed: int, planned: int | None, codes: Collection[ExitCode], what: object | None) -> MPVideoError:
    """What a run ends with that could not make all videos, or would not: the exit code that all share, or else 1.

    Args:
        failed: how many could not be made.
        planned: how many there are, all in all; None if that is not known.
        codes: the exit codes of the failures.
        what: what failed last, which is named if it is all that failed; None where another process knows it.
    """
    of = "" if planned is None else f" of {planned:,}"
    name = f": {printable(what)}" if failed == 1 and what is not None else ""
    error = MPVideoError(f"{counted(failed, 'video')}{of} could not be made{name}")
    error.exit_code = next(iter(codes)) if len(codes) == 1 else ExitCode.FAILED
    return error

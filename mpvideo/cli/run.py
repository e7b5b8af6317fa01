"""One run of `sample` or `batch`: how it is made, by whom, and how it ends."""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mpvideo.batch.crew import Crew
from mpvideo.batch.journal import Journal, journal_of
from mpvideo.batch.plan import Checker
from mpvideo.batch.request import Request
from mpvideo.batch.resume import Finished
from mpvideo.batch.share import Share
from mpvideo.batch.sources import Sources
from mpvideo.checks import check_int
from mpvideo.cli.options import usage_errors
from mpvideo.cli.overviews import Overviews, Shown
from mpvideo.cli.progress import Ticker, progress, shared_ticker
from mpvideo.cli.reporting import STATES, Reporter
from mpvideo.cli.stopping import Stopping
from mpvideo.cli.streams import tell
from mpvideo.cli.survey import Survey
from mpvideo.config import DeviceName, DtypeName
from mpvideo.errors import ExitCode, MPVideoError, OutOfMemoryError
from mpvideo.text import counted, printable

if TYPE_CHECKING:
    from mpvideo.device import Placement
    from mpvideo.model import Model

_MODELS = 2
"""Checkpoints that stay loaded where it is not known which will be needed again; or else only the one in use does."""

_FAREWELL = 5.0
"""Seconds that a process which is to end waits for what the others have to say."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is made and told of; see the options of the commands.

    Attributes:
        journal: its journal, if it keeps one.
        share: the part of the requests that it makes.
        dry_run: whether only to say what would be made.
    """

    device: DeviceName
    dtype: DtypeName
    compiled: bool
    batch_size: int
    exact: bool
    overwrite: bool
    quiet: bool
    as_json: bool
    journal: Path | None = None
    share: Share = field(default_factory=Share)
    dry_run: bool = False

    def __post_init__(self) -> None:
        with usage_errors("batch_size"):
            check_int("batch_size", self.batch_size, 1, 65536)

    def of_one(self, crew: Crew) -> "Options":
        """The options of this process of a crew: its part of the share, and only the first one speaks."""
        return dataclasses.replace(self, share=crew.part(self.share), quiet=self.quiet or not crew.first)

    @property
    def at_once(self) -> int:
        """How many videos are sampled at once."""
        return 1 if self.exact else self.batch_size

    @property
    def own_journal(self) -> Path | None:
        """Its journal: of several processes, each has one of its own."""
        return None if self.journal is None else journal_of(self.journal, self.share)

    def checker(self) -> Checker:
        """What looks at the requests."""
        return Checker(share=self.share, finished=self.finished, overwrite=self.overwrite, journal=self.own_journal)

    @cached_property
    def finished(self) -> Finished:
        """What recognises videos that are there."""
        return Finished(None if self.dtype == "auto" else self.dtype)


class Run:
    """One run.

    Args:
        options: how it is made.
        crew: who makes it.
        survey: of its requests.
        began: when, by `time.monotonic`.
        planned: how many videos fall to it; None if that is not known.
        missing: how many of these are to be made.
        found: how many were there at the first look.
    """

    def __init__(
        self,
        options: Options,
        crew: Crew,
        survey: Survey,
        *,
        began: float,
        planned: int | None,
        missing: int | None,
        found: int,
    ) -> None:
        self._options, self._crew, self._survey = options, crew, survey
        self._planned, self._missing, self._found = planned, missing, found
        self._began = began
        self._models: dict[Sources, Model] = {}
        self._ticker = Ticker()

    def run(
        self,
        to_make: Callable[[Reporter], Iterator[Request | None]],
        journal: Journal,
        overviews: Overviews | None,
    ) -> None:
        """Makes what is to be made, and says how it went."""
        options, passes = self._options, self._add_up()
        with ExitStack() as stack:
            shown = Shown({}, options.finished)
            if overviews is not None:
                writing = overviews.writing(
                    missing=self._missing or 0, finished=options.finished, as_json=options.as_json
                )
                shown = stack.enter_context(writing)
            with self._telling_what_is_left():
                placement = self._placement() if passes != 0 else None
            bar = progress("sampling", passes, "passes", quiet=options.quiet or passes == 0)
            self._ticker = shared_ticker(stack.enter_context(bar), self._crew)
            stopping = stack.enter_context(Stopping(self._say_stopping))
            reporter = Reporter(
                self._ticker,
                shown,
                journal,
                options.device,
                total=self._planned if self._crew.count == 1 else None,
                stopping=lambda: bool(stopping),
                quiet=options.quiet,
                as_json=options.as_json,
            )
            requests = to_make(reporter)
            if placement is None:
                for request in requests:  # it tells of those that are there, or cannot be made
                    if request is not None:
                        reporter.failed(request, _too_late())
            else:
                self._make(requests, placement, reporter, keep_frames=shown.wanted)
            if stopping and (left := self._left(reporter)) != 0:
                reporter.note("stopped", left=left, found=reporter.counts["found"])
            else:
                reporter.note("end", found=reporter.counts["found"])
            self._meet(reporter, stopping)
            if stopping and self._left(reporter) != 0:
                with self._ticker.paused():
                    self._stop(reporter, stopping)
        self._end(reporter, [*shown.errors.values()])

    def _make(
        self, requests: Iterator[Request | None], placement: "Placement", reporter: Reporter, *, keep_frames: bool
    ) -> None:
        from mpvideo.batch.runner import make_videos

        options = self._options
        make_videos(
            requests,
            load=lambda sources: self._load(sources, placement),
            batch_size=options.at_once,
            overwrite=options.overwrite,
            watcher=reporter,
            is_there=options.finished.__contains__,
            keep_frames=keep_frames,
        )

    def _placement(self) -> "Placement":
        # All that can be known is known to be right before torch, which takes a second, is imported.
        from mpvideo.device import choose_placement

        options, crew = self._options, self._crew

        def choose(dtype: DtypeName) -> "Placement":
            return choose_placement(options.device, dtype, compiled=options.compiled)

        if crew.processes is not None and options.device in ("auto", "cuda"):
            crew.processes.take_gpu()
        placement = choose(options.dtype) if crew.first else None
        # What one process measures may just miss what another's does: all compute in the same.
        dtype = crew.word("dtype", lambda: placement.dtype_name if placement else "float32")
        placement = placement or choose(dtype)  # type: ignore[arg-type]
        for warning in placement.warnings:
            tell(f"warning: {warning}", quiet=options.quiet)
        if crew.processes is not None:
            placement = dataclasses.replace(placement, device=crew.processes.device(placement.device))
        return placement

    def _load(self, sources: Sources, placement: "Placement") -> "Model":
        """The model of a checkpoint: one that is loaded still, or else read now.

        A plan makes checkpoint after checkpoint, so that a model which is given up is not needed again; and neither is
        one whose files were replaced, but by jobs of a pipe that waited meanwhile.
        """
        model = self._models.pop(sources, None)
        if model is None:
            for replaced in [each for each in self._models if not each.are_current()]:
                del self._models[replaced]
            while len(self._models) >= (_MODELS if self._planned is None else 1):
                del self._models[next(iter(self._models))]
            try:
                model = sources.load(placement)
            except OutOfMemoryError:
                if not self._models:
                    raise
            if model is None:  # not where the error is handled, which holds what was loaded by then
                self._models.clear()
                model = sources.load(placement)
            with self._ticker.paused():
                self._tell_of(model, sources, placement)
        self._models[sources] = model  # the last, which is given up last
        return model

    def _tell_of(self, model: "Model", sources: Sources, placement: "Placement") -> None:
        from mpvideo.unlabelled import unlabelled_warning

        quiet = self._options.quiet
        tell(f"{printable(sources.checkpoint.name)} on {placement}", quiet=quiet)
        if not quiet and model.guide is None and self._survey.is_guided(sources):
            words = unlabelled_warning(model)
            tell(f"warning: {words}", quiet=words is None)

    def _add_up(self) -> int | None:
        """How many passes of the network all processes have to make; None if that is not known."""
        if self._planned is None:
            return None
        passes = self._survey.work()[1] if self._missing else 0
        if self._crew.count > 1:
            self._crew.add("planned", self._planned)
            self._crew.add("found at first", self._found)
            self._crew.add("to make", self._missing or 0)
            self._crew.add("passes to make", passes)
            self._crew.meet("planned all", stop=lambda: False)
            passes, self._missing = self._crew.add("passes to make"), self._crew.add("to make")
        return passes

    def _meet(self, reporter: Reporter, stopping: Stopping) -> None:
        """Waits for the other processes, and adds up what all have done."""
        if self._crew.count == 1:
            return
        for state, count in reporter.counts.items():
            self._crew.add(state, count)
        for code in reporter.codes:
            self._crew.add(f"code {int(code)}", 1)
        self._ticker.advance(0)  # adds what is pending, for the first process to show
        begun_stopping = time.monotonic()

        def stop() -> bool:
            nonlocal begun_stopping
            if not stopping:
                begun_stopping = time.monotonic()
            return time.monotonic() - begun_stopping > _FAREWELL

        self._crew.meet("done", stop=stop, look=lambda: self._ticker.advance(0))
        self._ticker.advance(0)
        self._planned, self._found = self._crew.add("planned"), self._crew.add("found at first")
        reporter.counts = Counter({state: self._crew.add(state) for state in STATES})
        reporter.codes = {code for code in ExitCode if self._crew.add(f"code {int(code)}")}

    @contextmanager
    def _telling_what_is_left(self) -> Iterator[None]:
        """Says it where a signal ends the program before the first step."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            if self._planned and self._missing and self._crew.first:
                left = counted(self._missing, "video")
                tell(f"stopped before the first step, {left} left; the same command makes what is missing")
            raise

    def _say_stopping(self) -> None:
        self._ticker.say("stopping after this step; once more ends at once")

    def _left(self, reporter: Reporter) -> int | None:
        """How many are neither there nor failed: of this process or, once they have met, of all; None if not known."""
        if self._planned is None:
            return None
        counts = reporter.counts
        # Those that were there at the first look are told of in their turn, which may not have come.
        return self._planned - counts["made"] - counts["failed"] - max(self._found, counts["found"])

    def _stop(self, reporter: Reporter, stopping: Stopping) -> NoReturn:
        """Says what is left, and ends the program."""
        left = self._left(reporter)
        rest = "" if left is None else f", {counted(left, 'video')} left; the same command makes what is missing"
        if self._crew.first:
            tell(f"stopped after {self._seconds:.1f} s: {reporter.summary}{rest}")
        stopping.end()

    def _end(self, reporter: Reporter, lost: list[MPVideoError]) -> None:
        """Says how it went; `lost` is what became of overviews that could not be made."""
        failure = reporter.failure(self._planned)
        if self._planned != 1:
            tell(f"done in {self._seconds:.1f} s: {reporter.summary}", quiet=self._options.quiet)
        elif failure is None:
            tell(f"done in {self._seconds:.1f} s", quiet=self._options.quiet)
        if lost and failure is None:
            failure = lost.pop()
        for error in lost:
            tell(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
        if failure is not None:
            if not self._crew.first:
                raise SystemExit(failure.exit_code)  # the first process says it
            raise failure

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _too_late() -> MPVideoError:
    return MPVideoError("could not be made at the first look, but could be now", hint="The same command makes it.")

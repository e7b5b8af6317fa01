"""Makes what `sample` and `batch` were asked for."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mpvideo.batch.journal import Journal
from mpvideo.batch.plan import Checker, Fate, Plan, Planned, make_plan, stream_to_make
from mpvideo.batch.request import Request
from mpvideo.batch.resume import Finished
from mpvideo.batch.share import Share, parse_share
from mpvideo.batch.sources import Sources
from mpvideo.checks import check_int
from mpvideo.cli.options import usage_errors
from mpvideo.cli.overviews import Overviews, Shown
from mpvideo.cli.progress import Ticker, progress
from mpvideo.cli.rehearsal import Rehearsal, tell_expected
from mpvideo.cli.reporting import Reporter
from mpvideo.cli.stopping import Stopping
from mpvideo.cli.streams import tell
from mpvideo.config import DeviceName, DtypeName, SamplingConfig
from mpvideo.errors import MPVideoError, OutOfMemoryError, UsageError
from mpvideo.formats import warnings_about
from mpvideo.text import counted, printable

if TYPE_CHECKING:
    from mpvideo.device import Placement
    from mpvideo.model import Model

_MODELS = 2
"""Checkpoints that stay loaded, for jobs that take turns."""


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

    def checker(self) -> Checker:
        """What looks at the requests."""
        finished = Finished(None if self.dtype == "auto" else self.dtype)
        return Checker(share=self.share, finished=finished, overwrite=self.overwrite)


def make(source: Iterable[Planned], options: Options, overviews: Overviews | None = None) -> None:
    """Makes all videos that are asked for and not there yet.

    Args:
        source: what is asked for; gone through twice or more.
        options: how.
        overviews: of all of them, if there are any.

    Raises:
        MPVideoError: something does not fit, which is found before any work; or some could not be made.
        SystemExit: a signal came.
    """
    began, survey = time.monotonic(), _Survey()
    plan = make_plan(source, options.checker(), on_look=survey.look)
    missing = plan.count(Fate.MAKE)
    warnings = () if overviews is None else overviews.check(missing=missing)
    for warning in dict.fromkeys([*survey.warnings(), *warnings]):
        tell(f"warning: {warning}", quiet=options.quiet)
    if options.dry_run:
        _rehearse(plan, survey, options)
        return
    run = _Run(options, survey, began=began, planned=plan.mine, missing=missing)
    with Journal(options.journal) as journal:
        journal.write("begin", share=str(options.share), planned=plan.mine, found=plan.count(Fate.FOUND))
        run.run(plan.to_make, journal, overviews)


def share_of(shard: str | None) -> Share:
    """What --shard asks for.

    Raises:
        UsageError: it is no such thing.
    """
    if shard is None:
        return Share()
    try:
        return parse_share(shard)
    except ValueError as error:
        raise UsageError(
            f"--shard: {error}", hint="Shards are numbered from 1: of 16, they are 1/16 to 16/16."
        ) from None


def _rehearse(plan: Plan, survey: "_Survey", options: Options) -> None:
    """Says what would be made, and how long it would take.

    Raises:
        MPVideoError: some of it could not be made.
    """
    rehearsal = Rehearsal(as_json=options.as_json)
    for request in plan.to_make(rehearsal):
        rehearsal.to_make(request)
    batch_size = 1 if options.exact else options.batch_size
    placement, paces = None, {}
    if survey.samplings:
        from mpvideo.batch.estimate import measure_pace
        from mpvideo.device import choose_placement

        placement = choose_placement(options.device, options.dtype, compiled=options.compiled)
        for sources, first in survey.firsts.items():
            paces[measure_pace(first, placement, batch_size)] = survey.work(sources)
    tell_expected(paces, placement, batch_size=batch_size, as_json=options.as_json)
    if rehearsal.refusals:
        raise MPVideoError(f"{counted(rehearsal.refusals, 'video')} of {plan.mine:,} could not be made")


def make_stream(source: Callable[[Callable[[], bool]], Iterator[Planned | None]], options: Options) -> None:
    """Makes videos that are asked for while others are made.

    Args:
        source: given what says whether to stop, gives what is asked for; None where for now there is nothing.
        options: how.

    Raises: as `make`.
    """
    run = _Run(options, _Survey(), began=time.monotonic(), planned=None, missing=None)

    def to_make(watcher: Reporter) -> Iterator[Request | None]:
        return stream_to_make(source(watcher.stopping), options.checker(), watcher)

    with Journal(options.journal) as journal:
        journal.write("begin", share=str(options.share), planned=None, found=0)
        run.run(to_make, journal, None)


class _Survey:
    """What is found out about all requests at the first look.

    Attributes:
        samplings: how many are to be made with which checkpoint and settings of the sampler.
        firsts: the first request of each checkpoint.
    """

    def __init__(self) -> None:
        self.samplings: Counter[tuple[Sources, SamplingConfig]] = Counter()
        self.firsts: dict[Sources, Request] = {}
        self._warnings: dict[str, None] = {}
        self._looks: set[object] = set()
        self._guided: dict[Sources, bool] = {}

    def look(self, planned: Planned, fate: Fate) -> None:
        """Takes note of a request."""
        if not isinstance(planned, Request) or fate != Fate.MAKE:
            return
        sources = planned.sources
        self.samplings[sources, planned.sampling] += 1
        self.firsts.setdefault(sources, planned)
        self._guided[sources] = self._guided.get(sources, False) or planned.sampling.guidance != 1
        look = (planned.path.suffix, planned.encoding, sources)
        if look not in self._looks:
            self._looks.add(look)
            channels = sources.checkpoint.config.video.pixel_channels
            for warning in warnings_about(planned.path, channels=channels, encoding=planned.encoding):
                self._warnings[warning] = None

    def work(self, only: Sources | None = None) -> tuple[int, int]:
        """How many videos are to be made, and evaluations of the network for them; by one checkpoint or by all."""
        from mpvideo.generation import count_evaluations

        mine = {key: count for key, count in self.samplings.items() if only in (None, key[0])}
        return sum(mine.values()), sum(count_evaluations(sampling) * count for (_, sampling), count in mine.items())

    def is_guided(self, sources: Sources) -> bool:
        """Whether a video of theirs is made under guidance; they may be unknown, if jobs come as they come."""
        return self._guided.get(sources, True)

    def warnings(self) -> Iterator[str]:
        """What the user should know."""
        yield from self._warnings
        if any(sources.guide is not None and not guided for sources, guided in self._guided.items()):
            yield "--guide has no effect at --guidance 1"


class _Run:
    """One run.

    Args:
        options: how it is made.
        survey: of its requests.
        began: when, by `time.monotonic`.
        planned: how many videos fall to it; None if that is not known.
        missing: how many of these are to be made.
    """

    def __init__(
        self, options: Options, survey: _Survey, *, began: float, planned: int | None, missing: int | None
    ) -> None:
        self._options, self._survey, self._planned, self._missing = options, survey, planned, missing
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
        options = self._options
        with ExitStack() as stack:
            shown = Shown(())
            if overviews is not None:
                shown = stack.enter_context(overviews.writing(as_json=options.as_json, missing=self._missing or 0))
            placement = self._placement() if self._missing != 0 else None
            self._ticker = stack.enter_context(
                progress("sampling", self._evaluations(), "evaluations", quiet=options.quiet or self._missing == 0)
            )
            stopping = stack.enter_context(Stopping(self._say_stopping))
            reporter = Reporter(
                self._ticker,
                shown,
                journal,
                options.device,
                total=self._planned,
                stopping=lambda: bool(stopping),
                quiet=options.quiet,
                as_json=options.as_json,
            )
            requests = to_make(reporter)
            if placement is None:
                for _ in requests:  # none: it tells of those that are there, or cannot be made
                    pass
            else:
                self._make(requests, placement, reporter)
            if stopping and self._left(reporter) != 0:
                with self._ticker.paused():
                    self._stop(reporter, journal, stopping)
        self._end(reporter, journal)

    def _make(self, requests: Iterator[Request | None], placement: "Placement", reporter: Reporter) -> None:
        from mpvideo.batch.runner import make_videos

        options = self._options
        make_videos(
            requests,
            load=lambda sources: self._load(sources, placement),
            batch_size=1 if options.exact else options.batch_size,
            overwrite=options.overwrite,
            watcher=reporter,
        )

    def _placement(self) -> "Placement":
        # All that can be known is known to be right before torch, which takes a second, is imported.
        from mpvideo.device import choose_placement

        options = self._options
        placement = choose_placement(options.device, options.dtype, compiled=options.compiled)
        for warning in placement.warnings:
            tell(f"warning: {warning}", quiet=options.quiet)
        return placement

    def _load(self, sources: Sources, placement: "Placement") -> "Model":
        """The model of a checkpoint: one that is loaded still, or else read now."""
        model = self._models.pop(sources, None)
        if model is None:
            while len(self._models) >= _MODELS:
                del self._models[next(iter(self._models))]
            try:
                model = sources.load(placement)
            except OutOfMemoryError:
                if not self._models:
                    raise
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

    def _evaluations(self) -> int | None:
        """How many there are to make; None if that is not known."""
        return self._survey.work()[1] if self._missing else self._missing

    def _say_stopping(self) -> None:
        self._ticker.say("stopping after this step; once more ends at once")

    def _left(self, reporter: Reporter) -> int | None:
        """How many videos nothing is known of yet; None if it is not known how many there are."""
        return None if self._planned is None else self._planned - reporter.counts.total()

    def _stop(self, reporter: Reporter, journal: Journal, stopping: Stopping) -> NoReturn:
        """Says what is left, and ends the program."""
        left = self._left(reporter)
        journal.write("stopped", left=left)
        rest = "" if left is None else f", {counted(left, 'video')} left; the same command makes what is missing"
        tell(f"stopped after {self._seconds:.1f} s: {reporter.summary}{rest}")
        stopping.end()

    def _end(self, reporter: Reporter, journal: Journal) -> None:
        """Says how it went."""
        journal.write("end")
        failure = reporter.failure
        if self._planned != 1:
            tell(f"done in {self._seconds:.1f} s: {reporter.summary}", quiet=self._options.quiet)
        elif failure is None:
            tell(f"done in {self._seconds:.1f} s", quiet=self._options.quiet)
        if failure is not None:
            raise failure

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

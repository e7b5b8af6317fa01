"""Makes what `sample` and `batch` were asked for."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mpvideo.batch.crew import Crew, join_crew, launched
from mpvideo.batch.journal import Journal
from mpvideo.batch.plan import Fate, Plan, Planned, make_plan, stream_to_make
from mpvideo.batch.request import Request
from mpvideo.batch.share import Share, parse_share
from mpvideo.cli.overviews import Overviews
from mpvideo.cli.rehearsal import Expected, Rehearsal, tell_expected
from mpvideo.cli.reporting import Reporter, not_made
from mpvideo.cli.run import Options, Run
from mpvideo.cli.streams import tell
from mpvideo.cli.survey import Survey
from mpvideo.errors import MPVideoError, UsageError
from mpvideo.text import printable

if TYPE_CHECKING:
    from mpvideo.device import Placement


def make(source: Iterable[Planned], options: Options, overviews: Overviews | None = None) -> None:
    """Makes all videos that are asked for and not there yet: those that fall to this process.

    Args:
        source: what is asked for; gone through twice or more.
        options: how.
        overviews: of all of them, if there are any.

    Raises:
        MPVideoError: something does not fit, which is found before any work; or some could not be made.
        SystemExit: a signal came.
    """
    began = time.monotonic()
    number, processes = launched()
    if overviews is not None and options.share.count * processes > 1:
        raise UsageError(
            "--grid and --sheet show all videos, and cannot be divided among processes",
            hint="When all are made, give them to the same command in one process: it makes nothing else.",
        )
    if options.dry_run:
        if number == 0:  # for all processes
            _rehearse(*_look(source, options, overviews), options, processes)
        return
    with join_crew() as crew:
        options = options.of_one(crew)
        plan, survey = _look(source, options, overviews)
        missing, found = plan.count(Fate.MAKE), plan.count(Fate.FOUND)
        run = Run(options, crew, survey, began=began, planned=plan.mine, missing=missing, found=found)
        with Journal(options.own_journal) as journal:
            journal.write("begin", share=str(options.share), planned=plan.mine, found=found)
            run.run(plan.to_make, journal, overviews)


def _look(source: Iterable[Planned], options: Options, overviews: Overviews | None) -> tuple[Plan, Survey]:
    """Looks at everything before any work, and warns of what the user should know.

    Raises:
        MPVideoError: something does not fit.
    """
    survey = Survey()
    plan = make_plan(source, options.checker(), on_look=survey.look)
    if plan.streamed and options.as_json and not options.dry_run:
        raise UsageError("--json cannot be given together with --out -: standard output has the video")
    warnings = [*survey.warnings()] if plan.fates else ["the file has no jobs"]
    if overviews is not None:
        for option, path in (("--grid", overviews.grid), ("--sheet", overviews.sheet)):
            if path is not None:
                plan.checker.check_kept(option, path)
        warnings += overviews.check(missing=plan.count(Fate.MAKE), taken=plan.checker.taken, finished=options.finished)
    for warning in dict.fromkeys(warnings):
        tell(f"warning: {warning}", quiet=options.quiet)
    return plan, survey


def options_of(params: Mapping[str, Any], **others: Any) -> Options:
    """The options of a run from what a command was given, by the names of its parameters, with others in their place.

    Raises:
        UsageError: one is out of range.
    """
    given = {each.name: params[each.name] for each in dataclasses.fields(Options) if each.name in params}
    return Options(**{**given, "share": _share_of(params["shard"]), **others})


def _share_of(shard: str | None) -> Share:
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


def _rehearse(plan: Plan, survey: Survey, options: Options, processes: int) -> None:
    """Says what would be made, and how long it would take so many processes.

    Raises:
        MPVideoError: some of it could not be made.
    """
    rehearsal = Rehearsal(as_json=options.as_json)
    for request in plan.to_make(rehearsal):
        rehearsal.to_make(request)
    placement: Placement | None = None
    expected: list[Expected] = []
    if survey.samplings:
        from mpvideo.batch.estimate import measure_pace
        from mpvideo.device import choose_placement

        placement = choose_placement(options.device, options.dtype, compiled=options.compiled)
        for warning in placement.warnings:
            tell(f"warning: {warning}", quiet=options.quiet)
        for sources, first in survey.firsts.items():
            videos, passes = survey.work(sources)
            at_once = 1 if first.exact else min(options.at_once, -(-videos // processes))
            try:
                pace = measure_pace(first, placement, at_once)
            except MPVideoError as error:
                tell(f"error: {printable(sources.checkpoint.name)} could not be measured: {error.message}")
                rehearsal.fail(error, first, videos)
                continue
            expected.append(Expected(pace=pace, videos=videos, passes=passes, at_once=at_once))
    tell_expected(expected, placement, processes=processes, as_json=options.as_json, quiet=options.quiet)
    if rehearsal.failed:
        raise not_made(rehearsal.failed, plan.mine, rehearsal.codes, rehearsal.what)


def make_stream(source: Callable[[Callable[[], bool]], Iterator[Planned | None]], options: Options) -> None:
    """Makes videos that are asked for while others are made.

    Args:
        source: given what says whether to stop, gives what is asked for; None where for now there is nothing.
        options: how.

    Raises: as `make`.
    """
    if launched()[1] > 1:
        raise UsageError("standard input cannot be divided among processes", hint="Give the jobs in a file.")
    run = Run(options, Crew(), Survey(), began=time.monotonic(), planned=None, missing=None, found=0)

    came_in = False  # whoever is to make it

    def incoming(stopping: Callable[[], bool]) -> Iterator[Planned | None]:
        nonlocal came_in
        for planned in source(stopping):
            came_in = came_in or planned is not None
            yield planned

    def to_make(watcher: Reporter) -> Iterator[Request | None]:
        warned: set[str] = set()
        for request in stream_to_make(incoming(watcher.stopping), options.checker(), watcher):
            for warning in () if request is None else request.warnings:
                if warning not in warned:
                    warned.add(warning)
                    watcher.warn(f"{request.where}: {warning}" if request else warning)
            yield request
        if not came_in and not watcher.stopping():
            watcher.warn("no jobs came in")

    with Journal(options.own_journal) as journal:
        journal.write("begin", share=str(options.share), planned=None, found=0)
        run.run(to_make, journal, None)

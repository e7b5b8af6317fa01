"""`mpvideo batch`: make the videos of a list of jobs."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mpvideo.batch.journal import PastRun, journals_of, read_journal
from mpvideo.cli.options import OUTPUT_PANEL, AsJson, Quiet, given_options
from mpvideo.cli.sampling_options import VIDEO_PANEL, BatchSize, Compile, Device, Dtype, Exact
from mpvideo.cli.streams import tell, write_result
from mpvideo.cli.writing import DryRun, JournalPath, Overwrite, Shard
from mpvideo.errors import MPVideoError, UsageError
from mpvideo.job import BATCH_SIZE
from mpvideo.text import printable

PIPE = Path("-")
"""Stands for standard input."""

_OF_STATUS = {"jobs", "journal", "status", "quiet", "as_json"}
"""Parameters that matter with --status."""


def batch(
    context: typer.Context,
    jobs: Annotated[
        Path,
        typer.Argument(metavar="JOBS", help="A file of jobs, .jsonl, .csv or .toml; - for JSON lines as they come in."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="For jobs without one: see `mpvideo sample`.",
            rich_help_panel=VIDEO_PANEL,
        ),
    ] = None,
    overwrite: Overwrite = False,
    journal: JournalPath = None,
    shard: Shard = None,
    dry_run: DryRun = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    compiled: Compile = False,
    batch_size: BatchSize = BATCH_SIZE,
    exact: Exact = False,
    status: Annotated[
        bool,
        typer.Option("--status", help="Say how far the last run came, by its journal.", rich_help_panel=OUTPUT_PANEL),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make the videos of a list of jobs.

    A job is an object of options of `mpvideo sample`, such as {"seed": "0-3", "class": 207, "out": "{seed}.mp4"}. A
    file of jobs is made checkpoint after checkpoint, each loaded once; jobs that fit are sampled together. What is
    there already, made with the same settings and weights, is not made again: after a crash, the same command makes the
    rest. What goes wrong with one job does not touch the others. The journal, JOBS.journal, says what was made and what
    failed.

    \b
    mpvideo batch jobs.jsonl
    mpvideo batch jobs.csv --out "runs/{index:05d}.mp4" --dry-run
    mpvideo batch jobs.jsonl --status
    producer | mpvideo batch -
    """
    if status:
        for parameter in context.command.params:
            if parameter.name in given_options(context) - _OF_STATUS:
                tell(f"warning: {parameter.opts[0]} has no effect with --status", quiet=quiet)
        tell_status(jobs, journal, as_json=as_json)
        return
    from mpvideo.cli.jobs import JobFile, JobReader, requests_from
    from mpvideo.cli.making import make, make_stream, options_of

    if jobs != PIPE and journal is None:
        journal = _beside(jobs)
    options = options_of(context.params, journal=journal)
    sample = context.find_root().command.commands["sample"]  # type: ignore[attr-defined]
    reader = JobReader(sample, out, dtype=dtype, exact=exact, anew=jobs == PIPE)
    if jobs != PIPE:
        make(JobFile(jobs, reader), options)
    elif dry_run:
        raise UsageError("--dry-run must have a file of jobs, got standard input")
    else:
        if sys.stdin is None:
            raise UsageError("standard input, which is to have the jobs, is closed")
        make_stream(requests_from(sys.stdin.fileno(), reader), options)


def tell_status(jobs: Path, journal: Path | None, *, as_json: bool) -> None:
    """Says how far the last run of a batch came.

    Raises:
        UsageError: there is no journal.
        MPVideoError: it cannot be read.
    """
    journal = journal or _beside(jobs)
    paths = journals_of(journal) if journal.parent.is_dir() else []
    if not paths:
        raise UsageError(
            f"there is no journal {printable(journal)}", hint="Has it been run? Give --journal if that is elsewhere."
        )
    runs, unread = [], []
    for path in paths:
        try:
            runs.append(read_journal(path))
        except MPVideoError as error:  # such as one that a shard has just begun
            unread.append(error)
    if not runs:
        raise unread[0]
    for each in unread:
        tell(f"warning: {each.message}")
    # Earlier runs may have divided the jobs in another way.
    divided = max(runs, key=lambda run: run.began).share.partition("/")[2]
    latest = [run for run in runs if run.share.partition("/")[2] == divided]
    for run in latest:
        if as_json:
            write_result(json.dumps({**asdict(run), "path": os.fspath(run.path), "left": run.left}) + "\n")
        else:
            write_result("\n".join(_status_lines(run)) + "\n")
    if len(latest) > 1 and not as_json:
        write_result(_total_line(latest, shards=divided) + "\n")


def _beside(jobs: Path) -> Path:
    """The journal of a file of jobs."""
    return Path(f"{jobs}.journal")  # with_name refuses . and /


def _counts(runs: Sequence[PastRun]) -> str:
    """What became of the videos of some runs, in words."""
    numbers = {
        "made": sum(run.made for run in runs),
        "there already": sum(run.found for run in runs),
        "failed": sum(len(run.failed) for run in runs),
        "left": sum(run.left or 0 for run in runs),
    }
    return ", ".join(f"{count:,} {words}" for words, count in numbers.items() if count) or "nothing to do"


def _total_line(runs: Sequence[PastRun], *, shards: str) -> str:
    """The sum of all shards."""
    planned = f"{sum(run.planned or 0 for run in runs):,} videos: "
    begun = "" if str(len(runs)) == shards else f"; {len(runs)} of {printable(shards)} have begun"
    return f"all shards: {planned}{_counts(runs)}{begun}"


def _status_lines(run: PastRun) -> list[str]:
    ended = {"end": "ended", "stopped": "was stopped", None: "is running or was killed"}[run.ended]
    why = f": {printable(run.error, 300)}" if run.error else ""
    share = "" if run.share == "1/1" else f"shard {printable(run.share)}: "
    pace = f", {run.seconds / run.made:.2f} s a video" if run.made else ""
    planned = "" if run.planned is None else f"{run.planned:,} videos: "
    lines = [
        f"{share}{planned}{_counts([run])}",
        f"began {printable(run.began)}, {ended} {printable(run.latest)}{pace}{why}",
    ]
    return lines + [f"failed: {printable(where)}: {printable(error, 300)}" for where, error in run.failed.items()]

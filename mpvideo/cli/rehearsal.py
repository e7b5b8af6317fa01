"""--dry-run: what would be made, how many, and how long it would take."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpvideo.batch.plan import Planned, Unusable
from mpvideo.batch.request import Request
from mpvideo.blend import to_json
from mpvideo.cli.streams import tell, write_result
from mpvideo.errors import ExitCode, MPVideoError
from mpvideo.text import counted, printable

if TYPE_CHECKING:
    from mpvideo.batch.estimate import Pace
    from mpvideo.device import Placement


class Rehearsal:
    """Prints a plan, a line for each video: a `mpvideo.batch.plan.PlanWatcher`.

    Args:
        as_json: one object a line.

    Attributes:
        failed: how many videos could not be made.
        codes: exit codes of what is in their way.
        what: the last of them.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.failed = 0
        self.codes: set[ExitCode] = set()
        self.what: object | None = None

    def to_make(self, request: Request) -> None:
        """It would be made."""
        self._line(request, "to make")

    def found(self, request: Request) -> None:
        """Its file is there."""
        self._line(request, "there already")

    def refused(self, planned: Planned, error: MPVideoError) -> None:
        """It cannot be made."""
        self.fail(error, planned, 1)
        self._line(planned, "cannot be made", error=error.message)

    def fail(self, error: MPVideoError, planned: Planned, videos: int) -> None:
        """So many cannot be made, of which this is one, and why."""
        self.failed += videos
        self.codes.add(error.exit_code)
        self.what = planned.where if isinstance(planned, Unusable) else planned.path

    def _line(self, planned: Planned, state: str, **more: str) -> None:
        if isinstance(planned, Unusable):
            about: dict[str, Any] = {"where": planned.where}
        else:
            about = {
                "path": str(planned.path),
                "class": planned.class_index,
                "seed": planned.seed,
                "guidance": planned.sampling.guidance,
                "sampler": planned.sampling.sampler,
                "steps": planned.sampling.steps,
                "checkpoint": planned.sources.name or planned.sources.checkpoint.name,
            }
        if self._as_json:
            write_result(json.dumps({"index": planned.index, "state": state, **about, **more}, default=to_json) + "\n")
            return
        name = about.pop("path", None) or about.pop("where")
        settings = ", ".join(f"{key} {value}" for key, value in about.items() if value is not None)
        write_result(f"{printable(name, 10_000)}: {', '.join(filter(None, (state, more.get('error'), settings)))}\n")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is to be made with one checkpoint, and how fast that goes.

    Attributes:
        pace: as it was measured.
        videos, passes: how many videos are to be made, and passes of the network for them.
        at_once: how many videos are sampled at once.
    """

    pace: "Pace"
    videos: int
    passes: int
    at_once: int


def tell_expected(
    expected: Sequence[Expected], placement: "Placement | None", *, processes: int, as_json: bool, quiet: bool
) -> None:
    """Says how long a batch would take.

    Args:
        expected: of each checkpoint.
        placement: where it was measured; None if there is nothing to make.
        processes: how many would divide the work.
        as_json: one object.
        quiet: nothing else.
    """
    videos = sum(each.videos for each in expected)
    passes = sum(each.passes for each in expected)
    loading = sum(each.pace.loading for each in expected)
    sampling = sum(each.pace.one_pass * each.passes for each in expected)
    writing = sum(each.pace.writing * each.videos for each in expected)
    # A GPU samples while the processor writes; a processor does both, one after the other at worst.
    on_cpu = placement is not None and placement.device_name == "cpu"
    seconds = loading + (sampling + writing if on_cpu else max(sampling, writing)) / processes
    if as_json:
        about = {"videos": videos, "passes": passes, "seconds": round(seconds, 3)}
        write_result(json.dumps({**about, "loading": loading, "sampling": sampling, "writing": writing}) + "\n")
        return
    said = f"{counted(videos, 'video')} to make, {counted(passes, 'pass')} of the network"
    if placement is None:
        tell(said, quiet=quiet)
        return
    batches = f"in batches of {max(each.at_once for each in expected)}"
    beside = "" if on_cpu else " beside it"
    divided = f", divided by {processes} processes" if processes > 1 else ""
    tell(
        f"{said}\nexpected: {span(seconds)} on {placement.words}, measured just now {batches}: "
        f"{span(loading)} loading, {span(sampling)} sampling, {span(writing)} writing{beside}{divided}",
        quiet=quiet,
    )


def span(seconds: float) -> str:
    """A time in words: '0.8 s', '1 min 23 s', '2 h 5 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"

"""--dry-run: what would be made, how many, and how long it would take."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpvideo.batch.plan import Planned, Unusable
from mpvideo.batch.request import Request
from mpvideo.cli.streams import tell, write_result
from mpvideo.errors import MPVideoError
from mpvideo.text import counted, printable

if TYPE_CHECKING:
    from mpvideo.batch.estimate import Pace
    from mpvideo.device import Placement


class Rehearsal:
    """Prints a plan, a line for each video: a `mpvideo.batch.plan.PlanWatcher`.

    Args:
        as_json: one object a line.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.refusals = 0

    def to_make(self, request: Request) -> None:
        """It would be made."""
        self._line(request, "to make")

    def found(self, request: Request) -> None:
        """Its file is there."""
        self._line(request, "there already")

    def refused(self, planned: Planned, error: MPVideoError) -> None:
        """It cannot be made."""
        self.refusals += 1
        self._line(planned, "cannot be made", error=error.message)

    def _line(self, planned: Planned, state: str, **more: str) -> None:
        if isinstance(planned, Unusable):
            about: dict[str, Any] = {"where": planned.where}
        else:
            about = {
                "path": str(planned.path),
                "class": _json(planned.class_index),
                "seed": _json(planned.seed),
                "guidance": planned.sampling.guidance,
                "sampler": planned.sampling.sampler,
                "steps": planned.sampling.steps,
                "checkpoint": planned.sources.checkpoint.name,
            }
        if self._as_json:
            write_result(json.dumps({"index": planned.index, "state": state, **about, **more}) + "\n")
            return
        name = about.pop("path", None) or about.pop("where")
        settings = ", ".join(f"{key} {value}" for key, value in about.items() if value is not None)
        write_result(f"{printable(name, 10_000)}: {', '.join(filter(None, (state, more.get('error'), settings)))}\n")


def tell_expected(
    paces: Mapping["Pace", tuple[int, int]], placement: "Placement | None", *, batch_size: int, as_json: bool
) -> None:
    """Says how long a batch would take.

    Args:
        paces: the pace of each checkpoint, with how many videos and evaluations of the network it is to make.
        placement: where it was measured; None if there is nothing to make.
        batch_size: in batches of how many.
        as_json: one object.
    """
    videos = sum(count for count, _ in paces.values())
    evaluations = sum(number for _, number in paces.values())
    loading = sum(pace.loading for pace in paces)
    sampling = sum(pace.evaluation * number for pace, (_, number) in paces.items())
    writing = sum(pace.writing * count for pace, (count, _) in paces.items())
    # A GPU samples while the processor writes; a processor does both, one after the other at worst.
    on_cpu = placement is not None and placement.device_name == "cpu"
    seconds = loading + (sampling + writing if on_cpu else max(sampling, writing))
    if as_json:
        about = {"videos": videos, "evaluations": evaluations, "seconds": round(seconds, 3)}
        write_result(json.dumps({**about, "loading": loading, "sampling": sampling, "writing": writing}) + "\n")
        return
    said = f"{counted(videos, 'video')} to make, {counted(evaluations, 'evaluation')} of the network"
    if placement is None:
        tell(said)
        return
    tell(
        f"{said}\nexpected: {span(seconds)} on {placement.words}, measured just now in batches of {batch_size}: "
        f"{span(loading)} loading, {span(sampling)} sampling, {span(writing)} writing beside it"
    )


def span(seconds: float) -> str:
    """A time in words: '0.8 s', '1 min 23 s', '2 h 5 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _json(value: Any) -> Any:
    return value.to_list() if hasattr(value, "to_list") else value

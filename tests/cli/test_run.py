"""How a run of several processes ends: this one, which has nothing to make, and another one."""

import signal
from collections.abc import Callable

import pytest

from mpvideo.batch import crew
from mpvideo.batch.crew import Crew
from mpvideo.batch.journal import Journal
from mpvideo.cli import run
from mpvideo.cli.run import Options, Run
from mpvideo.cli.survey import Survey
from mpvideo.processes import Processes

OPTIONS = Options(
    device="cpu", dtype="float32", compiled=False, batch_size=1, exact=False, overwrite=False, quiet=False,
    as_json=False,
)  # fmt: skip


class Clock:
    """Stands in for the module `time`: it goes while somebody sleeps, and things happen at their seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: dict[float, Callable[[], object]] = {}

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 1000, "it would wait for ever"
        for moment in sorted(moment for moment in self.events if moment <= self.now):
            self.events.pop(moment)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (crew, run):
        monkeypatch.setattr(module, "time", clock)
    return clock


def run_beside_another(clock: Clock, *, comes: float, made: int, signal_at: float | None = None) -> None:
    """Goes through a run whose other process has three videos to make, and says at a second how many it made."""
    both = Crew(Processes(count=2))
    both.add("planned", 3)
    both.add("planned all", 1)
    clock.events[comes] = lambda: (both.add("made", made), both.add("done", 1))
    if signal_at is not None:
        clock.events[signal_at] = lambda: signal.raise_signal(signal.SIGTERM)
    this = Run(OPTIONS, both, Survey(), began=0.0, planned=0, missing=0, found=0)
    this.run(lambda reporter: iter(()), Journal(None), None)


def test_without_a_signal_the_other_is_waited_for_however_long(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    run_beside_another(clock, comes=100.1, made=3)
    assert capsys.readouterr().err == "done in 100.2 s: 3 made\n"


def test_after_a_signal_the_other_has_a_while_to_say_how_far_it_came(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted from the signal, not from when this one began to wait."""
    with pytest.raises(SystemExit) as ended:
        run_beside_another(clock, signal_at=60.1, comes=64.1, made=2)
    assert ended.value.code == 143
    assert ": 2 made, 1 video left; the same command " in capsys.readouterr().err


def test_after_a_signal_the_other_is_not_waited_for_for_ever(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_beside_another(clock, signal_at=60.1, comes=2000, made=2)
    assert ended.value.code == 143 and 65 < clock.now < 66
    assert ": none made, 3 videos left; the same command " in capsys.readouterr().err

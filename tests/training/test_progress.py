"""What is told of a training's loss and speed."""

from collections.abc import Callable

import pytest
import torch

from mpvideo.training import progress
from mpvideo.training.progress import LossMeter
from mpvideo.training.trainer import StepReport


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    def passing(seconds: float) -> None:
        clock[0] += seconds

    return passing


def report(*losses: float, sigma: float = 1.0, nonfinite: int = 0) -> StepReport:
    return StepReport(sigma=torch.full((len(losses),), sigma), loss=torch.tensor(losses), nonfinite=nonfinite)


def test_a_record(wait: Callable[[float], None]) -> None:
    meter = LossMeter()
    assert meter.record(step=0, samples=0, rate=0.0) is None
    wait(2)
    meter.add(report(0.5, 0.7, sigma=0.1, nonfinite=3))
    wait(2)
    meter.add(report(2.0, sigma=7.0, nonfinite=1))
    record = meter.record(step=2, samples=3, rate=0.25)
    assert record is not None
    assert (record.step, record.samples, record.learning_rate, record.nonfinite_gradients) == (2, 3, 0.25, 4)
    assert (record.loss, record.seconds, record.samples_per_second) == (pytest.approx(3.2 / 3), 4, 0.75)
    levels = record.loss_by_sigma
    assert list(levels) == ["<0.1", "<0.2", "<0.4", "<0.8", "<1.6", "<3.2", "<6.4", ">=6.4"]
    assert levels["<0.2"] == pytest.approx(0.6)
    assert levels[">=6.4"] == 2
    assert [level for name, level in levels.items() if name not in ("<0.2", ">=6.4")] == [None] * 6
    assert meter.record(step=2, samples=3, rate=0.25) is None
    assert meter.seconds == 0


def test_words_look_back_half_a_minute_and_over_records(wait: Callable[[float], None]) -> None:
    meter = LossMeter()
    for loss in (9.0, 1.0, 2.0, 3.0, 4.0):
        wait(10)
        meter.add(report(loss, loss))
        meter.record(step=1, samples=2, rate=0.0)
    assert meter.words == "loss 3.000, 0.2 samples/s"
    wait(100)
    meter.add(report(1.0, 1.0))
    assert meter.words == "loss 1.000, 0.0 samples/s"

"""What a training tells of itself while it goes on."""

import math
import time
from collections import deque
from itertools import pairwise
from typing import Protocol

import torch

from mpvideo.training.log import LogRecord
from mpvideo.training.trainer import StepReport

SIGMA_EDGES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Between these noise levels the log gives the loss apart: a wall at one of them does not show in the mean."""


class Watcher(Protocol):
    """Is told how a training goes, and may end it."""

    def say(self, line: str) -> None:
        """Takes a line of text."""
        ...

    def advance(self, phase: str, step: int, total: int, words: str) -> None:
        """Takes that `step` of the `total` steps of a phase ('autoencoder' or 'network') are done, and a few words."""
        ...

    def stopping(self) -> bool:
        """Whether to save and end, asked after each step."""
        ...


_RECENT = 30.0
"""Seconds over which a line of progress looks back; records of the log come more often."""


class LossMeter:
    """Gathers the losses of steps until a record of them is asked for."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._reports: list[StepReport] = []
        self._recent: deque[tuple[float, int, float]] = deque([(self.began, 0, 0.0)])

    def add(self, report: StepReport) -> None:
        """Takes in one step."""
        self._reports.append(report)
        now = time.monotonic()
        self._recent.append((now, len(report.loss), float(report.loss.sum())))
        while len(self._recent) > 2 and self._recent[1][0] <= now - _RECENT:
            self._recent.popleft()

    @property
    def seconds(self) -> float:
        """How long it has been gathering."""
        return time.monotonic() - self.began

    @property
    def words(self) -> str:
        """The loss and the speed of the last half minute, for a line of progress."""
        (began, _, _), *steps = self._recent
        samples = sum(count for _, count, _ in steps)
        loss = sum(total for _, _, total in steps) / max(samples, 1)
        return f"loss {loss:.3f}, {samples / max(self._recent[-1][0] - began, 1e-9):.1f} samples/s"

    def record(self, *, step: int, samples: int, rate: float) -> LogRecord | None:
        """What was gathered, as a line of the log, or None if nothing was; then it begins anew.

        Args:
            step: number of steps taken in all.
            samples: number of samples seen in all.
            rate: the learning rate of the last step.
        """
        if not self._reports:
            return None
        sigma = torch.cat([report.sigma for report in self._reports])
        loss = torch.cat([report.loss for report in self._reports])
        levels: dict[str, float | None] = {}
        for low, high in pairwise((0.0, *SIGMA_EDGES, math.inf)):
            within = loss[(sigma >= low) & (sigma < high)]
            name = f"<{high:g}" if math.isfinite(high) else f">={low:g}"
            levels[name] = float(within.mean()) if len(within) else None
        record = LogRecord(
            step=step,
            samples=samples,
            loss=float(loss.mean()),
            loss_by_sigma=levels,
            learning_rate=rate,
            samples_per_second=len(loss) / max(self.seconds, 1e-9),
            seconds=self.seconds,
            nonfinite_gradients=sum(report.nonfinite for report in self._reports),
        )
        self._reports = []
        self.began = time.monotonic()
        return record

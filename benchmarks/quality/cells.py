"""One cell of the table: videos sampled in one way, measured, and kept."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpvideo.config import SamplingConfig
from mpvideo.evaluation.judge import Reading, load_judge
from mpvideo.evaluation.world import FIRST_REAL_SEED, compare, fresh_renderings
from mpvideo.files import atomic_path
from mpvideo.generation import generate
from mpvideo.job import Job
from mpvideo.menagerie import render
from mpvideo.model import Model

REFERENCE = "reference"
"""The name of the cell that the others are compared with."""

Row = dict[str, Any]
"""What was measured of a cell, as JSON takes it."""


@dataclass(frozen=True)
class Cell:
    """A way to sample.

    Attributes:
        name: of the solver, the preset or the file.
        sampling: all settings.
        clamp: whether estimates are clamped; None for what the checkpoint says.
    """

    name: str
    sampling: SamplingConfig
    clamp: bool | None = None

    @property
    def key(self) -> str:
        """A file's name that is another for other settings."""
        about = json.dumps([dataclasses.asdict(self.sampling), self.clamp], sort_keys=True)
        return f"{self.name}-{self.sampling.num_evaluations}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Protocol:
    """What the numbers of a folder have in common; they compare with no others."""

    sha256: str
    videos: int
    seed: int
    guidance: float
    guidance_interval: list[float] | None
    guidance_hold: bool
    dtype: str
    batch_size: int


class Bench:
    """A folder of measurements, and what it takes to make more.

    Args:
        folder: made if it is missing.
        model: what samples.
        protocol: what all cells have in common.
        classes: of the videos.

    Raises:
        SystemExit: the folder's measurements are of another protocol.
    """

    def __init__(self, folder: Path, model: Model, protocol: Protocol, classes: list[int]) -> None:
        self._folder, self._model, self._protocol, self._classes = folder, model, protocol, classes
        self._warm = False
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        path, about = folder / "protocol.json", dataclasses.asdict(protocol)
        if path.exists() and json.loads(path.read_text()) != about:
            raise SystemExit(f"{folder} holds measurements of another protocol: give another --folder")
        path.write_text(json.dumps(about, indent=2) + "\n")

    def measured(self, cell: Cell) -> Row:
        """What was measured of a cell: now, or before."""
        path = self._folder / "cells" / f"{cell.key}.json"
        if path.exists():
            row: Row = json.loads(path.read_text())
            return row
        self._warm_up(cell)
        readings, squares, seconds = [], [], 0.0
        for start in range(0, self._protocol.videos, self._protocol.batch_size):
            began = time.perf_counter()
            frames = self._sampled(cell, start)
            seconds += time.perf_counter() - began
            readings.append(self._judge.read(torch.from_numpy(frames)))
            reference = self._reference(start, frames if cell.name == REFERENCE else None)
            squares.append(np.square(frames.astype(np.float32) - reference).mean((1, 2, 3, 4)))
        comparison = compare(Reading.cat(readings), self._renderings, torch.tensor(self._classes))
        row = {
            "name": cell.name,
            "evaluations": cell.sampling.num_evaluations,
            **{name: share.value for name, share in comparison.accuracy.items()},
            "frechet": comparison.frechet,
            "difference": float(np.sqrt(np.concatenate(squares)).mean()),
            "seconds": seconds / self._protocol.videos,
            "sampling": dataclasses.asdict(cell.sampling),
        }
        with atomic_path(path) as aside:
            aside.write_text(json.dumps(row, indent=2) + "\n")
        return row

    def _warm_up(self, cell: Cell) -> None:
        """Samples a batch in one step, once: the first cell that is measured would take that much longer."""
        if not self._warm:
            brief = {"sampler": "euler", "steps": 1, "sigmas": None, "s_churn": 0.0, "restarts": 0}
            self._sampled(Cell("warm-up", dataclasses.replace(cell.sampling, **brief)), 0)  # type: ignore[arg-type]
            self._warm = True

    def rows(self) -> list[Row]:
        """All cells that were measured, the fewest evaluations first."""
        rows = [json.loads(path.read_text()) for path in (self._folder / "cells").glob("*.json")]
        return sorted(rows, key=lambda row: (row["evaluations"], row["difference"], row["name"]))

    def real(self) -> Row:
        """What other fresh renderings get in the videos' place."""
        seeds = torch.arange(len(self._classes)) * 2 + FIRST_REAL_SEED + 1
        classes = torch.tensor(self._classes)
        parts = zip(classes.split(32), seeds.split(32), strict=True)
        comparison = compare(Reading.cat(self._judge.read(render(*part)) for part in parts), self._renderings, classes)
        accuracy = {name: share.value for name, share in comparison.accuracy.items()}
        return {**accuracy, "frechet": comparison.frechet}

    @cached_property
    def _judge(self) -> Any:
        return load_judge()

    @cached_property
    def _renderings(self) -> Reading:
        """Of the videos' classes, to compare with."""
        return Reading.cat(self._judge.read(frames) for frames in _stacked(fresh_renderings(self._classes), 32))

    def _sampled(self, cell: Cell, start: int) -> np.ndarray:
        """A batch of videos, (B, T, H, W, C) uint8."""
        indices = range(start, min(start + self._protocol.batch_size, self._protocol.videos))
        jobs = [
            Job(
                seed=self._protocol.seed + index,
                class_index=self._classes[index],
                sampling=cell.sampling,
                clamp=cell.clamp,
            )
            for index in indices
        ]
        videos = generate(self._model, jobs, batch_size=len(jobs))
        return np.stack([video.frames for video in videos])

    def _reference(self, start: int, frames: np.ndarray | None) -> np.ndarray:
        """The reference's videos of a batch; they are kept if they are given."""
        path = self._folder / "reference" / f"{start:06d}.npy"
        if frames is not None:
            path.parent.mkdir(exist_ok=True)
            np.save(path, frames)
        kept: np.ndarray = np.load(path)
        return kept


def _stacked(videos: Iterator[np.ndarray], most: int) -> Iterator[Tensor]:
    """Videos in batches."""
    batch: list[np.ndarray] = []
    for video in videos:
        batch.append(video)
        if len(batch) == most:
            yield torch.from_numpy(np.stack(batch))
            batch = []
    if batch:
        yield torch.from_numpy(np.stack(batch))

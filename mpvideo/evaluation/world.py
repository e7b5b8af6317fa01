"""Measures of videos that are to be of the menagerie.

Beside each sampled video two fresh renderings of its class are drawn, from seeds that nothing is trained on: one set to
compare with, and a second that shows what the same comparison gives for real videos.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mpvideo import menagerie
from mpvideo.evaluation.frechet import frechet_distance
from mpvideo.evaluation.judge import ATTRIBUTES, Judge, Reading, judge_sha256
from mpvideo.evaluation.manifold import NEIGHBOURS, precision_recall
from mpvideo.evaluation.nearest import TrainingRenderings
from mpvideo.evaluation.proportion import Proportion

FIRST_REAL_SEED = 2**46
"""The judge learned from seeds upwards of 2**44, generator and autoencoder from lower ones or from 2**47 upwards."""

ALL = "all"
"""The name of the accuracy that counts a video only if animal, coat and motion are right."""

VIDEO_SHAPE = (menagerie.FRAMES, menagerie.SIZE, menagerie.SIZE, 3)
"""What a video must be, (T, H, W, C), for the judge to read it."""

Repaint = Callable[[Tensor], Tensor]
"""Takes frames (B, T, H, W, C), uint8, through a checkpoint's codec and back."""


@dataclass(frozen=True)
class Comparison:
    """A set of videos against as many fresh renderings of the same classes.

    Attributes:
        accuracy: share read as what it was to be: 'animal', 'coat', 'motion', and 'all' three at once.
        frechet: Fréchet distance in the judge's features.
        precision, recall: see `mpvideo.evaluation.manifold`.
    """

    accuracy: dict[str, Proportion]
    frechet: float
    precision: float
    recall: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        accuracy = {name: share.to_dict() for name, share in self.accuracy.items()}
        return {"accuracy": accuracy, "frechet": self.frechet, "precision": self.precision, "recall": self.recall}


@dataclass(frozen=True)
class Confusion:
    """A value that was taken for another.

    Attributes:
        attribute: 'animal', 'coat' or 'motion'.
        value, taken_for: what it was to be, and what it was read as.
        share: how many of those that were to be `value`.
    """

    attribute: str
    value: str
    taken_for: str
    share: Proportion

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        words = {"attribute": self.attribute, "value": self.value, "taken_for": self.taken_for}
        return {**words, "hits": self.share.hits, "total": self.share.total}


@dataclass(frozen=True)
class WorldReport:
    """What was measured.

    Attributes:
        sampled: the videos.
        real: other fresh renderings in their place: what a perfect model would get.
        repainted: the same renderings through the checkpoint's autoencoder and back, the most that a model of its
            latents can reach; None without one.
        confusions: of the sampled videos, those of most videos first.
        nearest, nearest_real: medians of the distances to the nearest training rendering of the class, of sampled
            videos and of fresh renderings; see `mpvideo.evaluation.nearest`. None if there is none of any class.
        training: which training renderings these are.
    """

    sampled: Comparison
    real: Comparison
    repainted: Comparison | None
    confusions: tuple[Confusion, ...]
    nearest: float | None
    nearest_real: float | None
    training: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it, with the protocol that the numbers depend on."""
        nearest, real = self.nearest, self.nearest_real
        ratio = None if nearest is None or real is None else nearest / real
        return {
            "judge": {"sha256": judge_sha256(), "first_real_seed": FIRST_REAL_SEED, "neighbours": NEIGHBOURS},
            "sampled": self.sampled.to_dict(),
            "real": self.real.to_dict(),
            "repainted": self.repainted and self.repainted.to_dict(),
            "confusions": [confusion.to_dict() for confusion in self.confusions],
            "nearest": {"sampled": nearest, "real": real, "ratio": ratio, **self.training},
        }


class WorldMeasure:
    """Is given videos one by one, keeps what was read from them, and reports in the end.

    Args:
        judge: reads the videos.
        training: what the nearest renderings are sought among.
        repaint: the codec's way there and back, or None.
    """

    def __init__(self, judge: Judge, training: TrainingRenderings, repaint: Repaint | None = None) -> None:
        self._judge, self._training, self._repaint = judge, training, repaint
        self._classes: list[int] = []
        self._readings: list[Reading] = []
        self._nearest: list[Tensor] = []

    def add(self, frames: npt.NDArray[np.uint8], class_index: int) -> None:
        """Measures a video, (32, 64, 64, 3), that is to be of the class `class_index`.

        Raises:
            ValueError: frames have another shape, or there is no such class.
        """
        if frames.shape != VIDEO_SHAPE:
            raise ValueError(f"frames must be {VIDEO_SHAPE}, got {frames.shape}")
        first = FIRST_REAL_SEED + 2 * len(self._classes)
        classes = torch.tensor([class_index, class_index])
        reference, other = menagerie.render(classes, torch.tensor([first, first + 1]))
        sampled = torch.from_numpy(frames)
        videos = [sampled, reference, other]
        if self._repaint is not None:
            videos.append(self._repaint(other[None])[0].cpu())
        self._readings.append(self._judge.read(torch.stack(videos)))
        if self._training.count(class_index):  # a short run was not shown every class
            self._nearest.append(self._training.nearest(torch.stack((sampled, other)), class_index))
        self._classes.append(class_index)

    def report(self) -> WorldReport:
        """Sums up.

        Raises:
            ValueError: fewer than four videos were added.
        """
        if not self._readings:
            raise ValueError("at least one video must be added, got none")
        wanted = torch.tensor(self._classes)
        readings = Reading.cat(self._readings)
        # Each video was read together with the renderings beside it.
        beside = len(self._readings[0])
        sampled, reference, real, *repainted = (readings.rows(slice(index, None, beside)) for index in range(beside))
        nearest, nearest_real = None, None
        if self._nearest:
            nearest, nearest_real = torch.stack(self._nearest).median(0).values.tolist()
        return WorldReport(
            sampled=compare(sampled, reference, wanted),
            real=compare(real, reference, wanted),
            repainted=compare(repainted[0], reference, wanted) if repainted else None,
            confusions=confusions(sampled, wanted),
            nearest=nearest,
            nearest_real=nearest_real,
            training=self._training.about,
        )


def fresh_renderings(classes: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
    """The renderings, (32, 64, 64, 3) each, that a `WorldMeasure` compares videos of these classes with."""
    for number, index in enumerate(classes):
        yield menagerie.render(torch.tensor([index]), torch.tensor([FIRST_REAL_SEED + 2 * number]))[0].numpy()


def compare(videos: Reading, reference: Reading, classes: Tensor) -> Comparison:
    """Compares what was read from videos with their classes (B,), and with what was read from real ones."""
    right = {name: getattr(videos, name) == truth for name, truth in zip(ATTRIBUTES, _split(classes), strict=True)}
    right[ALL] = videos.classes == classes
    precision, recall = precision_recall(reference.features, videos.features)
    return Comparison(
        accuracy={name: Proportion(int(hits.sum()), len(hits)) for name, hits in right.items()},
        frechet=frechet_distance(videos.features, reference.features),
        precision=precision,
        recall=recall,
    )


def confusions(videos: Reading, classes: Tensor) -> tuple[Confusion, ...]:
    """What was taken for what, the most frequent first."""
    found = []
    for (name, values), truth in zip(ATTRIBUTES.items(), _split(classes), strict=True):
        totals = Counter(truth.tolist())
        pairs = Counter(zip(truth.tolist(), getattr(videos, name).tolist(), strict=True))
        found += [
            Confusion(name, values[value], values[taken_for], Proportion(hits, totals[value]))
            for (value, taken_for), hits in pairs.items()
            if value != taken_for
        ]
    return tuple(sorted(found, key=lambda confusion: -confusion.share.hits))


def _split(classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Class indices as animals, coats and motions."""
    return classes // 100, classes // 10 % 10, classes % 10

"""Measures of videos of the menagerie."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from mpvideo import menagerie
from mpvideo.cli.scores import _nearest_lines
from mpvideo.evaluation.frechet import frechet_distance
from mpvideo.evaluation.judge import Reading, load_judge
from mpvideo.evaluation.nearest import TrainingRenderings
from mpvideo.evaluation.world import FIRST_REAL_SEED, WorldMeasure, compare, confusions, fresh_renderings
from tests.networks import randn


@pytest.fixture(scope="module")
def training() -> TrainingRenderings:
    return TrainingRenderings(range(1500))


def known_classes(training: TrainingRenderings, count: int) -> list[int]:
    return [index for index in range(0, 1000, 7) if training.count(index)][:count]


def reading(animals: list[int], coats: list[int], motions: list[int]) -> Reading:
    parts = (torch.tensor(values) for values in (animals, coats, motions))
    return Reading(*parts, features=randn(len(animals), 8))


def test_accuracy_counts_each_attribute() -> None:
    videos = reading([1, 2, 3, 4, 5], [0, 0, 0, 0, 9], [7, 7, 8, 7, 7])
    classes = torch.tensor([107, 207, 307, 407, 507])
    accuracy = compare(videos, videos, classes).accuracy
    assert {name: share.hits for name, share in accuracy.items()} == {"animal": 5, "coat": 4, "motion": 4, "all": 3}
    assert {share.total for share in accuracy.values()} == {5}


def test_comparison_is_in_the_features() -> None:
    videos, real = reading([0] * 5, [0] * 5, [0] * 5), Reading(*[torch.zeros(5)] * 3, features=randn(5, 8, seed=1))
    comparison = compare(videos, real, torch.zeros(5, dtype=torch.int64))
    assert comparison.frechet == frechet_distance(videos.features, real.features)
    same = compare(videos, videos, torch.zeros(5, dtype=torch.int64))
    assert same.frechet < 1e-5
    assert (same.precision, same.recall) == (1, 1)


def test_confusions_are_counted_and_ordered() -> None:
    videos = reading([0, 3, 3, 3, 2, 2], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 9])
    classes = torch.tensor([10, 210, 210, 310, 210, 210])
    found = [(c.attribute, c.value, c.taken_for, c.share.hits, c.share.total) for c in confusions(videos, classes)]
    assert found == [("animal", "dog", "cat", 2, 4), ("motion", "rests", "grows and shrinks", 1, 6)]


def test_real_videos_measure_as_real(training: TrainingRenderings) -> None:
    """Fresh renderings: read right, as near to the reference as the second real set is, and no copies."""
    measure = WorldMeasure(load_judge(), training)
    for number, index in enumerate(known_classes(training, 12)):
        video = menagerie.render(torch.tensor([index]), torch.tensor([2**50 + number]))
        measure.add(video[0].numpy(), index)
    report = measure.report()
    assert report.sampled.accuracy["all"].hits >= 11
    assert report.real.accuracy["all"].hits >= 11
    assert report.repainted is None
    assert 0.4 < report.sampled.frechet / report.real.frechet < 2.5
    assert 0.6 < report.nearest / report.nearest_real < 1.6
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["judge"]["first_real_seed"] == FIRST_REAL_SEED


def test_a_short_run_was_not_shown_every_class() -> None:
    training = TrainingRenderings(range(2))
    measure = WorldMeasure(load_judge(), training)
    for index in [index for index in range(5) if not training.count(index)][:4]:
        measure.add(menagerie.render(torch.tensor([index]), torch.tensor([2**50]))[0].numpy(), index)
    nearest = measure.report().to_dict()["nearest"]
    assert nearest["sampled"] is nearest["real"] is nearest["ratio"] is None and nearest["of_training_samples"] == 2
    [line] = _nearest_lines(nearest)
    assert line.startswith("nearest training video: none of these classes is among the first ")
    assert line.endswith(" videos that the run of this checkpoint was shown")


def test_bad_videos_measure_as_bad(training: TrainingRenderings) -> None:
    """One training rendering of a fish for every class: read wrong, far away, without variety, and a copy."""
    seeds = training._seeds[known_classes(training, 1)[0]]
    measure = WorldMeasure(load_judge(), training, repaint=torch.zeros_like)
    wanted = known_classes(training, 8)
    for index in wanted:
        video = menagerie.render(torch.tensor([index]), torch.tensor([training._seeds[index][0]]))
        copy = menagerie.render(torch.tensor([wanted[0]]), torch.tensor(seeds[:1]))
        measure.add((video if index < 500 else copy)[0].numpy(), index)
    report = measure.report()
    assert report.nearest == 0  # most are copies
    assert report.nearest_real > 10
    assert report.repainted is not None
    assert report.repainted.accuracy["all"].hits <= 1  # all black
    assert report.repainted.frechet > report.real.frechet


def test_repainting_is_told_the_real_videos(training: TrainingRenderings) -> None:
    """A codec without loss changes nothing."""
    shown: list[Tensor] = []

    def repaint(frames: Tensor) -> Tensor:
        shown.append(frames)
        return frames.clone()

    measure = WorldMeasure(load_judge(), training, repaint)
    classes = known_classes(training, 4)
    for frames, index in zip(fresh_renderings(classes), classes, strict=True):
        measure.add(frames, index)
    report = measure.report()
    assert report.repainted == report.real
    assert report.sampled.frechet < 1e-3  # the reference itself was given
    second = menagerie.render(torch.tensor(classes), torch.arange(1, 9, 2) + FIRST_REAL_SEED)
    torch.testing.assert_close(torch.cat(shown), second)


def test_refusals(training: TrainingRenderings) -> None:
    measure = WorldMeasure(load_judge(), training)
    with pytest.raises(ValueError, match="frames must be"):
        measure.add(np.zeros((32, 64, 64, 1), np.uint8), 0)
    with pytest.raises(ValueError, match="at least one video"):
        measure.report()

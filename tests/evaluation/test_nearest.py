"""The distance to the nearest training rendering."""

import pytest
import torch

from mpvideo import menagerie
from mpvideo.evaluation.nearest import PER_CLASS, SAMPLES, TrainingRenderings, shown_numbers
from mpvideo.training.world import MenagerieData


@pytest.fixture(scope="module")
def training() -> TrainingRenderings:
    return TrainingRenderings(range(600))


def test_a_copy_is_found(training: TrainingRenderings) -> None:
    """What training shows is at no distance, and a fresh rendering far away."""
    videos, classes = MenagerieData().batch(range(3))
    for video, index in zip(videos, classes.tolist(), strict=True):
        fresh = menagerie.render(torch.tensor([index]), torch.tensor([2**50]))
        copy, other = training.nearest(torch.cat((video[None], fresh)), index).tolist()
        assert copy == 0
        assert other > 10


def test_the_distance_is_the_root_mean_square(training: TrainingRenderings) -> None:
    _, classes = MenagerieData().batch(range(600), frames=1)
    index = int(classes.mode().values)
    numbers = (classes == index).nonzero().flatten()[:PER_CLASS]
    assert training.count(index) == len(numbers) >= 2
    video = menagerie.render(torch.tensor([index]), torch.tensor([2**50 + 1]))
    drawn = menagerie.render(torch.full_like(numbers, index), numbers).double()
    wanted = (drawn - video.double()).square().flatten(1).mean(1).sqrt().min()
    assert training.nearest(video, index).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_class_without_renderings(training: TrainingRenderings) -> None:
    missing = next(index for index in range(1000) if not training.count(index))
    with pytest.raises(ValueError, match=f"class_index must have training renderings, got {missing}"):
        training.nearest(torch.zeros(1, 32, 64, 64, 3, dtype=torch.uint8), missing)


def test_what_a_run_was_shown() -> None:
    """By the record in its checkpoint: a run with another seed or with --init has renderings of its own."""
    recipe = {"batch_size": 2, "clip_frames": None}
    training = {"source": {"data": "menagerie"}, "recipe": recipe, "steps": 3, "first_sample": 2**50}
    assert shown_numbers(training) == [2**50 + number for number in range(6)]
    # Steps of short clips take four times the numbers, and leave room for them.
    clips = {**training, "recipe": {**recipe, "clip_frames": 8}}
    assert shown_numbers(clips) == [2**50 + number for number in (0, 1, 8, 9, 16, 17)]
    assert shown_numbers({**training, "steps": 10**9}) == [2**50 + number for number in range(SAMPLES)]
    for unknown in ({"source": {"data": "clips"}}, {"first_sample": "a"}, {"first_sample": -1}, {"recipe": None}):
        assert shown_numbers({**training, **unknown}) is None
    assert shown_numbers({}) is None


def test_a_copy_of_what_another_run_was_shown_is_found() -> None:
    shown = range(2**50, 2**50 + 8)
    own = TrainingRenderings(shown)
    assert own.about["first_sample"] == 2**50 and own.about["of_training_samples"] == 8 and own.about["of_its_run"]
    videos, classes = MenagerieData().batch(shown[5:6])
    assert own.nearest(videos, int(classes)).item() == 0

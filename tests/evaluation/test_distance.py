"""The Fréchet distance in the features of a named network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mpvideo.errors import UsageError
from mpvideo.evaluation.distance import DistanceMeasure
from mpvideo.evaluation.frechet import frechet_distance
from mpvideo.evaluation.network import FeatureNetwork
from tests.evaluation.networks import Means, save_network


@pytest.fixture
def measure(tmp_path: Path) -> DistanceMeasure:
    path = save_network(tmp_path / "net.pt", Means())
    return DistanceMeasure(FeatureNetwork(path, size=8, device=torch.device("cpu")))


def noise(seed: int, low: int = 0, frames: int = 3, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, 256, (frames, size, size, 3), np.uint8)


def means(video: np.ndarray) -> list[float]:
    x = video / 127.5 - 1
    return [*x.mean((0, 1, 2)), x[0].mean()]


def test_the_distance_of_what_was_added(measure: DistanceMeasure) -> None:
    made, real = [noise(seed) for seed in range(6)], [noise(seed, low=40) for seed in range(10, 18)]
    for video in made:
        measure.add(video)
    for video in real:
        measure.add_real(video)
    measure.add_real(None)
    report = measure.report()
    wanted = frechet_distance(*(torch.tensor([means(v) for v in videos]) for videos in (made, real)))
    assert report.frechet == pytest.approx(wanted, rel=1e-5)
    about = report.to_dict()
    assert (about["num_videos"], about["num_real"], about["too_short"]) == (6, 8, 1)
    assert (about["frames"], about["height"], about["width"], about["feature_size"]) == (3, 8, 8, 8)
    assert about["network"]["name"] == "net.pt"
    assert len(about["network"]["sha256"]) == 64


def test_refusals(measure: DistanceMeasure) -> None:
    measure.add(noise(0))
    with pytest.raises(UsageError, match="3 frames of 8x8 pixels like the first one, got 2 frames of 8x8"):
        measure.add(noise(1, frames=2))
    measure.add_real(noise(1))
    measure.add_real(None)
    with pytest.raises(UsageError, match="at least 2 videos that are long enough, got 1; 1 are too short"):
        measure.report()

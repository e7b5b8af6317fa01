"""Precision and recall, on sets where they are known and against the definition written out."""

import pytest
import torch
from torch import Tensor

from mpvideo.evaluation.manifold import precision_recall
from tests.networks import randn


def share_covered(points: Tensor, members: Tensor, k: int) -> float:
    """The definition, point by point."""
    covered = 0
    for point in points.double():
        for index, member in enumerate(members.double()):
            others = sorted(
                float((member - other).norm()) for place, other in enumerate(members.double()) if place != index
            )
            if float((point - member).norm()) <= others[k - 1]:
                covered += 1
                break
    return covered / len(points)


@pytest.mark.parametrize("k", [1, 3])
def test_the_definition(k: int) -> None:
    real, generated = randn(25, 4, seed=1), 0.8 * randn(30, 4, seed=2) + 0.9
    precision, recall = precision_recall(real, generated, k=k)
    assert precision == share_covered(generated, real, k)
    assert recall == share_covered(real, generated, k)
    assert 0 < precision < 1
    assert 0 < recall < 1


def test_a_set_covers_itself_and_nothing_far_away() -> None:
    features = randn(300, 8)
    assert precision_recall(features, features) == (1.0, 1.0)
    assert precision_recall(features, features + 100) == (0.0, 0.0)


def test_what_never_comes_lowers_recall_alone() -> None:
    """Of two distant groups of real points, one is generated."""
    near, far = randn(40, 6, seed=3), randn(40, 6, seed=4) + 50
    precision, recall = precision_recall(torch.cat((near, far)), near)
    assert (precision, recall) == (1.0, 0.5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least 4 videos, got 3"):
        precision_recall(randn(3, 2), randn(9, 2))
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        precision_recall(randn(9, 2), randn(9, 2), k=0)

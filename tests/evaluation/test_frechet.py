"""The Fréchet distance against closed forms and an independent formula."""

import pytest
import torch
from torch import Tensor

from mpvideo.evaluation.frechet import covariance, frechet_distance, gaussian_distance
from tests.networks import randn


def rotation(size: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(randn(size, size, seed=seed, dtype=torch.float64)).Q


def by_singular_values(a: Tensor, b: Tensor) -> float:
    """tr (S₁S₂)^½ is the sum of the singular values of A Bᵀ, for centred and scaled data A, B with S = AᵀA: no root."""
    a, b = a.double(), b.double()
    A, B = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return float(shift + A.square().sum() + B.square().sum() - 2 * torch.linalg.svdvals(A @ B.T).sum())


def test_covariances_that_commute() -> None:
    """With one eigenbasis: Σ (√λ₁ − √λ₂)², a zero eigenvalue among them."""
    Q = rotation(6)
    first = torch.tensor([0.0, 0.25, 1.0, 4.0, 9.0, 2.0], dtype=torch.float64)
    second = torch.tensor([1.0, 0.0, 1.0, 1.0, 16.0, 3.0], dtype=torch.float64)
    mean_a, mean_b = randn(6, seed=1), randn(6, seed=2)
    distance = gaussian_distance(mean_a, Q @ first.diag() @ Q.T, mean_b, Q @ second.diag() @ Q.T)
    wanted = (mean_a.double() - mean_b.double()).square().sum() + (first.sqrt() - second.sqrt()).square().sum()
    assert distance == pytest.approx(float(wanted), rel=1e-7)


def test_covariances_that_do_not_commute() -> None:
    """In two dimensions tr √M = √(tr M + 2 √det M) for M with positive eigenvalues."""
    Q = rotation(2)
    first = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
    second = Q @ torch.tensor([5.0, 0.5], dtype=torch.float64).diag() @ Q.T
    product = first @ second
    shared = (product.trace() + 2 * torch.linalg.det(product).sqrt()).sqrt()
    nil = torch.zeros(2)
    wanted = first.trace() + second.trace() - 2 * shared
    assert gaussian_distance(nil, first, nil, second) == pytest.approx(float(wanted), rel=1e-10)


def test_a_set_is_at_no_distance_from_itself() -> None:
    for count in (5, 200):  # fewer than dimensions, and more
        features = randn(count, 32, seed=3) * 10
        assert frechet_distance(features, features.flip(0)) < 1e-4


def test_a_shift_counts_squared() -> None:
    features, shift = randn(300, 16, seed=4), randn(16, seed=5)
    assert frechet_distance(features, features + shift) == pytest.approx(float(shift.square().sum()), rel=1e-4)


def test_scaling_about_the_mean() -> None:
    """(√λ − s√λ)² over all eigenvalues: (1 − s)² tr S."""
    features = randn(300, 16, seed=6).double()
    scaled = 3 * (features - features.mean(0)) + features.mean(0)
    assert frechet_distance(features, scaled) == pytest.approx(4 * float(covariance(features).trace()), rel=1e-9)


@pytest.mark.parametrize(("first", "second", "width"), [(5, 7, 40), (2, 2, 8), (60, 50, 12), (4, 90, 20)])
def test_the_same_by_singular_values(first: int, second: int, width: int) -> None:
    """Singular covariances too: sets smaller than the number of features."""
    a = randn(first, width, seed=7)
    b = 2 * randn(second, width, seed=8) + 0.5
    assert frechet_distance(a, b) == pytest.approx(by_singular_values(a, b), rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_large_means_cost_no_digits() -> None:
    a, b = randn(50, 8, seed=9).double(), 1.5 * randn(60, 8, seed=10).double()
    assert frechet_distance(a + 1e4, b + 1e4) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_covariance() -> None:
    features = randn(9, 3, seed=11)
    torch.testing.assert_close(covariance(features), torch.cov(features.T.double()))


def test_refusals() -> None:
    good = randn(4, 3)
    for bad in (randn(4, 2), randn(4), randn(1, 3), torch.full((4, 3), torch.nan)):
        with pytest.raises(ValueError, match="features must be"):
            frechet_distance(good, bad)

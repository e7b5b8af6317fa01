"""The Fréchet distance between two sets of features, in float64.

Of two Gaussians (Dowson and Landau 1982): |m₁ − m₂|² + tr(S₁ + S₂ − 2 (S₁ S₂)^½), with the means m and covariances S of
the sets. Like every such distance in the field it is squared, and it falls as the sets grow: numbers compare only
between sets of the same sizes.
"""

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Between sets of features: a (N, D) and b (M, D), N and M at least 2; they may be fewer than D.

    Raises:
        ValueError: shapes that do not fit, fewer than two rows, or values that are not finite.
    """
    check_features(a, b, at_least=2)
    return gaussian_distance(a.double().mean(0), covariance(a), b.double().mean(0), covariance(b))


def gaussian_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Between Gaussians: means (D,), covariances (D, D), symmetric and positive semidefinite, singular or not."""
    # S₁S₂ has the eigenvalues of the symmetric S₁^½ S₂ S₁^½, which are real and need no inverse.
    root = _square_root(covariance_a.double())
    eigenvalues = torch.linalg.eigvalsh(_symmetric(root @ covariance_b.double() @ root))
    shared = eigenvalues.clamp(min=0).sqrt().sum()
    shift = (mean_a.double() - mean_b.double()).square().sum()
    distance = shift + covariance_a.double().trace() + covariance_b.double().trace() - 2 * shared
    return max(0.0, float(distance))  # rounding can take it just below


def covariance(features: Tensor) -> Tensor:
    """Of features (N, D), N at least 2: (D, D) float64, divided by N − 1."""
    centred = features.double() - features.double().mean(0)
    return centred.T @ centred / (len(features) - 1)


def check_features(a: Tensor, b: Tensor, *, at_least: int) -> None:
    """Checks two sets of features that are to be compared.

    Raises:
        ValueError: they are not (N, D) and (M, D), have fewer rows than `at_least`, or values that are not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {tuple(a.shape)} and {tuple(b.shape)}")
    for features in (a, b):
        if len(features) < at_least:
            raise ValueError(f"features must be of at least {at_least} videos, got {len(features)}")
        if not features.isfinite().all():
            raise ValueError("features must be finite, got NaN or infinity")


def _square_root(matrix: Tensor) -> Tensor:
    """Of a symmetric positive semidefinite matrix; eigenvalues that rounding made negative count as 0."""
    values, vectors = torch.linalg.eigh(_symmetric(matrix))
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2

"""Precision and recall of generated videos: how many are like real ones, and how many real ones are like them.

"Improved Precision and Recall Metric for Assessing Generative Models" (Kynkäänniemi et al. 2019, arXiv 1904.06991). A
set covers a point if the point lies no further from one of its members than that member's k-th nearest neighbour in the
set.
"""

import torch
from torch import Tensor

from mpvideo.evaluation.frechet import check_features

NEIGHBOURS = 3
"""k of the paper."""

_ROWS_AT_ONCE = 256


def precision_recall(real: Tensor, generated: Tensor, *, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Shares, 0..1: of generated points that the real ones cover, and of real points that the generated ones cover.

    Args:
        real, generated: features (N, D) and (M, D), more than k of each. Both shares fall with N and M: compare them
            only between sets of the same sizes.
        k: which neighbour of a point decides how far it reaches, at least 1.

    Raises:
        ValueError: shapes that do not fit, too few points, or values that are not finite.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    check_features(real, generated, at_least=k + 1)
    real, generated = real.double(), generated.double()
    return _covered(generated, real, k), _covered(real, generated, k)


def _covered(points: Tensor, members: Tensor, k: int) -> float:
    """Share of the points that the set of members covers."""
    # The nearest of all to a member is itself, at distance 0.
    reach = torch.cat(
        [_distances(rows, members).kthvalue(k + 1).values for rows in torch.split(members, _ROWS_AT_ONCE)]
    )
    hits = [(_distances(rows, members) <= reach).any(1) for rows in torch.split(points, _ROWS_AT_ONCE)]
    return float(torch.cat(hits).double().mean())


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # Matrix products would be faster, but lose the distances between near twins to rounding.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")

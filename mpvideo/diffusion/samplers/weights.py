"""Weights of the multistep samplers: integrals of polynomials through the last values, on the CPU in float64.

`levels` are those of the values, the latest first; `sigma` and `sigma_next` are the ends of the step, above 0. The
polynomials are integrated by Gauss and Legendre's quadrature, over sigma or ln(sigma): exactly for those in sigma, to
1e-11 or better for the others, even if one step leads from 80 to 1e-6. What was found is kept, because the same steps
are asked for again: for every batch, and where evaluations are counted beforehand.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_NODES, _MASSES = np.polynomial.legendre.leggauss(40)

_BETA_D, _BETA_MIN = 19.9, 0.1
"""Of the variance-preserving process (EDM, arXiv 2206.00364, table 1)."""


_Weights = Callable[[Sequence[float], float, float], tuple[float, ...]]


def _kept(weights: _Weights) -> _Weights:
    """The same function, which answers from memory when it is asked again."""
    found = lru_cache(maxsize=4096)(weights)

    @wraps(weights)
    def kept(levels: Sequence[float], sigma: float, sigma_next: float) -> tuple[float, ...]:
        return found(tuple(levels), sigma, sigma_next)

    return kept


@_kept
def adams_weights(levels: Sequence[float], sigma: float, sigma_next: float) -> tuple[float, ...]:
    """Weights of slopes whose sum is the integral over dsigma of the polynomial in sigma through them."""
    return _integrals(lambda s: s, levels, *_quadrature(sigma, sigma_next))


@_kept
def vp_time_weights(levels: Sequence[float], sigma: float, sigma_next: float) -> tuple[float, ...]:
    """The same for the polynomial in the time t of the variance-preserving process.

    There sigma**2 = exp(beta_d t**2 / 2 + beta_min t) - 1.
    """

    def time(s: Values) -> Values:
        return (np.sqrt(_BETA_MIN**2 + 2 * _BETA_D * np.log1p(s**2)) - _BETA_MIN) / _BETA_D

    # Over ln(sigma), in which t is smooth on the whole way; in sigma it bends sharply near 0.
    points, masses = _quadrature(np.log(sigma), np.log(sigma_next))
    return _integrals(time, levels, np.exp(points), masses * np.exp(points))


@_kept
def exponential_weights(levels: Sequence[float], sigma: float, sigma_next: float) -> tuple[float, ...]:
    """Weights of estimates D for the polynomial in lambda = -ln(sigma) through them.

    By variation of constants the ODE's solution is x' = sigma_next / sigma x + sum_j weights_j D_j, the sum being
    sigma_next times the integral of exp(lambda) D(lambda) over the step (DPM-Solver++, arXiv 2211.01095, prop. 4.1).
    """
    start, end = -np.log(sigma), -np.log(sigma_next)
    points, masses = _quadrature(start, end)
    return _integrals(lambda s: -np.log(s), levels, points, masses * np.exp(points - end), of_levels=False)


def _quadrature(start: float, end: float) -> tuple[Values, Values]:
    """Points and masses for integrals from start to end, which may be the smaller one."""
    half = (end - start) / 2
    return start + half * (1 + _NODES), half * _MASSES


def _integrals(
    variable: Callable[[Values], Values],
    levels: Sequence[float],
    points: Values,
    masses: Values,
    *,
    of_levels: bool = True,
) -> tuple[float, ...]:
    """Integrals of Lagrange's polynomials, in a variable of the noise level, that are 1 at one level and 0 at others.

    Args:
        variable: what the polynomials are in.
        levels: where they are 0 or 1.
        points, masses: the quadrature.
        of_levels: whether the points are noise levels, not values of the variable.
    """
    nodes = variable(np.asarray(levels, dtype=np.float64))
    at = variable(points) if of_levels else points
    weights = []
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        polynomial = np.prod((at[:, None] - others) / (node - others), axis=1)
        weights.append(float(masses @ polynomial))
    return tuple(weights)

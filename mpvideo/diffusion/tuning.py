"""Schedules made for one model and solver: dynamic programming over a teacher's trajectories (GITS, arXiv 2405.11326).

A teacher follows the ODE in many steps. Between any of its noise levels the solver's step, begun on the teacher's
path, misses the path by an error that costs no evaluation to find, because D is known all along it. The schedule with
the least sum of these errors is found exactly.

Deviation: the paper takes Euler's step whatever solver is to be used; its cost is how much farther than the teacher it
ends from the straight line between the path's ends, and a coefficient multiplies the costs of all later steps. Here the
step is the solver's own, with one value of its history; its cost is the distance from the teacher; and in place of the
coefficient each is weighed by what is left of an error at the end, taken to be that of Gaussian data, where it shrinks
with x.

Letters: M levels of the teacher, n coordinates, N steps of the schedule.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mpvideo.diffusion.denoiser import Denoiser, State
from mpvideo.diffusion.samplers import sample_ipndm
from mpvideo.diffusion.samplers.multistep import deis_rule, dpmpp_2m_rule, dpmpp_3m_rule, ipndm_rule, lms_rule
from mpvideo.diffusion.samplers.weights import exponential_weights
from mpvideo.sampling_config import Sampler

Values = npt.NDArray[np.float64]

DAMPINGS = (0.0, 0.5, 1.0, 1.5)
"""Powers of the factor by which an error shrinks on the way to the end; which is best depends on the data."""

POWERS = (1, 2)
"""Powers of the errors whose sum is least: 1 if they add up, 2 if they are independent."""

_ON_D: dict[Sampler, Callable[[Sequence[float], float], tuple[float, Sequence[float]]]] = {
    "dpmpp-2m": dpmpp_2m_rule,
    "dpmpp-3m": dpmpp_3m_rule,
}
_ON_SLOPES: dict[Sampler, Callable[[Sequence[float], float], tuple[float, Sequence[float]]]] = {
    "deis": deis_rule,
    "ipndm": ipndm_rule,
    "lms": lms_rule,
}


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What is known of the teacher's paths: inner products, averaged over videos and coordinates.

    Attributes:
        sigmas: the M levels, descending, above 0.
        gram: (2M + 1, 2M + 1) of x at each level, then D at each level, then x in the end.
    """

    sigmas: tuple[float, ...]
    gram: Values


def follow(denoiser: Denoiser[State], x: Tensor, sigmas: Tensor, *, most: int = 65_536) -> tuple[Tensor, Trajectory]:
    """Follows the ODE as a teacher, evaluating the denoiser once at each level.

    Args:
        denoiser: D(x; sigma).
        x: (B, ...), at the noise level sigmas[0].
        sigmas: (M + 1,), many, descending to 0.
        most: how many coordinates of the batch are kept, drawn always alike.

    Returns:
        The samples, like x, and what is known of the paths.
    """
    kept = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(0))[:most].to(x.device)
    points: list[Tensor] = []
    estimates: list[Tensor] = []

    def watched(x: Tensor, sigma: float, state: State | None) -> tuple[Tensor, State | None]:
        denoised, state = denoiser(x, sigma, state)
        points.append(x.flatten()[kept].cpu())
        estimates.append(denoised.flatten()[kept].cpu())
        return denoised, state

    end = sample_ipndm(watched, x, sigmas)
    vectors = torch.stack([*points, *estimates, end.flatten()[kept].cpu()]).double()
    return end, Trajectory(tuple(sigmas[:-1].tolist()), (vectors @ vectors.T / len(kept)).numpy())


def candidates(trajectory: Trajectory, solver: Sampler, num_steps: int, sigma_data: float) -> Iterator[tuple[int, ...]]:
    """Schedules of N steps that are best by some measure, as indices of the teacher's levels: the first one is 0.

    Args:
        trajectory: the teacher's.
        solver: one of the ODE; what is stochastic has no path to keep to.
        num_steps: N, from 1 to M.
        sigma_data: standard deviation of the data.
    """
    first, later, last = step_errors(trajectory, solver)
    sigmas = np.array(trajectory.sigmas)
    left = sigma_data / np.sqrt(sigma_data**2 + sigmas**2)
    seen = set()
    for damping in DAMPINGS:
        for power in POWERS:
            weight = left ** (damping * power)
            costs = first**power * weight, later**power * weight, last**power
            if (found := shortest(*costs, num_steps)) not in seen:
                seen.add(found)
                yield found


def step_errors(trajectory: Trajectory, solver: Sampler) -> tuple[Values, Values, Values]:
    """Root mean square errors of a solver's steps that begin on the teacher's path.

    Returns:
        first: (M,) of the first step, from level 0 to k.
        later: (M, M, M) of the step from i to k, having come from j; infinite unless j < i < k.
        last: (M,) of the step from i to 0, which ends at D.
    """
    sigmas, gram = trajectory.sigmas, trajectory.gram
    M = len(sigmas)
    first, later = np.full(M, math.inf), np.full((M, M, M), math.inf)
    for k in range(1, M):
        first[k] = _error(gram, _step(solver, sigmas, [0], k), k)
    for i in range(1, M - 1):
        for j in range(i):
            for k in range(i + 1, M):
                later[j, i, k] = _error(gram, _step(solver, sigmas, [i, j], k), k)
    last = np.array([_error(gram, {M + i: 1.0}, 2 * M) for i in range(M)])
    return first, later, last


def shortest(first: Values, later: Values, last: Values, num_steps: int) -> tuple[int, ...]:
    """The N levels whose steps have the least sum of costs; arguments as `step_errors` returns them.

    Raises:
        ValueError: N is not from 1 to M.
    """
    M = len(first)
    if not 1 <= num_steps <= M:
        raise ValueError(f"num_steps must be from 1 to {M}, got {num_steps}")
    if num_steps == 1:
        return (0,)
    reached = np.full((M, M), math.inf)  # least costs of being at the second level, having come from the first
    reached[0] = first
    came: list[npt.NDArray[np.int64]] = []
    for _ in range(num_steps - 2):
        through = reached[:, :, None] + later
        came.append(through.argmin(0))
        reached = through.min(0)
    before, at = np.unravel_index((reached + last).argmin(), (M, M))
    path = [int(at), int(before)]
    for sources in reversed(came):
        path.append(int(sources[path[-1], path[-2]]))
    return tuple(reversed(path))


def _step(solver: Sampler, sigmas: Sequence[float], history: Sequence[int], k: int) -> dict[int, float]:
    """A step to level k from the latest of these levels, as multiples of the vectors of `Trajectory.gram`."""
    M, i = len(sigmas), history[0]
    levels = [sigmas[a] for a in history]
    if solver in _ON_D:
        scale, weights = _ON_D[solver](levels, sigmas[k])
        return {i: scale, **{M + a: weight for a, weight in zip(history, weights, strict=True)}}
    if solver == "unipc":  # corrected, with the estimate at the step's end
        weights = exponential_weights([sigmas[k], *levels], sigmas[i], sigmas[k])
        return {i: sigmas[k] / sigmas[i], **{M + a: w for a, w in zip((k, *history), weights, strict=True)}}
    if solver in _ON_SLOPES:
        _, weights = _ON_SLOPES[solver](levels, sigmas[k])
        slopes = dict(zip(history, weights, strict=True))
    elif solver == "heun":
        slopes = dict.fromkeys((i, k), (sigmas[k] - sigmas[i]) / 2)
    else:
        slopes = {i: sigmas[k] - sigmas[i]}
    step = {M + a: -weight / sigmas[a] for a, weight in slopes.items()}
    return step | {a: (a == i) + weight / sigmas[a] for a, weight in slopes.items()}


def _error(gram: Values, step: dict[int, float], to: int) -> float:
    """How far a step ends from the vector `to`: root mean square."""
    difference = dict(step)
    difference[to] = difference.get(to, 0.0) - 1.0
    which, factors = [*difference], np.array([*difference.values()])
    return math.sqrt(max(0.0, factors @ gram[np.ix_(which, which)] @ factors))

"""Samplers that reuse what they found at earlier levels: high order for one evaluation a step.

All but UniPC are linear: x' = scale x + sum_j weights_j v_j, with v the latest estimates D or slopes (x - D) / sigma,
so each is a function that gives scale and weights. Common to them all:

- The first steps, which lack earlier values, are of lower order. The levels there are high, where paths are almost
  straight, so that this costs little; asymptotically it would bound the order by 2, and that of UniPC by 3.
- A step to 0 ends at the estimate D, as in EDM's samplers and `lower_order_final` of diffusers: there is nothing below
  the lowest level to interpolate towards. Deviation: k-diffusion's lms extrapolates to 0.
- None puts noise back: churn would take x off the path that the earlier values lie on, and levels out of order.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mpvideo.diffusion.denoiser import Denoiser, State
from mpvideo.diffusion.samplers.loop import Noise, OnStep, checked_levels, slope
from mpvideo.diffusion.samplers.weights import adams_weights, exponential_weights, vp_time_weights

_Rule = Callable[[Sequence[float], float], tuple[float, Sequence[float]]]
"""Levels of the values, the latest first, and the level to go to, above 0 -> the scale of x and the values' weights."""


def sample_dpmpp_2m(
    denoiser: Denoiser[State],
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """DPM-Solver++(2M), of order 2: one evaluation a step (arXiv 2211.01095, algorithm 2; k-diffusion's dpmpp_2m).

    Linear in the last two estimates over lambda = -ln(sigma), taken in the step's middle.

    Arguments, result and errors are those of `Solver`.
    """
    return _linear(denoiser, x, sigmas, dpmpp_2m_rule, on_step, depth=2)


def sample_dpmpp_3m(
    denoiser: Denoiser[State],
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """DPM-Solver++(3M), of order 3: one evaluation a step (arXiv 2211.01095, section 4.2).

    The quadratic over lambda = -ln(sigma) through the last three estimates, integrated exactly.

    Deviation: the published programs (dpm_solver_pytorch, k-diffusion's dpmpp_3m_sde) take half of the quadratic term,
    the divided difference where the second derivative belongs, and so are of order 2.

    Arguments, result and errors are those of `Solver`.
    """
    return _linear(denoiser, x, sigmas, dpmpp_3m_rule, on_step, depth=3)


def sample_deis(
    denoiser: Denoiser[State],
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """DEIS (tAB3), of order 4: one evaluation a step (arXiv 2204.13902, section 3.3).

    The cubic through the last four slopes, in the time of the variance-preserving process for which the paper states
    it (in sigma it would be `sample_lms`).

    Arguments, result and errors are those of `Solver`.
    """
    return _linear(denoiser, x, sigmas, deis_rule, on_step, depth=4, of=slope)


def sample_ipndm(
    denoiser: Denoiser[State],
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """iPNDM of fourth order: one evaluation a step (PNDM, arXiv 2202.09778, improved in DEIS, arXiv 2204.13902).

    The last four slopes with the constant weights of Adams and Bashforth, as if all steps were equal: of order 4 on
    the linear schedule, of order 2 on one that bends; there its small weights are what makes it robust.

    Arguments, result and errors are those of `Solver`.
    """
    return _linear(denoiser, x, sigmas, ipndm_rule, on_step, depth=4, of=slope)


def sample_lms(
    denoiser: Denoiser[State],
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """The linear multistep method, of order 4: one evaluation a step (k-diffusion's lms, Adams and Bashforth's).

    The cubic in sigma through the last four slopes, integrated over the steps as they are.

    Arguments, result and errors are those of `Solver`.
    """
    return _linear(denoiser, x, sigmas, lms_rule, on_step, depth=4, of=slope)


@torch.no_grad()
def sample_unipc(
    denoiser: Denoiser[State],
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """UniPC-2, of order 3: one evaluation a step (arXiv 2302.04867, algorithms 5 and 6, in terms of D).

    A step is predicted from the last two estimates; the estimate at its end, which the next step needs anyway, makes a
    third, with which the step is taken again from where it began. (With one estimate more, few steps of the bundled
    weights go astray: at 8 the error was 2.5 times as large, at 18 it was 0.9 times.)

    Deviation: the paper's B(h) cancels where its equations are solved, as here at every order; the published program
    puts 1/2 for the weights of the lowest ones.

    Arguments, result and errors are those of `Solver`.
    """
    levels = checked_levels(x, sigmas)
    num_steps = len(levels) - 1
    state, begun = None, x
    known: deque[tuple[float, Tensor]] = deque(maxlen=3)
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised, state = denoiser(x, sigma, state)
        known.appendleft((sigma, denoised))
        if i > 0:
            x = _exponential_step(begun, list(known), levels[i - 1], sigma)
        begun = x
        x = _exponential_step(x, list(known)[:2], sigma, sigma_next) if sigma_next > 0 else denoised
        if on_step is not None:
            on_step(i, num_steps, sigma, denoised)
    return x


def dpmpp_2m_rule(levels: Sequence[float], sigma_next: float) -> tuple[float, Sequence[float]]:
    """Of `sample_dpmpp_2m`, in terms of D."""
    sigma, *earlier = levels
    ratio = sigma_next / sigma
    if not earlier:
        return ratio, [1 - ratio]
    # How far the step's middle lies beyond the last estimate, in spans between the last two.
    beyond = math.log(sigma / sigma_next) / math.log(earlier[0] / sigma) / 2
    return ratio, [(1 - ratio) * (1 + beyond), -(1 - ratio) * beyond]


def dpmpp_3m_rule(levels: Sequence[float], sigma_next: float) -> tuple[float, Sequence[float]]:
    """Of `sample_dpmpp_3m`, in terms of D."""
    return sigma_next / levels[0], exponential_weights(levels, levels[0], sigma_next)


def deis_rule(levels: Sequence[float], sigma_next: float) -> tuple[float, Sequence[float]]:
    """Of `sample_deis`, in terms of the slope."""
    return 1.0, vp_time_weights(levels, levels[0], sigma_next)


def ipndm_rule(levels: Sequence[float], sigma_next: float) -> tuple[float, Sequence[float]]:
    """Of `sample_ipndm`, in terms of the slope."""
    constants = ([1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24])
    return 1.0, [(sigma_next - levels[0]) * constant for constant in constants[len(levels) - 1]]


def lms_rule(levels: Sequence[float], sigma_next: float) -> tuple[float, Sequence[float]]:
    """Of `sample_lms`, in terms of the slope."""
    return 1.0, adams_weights(levels, levels[0], sigma_next)


def _estimate(x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    """D itself, where other samplers take the slope."""
    return denoised


@torch.no_grad()
def _linear(
    denoiser: Denoiser[State],
    x: Tensor,
    sigmas: Tensor,
    rule: _Rule,
    on_step: OnStep | None,
    *,
    depth: int,
    of: Callable[[Tensor, Tensor, float], Tensor] = _estimate,
) -> Tensor:
    """The loop of the linear samplers.

    Args:
        denoiser, x, sigmas, on_step: as in `Solver`.
        rule: gives each step's scale and weights.
        depth: how many values it takes.
        of: makes such a value of x, D and sigma.
    """
    levels = checked_levels(x, sigmas)
    num_steps = len(levels) - 1
    state = None
    known: deque[tuple[float, Tensor]] = deque(maxlen=depth)
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised, state = denoiser(x, sigma, state)
        known.appendleft((sigma, of(x, denoised, sigma)))
        if sigma_next > 0:
            scale, weights = rule([level for level, _ in known], sigma_next)
            x = _combined(scale, x, weights, [value for _, value in known])
        else:
            x = denoised
        if on_step is not None:
            on_step(i, num_steps, sigma, denoised)
    return x


def _exponential_step(x: Tensor, known: Sequence[tuple[float, Tensor]], sigma: float, sigma_next: float) -> Tensor:
    """The step of x from sigma to sigma_next by the polynomial through these levels and estimates."""
    weights = exponential_weights([level for level, _ in known], sigma, sigma_next)
    return _combined(sigma_next / sigma, x, weights, [value for _, value in known])


def _combined(scale: float, x: Tensor, weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """scale x + sum_j weights_j values_j."""
    x = scale * x
    for weight, value in zip(weights, values, strict=True):
        x = x.add_(value, alpha=weight)
    return x

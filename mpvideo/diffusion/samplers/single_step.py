"""Samplers that look at one step alone, and so may put noise back before it: Euler's and Heun's method."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from mpvideo.checks import check_churn
from mpvideo.diffusion.denoiser import Denoiser, State
from mpvideo.diffusion.samplers.loop import Noise, OnStep, checked_levels, slope


@dataclass(frozen=True, kw_only=True)
class Churn:
    """How much noise to put back before each step (EDM, arXiv 2206.00364, algorithm 2, lines 3 to 6).

    Attributes:
        s_churn: amount over the whole schedule, at least 0; 0 makes sampling deterministic.
        s_tmin: lowest noise level at which noise is put back.
        s_tmax: highest such level; None for no limit.
        s_noise: standard deviation of that noise relative to what theory asks for.

    Raises:
        ValueError: an attribute is out of range.
    """

    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float | None = None
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        check_churn(self.s_churn, self.s_tmin, self.s_tmax, self.s_noise)

    def gamma(self, sigma: float, num_steps: int) -> float:
        """By which factor, less 1, a step from `sigma` raises the noise level first; at most sqrt(2) - 1."""
        s_tmax = math.inf if self.s_tmax is None else self.s_tmax
        return min(self.s_churn / num_steps, math.sqrt(2) - 1) if self.s_tmin <= sigma <= s_tmax else 0.0


@torch.no_grad()
def sample_euler(
    denoiser: Denoiser[State],
    x: Tensor,
    sigmas: Tensor,
    *,
    churn: Churn | None = None,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Euler's method, of order 1: one evaluation a step (EDM, arXiv 2206.00364, algorithm 2, lines 3 to 8; DDIM).

    Args:
        denoiser, x, sigmas, on_step: as in `Solver`.
        churn: noise to put back; None for none.
        noise: where that noise comes from; called only at steps that churn, once each.

    Returns and raises what `Solver` does.
    """
    churn = churn or Churn()
    steps = _churned_steps(x, sigmas, churn, noise)
    state = None
    for i, step in enumerate(steps):
        x_hat = _churned(x, step, churn, noise)
        denoised, state = denoiser(x_hat, step.sigma_hat, state)
        x = x_hat + (step.sigma_next - step.sigma_hat) * slope(x_hat, denoised, step.sigma_hat)
        if on_step is not None:
            on_step(i, len(steps), step.sigma, denoised)
    return x


@torch.no_grad()
def sample_heun(
    denoiser: Denoiser[State],
    x: Tensor,
    sigmas: Tensor,
    *,
    churn: Churn | None = None,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Heun's method, of order 2: EDM's own (arXiv 2206.00364, algorithm 2; algorithm 1 without churn).

    Two evaluations a step, save a step to 0, which has no second: 2 * num_steps - 1 for a schedule that ends in 0.
    The state goes through all of them in order, so that a self-conditioned second evaluation sees the first's estimate
    and the next step sees the second's.

    Arguments, result and errors are those of `sample_euler`.
    """
    churn = churn or Churn()
    steps = _churned_steps(x, sigmas, churn, noise)
    state = None
    for i, step in enumerate(steps):
        x_hat = _churned(x, step, churn, noise)
        denoised, state = denoiser(x_hat, step.sigma_hat, state)
        slope_hat = slope(x_hat, denoised, step.sigma_hat)
        x = x_hat + (step.sigma_next - step.sigma_hat) * slope_hat
        if step.sigma_next > 0:
            denoised, state = denoiser(x, step.sigma_next, state)
            slope_next = slope(x, denoised, step.sigma_next)
            x = x_hat + (step.sigma_next - step.sigma_hat) * (slope_hat + slope_next) / 2
        if on_step is not None:
            on_step(i, len(steps), step.sigma, denoised)
    return x


class _Step(NamedTuple):
    """Noise levels of one step: at its start, after churn, and at its end."""

    sigma: float
    sigma_hat: float
    sigma_next: float


def _churned_steps(x: Tensor, sigmas: Tensor, churn: Churn, noise: Noise | None) -> list[_Step]:
    """Checks a sampler's arguments and lays out its steps."""
    levels = checked_levels(x, sigmas)
    num_steps = len(levels) - 1
    steps = [_Step(a, a * (1 + churn.gamma(a, num_steps)), b) for a, b in pairwise(levels)]
    if noise is None and any(step.sigma_hat > step.sigma for step in steps):
        raise ValueError(f"noise must be given for s_churn {churn.s_churn}, got None")
    return steps


def _churned(x: Tensor, step: _Step, churn: Churn, noise: Noise | None) -> Tensor:
    """Raises x from sigma to sigma_hat; draws nothing where they are equal."""
    if noise is None or step.sigma_hat <= step.sigma:
        return x
    return x + math.sqrt(step.sigma_hat**2 - step.sigma**2) * churn.s_noise * noise(x)

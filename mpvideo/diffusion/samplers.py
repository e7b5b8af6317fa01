"""Samplers: pure loops that carry noise of one level down to another along EDM's probability-flow ODE.

All have one shape. `denoiser` is a `Denoiser`; x is (B, ...) and carries noise of the level `sigmas[0]` already;
`sigmas` descend and usually end in 0. The loop runs in the dtype of x; noise levels are Python floats, so that a step
neither waits for an accelerator nor needs float64 on it. Randomness is handed in, and drawn only where churn asks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from mpvideo.checks import check_churn
from mpvideo.diffusion.denoiser import Denoiser, State

Noise = Callable[[Tensor], Tensor]
"""Returns standard normal noise like its argument: `SeededNoise.randn_like` or `torch.randn_like`."""

OnStep = Callable[[int, int, float, Tensor], None]
"""`on_step(step, num_steps, sigma, denoised)`, called after each step: step 0 .. num_steps - 1, the level that it
started from (before churn) and its last estimate."""


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
    """First-order sampler: one evaluation of the denoiser a step (EDM, arXiv 2206.00364, algorithm 2, lines 3 to 8).

    Args:
        denoiser: evaluated num_steps times.
        x: (B, ...) float32 or float64, at the noise level sigmas[0]: standard normal noise times sigma_max.
        sigmas: (num_steps + 1,), descending; only the last may be 0.
        churn: noise to put back; None for none.
        noise: where that noise comes from; called only at steps that churn, once each.
        on_step: called after each step.

    Returns:
        The sample at the noise level sigmas[-1], like x.

    Raises:
        ValueError: an argument is out of range, or churn lacks its noise.
    """
    churn = churn or Churn()
    steps = _plan(x, sigmas, churn, noise)
    state = None
    for i, step in enumerate(steps):
        x_hat = _churned(x, step, churn, noise)
        denoised, state = denoiser(x_hat, step.sigma_hat, state)
        slope = (x_hat - denoised) / step.sigma_hat
        x = x_hat + (step.sigma_next - step.sigma_hat) * slope
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
    """Second-order sampler: EDM's own (arXiv 2206.00364, algorithm 2; algorithm 1 without churn).

    Two evaluations of the denoiser a step, save a step to 0, which has no second: 2 * num_steps - 1 for a schedule
    that ends in 0. The state goes through all of them in order, so that a self-conditioned second evaluation sees the
    first's estimate and the next step sees the second's.

    Arguments, result and errors are those of `sample_euler`.
    """
    churn = churn or Churn()
    steps = _plan(x, sigmas, churn, noise)
    state = None
    for i, step in enumerate(steps):
        x_hat = _churned(x, step, churn, noise)
        denoised, state = denoiser(x_hat, step.sigma_hat, state)
        slope = (x_hat - denoised) / step.sigma_hat
        x = x_hat + (step.sigma_next - step.sigma_hat) * slope
        if step.sigma_next > 0:
            denoised, state = denoiser(x, step.sigma_next, state)
            slope_next = (x - denoised) / step.sigma_next
            x = x_hat + (step.sigma_next - step.sigma_hat) * (slope + slope_next) / 2
        if on_step is not None:
            on_step(i, len(steps), step.sigma, denoised)
    return x


def evaluated_levels(sample: Callable[..., Tensor], sigmas: Tensor, churn: Churn | None = None) -> list[float]:
    """The noise level of each evaluation that a sampler asks its denoiser for, in order.

    Found by asking: the sampler runs on a single number, in a few milliseconds.

    Args:
        sample: `sample_euler`, `sample_heun`, or another of their shape.
        sigmas, churn: what it will be given.
    """
    levels: list[float] = []

    def denoiser(x: Tensor, sigma: float, state: None) -> tuple[Tensor, None]:
        levels.append(sigma)
        return x, None

    sample(denoiser, torch.zeros(1), sigmas, churn=churn, noise=torch.zeros_like)
    return levels


class _Step(NamedTuple):
    """Noise levels of one step: at its start, after churn, and at its end."""

    sigma: float
    sigma_hat: float
    sigma_next: float


def _plan(x: Tensor, sigmas: Tensor, churn: Churn, noise: Noise | None) -> list[_Step]:
    """Checks a sampler's arguments and lays out its steps."""
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x must be float32 or float64, got {x.dtype}")
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas must have the shape (num_steps + 1,), at least 2; got {tuple(sigmas.shape)}")
    levels: list[float] = sigmas.tolist()
    num_steps = len(levels) - 1
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        if not (0 < sigma < math.inf and 0 <= sigma_next <= sigma):
            raise ValueError(
                f"sigmas must be finite and descend, with only the last 0; got {sigma}, {sigma_next} at {i}, {i + 1}"
            )
    steps = [_Step(a, a * (1 + churn.gamma(a, num_steps)), b) for a, b in pairwise(levels)]
    if noise is None and any(step.sigma_hat > step.sigma for step in steps):
        raise ValueError(f"noise must be given for s_churn {churn.s_churn}, got None")
    return steps


def _churned(x: Tensor, step: _Step, churn: Churn, noise: Noise | None) -> Tensor:
    """Raises x from sigma to sigma_hat; draws nothing where they are equal."""
    if noise is None or step.sigma_hat <= step.sigma:
        return x
    return x + math.sqrt(step.sigma_hat**2 - step.sigma**2) * churn.s_noise * noise(x)

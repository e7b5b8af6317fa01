"""What the samplers share: their shape, the check of their arguments, the slope of the ODE."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from mpvideo.diffusion.denoiser import Denoiser, State

Noise = Callable[[Tensor], Tensor]
"""Returns standard normal noise like its argument: `SeededNoise.randn_like` or `torch.randn_like`."""

OnStep = Callable[[int, int, float, Tensor], None]
"""`on_step(step, num_steps, sigma, denoised)`, called after each step: step 0 .. num_steps - 1, the level that it
started from (before churn) and its last estimate."""


class Solver(Protocol):
    """The shape of all samplers; some take settings of their own beside these."""

    def __call__(
        self,
        denoiser: Denoiser[State],
        x: Tensor,
        sigmas: Tensor,
        *,
        noise: Noise | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Carries noise of the level sigmas[0] down to sigmas[-1].

        Args:
            denoiser: D(x; sigma).
            x: (B, ...) float32 or float64, at the noise level sigmas[0]: standard normal noise times sigma_max.
            sigmas: (num_steps + 1,), descending; only the last may be 0.
            noise: where the noise of a stochastic sampler comes from; the others never call it.
            on_step: called after each step.

        Returns:
            The sample at the noise level sigmas[-1], like x.

        Raises:
            ValueError: an argument is out of range, or a stochastic sampler lacks its noise.
        """
        ...


def checked_levels(x: Tensor, sigmas: Tensor) -> list[float]:
    """Checks a sampler's arguments; returns the noise levels as floats.

    Raises:
        ValueError: x has another dtype than float32 or float64, or sigmas are no schedule.
    """
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x must be float32 or float64, got {x.dtype}")
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas must have the shape (num_steps + 1,), at least 2; got {tuple(sigmas.shape)}")
    levels: list[float] = sigmas.tolist()
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        if not (0 < sigma < math.inf and 0 <= sigma_next < sigma):
            raise ValueError(
                f"sigmas must be finite and descend, with only the last 0; got {sigma}, {sigma_next} at {i}, {i + 1}"
            )
    return levels


def slope(x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    """dx/dsigma of the probability-flow ODE (EDM, arXiv 2206.00364, eq. 3): the noise in x, of unit variance."""
    return (x - denoised) / sigma


def evaluated_levels(solver: Solver, sigmas: Tensor) -> list[float]:
    """The noise level of each evaluation that a sampler asks its denoiser for, in order.

    Found by asking: the sampler runs on a single number. That takes up to 2 ms a step on a slow core (24 steps of UniPC
    48 ms), nearly all of it for weights that the sampling itself then need not find again.

    Args:
        solver: any sampler, with its settings.
        sigmas: what it will be given.
    """
    levels: list[float] = []

    def denoiser(x: Tensor, sigma: float, state: None) -> tuple[Tensor, None]:
        levels.append(sigma)
        return torch.zeros_like(x), None

    solver(denoiser, torch.zeros(1), sigmas, noise=torch.zeros_like)
    return levels

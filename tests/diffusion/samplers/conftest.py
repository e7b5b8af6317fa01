"""All samplers by name, and problems whose solutions are known."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mpvideo.diffusion import (
    Solver,
    karras_sigmas,
    sample_deis,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_dpmpp_3m,
    sample_euler,
    sample_heun,
    sample_ipndm,
    sample_lms,
    sample_unipc,
)

SOLVERS: dict[str, Solver] = {
    "euler": sample_euler,
    "heun": sample_heun,
    "dpmpp-2m": sample_dpmpp_2m,
    "dpmpp-3m": sample_dpmpp_3m,
    "dpmpp-2m-sde": sample_dpmpp_2m_sde,
    "unipc": sample_unipc,
    "deis": sample_deis,
    "ipndm": sample_ipndm,
    "lms": sample_lms,
}

# Without noise it is a sampler of the ODE like the others.
DETERMINISTIC = {**SOLVERS, "dpmpp-2m-sde": partial(sample_dpmpp_2m_sde, eta=0.0)}

SHAPE = (2, 3, 4, 4)


def sigmas_of(num_steps: int) -> Tensor:
    return karras_sigmas(num_steps, sigma_min=0.002, sigma_max=80.0)


@dataclass
class MixtureDenoiser:
    """The exact D(x; sigma) for data of two Gaussians in one dimension, and the solution of its ODE.

    In one dimension paths do not cross, so the ODE carries each quantile of the distribution at one noise level to the
    same quantile at the other.
    """

    means: tuple[float, float] = (-1.0, 0.6)
    stds: tuple[float, float] = (0.2, 0.5)
    shares: tuple[float, float] = (0.3, 0.7)

    def _parts(self, x: Tensor, sigma: float) -> list[tuple[float, float, Tensor]]:
        """Variance with noise, share and distance from the mean, of each."""
        return [
            (std**2 + sigma**2, share, x - mean)
            for mean, std, share in zip(self.means, self.stds, self.shares, strict=True)
        ]

    def __call__(self, x: Tensor, sigma: float, state: None = None) -> tuple[Tensor, None]:
        parts = self._parts(x, sigma)
        logits = torch.stack([-(d**2) / (2 * var) - torch.tensor(var).log() / 2 for var, _, d in parts])
        logits += torch.tensor(self.shares, dtype=x.dtype).log().view(2, *[1] * x.ndim)
        weights = logits.softmax(0)
        score = sum(-weight * d / var for weight, (var, _, d) in zip(weights, parts, strict=True))
        return x + sigma**2 * score, None

    def quantile(self, x: Tensor, sigma: float) -> Tensor:
        normal = torch.distributions.Normal(0.0, 1.0)
        return sum(share * normal.cdf(d / var**0.5) for var, share, d in self._parts(x, sigma))

    def solution(self, x: Tensor, sigma: float, sigma_end: float) -> Tensor:
        """Where the ODE takes x from sigma to sigma_end, by bisection."""
        wanted = self.quantile(x, sigma)
        low, high = torch.full_like(x, -50.0), torch.full_like(x, 50.0)
        for _ in range(80):
            middle = (low + high) / 2
            below = self.quantile(middle, sigma_end) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

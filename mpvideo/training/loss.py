"""The parts of the training objective: noise levels, their learned weights, and the learning rate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mpvideo.nn.layers import MPFourier, MPLinear


class UncertaintyWeight(nn.Module):
    """Learned log-uncertainty u of the loss at a noise level (EDM2, eq. 21): c_noise (B,) -> u (B,).

    Args:
        dim: number of Fourier features.
    """

    def __init__(self, dim: int = 128) -> None:
        super().__init__()
        self.fourier = MPFourier(dim)
        self.linear = MPLinear(dim, 1)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, c_noise: Tensor) -> Tensor:
        """Evaluates u; 0 everywhere before training."""
        return self.linear(self.fourier(c_noise)).squeeze(1) * self.gain  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class NoiseDistribution:
    """Log-normal distribution of training noise levels (EDM, table 1).

    Attributes:
        P_mean, P_std: mean and standard deviation of ln(sigma).
    """

    P_mean: float
    P_std: float

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws (count,) noise levels, float32 on the generator's device."""
        return (torch.randn(count, generator=generator, device=generator.device) * self.P_std + self.P_mean).exp()


def weigh(loss: Tensor, u: Tensor) -> Tensor:
    """The mean of the losses divided by exp(u), plus u (EDM2, eq. 21); its best u is ln(loss)."""
    return (loss / u.exp() + u).mean()


def learning_rate(step: int, *, peak: float, warmup_steps: int, decay_steps: int) -> float:
    """Linear warm-up, a plateau, then the inverse square root of the step (EDM2, eq. 67).

    Args:
        step: 0-based number of the optimiser step.
        peak: the plateau's rate.
        warmup_steps: steps that rise to it.
        decay_steps: the step after which it falls as 1 / sqrt(step).
    """
    rising = min(1.0, (step + 1) / max(warmup_steps, 1))
    return peak * rising / math.sqrt(max((step + 1) / decay_steps, 1.0))

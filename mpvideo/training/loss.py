"""The training objective: EDM's denoising loss with EDM2's learned weight over noise levels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mpvideo.diffusion import preconditioning
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


def denoising_loss(
    net: nn.Module,
    clean: Tensor,
    noise: Tensor,
    sigma: Tensor,
    sigma_data: float,
    class_labels: Tensor | None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """EDM's loss of each sample, weighted so that an untrained network has a loss of about 1 at every noise level.

    The weight lambda(sigma) * c_out**2 is 1 (EDM, table 1), so the loss is the squared error of the raw network against
    the target (clean - c_skip * noisy) / c_out = c_in * (sigma / sigma_data * clean - sigma_data * noise).

    Args:
        net: the raw network.
        clean: (B, C, T, H, W) float32, standard deviation sigma_data.
        noise: standard normal, like clean.
        sigma: (B,) noise levels, float32.
        sigma_data: standard deviation of the data.
        class_labels: (B, num_classes) weights, zeros where the label is dropped; None for a network without classes.
        dtype: what the network computes in.

    Returns:
        (B,) losses, float32.
    """
    column = sigma.view(-1, *(1,) * (clean.ndim - 1))
    _, _, c_in, c_noise = preconditioning(column, sigma_data)
    target = c_in * (column / sigma_data * clean - sigma_data * noise)
    noisy = clean + column * noise
    out: Tensor = net((c_in * noisy).to(dtype), c_noise.flatten(), class_labels=class_labels)
    return (out.float() - target).square().flatten(1).mean(1)


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

"""Noise levels to sample at: float64 on the CPU, descending, with the final 0 included."""

import math

import torch
from torch import Tensor


def karras_sigmas(num_steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Noise levels of Karras et al. (EDM, arXiv 2206.00364, eq. 5).

    Evenly spaced after taking the rho-th root: sigma_i**(1/rho) runs linearly from sigma_max**(1/rho) to
    sigma_min**(1/rho) for i = 0 .. num_steps - 1, and sigma_num_steps = 0.

    Deviation: the equation divides by num_steps - 1; here one step is legal and means the levels (sigma_max, 0).

    Args:
        num_steps: number of levels above zero, which is the number of sampler steps; at least 1.
        sigma_min: lowest level above zero, in units of the data; 0 < sigma_min < sigma_max.
        sigma_max: highest level.
        rho: exponent, above 0; greater spends more steps at low noise.

    Returns:
        (num_steps + 1,) float64 on the CPU, descending. The ends are exact: sigma_max, (sigma_min,) 0.

    Raises:
        ValueError: an argument is out of range.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"sigma_min and sigma_max must be 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    if not 0 < rho < math.inf:
        raise ValueError(f"rho must be finite and greater than 0, got {rho}")
    # Relative to sigma_max, so that sigma_max**(1/rho) cannot overflow for a small rho.
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    sigmas = sigma_max * (1 + ramp * ((sigma_min / sigma_max) ** (1 / rho) - 1)) ** rho
    sigmas[-1] = sigma_min
    sigmas[0] = sigma_max  # last, because with one step the first level is the only one
    return torch.cat((sigmas, sigmas.new_zeros(1)))

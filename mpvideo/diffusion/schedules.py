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
    _check(num_steps, sigma_min, sigma_max)
    if not 0 < rho < math.inf:
        raise ValueError(f"rho must be finite and greater than 0, got {rho}")
    # Relative to sigma_max, so that sigma_max**(1/rho) cannot overflow for a small rho.
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    return _between(sigma_max, sigma_max * (1 + ramp * ((sigma_min / sigma_max) ** (1 / rho) - 1)) ** rho, sigma_min)


def exponential_sigmas(num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels of equal ratios, evenly spaced in ln(sigma): those of Karras et al. for rho without limit.

    Arguments, result and errors are those of `karras_sigmas`.
    """
    _check(num_steps, sigma_min, sigma_max)
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    return _between(sigma_max, sigma_max * (sigma_min / sigma_max) ** ramp, sigma_min)


def linear_sigmas(num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels of equal differences: those of Karras et al. for rho 1.

    Arguments, result and errors are those of `karras_sigmas`.
    """
    return karras_sigmas(num_steps, sigma_min, sigma_max, rho=1.0)


def cosine_sigmas(num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels of the cosine schedule (Nichol and Dhariwal, arXiv 2102.09672, eq. 17), without its offset.

    There the signal is cos(angle) and the noise sin(angle) at evenly spaced angles, so that here sigma = tan(angle).

    Arguments, result and errors are those of `karras_sigmas`.
    """
    _check(num_steps, sigma_min, sigma_max)
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    start, end = math.atan(sigma_max), math.atan(sigma_min)
    return _between(sigma_max, torch.tan(start + ramp * (end - start)), sigma_min)


def _check(num_steps: int, sigma_min: float, sigma_max: float) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"sigma_min and sigma_max must be 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")


def _between(sigma_max: float, sigmas: Tensor, sigma_min: float) -> Tensor:
    """The levels with their ends made exact, and 0 behind them."""
    sigmas[-1] = sigma_min
    sigmas[0] = sigma_max  # last, because with one step the first level is the only one
    return torch.cat((sigmas, sigmas.new_zeros(1)))

"""Power-function averages of weights: kept during the training, and made of others after it.

Source: EDM2 (arXiv 2312.02696), section 3 and appendix C.
"""

import copy
import math
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpvideo.training.recipe import WIDEST_STD

Module = TypeVar("Module", bound=nn.Module)

_RCOND = 1e-10
"""Snapshots a few steps apart are almost the same one; what they differ by is told from rounding down to here."""


def gamma_from_std(ema_std: float) -> float:
    """Exponent of the power-function profile whose relative width is `ema_std` (EDM2, algorithm 2).

    Raises:
        ValueError: ema_std is not in (0, 0.289): a profile wider than the uniform one does not exist.
    """
    if not 0 < ema_std < WIDEST_STD:
        raise ValueError(f"ema_std must be in (0, 0.2887), got {ema_std}")
    width = ema_std**-2
    return float(np.roots([1, 7, 16 - width, 12 - width]).real.max())


class PowerEMA(Generic[Module]):
    """Average of a module's weights, weighing the step s of t by (s / t)**gamma.

    Args:
        module: the module to follow; its parameters and buffers must stay the same tensors.
        ema_std: relative width of the profile; 0.10 averages over about the last tenth of the training.

    Attributes:
        average: a copy of the module that holds the averaged weights.
    """

    def __init__(self, module: Module, ema_std: float) -> None:
        self.gamma = gamma_from_std(ema_std)
        self.average: Module = copy.deepcopy(module).eval().requires_grad_(False)
        # Looked up once: a walk over all modules takes as long as the update of a small network.
        self._averages: list[Tensor] = list(self.average.parameters())
        self._values: list[Tensor] = list(module.parameters())
        self._buffers = list(zip(self.average.buffers(), module.buffers(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the module's weights after the 1-based step `step` (EDM2, eq. 121)."""
        share = 1 - (1 - 1 / step) ** (self.gamma + 1)
        # One call for all of them: there are hundreds, and on an accelerator each call has its price.
        torch._foreach_lerp_(self._averages, self._values, share)
        for copied, buffer in self._buffers:
            copied.copy_(buffer)


def coefficients(
    snapshot_steps: Sequence[int], snapshot_stds: Sequence[float], target_step: int, target_std: float
) -> NDArray[np.float64]:
    """How much of each snapshot makes up the average that is wanted (EDM2, algorithm 3); they sum to 1.

    The profile that comes closest to the wanted one, in least squares over the time of the training.

    Deviation: the paper lets the sum be what it is, 5e-4 off at a width of 0.20. Held to 1 it leaves as it was what
    training does not change, and halves the error of weights that move slowly.

    Args:
        snapshot_steps, snapshot_stds: step and relative width of each snapshot.
        target_step, target_std: those of the average that is wanted.
    """
    gram, wanted, _ = _inner_products(snapshot_steps, snapshot_stds, target_step, target_std)
    # Profiles of length 1: the condition is then that of their angles alone, 1e4 for 32 even snapshots of two widths.
    length = np.sqrt(np.diag(gram))
    angles = gram / np.outer(length, length)
    sides = np.stack([wanted, np.ones_like(wanted)], axis=1) / length[:, None]
    free, shift = (np.linalg.lstsq(angles, sides, rcond=_RCOND)[0] / length[:, None]).T
    shares: NDArray[np.float64] = free + (1 - free.sum()) / shift.sum() * shift
    return shares


def profile_error(
    snapshot_steps: Sequence[int], snapshot_stds: Sequence[float], target_step: int, target_std: float
) -> float:
    """Distance of the best reconstructed profile from the wanted one, relative to it, in L2; no better than 1e-8.

    Weights that wander or drift come out ten times closer than this, and more.
    """
    gram, wanted, square = _inner_products(snapshot_steps, snapshot_stds, target_step, target_std)
    shares = coefficients(snapshot_steps, snapshot_stds, target_step, target_std)
    squared = square - 2 * float(shares @ wanted) + float(shares @ gram @ shares)
    return math.sqrt(max(0.0, squared / square))


def _inner_products(
    steps: Sequence[int], stds: Sequence[float], target_step: int, target_std: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Of the snapshots' profiles with each other, with the wanted one, and of that with itself."""
    # Time in units of the wanted average's, so that the numbers stay near 1.
    times = np.array([*steps, target_step], dtype=np.float64) / target_step
    gammas = np.array([gamma_from_std(std) for std in (*stds, target_std)])
    products = _inner_product(times[:, None], gammas[:, None], times, gammas)
    return products[:-1, :-1], products[:-1, -1], float(products[-1, -1])


def _inner_product(
    time_a: NDArray[np.float64], gamma_a: NDArray[np.float64], time_b: NDArray[np.float64], gamma_b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integral of two profiles (gamma + 1) s**gamma / time**(gamma + 1), each on [0, time] (EDM2, appendix C)."""
    early, late = np.minimum(time_a, time_b), np.maximum(time_a, time_b)
    gamma_of_late = np.where(time_a > time_b, gamma_a, gamma_b)
    scale = (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1)
    product: NDArray[np.float64] = scale / late * (early / late) ** gamma_of_late
    return product

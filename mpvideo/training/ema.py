"""Power-function moving average of weights (EDM2, section 3.1)."""

import copy
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def gamma_from_std(ema_std: float) -> float:
    """Exponent of the power-function profile whose relative width is `ema_std` (EDM2, algorithm 2).

    Raises:
        ValueError: ema_std is not in (0, 0.289): a profile wider than the uniform one does not exist.
    """
    if not 0 < ema_std < 0.288675:
        raise ValueError(f"ema_std must be in (0, 0.2887), got {ema_std}")
    width = ema_std**-2
    return float(np.roots([1, 7, 16 - width, 12 - width]).real.max())


class PowerEMA(Generic[Module]):
    """Average of a module's weights, weighing the step s of t by (s / t)**gamma.

    Args:
        module: the module to follow.
        ema_std: relative width of the profile; 0.10 averages over about the last tenth of the training.

    Attributes:
        average: a copy of the module that holds the averaged weights.
    """

    def __init__(self, module: Module, ema_std: float) -> None:
        self.gamma = gamma_from_std(ema_std)
        self.average: Module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: Module, step: int) -> None:
        """Takes in the weights after the 1-based step `step` (EDM2, eq. 121)."""
        beta = (1 - 1 / step) ** (self.gamma + 1)
        for averaged, parameter in zip(self.average.parameters(), module.parameters(), strict=True):
            averaged.lerp_(parameter, 1 - beta)
        for copied, buffer in zip(self.average.buffers(), module.buffers(), strict=True):
            copied.copy_(buffer)

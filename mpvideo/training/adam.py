"""Adam for weights that lie in memory in any order."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Adam(torch.optim.Adam):
    """Fused Adam with EDM's betas, which sees each weight as the vector of its values as they lie in memory.

    Of weights that are not contiguous torch's own copies the gradients, for as long again as the step takes, and it
    pairs weights and moments by where they lie, however either is laid out (torch 2.13.0).

    Args:
        weights: dense parameters that stay where they are in memory; gradients are theirs as ever.
    """

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        self._weights = list(weights)
        vectors = [nn.Parameter(_vector(weight.detach())) for weight in self._weights]
        super().__init__(vectors, betas=(0.9, 0.99), fused=True)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Takes a step along the gradients of the weights."""
        for weight, vector in self._pairs():
            vector.grad = None if weight.grad is None else _vector(_laid_out(weight.grad, weight))
        super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        super().zero_grad(set_to_none)
        for weight in self._weights:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The moments, in the shapes of the weights, and the settings."""
        whole = super().state_dict()
        for index, values in whole["state"].items():
            weight = self._weights[index]
            shaped = {name: values[name].as_strided(weight.shape, weight.stride()) for name in _MOMENTS}
            whole["state"][index] = {**values, **shaped}
        return whole

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes back to a state, however that is laid out."""
        super().load_state_dict(state_dict)
        for weight, vector in self._pairs():
            if values := self.state.get(vector):
                values |= {name: _vector(_laid_out(values[name], weight)) for name in _MOMENTS}

    def _pairs(self) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        return zip(self._weights, self.param_groups[0]["params"], strict=True)


def _vector(x: Tensor) -> Tensor:
    """A view of x, which is dense: its values in the order in which they lie in memory."""
    return x.as_strided((x.numel(),), (1,))


def _laid_out(x: Tensor, weight: Tensor) -> Tensor:
    """x, laid out as the weight is; itself if it is already."""
    same = x.stride() == weight.stride() or (x.is_contiguous() and weight.is_contiguous())
    return x if same else torch.empty_like(weight).copy_(x)

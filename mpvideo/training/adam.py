"""Adam for weights that lie in memory in any order."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mpvideo.errors import CheckpointError

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Adam:
    """torch's fused Adam with EDM's betas, shown each weight as the vector of its values in the order of memory.

    Of weights that are not contiguous it would copy each gradient, and take twice as long; and with moments laid out
    otherwise than their weights it goes wrong without a word (torch 2.13.0).

    Args:
        weights: dense parameters, which must stay where they are in memory. Their gradients are taken from `grad`.
    """

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        self._weights = list(weights)
        self._vectors = [nn.Parameter(_vector(weight.detach())) for weight in self._weights]
        self._adam = torch.optim.Adam(self._vectors, betas=(0.9, 0.99), fused=True)

    @property
    def rate(self) -> float:
        """Learning rate of the last step, or of the next once it is set."""
        rate: float = self._adam.param_groups[0]["lr"]
        return rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._adam.param_groups[0]["lr"] = rate

    def step(self) -> None:
        """Takes a step; weights without a gradient stay as they are."""
        for weight, vector in self._pairs():
            vector.grad = None if weight.grad is None else _vector(_laid_out(weight.grad, weight))
        self._adam.step()

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for weight, vector in self._pairs():
            weight.grad = vector.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The state of a torch.optim.Adam of the weights; its tensors change with the next step."""
        whole = self._adam.state_dict()
        for index, values in whole["state"].items():
            weight = self._weights[index]
            shaped = {name: values[name].as_strided(weight.shape, weight.stride()) for name in _MOMENTS}
            whole["state"][index] = {**values, **shaped}
        return whole

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a state, however it is laid out; what is given stays as it is.

        Raises:
            CheckpointError: its moments have other shapes than the weights.
        """
        for index, values in state["state"].items():
            for name in _MOMENTS:
                wanted, seen = self._weights[index].shape, values[name].shape
                if wanted != seen:  # torch would read and write beyond the end
                    raise CheckpointError(
                        f"the snapshot's {name} of weight {index} must have the shape {tuple(wanted)}, "
                        f"got {tuple(seen)}",
                        hint="The file is damaged: train in another folder.",
                    )
        self._adam.load_state_dict(state)
        for weight, vector in self._pairs():
            if values := self._adam.state.get(vector):
                values["step"] = values["step"].clone()
                values |= {name: _vector(torch.empty_like(weight).copy_(values[name])) for name in _MOMENTS}

    def _pairs(self) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        return zip(self._weights, self._vectors, strict=True)


def _vector(x: Tensor) -> Tensor:
    """A view of x, which is dense: its values in the order in which they lie in memory."""
    return x.as_strided((x.numel(),), (1,))


def _laid_out(x: Tensor, weight: Tensor) -> Tensor:
    """x, laid out as the weight is; itself if it is already."""
    same = x.stride() == weight.stride() or (x.is_contiguous() and weight.is_contiguous())
    return x if same else torch.empty_like(weight).copy_(x)

"""Adam against torch's own, of weights that lie in memory one way or another."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mpvideo.errors import CheckpointError
from mpvideo.training.adam import Adam
from tests.networks import randn

SHAPES = ((), (4,), (3, 5), (4, 6, 1, 1, 1), (4, 6, 3, 3, 3))


def plain(x: Tensor) -> Tensor:
    return x.contiguous()


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d) if x.ndim == 5 else x


def weights(lay_out: Callable[[Tensor], Tensor]) -> list[nn.Parameter]:
    return [nn.Parameter(lay_out(randn(*shape, seed=index))) for index, shape in enumerate(SHAPES)]


def learn(
    optimizer: Adam | torch.optim.Adam,
    parameters: list[nn.Parameter],
    steps: range,
    lay_out: Callable[[Tensor], Tensor],
) -> None:
    for step in steps:
        optimizer.zero_grad()
        for index, parameter in enumerate(parameters):
            assert parameter.grad is None
            parameter.grad = lay_out(randn(*parameter.shape, seed=100 * step + index))
        optimizer.step()


def reference(steps: int) -> tuple[list[nn.Parameter], dict[str, Any]]:
    parameters = weights(plain)
    optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.99))
    learn(optimizer, parameters, range(steps), plain)
    return parameters, optimizer.state_dict()


@pytest.mark.parametrize("of_gradients", [plain, channels_last])
@pytest.mark.parametrize("of_weights", [plain, channels_last])
def test_steps_are_torchs(of_weights: Callable[[Tensor], Tensor], of_gradients: Callable[[Tensor], Tensor]) -> None:
    parameters = weights(of_weights)
    learn(Adam(parameters), parameters, range(3), of_gradients)
    torch.testing.assert_close(parameters, reference(3)[0])


@pytest.mark.parametrize("before", [plain, channels_last])
@pytest.mark.parametrize("after", [plain, channels_last])
def test_going_on_from_a_state(before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]) -> None:
    """Where the weights lie otherwise than they did, as on another device."""
    first = weights(before)
    optimizer = Adam(first)
    learn(optimizer, first, range(2), plain)
    second = [nn.Parameter(after(parameter.detach().clone())) for parameter in first]
    going_on = Adam(second)
    going_on.load_state_dict(optimizer.state_dict())
    learn(going_on, second, range(2, 4), plain)
    torch.testing.assert_close(second, reference(4)[0])


def test_the_state_is_torchs() -> None:
    parameters = weights(channels_last)
    optimizer = Adam(parameters)
    learn(optimizer, parameters, range(2), channels_last)
    ours, theirs = optimizer.state_dict()["state"], reference(2)[1]["state"]
    assert ours.keys() == theirs.keys()
    for index, moments in theirs.items():
        torch.testing.assert_close(ours[index], moments)
    other = Adam(weights(channels_last))
    other.load_state_dict(reference(2)[1])  # as snapshots held it before
    for index, moments in other.state_dict()["state"].items():
        torch.testing.assert_close(moments, theirs[index])


def test_a_weight_without_a_gradient_stays() -> None:
    parameters = weights(channels_last)
    before = parameters[-1].detach().clone()
    optimizer = Adam(parameters)
    parameters[0].grad = torch.ones(())
    optimizer.step()
    assert torch.equal(parameters[-1], before)
    assert parameters[0].item() != weights(plain)[0].item()
    assert list(optimizer.state_dict()["state"]) == [0]


def test_a_state_that_is_gone_on_from_stays() -> None:
    state = reference(2)[1]
    before = copy.deepcopy(state)
    parameters = weights(channels_last)
    optimizer = Adam(parameters)
    optimizer.load_state_dict(state)
    learn(optimizer, parameters, range(2), plain)
    torch.testing.assert_close(state, before)


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
def test_moments_of_another_shape_are_refused(name: str) -> None:
    """torch would write beyond their end."""
    state = reference(2)[1]
    state["state"][2][name] = state["state"][2][name][:1]
    with pytest.raises(CheckpointError, match=rf"{name} of weight 2 must have the shape \(3, 5\), got \(1, 5\)"):
        Adam(weights(plain)).load_state_dict(state)

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mpvideo.training.ema import PowerEMA, coefficients, gamma_from_std, profile_error
from tests.networks import randn, tiny_network


@pytest.mark.parametrize(("ema_std", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_gamma_of_the_paper(ema_std, gamma):
    """EDM2, section 3.1."""
    assert gamma_from_std(ema_std) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("ema_std", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_std_of_the_profile(ema_std):
    """The profile t**gamma on [0, 1] has this standard deviation (EDM2, eq. 123), here by its moments."""
    gamma = gamma_from_std(ema_std)
    mean, square = (gamma + 1) / (gamma + 2), (gamma + 1) / (gamma + 3)
    assert math.sqrt(square - mean**2) == pytest.approx(ema_std, rel=1e-5)


@pytest.mark.parametrize("ema_std", [0.0, -0.1, 0.2887, 1.0, math.inf, math.nan])
def test_std_out_of_range(ema_std):
    with pytest.raises(ValueError, match=r"^ema_std must be in \(0, 0\.2887\), got "):
        gamma_from_std(ema_std)


@pytest.mark.parametrize("ema_std", [0.05, 0.1, 0.25])
def test_average_is_the_integral_of_the_profile(ema_std):
    """(gamma + 1) / t**(gamma + 1) times the integral of s**gamma w(s), with w a staircase (EDM2, eq. 120)."""
    steps, gamma = 30, gamma_from_std(ema_std)
    history = randn(steps, 3, 2, dtype=torch.float64)
    module = nn.Linear(2, 3, bias=False).double()
    ema = PowerEMA(module, ema_std)
    for step, weight in enumerate(history, start=1):
        module.weight.data.copy_(weight)
        ema.update(step)
    s = torch.arange(steps + 1, dtype=torch.float64)
    shares = (s / steps).pow(gamma + 1).diff()
    assert shares.sum().item() == pytest.approx(1)
    torch.testing.assert_close(ema.average.weight, torch.einsum("s,soi->oi", shares, history))


def test_first_step_forgets_the_start():
    module = nn.Linear(2, 3)
    ema = PowerEMA(module, 0.1)
    module.weight.data.add_(5)
    ema.update(1)
    torch.testing.assert_close(ema.average.weight, module.weight.detach())


def test_average_of_what_does_not_change():
    module = nn.Linear(2, 3)
    ema = PowerEMA(module, 0.1)
    for step in range(1, 20):
        ema.update(step)
    torch.testing.assert_close(ema.average.weight, module.weight.detach())


def test_average_is_a_copy_for_evaluation():
    net = tiny_network().train()
    ema = PowerEMA(net, 0.1)
    assert net.training
    assert not any(module.training for module in ema.average.modules())
    assert not any(parameter.requires_grad for parameter in ema.average.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    net.input_block.weight.data.zero_()
    assert ema.average.input_block.weight.any()


def test_buffers_are_copied():
    net = tiny_network()
    ema = PowerEMA(net, 0.1)
    net.to_time_emb[0].weights.fill_(3)
    ema.update(7)
    assert (ema.average.to_time_emb[0].weights == 3).all()


def profile(grid: NDArray[np.float64], step: float, gamma: float) -> NDArray[np.float64]:
    """A profile of EDM2, eq. 120, at points of time."""
    values = (gamma + 1) * grid**gamma / step ** (gamma + 1)
    return np.where(grid <= step, values, 0)


def l2(values: NDArray[np.float64], width: float) -> float:
    return math.sqrt((values**2).sum() * width)


def test_coefficients_are_the_least_squares_solution_on_a_grid():
    """The same problem with profiles as columns of numbers, their sum held to 1 by a heavy row."""
    steps, stds, count = [5, 5, 7, 7, 10, 10], [0.05, 0.1] * 3, 200_000
    width = 10 / count
    grid = (np.arange(count) + 0.5) * width  # midpoints
    columns = np.stack([profile(grid, t, gamma_from_std(std)) for t, std in zip(steps, stds, strict=True)], axis=1)
    for target in (0.04, 0.07, 0.15, 0.25):
        wanted = profile(grid, 10, gamma_from_std(target))
        heavy = 1e6
        rows = np.vstack([columns, heavy * np.ones(6)])
        solved = np.linalg.lstsq(rows, np.append(wanted, heavy), rcond=None)[0]
        found = coefficients(steps, stds, 10, target)
        np.testing.assert_allclose(found, solved, atol=1e-4)
        error = l2(columns @ found - wanted, width) / l2(wanted, width)
        assert profile_error(steps, stds, 10, target) == pytest.approx(error, rel=1e-3)


def test_a_width_that_was_kept_is_that_snapshot():
    steps, stds = [n for n in range(64, 2049, 64) for _ in (1, 2)], [0.05, 0.1] * 32
    for index, std in ((-2, 0.05), (-1, 0.1)):
        found = coefficients(steps, stds, 2048, std)
        assert found[index] == pytest.approx(1, abs=1e-9)
        assert np.abs(np.delete(found, index % len(found))).max() < 1e-9
        assert profile_error(steps, stds, 2048, std) < 1e-7


@pytest.mark.parametrize(
    "steps",
    [[2000], [1000, 2000], [*range(64, 2049, 64), 2049], [1999, 2000], list(range(50, 20001, 50))],
    ids=["one", "two", "one step apart at the end", "one step apart", "four hundred"],
)
def test_coefficients_stay_small_and_sum_to_one(steps):
    """Great ones of both signs would blow up the rounding of the snapshots."""
    doubled = [step for step in steps for _ in (1, 2)]
    for target in (0.05, 0.06, 0.1, 0.15, 0.2):
        found = coefficients(doubled, [0.05, 0.1] * len(steps), steps[-1], target)
        assert found.sum() == pytest.approx(1, abs=1e-12)
        assert np.linalg.norm(found) < 2


def test_profile_error_falls_with_the_number_of_snapshots():
    errors = []
    for count in (4, 8, 16, 32, 64):
        steps = [step * (2048 // count) for step in range(1, count + 1) for _ in (1, 2)]
        errors.append(profile_error(steps, [0.05, 0.1] * count, 2048, 0.15))
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 1e-2 < errors[0]


def test_update_is_the_lerp_of_every_tensor():
    net = tiny_network()
    ema = PowerEMA(net, 0.1)
    alone = [parameter.clone() for parameter in ema.average.parameters()]
    for step in (1, 2, 9, 10_000):
        share = 1 - (1 - 1 / step) ** (ema.gamma + 1)
        for before, parameter in zip(alone, net.parameters(), strict=True):
            parameter.data.add_(randn(parameter.numel(), seed=step).view_as(parameter))
            before.lerp_(parameter.detach(), share)
        ema.update(step)
        assert all(map(torch.equal, alone, ema.average.parameters()))

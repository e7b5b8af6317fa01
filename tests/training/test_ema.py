import math

import pytest
import torch
from torch import nn

from mpvideo.training.ema import PowerEMA, gamma_from_std
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
        ema.update(module, step)
    s = torch.arange(steps + 1, dtype=torch.float64)
    shares = (s / steps).pow(gamma + 1).diff()
    assert shares.sum().item() == pytest.approx(1)
    torch.testing.assert_close(ema.average.weight, torch.einsum("s,soi->oi", shares, history))


def test_first_step_forgets_the_start():
    module = nn.Linear(2, 3)
    ema = PowerEMA(module, 0.1)
    module.weight.data.add_(5)
    ema.update(module, 1)
    torch.testing.assert_close(ema.average.weight, module.weight.detach())


def test_average_of_what_does_not_change():
    module = nn.Linear(2, 3)
    ema = PowerEMA(module, 0.1)
    for step in range(1, 20):
        ema.update(module, step)
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
    ema.update(net, 7)
    assert (ema.average.to_time_emb[0].weights == 3).all()

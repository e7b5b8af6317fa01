"""The objective against its formulas."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mpvideo.diffusion import EDMDenoiser
from mpvideo.training.objective import Objective
from tests.networks import TINY_SHAPE, randn, tiny_network

SIGMAS = torch.tensor([0.002, 0.05, 0.5, 3.0, 80.0])
LABELS = torch.eye(5)


def objective(net: nn.Module, sigma_data: float = 0.5) -> Objective:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Objective(net, sigma_data).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 3.0])
@torch.no_grad()
def test_loss_is_edms(sigma_data: float) -> None:
    """lambda(sigma) |D(y + n; sigma) - y|**2 with lambda = (sigma**2 + sigma_data**2) / (sigma sigma_data)**2.

    In float64, where the difference of nearly equal denoised images does no harm. (EDM, table 1 and eq. 2.)
    """
    net = tiny_network()
    clean = sigma_data * randn(5, *TINY_SHAPE, seed=1, dtype=torch.float64)
    noise = randn(5, *TINY_SHAPE, seed=2, dtype=torch.float64)
    sigma = SIGMAS.double()
    denoiser = EDMDenoiser(net, sigma_data=sigma_data, class_labels=LABELS)
    denoised, _ = denoiser(clean + sigma.view(-1, 1, 1, 1, 1) * noise, sigma)
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    expected = weight * (denoised - clean).square().mean((1, 2, 3, 4))
    mean, loss = objective(net, sigma_data)(clean.float(), noise.float(), SIGMAS, LABELS)
    assert loss.dtype == mean.dtype == torch.float32
    torch.testing.assert_close(loss, expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mean, loss.mean())  # u is 0 before training


@pytest.mark.parametrize("sigma_data", [0.5, 2.0])
@torch.no_grad()
def test_untrained_network_has_a_loss_of_one_at_every_noise_level(sigma_data: float) -> None:
    net = tiny_network(gain=None, num_classes=None, channels=32)
    clean, noise = sigma_data * randn(5, 32, 4, 8, 8, seed=1), randn(5, 32, 4, 8, 8, seed=2)
    _, loss = objective(net, sigma_data)(clean, noise, SIGMAS, None)
    torch.testing.assert_close(loss, torch.ones(5), atol=0.06, rtol=0)


class Perfect(nn.Module):
    """The network of the exact denoiser of data that are one constant, a; it takes down the estimates it is given."""

    def __init__(self, a: float, sigma_data: float, error: float = 0.0) -> None:
        super().__init__()
        self.a, self.sigma_data, self.error = a, sigma_data, error
        self.estimates: list[Tensor | None] = []

    def forward(self, x: Tensor, time: Tensor, self_cond: Tensor | None = None, class_labels: Any = None) -> Tensor:
        self.estimates.append(self_cond)
        sigma = (4 * time).exp().view(-1, 1, 1, 1, 1)
        variance = sigma**2 + self.sigma_data**2
        noisy = x * variance.sqrt()
        return (self.a - self.sigma_data**2 / variance * noisy) * variance.sqrt() / (
            sigma * self.sigma_data
        ) + self.error


@pytest.mark.parametrize("error", [0.0, 0.5])
def test_perfect_network_has_no_loss_and_another_the_square_of_its_error(error: float) -> None:
    clean = torch.full((5, *TINY_SHAPE), 0.7)
    _, loss = objective(Perfect(0.7, 0.5, error))(clean, randn(*clean.shape), SIGMAS, None)
    torch.testing.assert_close(loss, torch.full((5,), error**2), atol=1e-3, rtol=0)


def test_estimate_is_the_denoised_video() -> None:
    """At any noise level, with a perfect network: the clean video."""
    clean, net = torch.full((5, *TINY_SHAPE), 0.7), Perfect(0.7, 0.5)
    objective(net)(clean, randn(*clean.shape), SIGMAS, None, self_conditioned=True)
    first, second = net.estimates
    assert first is None
    assert second is not None
    torch.testing.assert_close(second, clean, atol=1e-4, rtol=0)


def test_self_conditioned_loss_by_hand() -> None:
    """The estimate of the first pass goes to the second, and no gradient goes to the first."""
    net = tiny_network(self_condition=True)
    clean, noise = 0.5 * randn(5, *TINY_SHAPE, seed=1), randn(5, *TINY_SHAPE, seed=2)
    noisy = clean + SIGMAS.view(-1, 1, 1, 1, 1) * noise
    denoiser = EDMDenoiser(net, sigma_data=0.5, self_condition=True, class_labels=LABELS)
    _, state = denoiser(noisy, SIGMAS)
    assert state is not None
    column = SIGMAS.view(-1, 1, 1, 1, 1)
    c_in = 1 / (column**2 + 0.25).sqrt()
    out = net(c_in * noisy, SIGMAS.log() / 4, self_cond=state.detach(), class_labels=LABELS)
    expected = (out - c_in * (2 * column * clean - 0.5 * noise)).square().mean((1, 2, 3, 4))
    mean, loss = objective(net)(clean, noise, SIGMAS, LABELS, self_conditioned=True)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    parameters = list(net.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(mean, parameters), torch.autograd.grad(expected.mean(), parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    _, without = objective(net)(clean, noise, SIGMAS, LABELS)
    assert (without - loss).abs().max() > 1e-3


def test_weighed_by_the_uncertainty_of_the_noise_level() -> None:
    """EDM2's eq. 21, and the gradient of each sample's u: (1 - loss / exp(u)) / B."""
    module = objective(tiny_network())
    module.uncertainty.gain.data.fill_(0.7)
    clean, noise = 0.5 * randn(5, *TINY_SHAPE, seed=1), randn(5, *TINY_SHAPE, seed=2)
    caught: list[Tensor] = []
    module.uncertainty.register_forward_hook(lambda _, args, out: (out.retain_grad(), caught.extend((args[0], out)))[0])
    mean, loss = module(clean, noise, SIGMAS, LABELS)
    mean.backward()
    c_noise, u = caught
    torch.testing.assert_close(c_noise, SIGMAS.log() / 4)
    assert u.detach().std() > 0.1
    pairs = zip(loss.tolist(), u.tolist(), strict=True)
    assert mean.item() == pytest.approx(sum(value / math.exp(level) + level for value, level in pairs) / 5, rel=1e-5)
    torch.testing.assert_close(u.grad, (1 - loss / u.exp()).detach() / 5)
    assert module.uncertainty.gain.grad is not None
    assert module.uncertainty.gain.grad != 0


@torch.no_grad()
def test_loss_in_bfloat16() -> None:
    """The network runs in bfloat16, its loss does not: it stays close at the lowest noise level too."""
    net, dtypes = tiny_network(self_condition=True), []
    net.register_forward_hook(
        lambda _, args, kwargs, out: dtypes.append((args[0].dtype, args[1].dtype, out.dtype)), with_kwargs=True
    )
    clean, noise = 0.5 * randn(5, *TINY_SHAPE, seed=1), randn(5, *TINY_SHAPE, seed=2)
    for self_conditioned in (False, True):
        _, rough = objective(net)(clean, noise, SIGMAS, LABELS, dtype=torch.bfloat16, self_conditioned=self_conditioned)
        assert set(dtypes) == {(torch.bfloat16, torch.float32, torch.bfloat16)}
        assert rough.dtype == torch.float32
        _, exact = objective(net)(clean, noise, SIGMAS, LABELS, self_conditioned=self_conditioned)
        torch.testing.assert_close(rough, exact, rtol=0.03, atol=0)
        dtypes.clear()


def test_kernels_are_channels_last() -> None:
    net = tiny_network()
    values = {name: value.detach().clone() for name, value in net.named_parameters()}
    objective(net)
    for name, value in net.named_parameters():
        assert torch.equal(value, values[name])
        assert value.ndim != 5 or value.is_contiguous(memory_format=torch.channels_last_3d)

import math

import pytest
import torch
from torch import Tensor, nn

from mpvideo.diffusion import EDMDenoiser
from mpvideo.training.loss import NoiseDistribution, UncertaintyWeight, denoising_loss, learning_rate, weigh
from tests.networks import TINY_SHAPE, randn, tiny_network

SIGMAS = torch.tensor([0.002, 0.05, 0.5, 3.0, 80.0])
LABELS = torch.eye(5)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 3.0])
@torch.no_grad()
def test_loss_is_edms(sigma_data):
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
    loss = denoising_loss(net, clean.float(), noise.float(), SIGMAS, sigma_data, LABELS)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sigma_data", [0.5, 2.0])
@torch.no_grad()
def test_untrained_network_has_a_loss_of_one_at_every_noise_level(sigma_data):
    net = tiny_network(gain=None, num_classes=None, channels=32)
    clean, noise = sigma_data * randn(5, 32, 4, 8, 8, seed=1), randn(5, 32, 4, 8, 8, seed=2)
    loss = denoising_loss(net, clean, noise, SIGMAS, sigma_data, None)
    torch.testing.assert_close(loss, torch.ones(5), atol=0.06, rtol=0)


class Perfect(nn.Module):
    """The network of the exact denoiser of data that are one constant, a."""

    def __init__(self, a: float, sigma_data: float) -> None:
        super().__init__()
        self.a, self.sigma_data = a, sigma_data

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor | None = None) -> Tensor:
        sigma = (4 * time).exp().view(-1, 1, 1, 1, 1)
        variance = sigma**2 + self.sigma_data**2
        noisy = x * variance.sqrt()
        return (self.a - self.sigma_data**2 / variance * noisy) * variance.sqrt() / (sigma * self.sigma_data)


def test_perfect_network_has_no_loss():
    clean = torch.full((5, *TINY_SHAPE), 0.7)
    loss = denoising_loss(Perfect(0.7, 0.5), clean, randn(*clean.shape), SIGMAS, 0.5, None)
    torch.testing.assert_close(loss, torch.zeros(5), atol=1e-4, rtol=0)


@torch.no_grad()
def test_loss_in_bfloat16():
    """The network runs in bfloat16, its loss does not: it stays close at the lowest noise level too."""
    net, dtypes = tiny_network(), []
    net.output_block.register_forward_hook(lambda _, inputs, out: dtypes.append(out.dtype))
    clean, noise = 0.5 * randn(5, *TINY_SHAPE, seed=1), randn(5, *TINY_SHAPE, seed=2)
    rough = denoising_loss(net, clean, noise, SIGMAS, 0.5, LABELS, torch.bfloat16)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, denoising_loss(net, clean, noise, SIGMAS, 0.5, LABELS), rtol=0.02, atol=0)
    assert dtypes == [torch.bfloat16, torch.float32]


def test_noise_distribution():
    draw = NoiseDistribution(P_mean=-0.4, P_std=1.2).sample(100_000, torch.Generator().manual_seed(0))
    assert draw.shape == (100_000,)
    assert draw.dtype == torch.float32
    assert draw.log().mean().item() == pytest.approx(-0.4, abs=0.02)
    assert draw.log().std().item() == pytest.approx(1.2, abs=0.02)


def test_noise_distribution_draws_from_its_generator():
    first, again, other = (
        NoiseDistribution(P_mean=0.0, P_std=1.0).sample(4, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("level", [0.01, 0.3, 1.0, 7.0])
def test_best_uncertainty_is_the_logarithm_of_the_loss(level):
    loss = torch.full((3,), level, dtype=torch.float64)
    u = torch.full((3,), math.log(level), dtype=torch.float64, requires_grad=True)
    best = weigh(loss, u)
    best.backward()
    torch.testing.assert_close(u.grad, torch.zeros(3, dtype=torch.float64))
    assert best.item() == pytest.approx(1 + math.log(level))
    for step in (-0.1, 0.1):
        assert weigh(loss, u.detach() + step) > best


def test_weigh_by_hand():
    total = weigh(torch.tensor([2.0, 3.0]), torch.tensor([0.0, math.log(2)]))
    assert total.item() == pytest.approx((2 + 1.5 + math.log(2)) / 2)


def test_uncertainty_is_zero_before_training_and_learns():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = UncertaintyWeight().train()
    c_noise = SIGMAS.log() / 4
    u = module(c_noise)
    assert u.shape == (5,)
    assert not u.any()
    wanted = torch.tensor([0.5, 1.0, 2.0, 1.0, 0.1])  # losses to be found out
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        weigh(wanted, module(c_noise)).backward()
        optimizer.step()
    torch.testing.assert_close(module(c_noise).exp(), wanted, rtol=0.1, atol=0.02)


def test_learning_rate():
    """A linear rise, a plateau, 1 / sqrt(step)."""

    def rate(step: int) -> float:
        return learning_rate(step, peak=0.01, warmup_steps=10, decay_steps=100)

    assert [rate(step) for step in (0, 4, 9)] == pytest.approx([0.001, 0.005, 0.01])
    assert {rate(step) for step in range(9, 100)} == {0.01}
    assert rate(100) < 0.01
    assert rate(399) == pytest.approx(0.005)
    assert rate(9999) == pytest.approx(0.001)
    rates = [rate(step) for step in range(100, 1000)]
    assert rates == sorted(rates, reverse=True)


def test_learning_rate_without_warm_up():
    assert learning_rate(0, peak=0.01, warmup_steps=0, decay_steps=100) == 0.01

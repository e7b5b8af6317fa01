import math

import pytest
import torch

from mpvideo.training.loss import NoiseDistribution, UncertaintyWeight, learning_rate, weigh

SIGMAS = torch.tensor([0.002, 0.05, 0.5, 3.0, 80.0])
LABELS = torch.eye(5)


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

"""Euler's and Heun's method: what is theirs alone, and churn."""

import math

import pytest
import torch

from mpvideo.diffusion import Churn, SeededNoise, sample_euler, sample_heun
from tests.diffusion.conftest import GaussianDenoiser
from tests.diffusion.samplers.conftest import SHAPE, sigmas_of

both_samplers = pytest.mark.parametrize("sample", [sample_euler, sample_heun], ids=["euler", "heun"])


def test_heun_is_exact_for_a_slope_linear_in_sigma():
    """With D = x - sigma (a + b sigma) the ODE is dx/dsigma = a + b sigma: two steps or ten make no difference."""
    a, b = 0.7, -0.2

    def denoiser(x, sigma, state):
        return x - sigma * (a + b * sigma), None

    def solve(sample, num_steps):
        return sample(denoiser, torch.ones(1, dtype=torch.float64), torch.linspace(3.0, 1.0, num_steps + 1)).item()

    exact = 1 + a * (1 - 3) + b * (1 - 9) / 2
    for num_steps in (1, 2, 10):
        assert solve(sample_heun, num_steps) == pytest.approx(exact, rel=1e-12)
        assert solve(sample_euler, num_steps) - exact == pytest.approx(exact_euler_error(b, num_steps), rel=1e-9)


def exact_euler_error(b: float, num_steps: int) -> float:
    """Each Euler step of length h misses b h**2 / 2 of a slope linear in sigma."""
    h = -2 / num_steps
    return -num_steps * b * h**2 / 2


# Churn


def test_gamma():
    churn = Churn(s_churn=8.0, s_tmin=0.1, s_tmax=50.0)
    assert churn.gamma(1.0, num_steps=40) == 0.2
    assert churn.gamma(1.0, num_steps=10) == math.sqrt(2) - 1
    assert [churn.gamma(sigma, 40) for sigma in (0.09, 0.1, 50.0, 51.0)] == [0.0, 0.2, 0.2, 0.0]
    assert Churn(s_churn=8.0).gamma(1e9, 40) == 0.2
    assert Churn().gamma(1.0, 40) == 0.0


@both_samplers
@pytest.mark.parametrize(
    "churn",
    [None, Churn(), Churn(s_churn=0.0, s_noise=1.1), Churn(s_churn=40.0, s_tmin=90.0)],
    ids=["none", "default", "zero", "out of range"],
)
def test_zero_churn_draws_nothing(sample, churn):
    noise = SeededNoise([0, 1])
    x = 80 * noise.randn(*SHAPE)
    before = [generator.get_state() for generator in noise.generators]
    sample(GaussianDenoiser(std=torch.tensor(0.5)), x, sigmas_of(6), churn=churn, noise=noise.randn_like)
    for generator, state in zip(noise.generators, before, strict=True):
        assert torch.equal(generator.get_state(), state)


@both_samplers
def test_churn_draws_once_at_each_level_in_range(sample):
    sigmas = sigmas_of(12)
    churn = Churn(s_churn=5.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003)
    draws = []

    def noise(x):
        draws.append(torch.ones_like(x))
        return draws[-1]

    seen = []

    def denoiser(x, sigma, state):
        seen.append(sigma)
        return x, None  # a slope of zero: only churn moves x

    x = torch.zeros(1, dtype=torch.float64)
    out = sample(denoiser, x, sigmas, churn=churn, noise=noise)
    churned = [sigma for sigma in sigmas.tolist() if 0.05 <= sigma <= 50.0]
    gamma = min(5.0 / 12, math.sqrt(2) - 1)
    assert len(draws) == len(churned) > 0
    assert {sigma * (1 + gamma) for sigma in churned} <= set(seen)
    expected = sum(sigma * math.sqrt((1 + gamma) ** 2 - 1) * 1.003 for sigma in churned)
    assert out.item() == pytest.approx(expected, rel=1e-12)


@both_samplers
def test_churn_needs_noise_only_where_it_acts(sample):
    denoiser = GaussianDenoiser(std=torch.tensor(0.5))
    x = torch.zeros(1, *SHAPE)
    sample(denoiser, x, sigmas_of(4), churn=Churn(s_churn=4.0, s_tmin=100.0))
    with pytest.raises(ValueError, match=r"noise must be given for s_churn 4.0, got None"):
        sample(denoiser, x, sigmas_of(4), churn=Churn(s_churn=4.0))


# Bad arguments


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"s_churn": -1.0}, "s_churn must be at least 0, got -1.0"),
        ({"s_churn": math.nan}, "s_churn must be a finite number, got nan"),
        ({"s_tmin": math.inf}, "s_tmin must be a finite number, got inf"),
        ({"s_tmin": 2.0, "s_tmax": 1.0}, "s_tmax must be at least s_tmin, got 1.0 and 2.0"),
        ({"s_tmax": math.nan}, "s_tmax must be a finite number, got nan"),
        ({"s_noise": 0.0}, "s_noise must be greater than 0, got 0.0"),
    ],
)
def test_bad_churn(attributes, message):
    with pytest.raises(ValueError, match=message):
        Churn(**attributes)

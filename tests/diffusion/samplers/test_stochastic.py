"""What is only the stochastic sampler's and the restarts'."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from mpvideo.diffusion import (
    Churn,
    EDMDenoiser,
    Restart,
    SeededNoise,
    karras_sigmas,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_euler,
    sample_heun,
    with_restarts,
)
from tests.diffusion.conftest import GaussianDenoiser, RecordingNet
from tests.diffusion.samplers.conftest import SHAPE, sigmas_of


def test_without_eta_it_is_dpmpp_2m(generator):
    denoiser = GaussianDenoiser(std=torch.tensor(0.5, dtype=torch.float64))
    x = 80 * torch.randn(3, 4, dtype=torch.float64, generator=generator)
    expected = sample_dpmpp_2m(denoiser, x, sigmas_of(12))
    torch.testing.assert_close(sample_dpmpp_2m_sde(denoiser, x, sigmas_of(12), eta=0.0), expected)


def test_one_step_by_hand():
    """From 4 to 2 with eta 1: a quarter of x, three quarters of D, and noise of 2 sqrt(1 - 1/4)."""
    out = sample_dpmpp_2m_sde(
        lambda x, sigma, state: (torch.full_like(x, 8.0), None),
        torch.full((1,), 40.0, dtype=torch.float64),
        torch.tensor([4.0, 2.0]),
        s_noise=1.5,
        noise=torch.ones_like,
    )
    assert out.item() == pytest.approx(10 + 6 + 1.5 * 2 * math.sqrt(3 / 4), rel=1e-12)


def test_it_needs_noise_unless_it_makes_no_use_of_it():
    denoiser = GaussianDenoiser(std=torch.tensor(0.5))
    x = torch.ones(1, 2)
    sample_dpmpp_2m_sde(denoiser, x, sigmas_of(4), eta=0.0)
    sample_dpmpp_2m_sde(denoiser, x, sigmas_of(1))
    with pytest.raises(ValueError, match=r"noise must be given for eta 1.0, got None"):
        sample_dpmpp_2m_sde(denoiser, x, sigmas_of(4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"eta": -0.1}, "eta must be at least 0, got -0.1"), ({"s_noise": 0.0}, "s_noise must be greater than 0, got 0")],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        sample_dpmpp_2m_sde(
            GaussianDenoiser(std=torch.tensor(0.5)), torch.ones(1, 2), sigmas_of(4), noise=torch.zeros_like, **settings
        )


def excess_variance(sample, num_steps: int) -> float:
    """How much the variance of the result is too large, on Gaussian data, without drawing anything.

    There the result is linear in the start noise and in each new noise. Given a coordinate of its own to each of them,
    it holds their factors, and its variance is the sum of their squares.
    """
    std, sigma_max, sigma_min, draws = 0.5, 80.0, 0.002, 0

    def noise(x):
        nonlocal draws
        draws += 1
        return torch.nn.functional.one_hot(torch.tensor([draws]), x.shape[1]).to(x)

    x = torch.zeros(1, num_steps + 2, dtype=torch.float64)
    x[0, 0] = math.hypot(sigma_max, std)
    denoiser = GaussianDenoiser(std=torch.tensor(std, dtype=torch.float64))
    out = sample(denoiser, x, karras_sigmas(num_steps, sigma_min, sigma_max)[:-1], noise=noise)
    return out.square().sum().item() - (std**2 + sigma_min**2)


@pytest.mark.parametrize(
    "sample",
    [
        sample_dpmpp_2m_sde,
        partial(sample_dpmpp_2m_sde, eta=0.5),
        partial(sample_heun, churn=Churn(s_churn=20.0)),
    ],
    ids=["dpmpp-2m-sde", "half", "heun with churn"],
)
def test_weak_order(sample):
    """The error of the variance falls as the square of the step."""
    errors = [excess_variance(sample, num_steps) for num_steps in (128, 256, 512)]
    for error, finer in pairwise(errors):
        assert math.log2(error / finer) == pytest.approx(2, abs=0.08)


# Restarts


def test_legs():
    sigmas = torch.tensor([80.0, 5.0, 0.5, 0.08, 0.01, 0.0], dtype=torch.float64)
    head, again, twice, tail = Restart(restarts=2, restart_steps=2, restart_min=0.1, restart_max=0.4).legs(sigmas)
    assert head.tolist() == [80.0, 5.0, 0.5, 0.08]
    assert again.tolist() == twice.tolist()
    assert (again[0].item(), again[-1].item(), len(again)) == (0.4, 0.08, 3)
    assert tail.tolist() == [0.08, 0.01, 0.0]
    assert [leg.tolist() for leg in Restart(restarts=0).legs(sigmas)] == [sigmas.tolist()]


def test_legs_of_a_schedule_that_ends_or_begins_there():
    ends = Restart(restarts=1, restart_min=0.1, restart_max=0.4).legs(torch.tensor([3.0, 0.1], dtype=torch.float64))
    assert len(ends) == 2  # nothing is left behind the restart
    begins = Restart(restarts=1, restart_min=4.0, restart_max=9.0).legs(torch.tensor([3.0, 0.1, 0.0]).double())
    assert [leg[0].item() for leg in begins] == [9.0, 3.0]
    with pytest.raises(ValueError, match=r"restart_min must be at least the schedule's lowest level, got 0\.1"):
        Restart(restarts=1).legs(torch.tensor([3.0, 1.0, 0.0]))


def test_noise_is_put_back_once_a_restart():
    """With a slope of zero only restarts move x: by s_noise sqrt(max**2 - min**2) each."""
    sigmas = torch.tensor([80.0, 0.1, 0.0], dtype=torch.float64)
    restart = Restart(restarts=3, restart_steps=2, restart_min=0.1, restart_max=0.4, s_noise=1.5)
    solve = with_restarts(sample_euler, restart)
    out = solve(lambda x, sigma, state: (x, None), torch.zeros(1).double(), sigmas, noise=torch.ones_like)
    assert out.item() == pytest.approx(3 * 1.5 * math.sqrt(0.4**2 - 0.1**2), rel=1e-12)
    with pytest.raises(ValueError, match="noise must be given for restarts 3, got None"):
        solve(lambda x, sigma, state: (x, None), torch.zeros(1).double(), sigmas)


def test_state_and_steps_go_through_all_legs():
    net = RecordingNet()
    denoiser = EDMDenoiser(net, self_condition=True)
    seen = []
    noise = SeededNoise([0])
    solve = with_restarts(sample_dpmpp_2m, Restart(restarts=2, restart_steps=3))
    solve(
        denoiser,
        80 * noise.randn(*SHAPE),
        sigmas_of(6),
        noise=noise.randn_like,
        on_step=lambda *arguments: seen.append(arguments),
    )
    assert [step for step, *_ in seen] == [*range(12)]
    assert {total for _, total, *_ in seen} == {12}
    assert [bool(call.self_cond.any()) for call in net.calls] == [False, *[True] * 11]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"restarts": -1}, "restarts must be at least 0, got -1"),
        ({"restart_steps": 0}, "restart_steps must be at least 1, got 0"),
        ({"restart_min": 0.0}, "restart_min must be greater than 0, got 0.0"),
        ({"restart_max": 0.1}, "restart_max must be greater than restart_min, got 0.1 and 0.1"),
        ({"restart_max": math.inf}, "restart_max must be a finite number, got inf"),
        ({"s_noise": 0.0}, "s_noise must be greater than 0, got 0.0"),
    ],
)
def test_bad_restarts(attributes, message):
    with pytest.raises(ValueError, match=message):
        Restart(**attributes)

import pytest
import torch

from mpvideo.config import SamplingConfig
from mpvideo.diffusion import (
    cosine_sigmas,
    exponential_sigmas,
    karras_sigmas,
    linear_sigmas,
    sample_heun,
    schedule,
    solver,
)
from tests.diffusion.conftest import GaussianDenoiser
from tests.diffusion.samplers.conftest import SOLVERS


def test_schedule():
    def made(**settings):
        return schedule(SamplingConfig(steps=6, sigma_min=0.01, sigma_max=50.0, **settings)).tolist()

    assert made(rho=5.0) == karras_sigmas(6, 0.01, 50.0, 5.0).tolist()
    assert made(schedule="exponential") == exponential_sigmas(6, 0.01, 50.0).tolist()
    assert made(schedule="linear") == linear_sigmas(6, 0.01, 50.0).tolist()
    assert made(schedule="cosine") == cosine_sigmas(6, 0.01, 50.0).tolist()
    assert made(schedule="cosine", sigmas=[9, 3, 0.5]) == [9.0, 3.0, 0.5, 0.0]


@pytest.mark.parametrize("name", SOLVERS)
def test_solver_by_name(name, generator):
    """Each name is the sampler of that name: with the same noise, the same result to the bit."""
    sampling = SamplingConfig(sampler=name, steps=8)
    denoiser = GaussianDenoiser(std=torch.tensor(0.5))
    x = 80 * torch.randn(2, 3, generator=generator)
    out = solver(sampling)(denoiser, x, schedule(sampling), noise=torch.ones_like)
    assert torch.equal(out, SOLVERS[name](denoiser, x, schedule(sampling), noise=torch.ones_like))


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": "heun", "s_churn": 9.0},
        {"sampler": "heun", "s_churn": 9.0, "s_noise": 1.3},
        {"sampler": "euler", "s_churn": 9.0, "s_tmax": 1.0},
        {"sampler": "euler", "s_churn": 9.0, "s_tmin": 1.0},
        {"sampler": "dpmpp-2m-sde", "eta": 0.3},
        {"sampler": "dpmpp-2m-sde", "s_noise": 1.3},
        {"sampler": "lms", "restarts": 1},
        {"sampler": "lms", "restarts": 1, "restart_steps": 9},
        {"sampler": "lms", "restarts": 1, "restart_min": 0.2, "restart_max": 3.0},
        {"sampler": "lms", "restarts": 1, "s_noise": 1.3},
    ],
    ids=str,
)
def test_every_setting_of_noise_acts(settings, generator):
    x = 80 * torch.randn(2, 3, generator=generator)

    def out(**settings):
        sampling = SamplingConfig(steps=8, **settings)
        denoiser = GaussianDenoiser(std=torch.tensor(0.5))
        return solver(sampling)(denoiser, x, schedule(sampling), noise=torch.ones_like)

    fewer = dict(list(settings.items())[:-1])
    assert not torch.equal(out(**settings), out(**fewer))


def test_auto_is_what_it_stands_for(generator):
    sampling = SamplingConfig(s_churn=5.0)
    denoiser = GaussianDenoiser(std=torch.tensor(0.5))
    x = 80 * torch.randn(2, 3, generator=generator)
    out = solver(sampling)(denoiser, x, schedule(sampling), noise=torch.zeros_like)
    assert sampling.solver == "heun"
    assert not torch.equal(out, sample_heun(denoiser, x, schedule(sampling)))  # churned, though by zeros

import itertools

import pytest
import torch

from mpvideo.checks import LEAST_DISTANCE, least_distance
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


BENDS = [("karras", rho) for rho in (5e-324, 1e-300, 1e-3, 0.1, 7.0, 1000.0)]
STRAIGHT = [("exponential", 7.0), ("linear", 7.0), ("cosine", 7.0)]
TOPS = (1e-7, 0.3, 1.0, 80.0, 1e6)


@pytest.mark.parametrize(("name", "rho"), [*BENDS, *STRAIGHT])
@pytest.mark.parametrize("steps", [1, 2, 3, 100, 100_000])
def test_levels_of_schedules_are_told_apart(name, rho, steps):
    """Whatever settings are taken have levels that differ, as far as they are said to; and none else is refused."""
    for sigma_max, part in itertools.product(TOPS, (0.0, 1e-7, 0.9, 0.999, 1 - 2e-6, 1 - 1e-9, 1 - 1e-15)):
        sigma_min = max(1e-8, sigma_max * part)
        settings = {"schedule": name, "steps": steps, "sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho}
        distance = least_distance(**settings)
        made = karras_sigmas(steps, sigma_min, sigma_max, rho) if name == "karras" else SCHEDULES[name](
            steps, sigma_min, sigma_max
        )  # fmt: skip
        nearest = 1.0 if steps == 1 else (1 - made[1:-1] / made[:-2]).min().item()
        if distance >= LEAST_DISTANCE:
            assert torch.equal(schedule(SamplingConfig(sampler="euler", **settings)), made)
            assert made[-2] > 0 and nearest > 0.999 * LEAST_DISTANCE
        else:
            assert nearest < 1.001 * LEAST_DISTANCE
            with pytest.raises(ValueError, match="noise levels at least 1e-06 of each apart"):
                SamplingConfig(**settings)


SCHEDULES = {"exponential": exponential_sigmas, "linear": linear_sigmas, "cosine": cosine_sigmas}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(("low", "high"), [(79.999, 80.0), (1e-8, 1e6), (0.1, 0.4)])
def test_no_solver_stumbles_over_a_schedule_that_is_taken(name, low, high):
    for kind in ("karras", "exponential", "linear", "cosine"):
        sampling = SamplingConfig(sampler=name, steps=9, schedule=kind, sigma_min=low, sigma_max=high)
        denoiser = GaussianDenoiser(std=torch.tensor(0.5))
        out = solver(sampling)(denoiser, high * torch.ones(1, 1), schedule(sampling), noise=torch.ones_like)
        assert torch.isfinite(out).all()


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

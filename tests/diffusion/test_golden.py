"""Against recorded runs of the EDM2 paper's sampler and of the published package's self-conditioned one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mpvideo.diffusion import Churn, EDMDenoiser, karras_sigmas, sample_heun
from tests.diffusion.conftest import GaussianDenoiser

GOLDEN = Path(__file__).parent.parent / "golden"


def load(name: str):
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, framework="pt") as file:
        return load_file(path), json.loads(file.metadata()["settings"])


def replay(draws):
    """A noise source that plays recorded draws, in order, and the iterator behind it."""
    iterator = iter(draws)
    return (lambda x: next(iterator).to(x)), iterator


@pytest.mark.parametrize("name", ["edm_sampler_steps18", "edm_sampler_steps32_churn", "edm_sampler_guided"])
def test_edm2_sampler(name):
    tensors, settings = load(name)
    main, guide = GaussianDenoiser(tensors["data_std"]), GaussianDenoiser(tensors["guide_data_std"])
    guidance = settings.get("guidance", 1)

    def denoiser(x, sigma, state):
        """Guided by a second denoiser, where the settings say so."""
        denoised, _ = main(x, sigma)
        return (denoised if guidance == 1 else torch.lerp(guide(x, sigma)[0], denoised, guidance)), None

    sigmas = karras_sigmas(settings["num_steps"], sigma_min=0.002, sigma_max=80.0)
    churn = Churn(
        s_churn=settings.get("S_churn", 0.0),
        s_tmin=settings.get("S_min", 0.0),
        s_tmax=settings.get("S_max"),
        s_noise=settings.get("S_noise", 1.0),
    )
    noise, left = replay(tensors.get("churn_noise", []))
    out = sample_heun(denoiser, sigmas[0] * tensors["noise"], sigmas, churn=churn, noise=noise)
    assert out.dtype == torch.float64
    torch.testing.assert_close(out, tensors["out"], rtol=0, atol=1e-10)
    assert next(left, None) is None  # every recorded draw was used


def toy_network(x, time, *, self_cond, class_labels):
    """The one in the golden files' header."""
    return torch.tanh(1.3 * x + 0.4 * self_cond - 0.2 * time.view(-1, 1, 1, 1))


@pytest.mark.parametrize("name", ["selfcond_heun_a", "selfcond_heun_b"])
def test_published_self_conditioned_sampler(name):
    tensors, settings = load(name)
    num_steps = settings["num_sample_steps"]
    sigmas = karras_sigmas(num_steps, sigma_min=0.002, sigma_max=80.0)
    churn = Churn(
        s_churn=settings["S_churn"],
        s_tmin=settings["S_tmin"],
        s_tmax=settings["S_tmax"],
        s_noise=settings["S_noise"],
    )
    # The published sampler also draws at steps that do not churn; this one does not.
    used = [
        draw
        for draw, sigma in zip(tensors["step_noise"], sigmas.tolist(), strict=False)
        if churn.gamma(sigma, num_steps) > 0
    ]
    noise, left = replay(used)
    denoiser = EDMDenoiser(
        net=toy_network, sigma_data=settings["sigma_data"], clamp=settings["clamp"], self_condition=True
    )
    out = sample_heun(denoiser, sigmas[0].item() * tensors["noise"], sigmas, churn=churn, noise=noise)
    torch.testing.assert_close(out, tensors["out"], rtol=0, atol=1e-5)
    assert next(left, None) is None

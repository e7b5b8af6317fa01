"""From the settings of the sampler to the schedule and the solver that they mean."""

from functools import partial

import torch
from torch import Tensor

from mpvideo.config import SamplingConfig
from mpvideo.diffusion.guidance import Guidance
from mpvideo.diffusion.samplers import (
    Churn,
    Restart,
    Solver,
    sample_deis,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_dpmpp_3m,
    sample_euler,
    sample_heun,
    sample_ipndm,
    sample_lms,
    sample_unipc,
    with_restarts,
)
from mpvideo.diffusion.schedules import cosine_sigmas, exponential_sigmas, karras_sigmas, linear_sigmas
from mpvideo.sampling_config import Sampler

_DETERMINISTIC: dict[Sampler, Solver] = {
    "dpmpp-2m": sample_dpmpp_2m,
    "dpmpp-3m": sample_dpmpp_3m,
    "unipc": sample_unipc,
    "deis": sample_deis,
    "ipndm": sample_ipndm,
    "lms": sample_lms,
}
_SCHEDULES = {"exponential": exponential_sigmas, "linear": linear_sigmas, "cosine": cosine_sigmas}


def guidance_of(sampling: SamplingConfig, strength: float | Tensor | None = None) -> Guidance:
    """How samples are guided; `strength` (B,) where they differ in it."""
    return Guidance(
        strength=sampling.guidance if strength is None else strength,
        interval=sampling.guidance_interval,
        hold=sampling.guidance_hold,
        apg_eta=sampling.apg_eta,
        apg_norm=sampling.apg_norm,
    )


def schedule(sampling: SamplingConfig) -> Tensor:
    """The noise levels to sample at: (steps + 1,) float64 on the CPU, descending, the last of them 0."""
    if sampling.sigmas is not None:
        return torch.tensor([*sampling.sigmas, 0.0], dtype=torch.float64)
    if sampling.schedule == "karras":
        return karras_sigmas(sampling.steps, sampling.sigma_min, sampling.sigma_max, sampling.rho)
    return _SCHEDULES[sampling.schedule](sampling.steps, sampling.sigma_min, sampling.sigma_max)


def solver(sampling: SamplingConfig) -> Solver:
    """The sampler with its stochastic settings, and restarts if there are any."""
    churn = Churn(s_churn=sampling.s_churn, s_tmin=sampling.s_tmin, s_tmax=sampling.s_tmax, s_noise=sampling.s_noise)
    solvers: dict[Sampler, Solver] = {
        **_DETERMINISTIC,
        "euler": partial(sample_euler, churn=churn),
        "heun": partial(sample_heun, churn=churn),
        "dpmpp-2m-sde": partial(sample_dpmpp_2m_sde, eta=sampling.eta, s_noise=sampling.s_noise),
    }
    chosen = solvers[sampling.solver]
    if not sampling.restarts:
        return chosen
    restart = Restart(
        restarts=sampling.restarts,
        restart_steps=sampling.restart_steps,
        restart_min=sampling.restart_min,
        restart_max=sampling.restart_max,
        s_noise=sampling.s_noise,
    )
    return with_restarts(chosen, restart)

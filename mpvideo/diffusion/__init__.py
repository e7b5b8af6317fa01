"""The mathematics of sampling: noise levels, the preconditioned denoiser, the samplers and their randomness.

Nothing here prints, opens files, picks a device or shows progress. Put together, with `net` a raw network:

    noise = SeededNoise([0, 1, 2], device=device)
    labels = class_rows(noise.random_classes(1000), 1000)
    denoiser = GuidedDenoiser(EDMDenoiser(net, sigma_data=0.5, class_labels=labels), Guidance(strength=2.0))
    sigmas = karras_sigmas(12, sigma_min=0.002, sigma_max=80.0)
    x = sigmas[0].item() * noise.randn(channels, frames, height, width)
    videos = sample_dpmpp_3m(denoiser, x, sigmas)
"""

from mpvideo.diffusion.denoiser import Denoiser, EDMDenoiser, Network, blended_rows, class_rows, preconditioning
from mpvideo.diffusion.guidance import Branches, Guidance, GuidedDenoiser
from mpvideo.diffusion.noise import SeededNoise, slerp
from mpvideo.diffusion.samplers import (
    Churn,
    Noise,
    OnStep,
    Restart,
    Solver,
    evaluated_levels,
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
from mpvideo.diffusion.settings import guidance_of, schedule, solver

__all__ = [
    "Branches",
    "Churn",
    "Denoiser",
    "EDMDenoiser",
    "Guidance",
    "GuidedDenoiser",
    "Network",
    "Noise",
    "OnStep",
    "Restart",
    "SeededNoise",
    "Solver",
    "blended_rows",
    "class_rows",
    "cosine_sigmas",
    "evaluated_levels",
    "exponential_sigmas",
    "guidance_of",
    "karras_sigmas",
    "linear_sigmas",
    "preconditioning",
    "sample_deis",
    "sample_dpmpp_2m",
    "sample_dpmpp_2m_sde",
    "sample_dpmpp_3m",
    "sample_euler",
    "sample_heun",
    "sample_ipndm",
    "sample_lms",
    "sample_unipc",
    "schedule",
    "slerp",
    "solver",
    "with_restarts",
]

"""The mathematics of sampling: noise levels, the preconditioned denoiser, the samplers and their randomness.

Nothing here prints, opens files, picks a device or shows progress. Put together, with `net` a raw network:

    noise = SeededNoise([0, 1, 2], device=device)
    labels = class_rows(noise.random_classes(1000), 1000)
    denoiser = GuidedDenoiser(EDMDenoiser(net, sigma_data=0.5, class_labels=labels), Guidance(strength=2.0))
    sigmas = karras_sigmas(32, sigma_min=0.002, sigma_max=80.0)
    x = sigmas[0].item() * noise.randn(channels, frames, height, width)
    videos = sample_heun(denoiser, x, sigmas, churn=Churn(s_churn=20.0), noise=noise.randn_like)
"""

from mpvideo.diffusion.denoiser import Denoiser, EDMDenoiser, Network, class_rows, preconditioning
from mpvideo.diffusion.guidance import Branches, Guidance, GuidedDenoiser
from mpvideo.diffusion.noise import SeededNoise
from mpvideo.diffusion.samplers import Churn, Noise, OnStep, evaluated_levels, sample_euler, sample_heun
from mpvideo.diffusion.schedules import karras_sigmas

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
    "SeededNoise",
    "class_rows",
    "evaluated_levels",
    "karras_sigmas",
    "preconditioning",
    "sample_euler",
    "sample_heun",
]

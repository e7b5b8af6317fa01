"""Samplers: pure loops that carry noise of one level down to another along EDM's probability-flow ODE.

All have the shape of `Solver`. `denoiser` is a `Denoiser`; x is (B, ...) and carries noise of the level `sigmas[0]`
already; `sigmas` descend and usually end in 0. The loop runs in the dtype of x; noise levels are Python floats, so that
a step neither waits for an accelerator nor needs float64 on it. Randomness is handed in, and drawn only where a
stochastic setting asks for it.

| sampler | order | evaluations | noise |
| --- | --- | --- | --- |
| `sample_euler` | 1 | 1 a step | churn |
| `sample_heun` | 2 | 2 a step, 1 to 0 | churn |
| `sample_dpmpp_2m` | 2 | 1 a step | |
| `sample_dpmpp_3m` | 3 | 1 a step | |
| `sample_dpmpp_2m_sde` | 2, weak | 1 a step | eta |
| `sample_unipc` | 3 | 1 a step | |
| `sample_deis` | 4 | 1 a step | |
| `sample_ipndm` | 4 on equal steps, else 2 | 1 a step | |
| `sample_lms` | 4 | 1 a step | |

`with_restarts` makes another of each of them.
"""

from mpvideo.diffusion.samplers.loop import Noise, OnStep, Solver, evaluated_levels
from mpvideo.diffusion.samplers.multistep import (
    sample_deis,
    sample_dpmpp_2m,
    sample_dpmpp_3m,
    sample_ipndm,
    sample_lms,
    sample_unipc,
)
from mpvideo.diffusion.samplers.single_step import Churn, sample_euler, sample_heun
from mpvideo.diffusion.samplers.stochastic import Restart, sample_dpmpp_2m_sde, with_restarts

__all__ = [
    "Churn",
    "Noise",
    "OnStep",
    "Restart",
    "Solver",
    "evaluated_levels",
    "sample_deis",
    "sample_dpmpp_2m",
    "sample_dpmpp_2m_sde",
    "sample_dpmpp_3m",
    "sample_euler",
    "sample_heun",
    "sample_ipndm",
    "sample_lms",
    "sample_unipc",
    "with_restarts",
]

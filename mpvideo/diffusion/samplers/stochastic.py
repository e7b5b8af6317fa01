"""Samplers of the stochastic equation, and restarts, which bring noise into any other."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mpvideo.checks import check_float, check_restarts
from mpvideo.diffusion.denoiser import Denoiser, State
from mpvideo.diffusion.samplers.loop import Noise, OnStep, Solver, checked_levels
from mpvideo.diffusion.samplers.multistep import dpmpp_2m_rule
from mpvideo.diffusion.schedules import karras_sigmas


@torch.no_grad()
def sample_dpmpp_2m_sde(
    denoiser: Denoiser[State],
    x: Tensor,
    sigmas: Tensor,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """SDE-DPM-Solver++(2M), of weak order 2: one evaluation a step (arXiv 2211.01095, section 5).

    k-diffusion's dpmpp_2m_sde with its midpoint form. A step forgets the part 1 - exp(-eta h) of the noise in x and
    draws it anew, h being the step in ln(sigma). With eta 0 it is `sample_dpmpp_2m`.

    Args:
        denoiser, x, sigmas, on_step: as in `Solver`.
        eta: how much noise is exchanged, at least 0; 1 is the reverse of the forward process.
        s_noise: standard deviation of the new noise relative to what theory asks for.
        noise: where that noise comes from; called once at each step that does not end in 0, unless eta is 0.

    Returns and raises what `Solver` does.
    """
    levels = checked_levels(x, sigmas)
    check_float("eta", eta, 0.0, 100.0)
    check_float("s_noise", s_noise, 0.0, 1e3, open_low=True)
    if noise is None and eta > 0 and levels[1] > 0:
        raise ValueError(f"noise must be given for eta {eta}, got None")
    num_steps = len(levels) - 1
    state, before = None, None
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised, state = denoiser(x, sigma, state)
        if sigma_next > 0:
            kept = (sigma_next / sigma) ** eta  # of the noise; the rest of it is new
            estimate = denoised if before is None else _in_the_middle(denoised, before, levels[i - 1 : i + 2])
            scale = sigma_next / sigma * kept
            x = scale * x + (1 - scale) * estimate
            if noise is not None and kept < 1:
                x = x + sigma_next * math.sqrt(1 - kept**2) * s_noise * noise(x)
        else:
            x = denoised
        before = denoised
        if on_step is not None:
            on_step(i, num_steps, sigma, denoised)
    return x


def _in_the_middle(denoised: Tensor, before: Tensor, levels: list[float]) -> Tensor:
    """The estimate that the last two, at the first two of these levels, give in the middle of the step to the third."""
    ratio, weights = dpmpp_2m_rule([levels[1], levels[0]], levels[2])
    latest, earlier = (weight / (1 - ratio) for weight in weights)
    return latest * denoised + earlier * before


@dataclass(frozen=True, kw_only=True)
class Restart:
    """Goes back to a higher noise level and down again, to undo errors (Restart, arXiv 2306.14878, algorithm 1).

    Attributes:
        restarts: how often, at least 0.
        restart_steps: steps of the way down, on a Karras schedule of its own.
        restart_min: where to go back from: the schedule's first level that is not above it.
        restart_max: where to go back to.
        s_noise: standard deviation of the noise that leads back there, relative to what theory asks for (S_noise of the
            paper's program).

    Raises:
        ValueError: an attribute is out of range.
    """

    restarts: int = 0
    restart_steps: int = 3
    restart_min: float = 0.1
    restart_max: float = 0.4
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        check_restarts(self.restarts, self.restart_steps, self.restart_min, self.restart_max)
        check_float("s_noise", self.s_noise, 0.0, 1e3, open_low=True)

    def legs(self, sigmas: Tensor) -> list[Tensor]:
        """The schedules to be run one after the other in place of one, each from where noise was put back.

        Raises:
            ValueError: the schedule has no level above 0 that is not above restart_min.
        """
        if not self.restarts:
            return [sigmas]
        low = [i for i, sigma in enumerate(sigmas.tolist()) if 0 < sigma <= self.restart_min]
        if not low:
            raise ValueError(f"restart_min must be at least the schedule's lowest level, got {self.restart_min}")
        head, tail = sigmas[: low[0] + 1], sigmas[low[0] :]
        again = karras_sigmas(self.restart_steps + 1, head[-1].item(), self.restart_max)[:-1]
        return [leg for leg in (head, *[again] * self.restarts, tail) if len(leg) > 1]


def with_restarts(solver: Solver, restart: Restart) -> Solver:
    """A sampler that goes back and down again, by any other sampler.

    The evaluations are those of `solver` for the schedule and, for each restart, for `restart_steps` steps that do not
    end in 0. The denoiser's state goes through them all. A multistep sampler starts anew behind each restart.
    """

    def sample_with_restarts(
        denoiser: Denoiser[State],
        x: Tensor,
        sigmas: Tensor,
        *,
        noise: Noise | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        legs = restart.legs(sigmas)
        if noise is None and len(legs) > 1:
            raise ValueError(f"noise must be given for restarts {restart.restarts}, got None")
        last: State | None = None

        def remembering(x: Tensor, sigma: float, state: State | None) -> tuple[Tensor, State | None]:
            nonlocal last
            denoised, last = denoiser(x, sigma, last if state is None else state)
            return denoised, last

        num_steps, done = sum(len(leg) - 1 for leg in legs), 0

        def count(step: int, _: int, sigma: float, denoised: Tensor) -> None:
            if on_step is not None:
                on_step(done + step, num_steps, sigma, denoised)

        level = sigmas[0].item()
        for leg in legs:
            if noise is not None and leg[0].item() > level:
                x = x + math.sqrt(leg[0].item() ** 2 - level**2) * restart.s_noise * noise(x)
            x = solver(remembering, x, leg, noise=noise, on_step=count)
            level, done = leg[-1].item(), done + len(leg) - 1
        return x

    return sample_with_restarts

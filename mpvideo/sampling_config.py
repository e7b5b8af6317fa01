"""Settings of the sampler, as checkpoints, presets and options give them.

Only the standard library is imported: settings are checked without torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from mpvideo.checks import (
    LEAST_DISTANCE,
    check_apg,
    check_bool,
    check_choice,
    check_churn,
    check_float,
    check_guidance_interval,
    check_int,
    check_levels,
    check_restarts,
    least_distance,
)

Sampler = Literal["auto", "euler", "heun", "dpmpp-2m", "dpmpp-3m", "dpmpp-2m-sde", "unipc", "deis", "ipndm", "lms"]
Schedule = Literal["karras", "exponential", "linear", "cosine"]

CHURNING = ("euler", "heun")
"""The samplers that can put noise back before a step: those that look at no earlier one."""

STOCHASTIC = ("dpmpp-2m-sde",)
"""The samplers that always draw noise."""

SPACING = ("steps", "schedule", "sigma_min", "sigma_max", "rho")
"""Settings that a list of noise levels takes the place of."""

GUIDANCE = ("guidance", "guidance_interval", "guidance_hold", "apg_eta", "apg_norm")
"""Settings of guidance: what to sample as much as how."""

AUTO_SAMPLERS: tuple[tuple[int, Sampler], ...] = ((12, "deis"), (100_000, "ipndm"))
"""What the sampler 'auto' is: the first for at most so many steps.

By `benchmarks/quality`: with few, the videos of DEIS are judged best; with more, those of iPNDM are nearest to exact.
"""

LEAST_EVALUATIONS: Mapping[Sampler, int] = MappingProxyType({"heun": 17, "dpmpp-3m": 18})
"""Evaluations of the denoiser with fewer than which a sampler goes astray, by `benchmarks/quality`."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Settings of the sampler: all of them. What is left out is as by default, whatever the checkpoint says.

    Attributes:
        sampler: one of those of `mpvideo.diffusion.samplers`; 'auto' for what suits the number of steps, see `solver`.
        steps: number of noise levels above zero.
        schedule: how they are spaced, see `mpvideo.diffusion.schedules`.
        sigma_min: lowest noise level above zero.
        sigma_max: the noise level that sampling starts from.
        rho: exponent of the schedule 'karras'; greater spends more steps at low noise.
        sigmas: the noise levels themselves, descending, or None. They take the place of `schedule` and `rho`, and
            `steps`, `sigma_min` and `sigma_max` follow from them; a last one of 0 may be left out. As those of a
            schedule, they have to be at least `mpvideo.checks.LEAST_DISTANCE` apart.
        s_churn: amount of noise put back, over the whole schedule; 0 makes sampling deterministic.
        s_tmin: lowest noise level at which noise is put back.
        s_tmax: highest noise level at which noise is put back; None for no limit.
        s_noise: standard deviation of new noise, relative to what theory asks for.
        eta: how stochastic 'dpmpp-2m-sde' is, 0 to not at all.
        restarts: how often to go back from restart_min to restart_max, and down again in restart_steps.
        restart_steps, restart_min, restart_max: see `restarts`. With any, the schedule has to reach from restart_min,
            or from below, to restart_max; where it has no level restart_min, its next lower one is taken.
        guidance: strength of guidance; 1 means none.
        guidance_interval: lowest and highest noise level of guidance; None for all.
        guidance_hold: whether outside of it guidance goes on as it was last, instead of none: see
            `mpvideo.diffusion.Guidance`.
        apg_eta, apg_norm: adaptive projected guidance, see `mpvideo.diffusion.Guidance`; 1 and None for none of it.
    """

    sampler: Sampler = "auto"
    steps: int = 32
    schedule: Schedule = "karras"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    sigmas: tuple[float, ...] | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float | None = None
    s_noise: float = 1.0
    eta: float = 1.0
    restarts: int = 0
    restart_steps: int = 3
    restart_min: float = 0.1
    restart_max: float = 0.4
    guidance: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    guidance_hold: bool = False
    apg_eta: float = 1.0
    apg_norm: float | None = None

    def __post_init__(self) -> None:
        check_choice("sampler", self.sampler, get_args(Sampler))
        check_choice("schedule", self.schedule, get_args(Schedule))
        if self.sigmas is not None:
            self._follow_sigmas(self.sigmas)
        check_int("steps", self.steps, 1, 100_000)
        check_float("sigma_min", self.sigma_min, 1e-8, 1e6)
        check_float("sigma_max", self.sigma_max, 0.0, 1e6, open_low=True)
        if self.sigma_min >= self.sigma_max and not self.sigmas:
            raise ValueError(f"sigma_min must be less than sigma_max, got {self.sigma_min} and {self.sigma_max}")
        check_float("rho", self.rho, 0.0, 1000.0, open_low=True)
        if not self.sigmas:
            self._check_spacing()
        check_float("eta", self.eta, 0.0, 100.0)
        self._check_noise()
        check_float("guidance", self.guidance, 0.0, 1e3)
        if self.guidance_interval is not None:
            check_guidance_interval("guidance_interval", self.guidance_interval)
            object.__setattr__(self, "guidance_interval", tuple(self.guidance_interval))  # JSON has lists
        check_bool("guidance_hold", self.guidance_hold)
        check_apg(self.apg_eta, self.apg_norm)

    def _follow_sigmas(self, sigmas: object) -> None:
        """Checks the levels, takes a final 0 off, and sets what follows from them."""
        if not isinstance(sigmas, list | tuple):
            raise ValueError(f"sigmas must be a list of noise levels, got {sigmas!r}")
        check_int("the number of sigmas", len(sigmas), 1, 100_001)
        levels = tuple(sigmas[:-1] if len(sigmas) > 1 and sigmas[-1] == 0 else sigmas)
        check_levels("sigmas", levels)
        follows = {"sigmas": levels, "steps": len(levels), "sigma_min": levels[-1], "sigma_max": levels[0]}
        for name, value in follows.items():
            object.__setattr__(self, name, value)

    def _check_spacing(self) -> None:
        """Refuses schedules of levels that are next to equal, or of some that float64 does not tell apart."""
        if least_distance(self.schedule, self.steps, self.sigma_min, self.sigma_max, self.rho) < LEAST_DISTANCE:
            names, values = ["steps", "sigma_min", "sigma_max"], [self.steps, self.sigma_min, self.sigma_max]
            if self.schedule == "karras":
                names, values = [*names, "rho"], [*values, self.rho]
            raise ValueError(
                f"{', '.join(names[:-1])} and {names[-1]} must make noise levels at least {LEAST_DISTANCE:g} of each "
                f"apart, got {', '.join(map(str, values[:-1]))} and {values[-1]} with the schedule {self.schedule}"
            )

    def _check_noise(self) -> None:
        check_churn(self.s_churn, self.s_tmin, self.s_tmax, self.s_noise)
        if self.s_churn and self.solver not in CHURNING:
            raise ValueError(
                f"s_churn must be 0 for the sampler {self.sampler}, of those only {' and '.join(CHURNING)} put noise "
                f"back before a step, got {self.s_churn}"
            )
        check_restarts(self.restarts, self.restart_steps, self.restart_min, self.restart_max)
        if self.restarts:
            if self.s_churn:
                raise ValueError(f"s_churn must be 0 with restarts, got {self.s_churn}")
            self._check_restarts_fit()

    def _check_restarts_fit(self) -> None:
        listed = self.sigmas is not None
        check_int("the number of sigmas with restarts" if listed else "steps with restarts", self.steps, 2)
        lowest, highest = ("the last of sigmas", "the first of sigmas") if listed else ("sigma_min", "sigma_max")
        if self.restart_min < self.sigma_min:
            raise ValueError(f"restart_min must be at least {lowest}, got {self.restart_min} and {self.sigma_min}")
        if self.restart_max > self.sigma_max:
            raise ValueError(f"restart_max must be at most {highest}, got {self.restart_max} and {self.sigma_max}")

    @property
    def solver(self) -> Sampler:
        """The sampler, never 'auto': for that the one of `AUTO_SAMPLERS` for so many steps, and 'heun' with churn."""
        if self.sampler != "auto":
            return self.sampler
        return "heun" if self.s_churn else next(name for most, name in AUTO_SAMPLERS if self.steps <= most)

    @property
    def num_evaluations(self) -> int:
        """Evaluations of the denoiser for one sample: one a step; Heun's two, save for the last step, to 0.

        Under guidance the denoiser's evaluation is one of each branch: see `mpvideo.generation.count_passes`.
        """
        steps = self.steps + self.restarts * self.restart_steps
        return 2 * steps - 1 if self.solver == "heun" else steps

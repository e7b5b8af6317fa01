"""Options of sampling that somebody gave and that change nothing: whoever did so is mistaken."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from mpvideo.sampling_config import STOCHASTIC, SamplingConfig


def _covers_a_level(sampling: SamplingConfig) -> bool:
    from mpvideo.generation import count_passes

    sampling = replace(sampling, guidance_hold=False)
    return count_passes(sampling) > count_passes(replace(sampling, guidance=1.0))


def _churns_at_a_level(sampling: SamplingConfig) -> bool:
    from mpvideo.diffusion import schedule

    highest = math.inf if sampling.s_tmax is None else sampling.s_tmax
    return any(sampling.s_tmin <= sigma <= highest for sigma in schedule(sampling).tolist()[:-1])


_MATTERS: tuple[tuple[tuple[str, ...], Callable[[SamplingConfig], bool], str], ...] = (
    (
        ("guide", "guidance_interval", "apg_eta", "apg_norm"),
        lambda sampling: sampling.guidance != 1,
        "has no effect at --guidance 1",
    ),
    (
        ("guidance_hold",),
        lambda sampling: not sampling.guidance_hold or sampling.guidance != 1,
        "has no effect at --guidance 1",
    ),
    (
        ("guidance_hold",),
        lambda sampling: not sampling.guidance_hold or sampling.guidance_interval is not None,
        "has no effect without --guidance-interval",
    ),
    (
        ("guidance_interval",),
        lambda sampling: sampling.guidance_hold or _covers_a_level(sampling),
        "leaves no guidance: the schedule has no noise level in it",
    ),
    (
        ("guidance_interval",),
        _covers_a_level,
        "has no noise level of the schedule in it: guidance goes on as it is at the first",
    ),
    (("s_tmin", "s_tmax"), lambda sampling: sampling.s_churn > 0, "has no effect without --s-churn"),
    (
        ("s_tmin", "s_tmax"),
        _churns_at_a_level,
        "leaves no churn: the schedule has no noise level from --s-tmin to --s-tmax",
    ),
    (
        ("s_noise",),
        lambda sampling: (
            sampling.s_churn > 0 or sampling.restarts > 0 or (sampling.solver in STOCHASTIC and sampling.eta > 0)
        ),
        "has no effect without --s-churn or --restarts",
    ),
    (
        ("eta",),
        lambda sampling: sampling.solver in STOCHASTIC,
        f"has no effect with another --sampler than {' or '.join(STOCHASTIC)}",
    ),
    (
        ("rho",),
        lambda sampling: sampling.schedule == "karras",
        "has no effect with another --schedule than karras",
    ),
    (
        ("restart_steps", "restart_min", "restart_max"),
        lambda sampling: sampling.restarts > 0,
        "has no effect without --restarts",
    ),
)
"""Options by the names of their parameters, with which settings they matter, and what to say where they do not."""


def idle_options(given: Collection[str], samplings: Sequence[SamplingConfig]) -> Iterator[str]:
    """Warnings about options that do not matter for any of some settings: the first reason for each.

    Args:
        given: those that were given, by the names of their parameters.
        samplings: the settings that came of them.
    """
    told: set[str] = set()
    for options, matters, words in _MATTERS:
        idle = [name for name in options if name in given and name not in told]
        if idle and not any(map(matters, samplings)):
            told.update(idle)
            yield from (f"--{name.replace('_', '-')} {words}" for name in idle)

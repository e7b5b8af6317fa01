"""Checks that configs and settings share: of single values, in messages that begin with their names, and of JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from itertools import pairwise
from typing import TypeVar

from mpvideo.errors import CheckpointError

Part = TypeVar("Part")

LEAST_DISTANCE = 1e-6
"""How far a noise level is at least from the one above it, as a part of that.

Levels nearer to each other are one in float32, which networks compute in, or next to it: what samplers conclude from
the difference between them is noise. Those of schedules, which are rounded to float64, then cannot collide either.
"""


def check_int(name: str, value: object, low: int, high: int = 2**31 - 1) -> None:
    """Checks a whole number from `low` to `high`, both included.

    Raises:
        ValueError: it is none, or out of range; the message begins with `name`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if not low <= value <= high:
        bound = f"at least {low}" if value < low else f"at most {high}"
        raise ValueError(f"{name} must be {bound}, got {value}")


def check_float(
    name: str,
    value: object,
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Checks a finite number, whole ones among them, from `low` to `high`; an open end is not included.

    Raises:
        ValueError: it is none, or out of range; the message begins with `name`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= math.inf or value != value:
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    if value < low or (open_low and value == low):
        raise ValueError(f"{name} must be {'greater than' if open_low else 'at least'} {low:g}, got {value}")
    if value > high or (open_high and value == high):
        raise ValueError(f"{name} must be {'less than' if open_high else 'at most'} {high:g}, got {value}")


def check_bool(name: str, value: object) -> None:
    """Checks True or False.

    Raises:
        ValueError: it is neither; the message begins with `name`.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Checks that a value is one of a few words.

    Raises:
        ValueError: it is not; the message begins with `name`.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def check_churn(s_churn: object, s_tmin: float, s_tmax: float | None, s_noise: object) -> None:
    """Checks the settings of churn together; see `mpvideo.config.SamplingConfig`.

    Raises:
        ValueError: one of them is out of range.
    """
    check_float("s_churn", s_churn, 0.0, 1e6)
    check_float("s_tmin", s_tmin, 0.0, 1e6)
    if s_tmax is not None:
        check_float("s_tmax", s_tmax, 0.0, 1e6)
        if s_tmax < s_tmin:
            raise ValueError(f"s_tmax must be at least s_tmin, got {s_tmax} and {s_tmin}")
    check_float("s_noise", s_noise, 0.0, 1e3, open_low=True)


def check_guidance_interval(name: str, interval: object) -> None:
    """Checks the lowest and the highest noise level of guidance.

    Raises:
        ValueError: they are not two numbers, or out of range; the message begins with `name`.
    """
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        raise ValueError(f"{name} must be a lowest and a highest noise level, got {interval!r}")
    for level in interval:
        check_float(name, level, 0.0, 1e6)
    low, high = interval
    if low > high:
        raise ValueError(f"{name} must have its lowest noise level first, got {low:g} and {high:g}")


def check_restarts(restarts: object, restart_steps: object, restart_min: float, restart_max: float) -> None:
    """Checks the settings of restarts together; see `mpvideo.config.SamplingConfig`.

    Raises:
        ValueError: one of them is out of range.
    """
    check_int("restarts", restarts, 0, 1000)
    check_int("restart_steps", restart_steps, 1, 100_000)
    check_float("restart_min", restart_min, 0.0, 1e6, open_low=True)
    check_float("restart_max", restart_max, 0.0, 1e6, open_low=True)
    assert isinstance(restart_steps, int)
    if restart_max <= restart_min:
        raise ValueError(f"restart_max must be greater than restart_min, got {restart_max} and {restart_min}")
    if restarts and least_distance("karras", restart_steps + 1, restart_min, restart_max, 7.0) < LEAST_DISTANCE:
        raise ValueError(
            f"restart_steps, restart_min and restart_max must make noise levels at least {LEAST_DISTANCE:g} of each "
            f"apart, got {restart_steps}, {restart_min} and {restart_max}"
        )


def check_levels(name: str, levels: Sequence[object], places: Sequence[str] | None = None) -> None:
    """Checks noise levels above 0: their range, that they descend, and that neighbours are `LEAST_DISTANCE` apart.

    Args:
        name: of the list, for messages.
        levels: what it has.
        places: where each of them is written; None if its index says it.

    Raises:
        ValueError: one is no such number, or too near the one before it; the message begins with `name`.
    """
    for i, sigma in enumerate(levels):
        check_float(name if places is None else f"{name}, {places[i]},", sigma, 1e-8, 1e6)
    at: Sequence[object] = range(len(levels)) if places is None else places
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        assert isinstance(sigma, int | float) and isinstance(sigma_next, int | float)
        seen = f"got {sigma} and {sigma_next} at {at[i]} and {at[i + 1]}"
        if sigma_next >= sigma:
            raise ValueError(f"{name} must descend, {seen}")
        if sigma - sigma_next < LEAST_DISTANCE * sigma:
            raise ValueError(f"{name} must descend by at least {LEAST_DISTANCE:g} of each level, {seen}")


def least_distance(schedule: str, steps: int, sigma_min: float, sigma_max: float, rho: float) -> float:
    """How near two neighbours of a schedule come, as a part of the higher one; see `mpvideo.diffusion.schedules`.

    With 'karras' (of which 'linear' is rho 1) the first two are the nearest, with 'exponential' all are alike, and with
    'cosine', where ln(sigma) changes by 2 / sin(2 angle), those around the level 1: for it this is a lower bound.

    Args:
        schedule: its name.
        steps, sigma_min, sigma_max, rho: as of `mpvideo.config.SamplingConfig`, in their ranges.

    Returns:
        From 0 to 1; 1 where there are no two.
    """
    if steps < 2:
        return 1.0
    whole = 1 - sigma_min / sigma_max
    if schedule == "exponential":
        return -math.expm1(math.log1p(-whole) / (steps - 1))
    if schedule == "cosine":
        angle = math.atan2(sigma_max - sigma_min, 1 + sigma_max * sigma_min) / (steps - 1)
        level = min(max(1.0, sigma_min), sigma_max)
        return min(whole, -math.expm1(-angle * (level + 1 / level)))
    rho = 1.0 if schedule == "linear" else rho
    step = -math.expm1(math.log1p(-whole) / rho) / (steps - 1)  # of the rho-th roots, as a part of the first
    return whole if step >= 1 else min(whole, -math.expm1(rho * math.log1p(-step)))


def check_apg(apg_eta: object, apg_norm: object) -> None:
    """Checks the settings of adaptive projected guidance; see `mpvideo.diffusion.guidance`.

    Raises:
        ValueError: one of them is out of range.
    """
    check_float("apg_eta", apg_eta, 0.0, 100.0)
    if apg_norm is not None:
        check_float("apg_norm", apg_norm, 0.0, 1e9, open_low=True)


def build(part: type[Part], data: object, where: str) -> Part:
    """Makes a dataclass from a JSON object.

    Args:
        part: a dataclass that raises ValueError for a field out of range.
        data: the object.
        where: the file (and part of it) that it came from, for messages.

    Raises:
        CheckpointError: it is no object, has an unknown field, lacks one, or has one out of range.
    """
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{where} must be an object, got {data!r}")
    known = {entry.name: entry for entry in fields(part)}  # type: ignore[arg-type]
    unknown = [str(key) for key in data if key not in known]
    if unknown:
        raise CheckpointError(
            f"{where} has unknown fields: {', '.join(unknown[:10])}",
            hint=f"Known fields: {', '.join(known)}.",
        )
    missing = [
        name
        for name, entry in known.items()
        if name not in data and entry.default is MISSING and entry.default_factory is MISSING
    ]
    if missing:
        raise CheckpointError(f"{where} lacks {', '.join(missing)}")
    try:
        return part(**data)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from None

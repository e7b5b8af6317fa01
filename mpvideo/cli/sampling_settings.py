"""What the options of sampling come to: the sampler's settings, whether estimates are clamped, and what guides."""

import dataclasses
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mpvideo.checkpoint import Checkpoint, open_checkpoint
from mpvideo.checkpoint.guide import check_guide
from mpvideo.checks import check_levels
from mpvideo.cli.hub import located
from mpvideo.cli.options import as_flags
from mpvideo.config import CheckpointConfig, SamplingConfig
from mpvideo.errors import UsageError, naming
from mpvideo.files import irregular, reason
from mpvideo.job import check_guidance
from mpvideo.presets import PRESETS, Preset, find_preset
from mpvideo.sampling_config import LEAST_EVALUATIONS, SPACING, Sampler
from mpvideo.text import counted, printable

_LARGEST_LIST = 4_000_000  # characters of a file with noise levels


def sampling_settings(
    about: CheckpointConfig,
    *,
    preset: str | Preset | None = None,
    guidance_interval: str | None = None,
    sigmas: str | tuple[float, ...] | None = None,
    guide: bool | None = False,
    recorded: Collection[str] | None = None,
    **given: Any,
) -> SamplingConfig:
    """The checkpoint's settings, with a preset's over them, and over these what is given on the command line.

    The sampler 'auto' becomes the one that it stands for, so that records name it.

    Args:
        about: what the checkpoint says.
        preset: of --preset, or what it was found to be.
        guidance_interval: as text.
        sigmas: as text, or the levels in it.
        guide: whether a second checkpoint guides; None where none can.
        recorded: the names of those that --like gives, as it does all that nothing else gives; None without it.
        given: the other fields by their names; None stands for what was not given.

    Raises:
        UsageError: a setting is out of range, or guidance is asked of a network without classes.
        CheckpointError: the preset's file is wrong.
    """
    found = find_preset(preset) if isinstance(preset, str) else preset
    changes = {} if found is None else dict(found.sampling)
    spaced = [name for name in SPACING if given.get(name) is not None]
    if sigmas is not None:
        if spaced:
            flag = f"--{spaced[0].replace('_', '-')}"
            raise UsageError(f"--sigmas and {flag} cannot be given together: the list is the whole schedule")
        changes["sigmas"] = parse_sigmas(sigmas) if isinstance(sigmas, str) else sigmas
    elif spaced:
        changes["sigmas"] = None  # a list of the checkpoint's or the preset's gives way
    changes |= {name: value for name, value in given.items() if value is not None}
    if guidance_interval is not None:
        changes["guidance_interval"] = parse_interval(guidance_interval)
    try:
        sampling = dataclasses.replace(about.sampling, **changes)
    except ValueError as error:
        said = {**given, "sigmas": sigmas, "guidance_interval": guidance_interval}
        origins = _origins(about.sampling, found, {name for name in said if said[name] is not None}, recorded)
        raise _misfit(str(error), origins) from None
    try:
        check_guidance(about, sampling, guided=bool(guide))
    except ValueError as error:
        hint = "Give --guidance 1." if guide is None else "A second checkpoint can guide it: --guide."
        raise UsageError(f"--{error}", hint=hint) from None
    return dataclasses.replace(sampling, sampler=sampling.solver)


def _origins(
    own: SamplingConfig, preset: Preset | None, said: Collection[str], recorded: Collection[str] | None
) -> dict[str, str]:
    """Where settings come from that nobody gave one by one; arguments are those of `sampling_settings`."""
    of_preset = {} if preset is None else preset.sampling
    name_of = next((f" {name}" for name, each in PRESETS.items() if each is preset), "")
    plain = SamplingConfig()
    origins = {}
    for name in (field.name for field in dataclasses.fields(SamplingConfig)):
        if name in said:
            if recorded is not None and name in recorded:
                origins[name] = "from the record of --like"
        elif name in of_preset:
            origins[name] = f"from --preset{name_of}"
        elif recorded is not None:
            origins[name] = "from the record of --like"
        else:
            of_checkpoint = getattr(own, name) != getattr(plain, name)
            origins[name] = "from the checkpoint's config" if of_checkpoint else "so by default"
    return origins


def _misfit(words: str, origins: Mapping[str, str]) -> UsageError:
    """The error for settings that do not fit: with the words of a check, and where what nobody gave comes from."""
    groups: dict[str, list[str]] = {}
    for name in re.findall(r"\w+", words):
        if name in origins and _flag(name) not in (flags := groups.setdefault(origins[name], [])):
            flags.append(_flag(name))
    about = [f"{' and '.join(flags)} {'is' if len(flags) == 1 else 'are'} {where}" for where, flags in groups.items()]
    subject, hint = words.split(maxsplit=1)[0], None
    if subject in origins and subject in ("s_churn", "restart_min", "restart_max"):
        hint = f"Give {_flag(subject)}{' 0' if subject == 's_churn' else ''} beside it."
    words = as_flags(words, *(field.name for field in dataclasses.fields(SamplingConfig)))
    return UsageError(f"{words} ({'; '.join(about)})" if about else words, hint=hint)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def astray(samplings: Iterable[SamplingConfig]) -> Iterator[str]:
    """Warnings about samplers that have too few evaluations of the denoiser for them, one for each sampler."""
    fewest: dict[Sampler, int] = {}
    for sampling in samplings:
        name, count = sampling.solver, sampling.num_evaluations
        if count < min(LEAST_EVALUATIONS.get(name, 0), fewest.get(name, count + 1)):
            fewest[name] = count
    for name, count in fewest.items():
        yield (
            f"--sampler {name} goes astray with {counted(count, 'evaluation')} of the denoiser, it wants "
            f"{LEAST_EVALUATIONS[name]}: give more --steps, or another --sampler"
        )


def clamp_setting(
    about: CheckpointConfig, *, preset: str | None, clamp: bool | None, recorded: bool | None = None
) -> bool:
    """Whether estimates are clamped: as --clamp says, or else --preset, the record of --like, the checkpoint.

    Of the record, a preset with a name leaves nothing; a file, what it does not give.
    """
    if clamp is None and preset is not None:
        clamp = find_preset(preset).clamp
        recorded = None if preset in PRESETS else recorded
    if clamp is None:
        clamp = recorded
    return about.edm.clamp if clamp is None else clamp


def open_guide(path: Path, about: CheckpointConfig) -> Checkpoint:
    """The checkpoint of --guide, if it fits.

    Raises:
        UsageError: it is for other videos.
        CheckpointError: it cannot be read, or does not say what it is.
    """
    with naming("--guide", path):
        guide = open_checkpoint(located(path))
    check_guide(about, guide)
    return guide


def parse_sigmas(text: str) -> tuple[float, ...]:
    """Noise levels with commas or spaces between them, maybe in brackets; or those in a file, on any number of lines.

    Raises:
        UsageError: it is neither, something in it is no number, or the file cannot be read or has no levels.
    """
    if os.path.isfile(text):  # noqa: PTH113 - is_file() may raise
        return _sigmas_in(Path(text))
    words = _words(text)
    levels = [_level(word) for word in words]
    if None not in levels:
        return tuple(level for level in levels if level is not None)
    if os.path.exists(text):  # noqa: PTH110 - never raises
        raise UsageError(
            f"--sigmas must be noise levels or a file of them, got {irregular(Path(text))}: {_shown(text)}"
        )
    if not any(level is not None for level in levels) and ("/" in text or re.search(r"\.[a-z]\w*$", text, re.I)):
        raise UsageError(f"--sigmas must be noise levels or a file of them, and there is no file {_shown(text)}")
    raise UsageError(
        "--sigmas must be noise levels with commas between them, or a file of them, got "
        f"{printable(words[levels.index(None)], 40)!r}",
        hint=_SIGMAS_HINT,
    )


_SIGMAS_HINT = "For example --sigmas 80,9,2,0.5,0.1."


def _sigmas_in(path: Path) -> tuple[float, ...]:
    """The noise levels in a file, checked here, where it is known which line each is in."""
    name = f"--sigmas {printable(path)}"
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            text = file.read(_LARGEST_LIST + 1)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {reason(error)}") from None
    if len(text) > _LARGEST_LIST:
        raise UsageError(f"{name} must have at most {_LARGEST_LIST:,} characters")
    levels, places = [], []
    for number, line in enumerate(text.splitlines(), 1):
        for word in _words(line) if line.strip(_AROUND) else ():
            level = _level(word)
            if level is None:
                what = f"{name}, line {number}, must be noise levels with commas or spaces between them"
                raise UsageError(f"{what}, got {printable(word, 40)!r}", hint=_SIGMAS_HINT)
            levels.append(level)
            places.append(f"line {number}")
    if not levels:
        raise UsageError(f"{name} is empty: it must have noise levels", hint=_SIGMAS_HINT)
    if levels[1:] and not levels[-1]:  # a last 0 may be there, and is not needed
        del levels[-1], places[-1]
    try:
        check_levels(name, levels, places)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return tuple(levels)


_AROUND = " \t\r\n,[]"


def _words(text: str) -> list[str]:
    return re.split(r"\s*,\s*|\s+", text.strip(_AROUND))


def _level(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _shown(text: str) -> str:
    return printable(text, 1000)


def parse_interval(text: str) -> tuple[float, float] | None:
    """Two noise levels with a comma between them; None for the word all.

    Raises:
        UsageError: it is neither.
    """
    if text.strip().casefold() == "all":
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(
            f"--guidance-interval must be two noise levels or the word all, got {printable(text)!r}",
            hint="For example --guidance-interval 0.2,3.",
        ) from None
    return low, high

"""What the options of `sample` ask for: the product of their lists, one request after the other."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from mpvideo.batch.lists import Entries, parse_choices, parse_floats, parse_numbers, split_list
from mpvideo.batch.names import Names
from mpvideo.batch.request import Request
from mpvideo.batch.sources import Sources
from mpvideo.blend import Blend
from mpvideo.checkpoint import Checkpoint, bundled_checkpoint, open_checkpoint
from mpvideo.checks import check_int
from mpvideo.classes import find_class
from mpvideo.cli.hub import hub_name, located
from mpvideo.cli.idle import idle_options
from mpvideo.cli.like import Original
from mpvideo.cli.options import check_config_file, parse_settings, usage_errors
from mpvideo.cli.sampling_settings import astray, clamp_setting, open_guide, parse_sigmas, sampling_settings
from mpvideo.cli.writing import encoding_of
from mpvideo.config import MAX_SEED, SamplingConfig
from mpvideo.errors import UsageError, naming
from mpvideo.formats import Encoding
from mpvideo.job import numbers_of
from mpvideo.presets import Preset, find_preset
from mpvideo.text import printable

if TYPE_CHECKING:
    from mpvideo.model import Model

MAX_REQUESTS = 1_000_000
"""The most videos that one command asks for."""

_MOST_SETTINGS = 10_000
"""The most combinations of settings of the sampler: they, unlike seeds, are kept."""

_LISTS = ("sampler", "steps", "guidance")
"""Settings of the sampler of which an option may give several."""

_SINGLE = (
    "preset", "guidance_interval", "guidance_hold", "apg_eta", "apg_norm",
    "sigma_min", "sigma_max", "rho", "schedule", "sigmas",
    "s_churn", "s_tmin", "s_tmax", "s_noise", "eta", "restarts", "restart_steps", "restart_min", "restart_max",
)  # fmt: skip
"""Settings of the sampler of which an option gives one, by the names of their parameters."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """The requests that a set of options makes, in the order sampler, steps, guidance, class, seed: the last fastest.

    They are made as they are gone through, as often as one likes; however many there are, they take no memory.

    Attributes:
        sources: what makes them.
        samplings: settings of the sampler, for each sampler, number of steps and strength of guidance.
        classes: their classes; None lets the seed choose.
        seeds: their seeds.
        clamp, frames, encoding, exact, metadata: see `Request`.
        names: of the files.
        check_model, inputs, preset, where, warnings: see `Request`.
        first: index of the first.
    """

    sources: Sources
    samplings: tuple[SamplingConfig, ...]
    classes: Entries[int | Blend] | None
    seeds: Entries[int | Blend]
    clamp: bool
    frames: int
    encoding: Encoding
    exact: bool
    metadata: bool
    names: Names
    check_model: "Callable[[Model], None] | None" = None
    inputs: tuple[tuple[str, Path], ...] = ()
    preset: Preset | None = None
    first: int = 0
    where: str | None = None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samplings) * (1 if self.classes is None else len(self.classes)) * len(self.seeds)

    def __iter__(self) -> Iterator[Request]:
        index = self.first
        choose = self._choose()
        for sampling in self.samplings:
            for class_index in [None] if self.classes is None else self.classes:
                for seed in self.seeds:
                    chosen = choose(seed) if class_index is None else class_index
                    yield self._request(index, sampling, chosen, seed)
                    index += 1

    @property
    def widest_blends(self) -> tuple[int, int]:
        """The most classes, and the most seeds, that one video is a blend of; 1 where there are no blends."""

        def widest(entries: Entries[int | Blend]) -> int:
            listed = (part for part in entries.parts if not isinstance(part, range))
            return max((len(numbers_of(entry)) for part in listed for entry in part), default=1)

        return 1 if self.classes is None else widest(self.classes), widest(self.seeds)

    def _choose(self) -> Callable[[int | Blend], int | None]:
        """What a seed makes of no class. It is settled here, for the file's name."""
        num_classes = self.sources.checkpoint.config.model.num_classes
        if num_classes is None or self.classes is not None:
            return lambda seed: None
        from mpvideo.generation import drawn_class

        return lambda seed: drawn_class(seed, num_classes)

    def _request(
        self, index: int, sampling: SamplingConfig, class_index: int | Blend | None, seed: int | Blend
    ) -> Request:
        from mpvideo.record import class_name

        checkpoint = self.sources.checkpoint
        path = self.names.path(
            **{"class": class_index},
            class_name=class_name(class_index, checkpoint.config.classes),
            seed=seed,
            index=index,
            guidance=_shortest(sampling.guidance),
            steps=sampling.steps,
            sampler=sampling.sampler,
            ckpt=PurePath(checkpoint.name).stem,
        )
        return Request(
            index=index,
            seed=seed,
            class_index=class_index,
            sampling=sampling,
            clamp=self.clamp,
            sources=self.sources,
            path=path,
            frames=self.frames,
            encoding=self.encoding,
            exact=self.exact,
            metadata=self.metadata,
            makes_folders=self.names.makes_folders,
            check_model=self.check_model,
            inputs=self.inputs,
            preset=self.preset,
            where=self.where,
            warnings=self.warnings,
        )


def requests_of(
    options: Mapping[str, Any],
    *,
    given: frozenset[str],
    first: int = 0,
    where: str | None = None,
    openings: "Openings | None" = None,
) -> Requests:
    """The requests that options of `sample` make.

    Args:
        options: values by the names of the command's parameters; --like is an `Original`.
        given: the names of those that somebody gave: others are defaults, or from a video of --like.
        first: index of the first request.
        where: see `Request`.
        openings: what others have asked for, where many ask for the same.

    Raises:
        MPVideoError: an option is out of range, or does not fit the checkpoint, which is opened here.
    """
    openings = openings or Openings(1, 1)
    original: Original | None = options["like"]
    sources = openings.sources(*(_hashable(options[name]) for name in _SOURCE_OPTIONS))
    about, out = sources.checkpoint.config, Path(options["out"])
    with usage_errors("seed"):
        seeds = parse_choices("seed", options["seed"], 0, MAX_SEED, keep_ends=True)
        if any(len(numbers_of(seed)) > 2 for part in seeds.parts if not isinstance(part, range) for seed in part):
            raise ValueError(f"seed must be between two seeds, got {printable(options['seed'])!r}")
    _check_count(seeds.count)
    recorded = None if original is None else frozenset((*_LISTS, *_SINGLE)) - given
    samplings, lists, warnings = openings.samplings(
        sources, about.sampling, given, recorded, *(options[name] for name in (*_LISTS, *_SINGLE))
    )
    classes = _classes(options["class_text"], sources.checkpoint)
    encoding = encoding_of(
        fps=about.video.fps if options["fps"] is None else options["fps"],
        **{name: options[name] for name in ("format_name", "scale", "filter_name", "crf", "lossless", "loop")},
    )
    several = [name for name, entries in {**lists, "class": classes or (), "seed": seeds}.items() if len(entries) > 1]
    requests = Requests(
        sources=sources,
        samplings=samplings,
        classes=classes,
        seeds=seeds,
        clamp=clamp_setting(
            about,
            preset=options["preset"],
            clamp=options["clamp"],
            recorded=None if original is None else original.clamp,
        ),
        frames=_frames(options["frames"], about.model.frames),
        encoding=encoding if original is None else original.encoding(out, encoding),
        exact=options["exact"],
        metadata=not options["no_metadata"],
        names=Names(out, several=several, lacking=_lacking(sources.checkpoint)),
        check_model=None if original is None else partial(original.check_model, options["dtype"]),
        inputs=_inputs(sources, original),
        preset=None if options["preset"] is None else find_preset(options["preset"]),
        first=first,
        where=where,
        warnings=warnings,
    )
    _check_count(len(requests))
    return requests


def _check_count(count: int) -> None:
    if count > MAX_REQUESTS:
        raise UsageError(
            f"the lists must ask for at most {MAX_REQUESTS:,} videos, got {count:,}",
            hint="Divide them among several commands.",
        )


_SOURCE_OPTIONS = ("like", "ckpt", "guide", "config", "settings")


def open_sources(
    original: Original | None,
    ckpt: Path | None,
    guide: Path | None,
    config: Path | None,
    settings: tuple[str, ...] | None,
) -> Sources:
    """What --like, --ckpt, --guide, --config and --set ask for.

    Raises:
        MPVideoError: one of them cannot be read, or they do not fit together.
    """
    overrides = parse_settings([*settings] if settings else None)
    if original is not None:
        ckpt, guide = original.checkpoint(ckpt), original.guide(guide)
    check_config_file(config)
    with naming("--ckpt", ckpt):
        source = bundled_checkpoint() if ckpt is None else located(ckpt)
        if original is not None:
            overrides = original.overrides(source, config, overrides)
        checkpoint = open_checkpoint(source, config_file=config, overrides=overrides)
    return Sources(
        checkpoint=checkpoint,
        ckpt=None if ckpt is None else hub_name(ckpt) or str(ckpt),
        name=hub_name(ckpt),
        guide=None if guide is None else open_guide(guide, checkpoint.config),
        guide_ckpt=None if guide is None else hub_name(guide) or str(guide),
        guide_name=hub_name(guide),
    )


def _inputs(sources: Sources, original: Original | None) -> tuple[tuple[str, Path], ...]:
    """The files that videos are made from, each behind the option that gives it."""
    weights = (("--ckpt", sources.checkpoint), ("--guide", sources.guide))
    files = [(option, file) for option, each in weights if each is not None for file in each.header.files]
    return (*files, *([] if original is None else [("--like", original.path)]))


class Openings:
    """What options ask for beside seeds, classes and names: found out once, however many ask for the same.

    Args:
        num_sources, num_samplings: how many of each are kept.

    Attributes:
        sources: `open_sources`.
        samplings: the settings that the lists make, the lists by name, and warnings.
    """

    def __init__(self, num_sources: int, num_samplings: int) -> None:
        self.sources = lru_cache(maxsize=num_sources)(open_sources)
        self.samplings = lru_cache(maxsize=num_samplings)(_samplings)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _samplings(
    sources: Sources,
    own: SamplingConfig,
    given: frozenset[str],
    recorded: frozenset[str] | None,
    sampler_text: str | None,
    steps_text: str | None,
    guidance_text: str | None,
    *single: Any,
) -> tuple[tuple[SamplingConfig, ...], dict[str, Sized], tuple[str, ...]]:
    """The settings that the lists make, the lists by name, and warnings about what is idle or goes astray.

    Args:
        sources: what they are for.
        own: the checkpoint's defaults, which equal sources may differ in.
        given: see `requests_of`.
        recorded: see `sampling_settings`.
        sampler_text, steps_text, guidance_text: the lists.
        single: the values of `_SINGLE`.
    """
    with usage_errors("sampler", "steps", "guidance"):
        samplers: Sequence[str | None] = _list(sampler_text, lambda text: split_list("sampler", text))
        steps: Sequence[int | None] = _list(steps_text, _steps)
        guidances: Sequence[float | None] = _list(guidance_text, lambda text: parse_floats("guidance", text))
        if len(samplers) * len(steps) * len(guidances) > _MOST_SETTINGS:
            raise UsageError(f"--sampler, --steps and --guidance must make at most {_MOST_SETTINGS:,} combinations")
    config, values = replace(sources.checkpoint.config, sampling=own), dict(zip(_SINGLE, single, strict=True))
    for name, read in (("preset", find_preset), ("sigmas", parse_sigmas)):  # once, not for each of the lists' entries
        values[name] = None if values[name] is None else read(values[name])
    samplings = tuple(
        sampling_settings(
            config,
            sampler=sampler,
            steps=number,
            guidance=guidance,
            guide=sources.guide is not None,
            recorded=recorded,
            **values,
        )
        for sampler in samplers
        for number in steps
        for guidance in guidances
    )
    lists: dict[str, Sized] = {"sampler": samplers, "steps": steps, "guidance": guidances}
    return samplings, lists, (*idle_options(given, samplings), *astray(samplings))


def _list(text: str | None, parse: Callable[[str], Any]) -> list[Any]:
    """The entries of an option; None for what the checkpoint says."""
    return [None] if text is None else [*parse(text)]


def _steps(text: str) -> Entries[int]:
    numbers = parse_numbers("steps", text, 1, 100_000)
    if len(numbers) > _MOST_SETTINGS:
        raise ValueError(f"steps must have at most {_MOST_SETTINGS:,} entries, got {len(numbers):,}")
    return numbers


def _classes(text: str | None, checkpoint: Checkpoint) -> Entries[int | Blend] | None:
    if text is None:
        return None
    model, names = checkpoint.config.model, checkpoint.config.classes
    if model.num_classes is None:
        raise UsageError(
            f"--class cannot be given: {printable(checkpoint.name)} has no classes, got {printable(text)!r}",
            hint="Leave --class out.",
        )
    num_classes = model.num_classes
    bundled = checkpoint.path == bundled_checkpoint()
    listing = f"mpvideo inspect{'' if bundled else f' {shlex.quote(str(checkpoint.path))}'} --classes"

    def find(word: str) -> int:
        return find_class(word, num_classes, names, listing=listing)

    if names is not None and text in names:  # whatever .., : or - in it mean otherwise
        return Entries(([find(text)],))
    with usage_errors("class"):
        return parse_choices("class", text, 0, num_classes - 1, find=find, keep_ends=False)


def _lacking(checkpoint: Checkpoint) -> dict[str, str]:
    """Fields of names that mean nothing for a checkpoint, and why."""
    if checkpoint.config.model.num_classes is None:
        return dict.fromkeys(("class", "class_name"), "the checkpoint has no classes")
    return {} if checkpoint.config.classes else {"class_name": "the checkpoint does not name its classes"}


def _frames(asked: int | None, made: int) -> int:
    if asked is None:
        return made
    with usage_errors("frames"):
        check_int("frames", asked, 1)
    if asked > made:
        raise UsageError(
            f"--frames must be at most {made}, which is what this checkpoint makes, got {asked}",
            hint="Longer videos than the model was trained for are not supported.",
        )
    return asked


def _shortest(number: float) -> int | float:
    """2 for 2.0: what a file's name says."""
    return int(number) if number == int(number) else number

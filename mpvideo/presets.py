"""Presets: sets of sampling settings with a name, or in a file as `mpvideo tune` writes it.

A named one says how to sample and not what: guidance stays the checkpoint's. A file gives what is in it, one JSON
object:

    format          1
    sampling        fields of `mpvideo.config.SamplingConfig`
    clamp           whether estimates are clamped to [-1, 1]; may be left out
    tuned           what `mpvideo tune` says of how it found the noise levels; may be left out

Only the standard library is imported.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mpvideo.checkpoint.reading import exists, read_json
from mpvideo.checks import build, check_bool
from mpvideo.config import SamplingConfig, check_format
from mpvideo.errors import CheckpointError, UsageError, naming
from mpvideo.sampling_config import GUIDANCE, SPACING
from mpvideo.text import printable


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings that go between the checkpoint's own and those that are given one by one.

    Attributes:
        sampling: fields of `mpvideo.config.SamplingConfig`.
        clamp: whether estimates are clamped to [-1, 1]; None for what the checkpoint says.
        file: what it was read from, printable; None for one that has a name.
        tuned: what `mpvideo tune` wrote of its noise levels; empty for any other.
    """

    sampling: Mapping[str, Any] = field(default_factory=dict)
    clamp: bool | None = None
    file: str | None = None
    tuned: Mapping[str, Any] = field(default_factory=dict)

    def warnings(self, sampling: SamplingConfig, name: str, sha256: str, *, has_guide: bool = False) -> Iterator[str]:
        """What to warn of where tuned noise levels are used for something else than they were made for.

        Args:
            sampling: the settings in use.
            name, sha256: of the weights in use.
            has_guide: whether a second checkpoint guides; none does while levels are tuned.
        """
        if not self.tuned or sampling.sigmas != self.sampling.get("sigmas"):  # other levels are used
            return
        words = f"the noise levels of {self.file} were made for"
        own = self.tuned.get("checkpoint")
        if isinstance(own, Mapping) and own.get("sha256") != sha256:
            yield f"{words} the weights of {printable(own.get('name'))}, {printable(name)} has others"
        for setting in ("sampler", *GUIDANCE):
            wanted, given = self.sampling.get(setting), getattr(sampling, setting)
            if setting in self.sampling and given != wanted:
                yield f"{words} {setting} {wanted}, not {given}"
        if has_guide and sampling.guidance != 1 and self.sampling.get("guidance", 1) != 1:
            yield f"{words} guidance away from no class, not from a second checkpoint"


@dataclass(frozen=True, kw_only=True)
class _File:
    """What a preset's file holds; see the module."""

    format: int
    sampling: Any = None
    clamp: bool | None = None
    tuned: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.clamp is not None:
            check_bool("clamp", self.clamp)
        if not isinstance(self.tuned, Mapping):
            raise ValueError(f"tuned must be an object, got {printable(self.tuned)}")


def _preset(*, clamp: bool | None = None, **fields: Any) -> Preset:
    """All settings, so that nothing of the checkpoint's own gets between them."""
    whole = asdict(SamplingConfig(**fields))
    return Preset(sampling={name: value for name, value in whole.items() if name not in GUIDANCE}, clamp=clamp)


PRESETS: dict[str, Preset] = {
    # Karras et al., arXiv 2206.00364, algorithm 1 as on CIFAR-10: 35 evaluations.
    "edm": _preset(sampler="heun", steps=18),
    # Karras et al., arXiv 2312.02696, and the defaults of its generate_images.py: 63 evaluations.
    "edm2": _preset(sampler="heun", steps=32),
    # denoising-diffusion-pytorch 2.3.4, ElucidatedDiffusion.sample with its defaults.
    "package": _preset(sampler="heun", steps=32, s_churn=80.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003, clamp=True),
    # Videos as good as those of edm2, by `benchmarks/quality`, for a fifth of its evaluations.
    "fast": _preset(sampler="deis", steps=12),
}
"""The presets by their names."""


def find_preset(name: str) -> Preset:
    """A preset by its name, or one from a file.

    Args:
        name: one of `PRESETS`, or the path of a JSON file; see the module.

    Raises:
        UsageError: it is neither.
        CheckpointError: the file cannot be read, or a field in it is unknown, out of range, or contradicts another.
    """
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    with naming("--preset", path):
        is_path = path.name != name or path.suffix  # meant as one, whether or not there is a file
        if not name or not (is_path or exists(path)):  # Path("") is the current folder
            raise UsageError(
                f"--preset must be one of {', '.join(PRESETS)} or a JSON file, got {printable(name)!r}",
                hint="Such a file holds settings of the sampler, as `mpvideo tune` writes them: "
                '{"format": 1, "sampling": {"sampler": "deis", "steps": 12}}.',
            )
        data = read_json(path)
        check_format(data, printable(path), "preset")
        file = build(_File, data, printable(path))
        sampling = file.sampling
        whole = build(SamplingConfig, sampling, f"{printable(path)}: sampling")  # names what is wrong
        assert isinstance(sampling, Mapping)
        spacing = {name: sampling[name] for name in SPACING if name in sampling}
        for name, value in spacing.items():
            if value != (its := getattr(whole, name)):
                raise CheckpointError(f"{printable(path)}: sampling: {name} must be {its} for its sigmas, got {value}")
    if spacing:
        sampling = {"sigmas": None, **sampling}  # a list of the checkpoint's gives way
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in sampling.items()}
    return Preset(sampling=fields, clamp=file.clamp, file=printable(path), tuned=file.tuned)

"""What `mpvideo inspect` shows of how a video was made."""

import dataclasses
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from mpvideo.cli.tables import section, show_notes
from mpvideo.config import SamplingConfig
from mpvideo.sampling_config import GUIDANCE
from mpvideo.text import counted, printable

if TYPE_CHECKING:
    from mpvideo.record import Record


def show_record(record: "Record", console: Console) -> None:
    """Prints a record for people; --json has all of it."""
    which = [] if record.class_index is None else [f"class {record.class_index}"]
    which += [printable(repr(record.class_name), 100)] if record.class_name else []
    edm = record.config.edm
    config = [f"codec {record.config.video.codec}", f"sigma_data {edm.sigma_data:g}"]
    config += ["fan-in of before 28 February 2024"] if edm.legacy_fan_in else []
    computed = [f"in {record.dtype} on {record.device}"]
    computed += ["by itself (--exact)"] if record.exact else []
    computed += ["by code of torch.compile"] if record.compiled else []
    guide = []
    if record.guide is not None:
        guide = [("guide", printable(record.guide.name, 1000)), ("its sha256", record.guide.sha256)]
    rows = [
        ("video", ", ".join([*which, f"seed {record.seed}", counted(record.frames, "frame")])),
        ("checkpoint", printable(record.checkpoint.name, 1000)),
        ("sha256", record.checkpoint.sha256),
        *guide,
        ("config", ", ".join(config)),
        ("sampling", ", ".join(_sampling_words(record.sampling) + (["clamped"] if record.clamp else []))),
    ]
    if record.encoding is not None:
        values = {**dataclasses.asdict(record.encoding), "fps": f"{float(record.encoding.fps):.6g}"}
        rows.append(("written", ", ".join(_named(values))))
    rows += [
        ("computed", ", ".join(computed)),
        ("versions", f"mpvideo {record.mpvideo}, torch {record.torch}"),
        ("again", f"{record.command} --out FILE"),
    ]
    section(console, "How it was made", rows)


def show_no_record(problem: dict[str, str | None], console: Console) -> None:
    """Prints why there is no record to show."""
    console.print(Text("\nHow it was made: not known", style="bold"))
    show_notes(console, [problem])


def _sampling_words(sampling: SamplingConfig) -> list[str]:
    """The sampler and its schedule, and what else is not as it is by default."""
    schedule = f"{len(sampling.sigmas)} levels of its own" if sampling.sigmas else f"{sampling.schedule} schedule"
    words = [sampling.sampler, counted(sampling.steps, "step"), schedule]
    words.append(f"sigma {sampling.sigma_max:g} to {sampling.sigma_min:g}")
    said = ("sampler", "steps", "schedule", "sigmas", "sigma_max", "sigma_min", *GUIDANCE)
    plain = dataclasses.asdict(SamplingConfig())
    rest = {name: value for name, value in dataclasses.asdict(sampling).items() if value != plain[name]}
    words += guidance_words(sampling)
    return words + _named({name: value for name, value in rest.items() if name not in said})


def guidance_words(sampling: SamplingConfig) -> list[str]:
    """The strength of guidance, and what else is not as it is by default, where it has an effect."""
    if sampling.guidance == 1:
        return ["no guidance"]
    strength = f"guidance {sampling.guidance:g}"
    if sampling.guidance_interval is not None:
        low, high = sampling.guidance_interval
        strength += f" at sigma {low:g} to {high:g}{', held outside' if sampling.guidance_hold else ''}"
    eta = None if sampling.apg_eta == 1 else float(sampling.apg_eta)
    return [strength, *_named({"apg_eta": eta, "apg_norm": sampling.apg_norm})]


def _named(values: dict[str, object]) -> list[str]:
    """'rho 7' for each value; a True has only its name, and what is not set none."""
    return [
        name if value is True else f"{name} {printable(f'{value:g}' if isinstance(value, float) else value)}"
        for name, value in values.items()
        if value is not None and value is not False
    ]

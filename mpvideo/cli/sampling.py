"""Options of the commands that sample: which checkpoint, how to sample it, and where to compute."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from mpvideo.cli.options import usage_errors
from mpvideo.config import CheckpointConfig, DeviceName, DtypeName, Sampler, SamplingConfig
from mpvideo.errors import UsageError
from mpvideo.text import printable

VIDEO_PANEL = "Which videos"
SAMPLING_PANEL = "How to sample (what is left out comes from the checkpoint)"
CHURN_PANEL = "Noise put back while sampling (also from the checkpoint)"
COMPUTE_PANEL = "Where to compute"

MAX_VIDEOS = 100_000
"""The most that one command makes."""

CheckpointPath = Annotated[
    Path | None,
    typer.Option(
        "--ckpt",
        metavar="PATH",
        help="A safetensors file, a folder with one or its shards, or hf:owner/repo[/file][@revision] on the Hugging "
        "Face hub. Without it, the weights that come with mpvideo.",
        rich_help_panel=VIDEO_PANEL,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", help="Steps from noise to video.", rich_help_panel=SAMPLING_PANEL),
]
SamplerName = Annotated[
    Sampler | None,
    typer.Option(
        "--sampler",
        help="heun takes two evaluations of the network a step, all others one; auto chooses by the number of steps.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        metavar="X",
        help="Strength of classifier-free guidance; 1 is none, all others take twice the time.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
GuidanceInterval = Annotated[
    str | None,
    typer.Option(
        "--guidance-interval",
        metavar="LOW,HIGH",
        help="Guide at noise levels from LOW to HIGH only, and take twice the time only there; or the word all.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
SigmaMin = Annotated[
    float | None,
    typer.Option("--sigma-min", metavar="X", help="Lowest noise level.", rich_help_panel=SAMPLING_PANEL),
]
SigmaMax = Annotated[
    float | None,
    typer.Option(
        "--sigma-max", metavar="X", help="Highest noise level, where sampling starts.", rich_help_panel=SAMPLING_PANEL
    ),
]
Rho = Annotated[
    float | None,
    typer.Option(
        "--rho", metavar="X", help="Greater spends more steps at low noise levels.", rich_help_panel=SAMPLING_PANEL
    ),
]
Clamp = Annotated[
    bool | None,
    typer.Option(
        "--clamp/--no-clamp", help="Clamp every estimate to [-1, 1], or do not.", rich_help_panel=SAMPLING_PANEL
    ),
]
SChurn = Annotated[
    float | None,
    typer.Option("--s-churn", metavar="X", help="How much, over all steps; 0 is none.", rich_help_panel=CHURN_PANEL),
]
STMin = Annotated[
    float | None,
    typer.Option("--s-tmin", metavar="X", help="Lowest noise level to put it back at.", rich_help_panel=CHURN_PANEL),
]
STMax = Annotated[
    float | None,
    typer.Option("--s-tmax", metavar="X", help="Highest noise level to put it back at.", rich_help_panel=CHURN_PANEL),
]
SNoise = Annotated[
    float | None,
    typer.Option("--s-noise", metavar="X", help="Its scale; theory says 1.", rich_help_panel=CHURN_PANEL),
]
Device = Annotated[
    DeviceName,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda or mps; auto takes the best there is that computes well: see `mpvideo doctor`.",
        rich_help_panel=COMPUTE_PANEL,
    ),
]
Dtype = Annotated[
    DtypeName,
    typer.Option(
        "--dtype",
        metavar="NAME",
        help="What the network computes in: float32, bfloat16 or float16. auto is float32, or bfloat16 where it is "
        "measured to be accurate and clearly faster.",
        rich_help_panel=COMPUTE_PANEL,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Videos sampled at once; halved where memory does not suffice.",
        rich_help_panel=COMPUTE_PANEL,
    ),
]


def sampling_settings(about: CheckpointConfig, *, guidance_interval: str | None, **given: Any) -> SamplingConfig:
    """The checkpoint's settings with those of the command line in their place; None stands for what was not given.

    The sampler 'auto' becomes the one that it stands for, so that records name it.

    Raises:
        UsageError: a setting is out of range, or guidance is asked of a network without classes.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    if guidance_interval is not None:
        changes["guidance_interval"] = parse_interval(guidance_interval)
    with usage_errors("guidance_interval", *given):
        sampling = dataclasses.replace(about.sampling, **changes)
    if about.model.num_classes is None and sampling.guidance != 1:
        raise UsageError(f"--guidance must be 1 for a network without classes, got {sampling.guidance:g}")
    return dataclasses.replace(sampling, sampler=sampling.solver)


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

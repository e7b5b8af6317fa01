"""`mpvideo sample`: make videos."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from mpvideo.cli.like import Like
from mpvideo.cli.options import AsJson, ConfigFile, Quiet, Settings, given_options
from mpvideo.cli.overviews import GridPath, SheetPath, overviews_of
from mpvideo.cli.requests import requests_of
from mpvideo.cli.sampling_options import (
    SAMPLING_PANEL,
    VIDEO_PANEL,
    ApgEta,
    ApgNorm,
    BatchSize,
    CheckpointPath,
    Clamp,
    Compile,
    Device,
    Dtype,
    Eta,
    Exact,
    GuidanceHold,
    GuidanceInterval,
    GuidePath,
    PresetName,
    RestartMax,
    RestartMin,
    Restarts,
    RestartSteps,
    Rho,
    ScheduleName,
    SChurn,
    SigmaMax,
    SigmaMin,
    Sigmas,
    SNoise,
    STMax,
    STMin,
)
from mpvideo.cli.writing import (
    CrfValue,
    DryRun,
    FilterName,
    FormatName,
    Fps,
    JournalPath,
    Loop,
    Lossless,
    NoMetadata,
    Overwrite,
    Scale,
    Shard,
)
from mpvideo.job import BATCH_SIZE
from mpvideo.sampling_config import Sampler


def sample(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The video to write: .mp4, .webm, .gif, .apng or .png (animated PNG), .mkv, .npy or .safetensors; - "
            "for standard output, with --format. In its path {class}, {class_name}, {seed}, {index}, {guidance}, "
            "{steps}, {sampler} and {ckpt} stand for what it was made with; {seed:06d} pads with zeros. The folders of "
            "such a path are made; that of a plain one must exist.",
            rich_help_panel=VIDEO_PANEL,
        ),
    ],
    like: Like = None,
    ckpt: CheckpointPath = None,
    class_text: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="LIST",
            help="Indices, ranges, names, or words that fit one name: 207, 200-209, 'golden dog trots'. With weights a "
            "blend, 207:1+307:2; 207..307:9 is a walk of nine videos from one to the other. Without it, the seed "
            "chooses.",
            rich_help_panel=VIDEO_PANEL,
        ),
    ] = None,
    seed: Annotated[
        str,
        typer.Option(
            "--seed",
            metavar="LIST",
            help="Decides all that is random: 5, or 0-63,100. 3:1+8:2 is a place between two seeds, 3..8:9 a walk of "
            "nine videos.",
            rich_help_panel=VIDEO_PANEL,
        ),
    ] = "0",
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", metavar="N", help="Keep the first N frames; all by default.", rich_help_panel=VIDEO_PANEL
        ),
    ] = None,
    preset: PresetName = None,
    steps: Annotated[
        str | None,
        typer.Option("--steps", metavar="LIST", help="Steps from noise to video.", rich_help_panel=SAMPLING_PANEL),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            metavar="LIST",
            help=f"{', '.join(get_args(Sampler))}. heun takes two evaluations of the denoiser a step, all others one; "
            "auto chooses by the number of steps, and heun for --s-churn. heun wants 17 evaluations or more, dpmpp-3m "
            "18.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            "--guidance",
            metavar="LIST",
            help="Strength of guidance; 1 is none, more than 1 follows the class more closely, 0 leaves it out, or is "
            "--guide alone. All but 1 take two passes of the network for each evaluation.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = None,
    guide: GuidePath = None,
    guidance_interval: GuidanceInterval = None,
    guidance_hold: GuidanceHold = None,
    apg_eta: ApgEta = None,
    apg_norm: ApgNorm = None,
    sigma_min: SigmaMin = None,
    sigma_max: SigmaMax = None,
    rho: Rho = None,
    schedule: ScheduleName = None,
    sigmas: Sigmas = None,
    clamp: Clamp = None,
    s_churn: SChurn = None,
    s_tmin: STMin = None,
    s_tmax: STMax = None,
    s_noise: SNoise = None,
    eta: Eta = None,
    restarts: Restarts = None,
    restart_steps: RestartSteps = None,
    restart_min: RestartMin = None,
    restart_max: RestartMax = None,
    format_name: FormatName = None,
    fps: Fps = None,
    scale: Scale = None,
    filter_name: FilterName = "nearest",
    crf: CrfValue = None,
    lossless: Lossless = False,
    loop: Loop = None,
    grid: GridPath = None,
    sheet: SheetPath = None,
    overwrite: Overwrite = False,
    no_metadata: NoMetadata = False,
    shard: Shard = None,
    journal: JournalPath = None,
    dry_run: DryRun = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    compiled: Compile = False,
    batch_size: BatchSize = BATCH_SIZE,
    exact: Exact = False,
    config: ConfigFile = None,
    settings: Settings = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Sample videos from a checkpoint.

    Where an option takes a list, with commas in between, every combination is made. The paths of finished files go to
    standard output, everything else to standard error. The same command makes the same bytes again on the same machine
    in the same dtype. With every file comes a command that makes it alone, the same up to rounding. What is there
    already, made with the same settings and weights, is not made again: after a crash, the same command makes the rest.

    \b
    mpvideo sample --class 207 --frames 32 --out dog.mp4
    mpvideo sample --like dog.mp4 --seed 5 --out dog-5.mp4
    mpvideo sample --class "red cat hops" --seed 0-3 --out "cat-{seed}.gif" --grid cats.mp4
    mpvideo sample --class 207,208 --guidance 1,1.5 --out "runs/{class_name}/{guidance}.mp4"
    """
    from mpvideo.cli.making import make, options_of

    requests = requests_of(context.params, given=given_options(context))
    make(requests, options_of(context.params), overviews_of(requests, grid, sheet, out=out, overwrite=overwrite))

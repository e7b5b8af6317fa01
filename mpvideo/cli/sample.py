"""`mpvideo sample`: make videos."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpvideo.checkpoint import bundled_checkpoint, open_checkpoint
from mpvideo.checks import check_int
from mpvideo.cli.again import command_again
from mpvideo.cli.choices import class_choices, seed_choices
from mpvideo.cli.hub import located
from mpvideo.cli.like import Like, Original
from mpvideo.cli.naming import Names
from mpvideo.cli.options import AsJson, ConfigFile, Quiet, Settings, parse_settings, usage_errors
from mpvideo.cli.overviews import GridPath, SheetPath, overviews_of
from mpvideo.cli.progress import progress, smaller_batch_warning
from mpvideo.cli.recipe import Recipe
from mpvideo.cli.sampling import (
    MAX_VIDEOS,
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
    Guidance,
    GuidanceInterval,
    GuidePath,
    PresetName,
    RestartMax,
    RestartMin,
    Restarts,
    RestartSteps,
    Rho,
    SamplerName,
    ScheduleName,
    SChurn,
    SigmaMax,
    SigmaMin,
    Sigmas,
    SNoise,
    Steps,
    STMax,
    STMin,
    clamp_setting,
    open_guide,
    sampling_settings,
)
from mpvideo.cli.streams import tell, write_result
from mpvideo.cli.writing import (
    CrfValue,
    FilterName,
    FormatName,
    Fps,
    Loop,
    Lossless,
    NoMetadata,
    Overwrite,
    Scale,
    encoding_of,
)
from mpvideo.errors import UsageError
from mpvideo.formats import STANDARD_OUTPUT, enlargement, warnings_about
from mpvideo.text import counted, printable

if TYPE_CHECKING:
    from mpvideo.blend import Blend
    from mpvideo.generation import Job, Video


def sample(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The video to write, .mp4, .webm, .gif, .apng, .mkv, .npy or .safetensors; - for standard output. In "
            "its path {class} stands for the class index and {seed} for the seed; {seed:06d} pads with zeros.",
            rich_help_panel=VIDEO_PANEL,
        ),
    ],
    like: Like = None,
    ckpt: CheckpointPath = None,
    class_text: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="Index, name, or words that fit one name: 207, 'golden dog trots'. With weights a blend, 207:1+307:2; "
            "207..307:9 is a walk of nine videos from one to the other. Without it, the seed chooses.",
            rich_help_panel=VIDEO_PANEL,
        ),
    ] = None,
    seed: Annotated[
        str,
        typer.Option(
            "--seed",
            metavar="N",
            help="Decides all that is random. 3:1+8:2 is a place between two seeds, 3..8:9 a walk of nine videos.",
            rich_help_panel=VIDEO_PANEL,
        ),
    ] = "0",
    num: Annotated[
        int,
        typer.Option("--num", metavar="N", help="How many videos, of consecutive seeds.", rich_help_panel=VIDEO_PANEL),
    ] = 1,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", metavar="N", help="Keep the first N frames; all by default.", rich_help_panel=VIDEO_PANEL
        ),
    ] = None,
    preset: PresetName = None,
    steps: Steps = None,
    sampler: SamplerName = None,
    guidance: Guidance = None,
    guide: GuidePath = None,
    guidance_interval: GuidanceInterval = None,
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
    device: Device = "auto",
    dtype: Dtype = "auto",
    compiled: Compile = False,
    batch_size: BatchSize = 4,
    exact: Exact = False,
    config: ConfigFile = None,
    settings: Settings = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Sample videos from a checkpoint.

    The paths of finished files go to standard output, everything else to standard error. The same command makes the
    same bytes again on the same machine in the same dtype. With every file comes a command that makes it alone, the
    same up to rounding; it leaves an existing file as it is, so give it another --out, or -y.

    \b
    mpvideo sample --class 207 --frames 32 --out dog.mp4
    mpvideo sample --like dog.mp4 --seed 5 --out dog-5.mp4
    mpvideo sample --class "red cat hops" --num 4 --out "cat-{seed}.gif" --grid cats.mp4
    """
    began = time.monotonic()
    with usage_errors("num", "batch_size"):
        check_int("num", num, 1, MAX_VIDEOS)
        check_int("batch_size", batch_size, 1, 65536)
    if as_json and out == STANDARD_OUTPUT:
        raise UsageError("--json cannot be given together with --out -: standard output has the video")
    seeds = seed_choices(seed, num)
    overrides = parse_settings(settings)
    original = None if like is None else Original(like)
    if original is not None:
        ckpt, guide = original.checkpoint(ckpt), original.guide(guide)
    source = bundled_checkpoint() if ckpt is None else located(ckpt)
    if original is not None:
        overrides = original.overrides(source, config, overrides)
    checkpoint = open_checkpoint(source, config_file=config, overrides=overrides)
    about = checkpoint.config
    encoding = encoding_of(
        fps=about.video.fps if fps is None else fps, format_name=format_name, scale=scale, filter_name=filter_name,
        crf=crf, lossless=lossless, loop=loop,
    )  # fmt: skip
    recipe = Recipe(
        checkpoint=checkpoint,
        sampling=sampling_settings(
            about, sampler=sampler, steps=steps, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho,
            s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise, guidance=guidance,
            guidance_interval=guidance_interval, preset=preset, schedule=schedule, sigmas=sigmas, eta=eta,
            apg_eta=apg_eta, apg_norm=apg_norm, guide=guide is not None,
            restarts=restarts, restart_steps=restart_steps, restart_min=restart_min, restart_max=restart_max,
        ),
        clamp=clamp_setting(about, preset=preset, clamp=clamp),
        frames=_frames(frames, about.model.frames),
        encoding=encoding if original is None else original.encoding(out, encoding),
        exact=exact,
    )  # fmt: skip
    second = None if guide is None else open_guide(guide, about)
    if second is not None and recipe.sampling.guidance == 1:
        tell("warning: --guide has no effect at --guidance 1", quiet=quiet)
    classes = class_choices(class_text, checkpoint)
    overviews = overviews_of(grid, sheet, out=out, encoding=recipe.encoding, overwrite=overwrite)
    names = Names(out, num=len(seeds), num_classes=len(classes), has_classes=about.model.num_classes is not None)

    # The options are known to be right before torch, which takes a second, is imported.
    from mpvideo.device import choose_placement
    from mpvideo.generation import count_evaluations, generate, load_model
    from mpvideo.unlabelled import unlabelled_warning

    jobs = _jobs(classes, seeds, about.model.num_classes)
    paths = names.paths(jobs)
    warnings = _check_files(paths, recipe, overwrite=overwrite)
    for warning in dict.fromkeys([*warnings, *overviews.check(paths, side=about.pixel_size)]):
        tell(f"warning: {warning}", quiet=quiet)

    placement = choose_placement(device, dtype, compiled=compiled)
    for warning in placement.warnings:
        tell(f"warning: {warning}", quiet=quiet)
    model = load_model(checkpoint, placement, guide=second)
    if original is not None:
        original.check_weights(checkpoint.name, model)
    tell(f"{printable(checkpoint.name)} on {placement}", quiet=quiet)
    if recipe.sampling.guidance != 1 and second is None and (words := unlabelled_warning(model)) is not None:
        tell(f"warning: {words}", quiet=quiet)

    recorder = recipe.recorder(model, ckpt, guide)
    total = count_evaluations(recipe.sampling) * len(jobs)
    with (
        overviews.writing(as_json=as_json) as shown,
        progress("sampling", total, "evaluations", quiet=quiet) as ticker,
    ):
        videos = generate(
            model,
            jobs,
            recipe.sampling,
            clamp=recipe.clamp,
            batch_size=1 if exact else batch_size,
            on_evaluation=ticker.advance,
            on_smaller_batch=smaller_batch_warning(ticker),
        )
        for path, video in zip(paths, videos, strict=True):
            record = recipe.record(recorder, video)
            size = _write(path, video, recipe, None if no_metadata else record.to_dict(), overwrite=overwrite)
            shown.add(video.frames[: recipe.frames], record)
            with ticker.paused():
                line = {**record.to_dict(), "command": command_again(context, recorder, record, path)}
                _report_file(path, size, recipe, line, as_json=as_json, quiet=quiet)
    tell(f"done in {time.monotonic() - began:.1f} s", quiet=quiet)


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


def _jobs(
    classes: Sequence["int | Blend | None"], seeds: Sequence["int | Blend"], num_classes: int | None
) -> list["Job"]:
    """One job for each class and seed; where no class was asked for, the seed has chosen it, for the file's name."""
    from mpvideo.generation import Job, drawn_class

    chosen = num_classes is not None and classes == [None]
    return [
        Job(seed=seed, class_index=drawn_class(seed, num_classes or 0) if chosen else class_index)
        for class_index in classes
        for seed in seeds
    ]


def _check_files(paths: Sequence[Path], recipe: Recipe, *, overwrite: bool) -> tuple[str, ...]:
    """Makes sure that all files can be written; returns warnings about what they will not show."""
    from mpvideo.video import check_destination

    about = recipe.checkpoint.config
    for path in paths:
        check_destination(path, overwrite=overwrite, format_name=recipe.encoding.format)
        enlargement(path, width=about.pixel_size, height=about.pixel_size, encoding=recipe.encoding)
    return warnings_about(paths[0], channels=about.video.pixel_channels, encoding=recipe.encoding)


def _write(
    path: Path, video: "Video", recipe: Recipe, record: Mapping[str, Any] | None, *, overwrite: bool
) -> tuple[int, int]:
    """Writes one file and returns width and height of its pictures."""
    from mpvideo.video import VideoWriter

    frames = video.frames[: recipe.frames]
    _, height, width, channels = frames.shape
    writer = VideoWriter(
        path,
        width=width,
        height=height,
        channels=channels,
        encoding=recipe.encoding,
        record=record,
        overwrite=overwrite,
    )
    with writer:
        writer.write(frames)
    return writer.size


def _report_file(
    path: Path, size: tuple[int, int], recipe: Recipe, record: Mapping[str, Any], *, as_json: bool, quiet: bool
) -> None:
    """Says that a file is there: its path or record to programs, and a summary to people."""
    width, height = size
    rate = Fraction(recipe.encoding.rate)
    if path == STANDARD_OUTPUT:
        pass  # that has the video
    elif as_json:
        line = {"path": str(path), "width": width, "height": height, "fps": float(rate), **record}
        write_result(json.dumps(line) + "\n")
    else:
        # A terminal gets no control characters, a program the name as it is.
        write_result(f"{printable(path, 10_000) if sys.stdout.isatty() else path}\n")
    name = record["class_name"]
    tell(
        f"{printable(path)}: {f'{printable(name)}, ' if name else ''}{counted(recipe.frames, 'frame')} of "
        f"{width}x{height}, {float(recipe.frames / rate):.1f} s\n"
        f"again (with -y or another --out): {record['command']}",
        quiet=quiet,
    )

"""`mpvideo eval`: measure how good a checkpoint's videos are."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpvideo import __version__
from mpvideo.checkpoint import bundled_checkpoint, open_checkpoint
from mpvideo.checks import check_int
from mpvideo.cli.hub import hub_name, located
from mpvideo.cli.idle import idle_options
from mpvideo.cli.json_files import check_json_file, write_json_file
from mpvideo.cli.options import (
    CONFIG_PANEL,
    OUTPUT_PANEL,
    AsJson,
    ConfigFile,
    Quiet,
    Settings,
    check_config_file,
    given_options,
    parse_settings,
    usage_errors,
)
from mpvideo.cli.progress import progress
from mpvideo.cli.sampling_options import (
    CHURN_PANEL,
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
    Guidance,
    GuidanceHold,
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
)
from mpvideo.cli.sampling_settings import astray, clamp_setting, open_guide, sampling_settings
from mpvideo.cli.scores import score_lines
from mpvideo.cli.streams import tell, write_result
from mpvideo.config import MAX_SEED
from mpvideo.errors import UsageError, naming
from mpvideo.job import BATCH_SIZE
from mpvideo.presets import find_preset
from mpvideo.text import printable

if TYPE_CHECKING:
    from mpvideo.cli.measured import Measured
    from mpvideo.evaluation.distance import DistanceMeasure

MAX_VIDEOS = 100_000
"""The most that one command makes."""

MIN_VIDEOS = 4
"""The fewest that have third neighbours, which precision and recall go by."""

_OF_SAMPLING = (SAMPLING_PANEL, CHURN_PANEL, CONFIG_PANEL)

FEATURES_PANEL = "Fréchet distance in the features of a network of yours"


def evaluate(
    context: typer.Context,
    ckpt: CheckpointPath = None,
    videos: Annotated[
        Path | None,
        typer.Option(
            "--videos",
            metavar="FOLDER",
            help="Measure the files of `mpvideo sample` in this folder instead of sampling: "
            ".mp4, .webm, .mkv, .gif and .apng.",
            rich_help_panel=VIDEO_PANEL,
        ),
    ] = None,
    num: Annotated[
        int,
        typer.Option(
            "--num",
            metavar="N",
            help=f"How many videos, at least {MIN_VIDEOS}, of consecutive seeds, their classes in random order, none "
            "twice before all were there.",
            rich_help_panel=VIDEO_PANEL,
        ),
    ] = 500,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Decides all that is random.", rich_help_panel=VIDEO_PANEL)
    ] = 0,
    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            metavar="FILE",
            help="A TorchScript network, such as i3d_torchscript.pt, called with videos (B, 3, T, S, S) in [-1, 1]. "
            "Loading it runs its code: take it only from people you trust.",
            rich_help_panel=FEATURES_PANEL,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="The real videos: any that `mpvideo train` takes. Without it, renderings of the menagerie, if that is "
            "what is measured.",
            rich_help_panel=FEATURES_PANEL,
        ),
    ] = None,
    feature_size: Annotated[
        int,
        typer.Option(
            "--feature-size", metavar="S", help="Frames are resized to S x S for it.", rich_help_panel=FEATURES_PANEL
        ),
    ] = 224,
    preset: PresetName = None,
    steps: Steps = None,
    sampler: SamplerName = None,
    guidance: Guidance = None,
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
    device: Device = "auto",
    dtype: Dtype = "auto",
    compiled: Compile = False,
    batch_size: BatchSize = BATCH_SIZE,
    config: ConfigFile = None,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Keep the report as JSON.", rich_help_panel=OUTPUT_PANEL),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace an existing report.", rich_help_panel=OUTPUT_PANEL)
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure how good a checkpoint's videos are.

    Videos of the menagerie are read back by a judge that knows renderings only: which animal, coat and motion. They are
    compared with fresh renderings, too, beside what real videos get in their place; and with the first renderings that
    the checkpoint's run was shown or, where that is not recorded, a run with seed 0 and without --init. Videos of
    anything are compared with real ones by the Fréchet distance in the features of a network that you name. The report
    says all that its numbers depend on; compare only numbers of the same protocol.

    \b
    mpvideo eval --num 200 --out report.json
    mpvideo eval --ckpt RUN --data clips --features i3d_torchscript.pt
    """
    began = time.monotonic()
    with usage_errors("num", "seed", "batch_size", "feature_size"):
        check_int("num", num, MIN_VIDEOS, MAX_VIDEOS)
        check_int("seed", seed, 0, MAX_SEED - num + 1)
        check_int("batch_size", batch_size, 1, 65536)
        check_int("feature_size", feature_size, 8, 4096)
    _check_inputs(ckpt, videos, features, data)
    for warning in _ignored(context, sampled=videos is None, features=features is not None):
        tell(f"warning: {warning}", quiet=quiet)
    if out is not None:
        check_json_file(out, "a report of `mpvideo eval`", ("num", "menagerie", "features"), overwrite=overwrite)
    checkpoint = None
    if videos is None:
        overrides = parse_settings(settings)
        check_config_file(config)
        with naming("--ckpt", ckpt):
            path = bundled_checkpoint() if ckpt is None else located(ckpt)
            checkpoint = open_checkpoint(path, config_file=config, overrides=overrides)
        second = None if guide is None else open_guide(guide, checkpoint.config)
        sampling = sampling_settings(
            checkpoint.config, guide=second is not None,
            sampler=sampler, steps=steps, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho,
            s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise, guidance=guidance,
            guidance_interval=guidance_interval, preset=preset, schedule=schedule, sigmas=sigmas, eta=eta,
            guidance_hold=guidance_hold, apg_eta=apg_eta, apg_norm=apg_norm,
            restarts=restarts, restart_steps=restart_steps, restart_min=restart_min, restart_max=restart_max,
        )  # fmt: skip

    # The options are known to be right before torch, which takes a second, is imported.
    from mpvideo.cli.measured import Files, Measured, Sampled
    from mpvideo.device import choose_placement

    placement = choose_placement(device, dtype, compiled=compiled and checkpoint is not None)
    for warning in placement.warnings:
        tell(f"warning: {warning}", quiet=quiet)
    measured: Measured
    if checkpoint is None:
        assert videos is not None
        measured = Files(videos, num)
    else:
        clamp = clamp_setting(checkpoint.config, preset=preset, clamp=clamp)
        sampled = Sampled(
            checkpoint, placement, sampling,
            name=hub_name(ckpt), guide=second, guide_name=hub_name(guide),
            clamp=clamp, num=num, seed=seed, batch_size=batch_size,
        )  # fmt: skip
        warnings = [*idle_options(given_options(context), [sampling]), *astray([sampling])]
        if preset is not None:
            warnings += find_preset(preset).warnings(
                sampling, sampled.name, sampled.model.sha256, has_guide=second is not None
            )
        for warning in warnings:
            tell(f"warning: {warning}", quiet=quiet)
        measured = sampled
    _check_measurable(measured, features, data)
    tell(f"{printable(measured.name)} on {placement}", quiet=quiet)
    distance = None
    if features is not None:
        from mpvideo.evaluation.distance import DistanceMeasure
        from mpvideo.evaluation.network import FeatureNetwork

        distance = DistanceMeasure(FeatureNetwork(features, size=feature_size, device=placement.device))
    report = _measure(measured, distance, data, quiet=quiet)
    if out is not None:
        write_json_file(out, report, overwrite=overwrite)
    write_result(json.dumps(report, allow_nan=False) + "\n" if as_json else "\n".join(score_lines(report)) + "\n")
    tell(f"done in {time.monotonic() - began:.1f} s", quiet=quiet)


def _check_inputs(ckpt: Path | None, videos: Path | None, features: Path | None, data: Path | None) -> None:
    """What can be known of the files before torch is there."""
    if videos is not None and ckpt is not None:
        raise UsageError("--videos and --ckpt cannot be given together: the videos are there, or they are sampled")
    if data is not None and features is None:
        raise UsageError(
            "--data must come with --features, the network in whose features videos are compared",
            hint="For example --features i3d_torchscript.pt.",
        )
    for option, folder in (("--videos", videos), ("--data", data)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{option} must be a folder of videos, got {printable(folder)}")
    if features is not None and not features.is_file():
        if not features.exists():
            raise UsageError(f"--features {printable(features)} does not exist", hint="Check the path.")
        raise UsageError(f"--features must be a TorchScript file, got {printable(features)}")


def _ignored(context: typer.Context, *, sampled: bool, features: bool) -> Iterator[str]:
    """Warnings about options that were given and have no effect."""
    given = given_options(context)
    for parameter in context.command.params:
        name, panel = str(parameter.name), getattr(parameter, "rich_help_panel", None)
        if name not in given:
            continue
        if not sampled and (panel in _OF_SAMPLING or name in ("seed", "batch_size", "dtype", "compiled")):
            yield f"{parameter.opts[0]} has no effect on videos that are there already"
        if not features and name == "feature_size":
            yield f"{parameter.opts[0]} has no effect without --features"


def _check_measurable(measured: "Measured", features: Path | None, data: Path | None) -> None:
    """Makes sure that there is something to measure the videos by."""
    if len(measured.classes) < MIN_VIDEOS:
        raise UsageError(f"--videos must have at least {MIN_VIDEOS} files, got {len(measured.classes)}")
    if measured.misfit is not None and (features is None or data is None):
        raise UsageError(
            f"--features and --data must be given for videos that the judge of the menagerie cannot read: "
            f"{measured.misfit}",
            hint="What can be measured then is the distance to real videos in the features of a network.",
        )


def _measure(
    measured: "Measured", distance: "DistanceMeasure | None", data: Path | None, *, quiet: bool
) -> dict[str, Any]:
    """Measures all videos and returns the report, as JSON takes it."""
    import torch

    from mpvideo.evaluation.folder import CUTTING
    from mpvideo.evaluation.judge import load_judge
    from mpvideo.evaluation.nearest import TrainingRenderings
    from mpvideo.evaluation.world import WorldMeasure

    if distance is not None:  # what is wrong with the real videos is told before hours of sampling
        _add_real(distance, measured, data, quiet=quiet)
    world = None
    if measured.misfit is None:
        world = WorldMeasure(load_judge(), TrainingRenderings(measured.shown), measured.repaint)
    with progress("measuring", measured.work, measured.unit, quiet=quiet) as ticker:
        for frames, class_index in zip(measured.frames(ticker), measured.classes, strict=True):
            if world is not None and class_index is not None:
                world.add(frames, class_index)
            if distance is not None:
                distance.add(frames)
    report = {"mpvideo": __version__, "torch": torch.__version__, **measured.protocol}
    report["menagerie"] = None if world is None else world.report().to_dict()
    report["features"] = None
    if distance is not None:
        about = "menagerie" if data is None else {"name": data.resolve().name, "cut": CUTTING}
        report["features"] = {**distance.report().to_dict(), "real": about}
    return report


def _add_real(distance: "DistanceMeasure", measured: "Measured", data: Path | None, *, quiet: bool) -> None:
    """Measures the real videos: those of a folder, or renderings of the menagerie's classes."""
    from mpvideo.evaluation.folder import real_clips
    from mpvideo.evaluation.world import fresh_renderings
    from mpvideo.training.layout import find_videos
    from mpvideo.video.decode import Frames, UnreadableVideo

    if data is None:
        known = [index for index in measured.classes if index is not None]
        number = len(known)
        clips: Iterator[Frames | UnreadableVideo | None] = iter(fresh_renderings(known))
    else:
        videos = find_videos(data).videos
        frames, size, _, channels = measured.shape
        number = len(videos)
        clips = real_clips(videos.values(), frames=frames, size=size, channels=1 if channels == 1 else 3)
    with progress("real videos", number, "videos", quiet=quiet) as ticker:
        for clip in clips:
            if isinstance(clip, UnreadableVideo):
                with ticker.paused():
                    tell(f"skipped: {clip}", quiet=quiet)
            distance.add_real(clip)
            ticker.advance(1)
    distance.check_real()

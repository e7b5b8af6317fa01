"""`mpvideo tune`: noise levels made for one checkpoint and solver."""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mpvideo import __version__
from mpvideo.checkpoint import Checkpoint, bundled_checkpoint, open_checkpoint
from mpvideo.checks import check_int
from mpvideo.cli.hub import hub_name, is_on_hub, located
from mpvideo.cli.json_files import check_json_file, write_json_file
from mpvideo.cli.options import AsJson, ConfigFile, Quiet, Settings, check_config_file, parse_settings, usage_errors
from mpvideo.cli.progress import progress
from mpvideo.cli.sampling_options import (
    COMPUTE_PANEL,
    SAMPLING_PANEL,
    Device,
    Dtype,
    Guidance,
    SamplerName,
    SigmaMax,
    SigmaMin,
)
from mpvideo.cli.sampling_settings import sampling_settings
from mpvideo.cli.streams import tell, write_result
from mpvideo.config import FORMAT, MAX_SEED, SamplingConfig
from mpvideo.errors import UsageError
from mpvideo.presets import PRESETS
from mpvideo.sampling_config import GUIDANCE, SPACING, STOCHASTIC
from mpvideo.text import printable

MOST_EVALUATIONS = 63
"""The most that a schedule is sought for: with more, any schedule will do."""

SEARCH_PANEL = "How to search"
FILE_PANEL = "The file"


def tune(
    ckpt: Annotated[
        Path | None,
        typer.Argument(
            metavar="CKPT",
            help="A checkpoint, as for `mpvideo sample --ckpt`. Without it, the weights that come with mpvideo.",
            show_default=False,
        ),
    ] = None,
    nfe: Annotated[
        int,
        typer.Option(
            "--nfe", metavar="N", help="Evaluations of the denoiser for one video.", rich_help_panel=SAMPLING_PANEL
        ),
    ] = 8,
    sampler: SamplerName = None,
    guidance: Guidance = None,
    sigma_min: SigmaMin = None,
    sigma_max: SigmaMax = None,
    videos: Annotated[
        int,
        typer.Option(
            "--videos",
            metavar="N",
            help="How many to search with, and as many others to judge the result by.",
            rich_help_panel=SEARCH_PANEL,
        ),
    ] = 16,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Of the first video.", rich_help_panel=SEARCH_PANEL)
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The JSON file to write; by default beside the checkpoint, or here for one that is bundled or on the "
            "hub, and named by what it was made for: mine-deis-8.json, mine-deis-8-guidance-2.json.",
            rich_help_panel=FILE_PANEL,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace an existing preset.", rich_help_panel=FILE_PANEL)
    ] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: Annotated[
        int,
        typer.Option("--batch-size", metavar="N", help="Videos sampled at once.", rich_help_panel=COMPUTE_PANEL),
    ] = 4,
    config: ConfigFile = None,
    settings: Settings = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Find the noise levels with which few evaluations do best.

    Videos are followed in many steps; the levels whose steps miss those paths least are found by dynamic programming,
    tried out, and improved one by one. The file that is written is a preset for `sample` and `eval`, made for this
    checkpoint, solver and strength of guidance: it gives the last two, and each of the three is warned of where it is
    another, as is a --guide. Without --sampler the solver is the one that suits so few steps.

    \b
    mpvideo tune run --nfe 8
    mpvideo sample --ckpt run --preset run/run-deis-8.json --out video.mp4
    """
    began = time.monotonic()
    with usage_errors("nfe", "videos", "seed", "batch_size"):
        check_int("nfe", nfe, 1, MOST_EVALUATIONS)
        check_int("videos", videos, 1, 10_000)
        check_int("seed", seed, 0, MAX_SEED - 2 * videos + 1)
        check_int("batch_size", batch_size, 1, 65536)
    overrides = parse_settings(settings)
    check_config_file(config)
    checkpoint = open_checkpoint(
        bundled_checkpoint() if ckpt is None else located(ckpt), config_file=config, overrides=overrides
    )
    sampling = _settings(checkpoint, nfe, sampler, guidance=guidance, sigma_min=sigma_min, sigma_max=sigma_max)
    path = _destination(ckpt, checkpoint, sampling) if out is None else out
    check_json_file(path, "a preset of `mpvideo tune`", ("sampling", "tuned"), overwrite=overwrite)

    # The options are known to be right before torch, which takes a second, is imported.
    from mpvideo.device import choose_placement
    from mpvideo.model import load_model
    from mpvideo.tuning import evaluations
    from mpvideo.tuning import tune as search

    placement = choose_placement(device, dtype)
    for warning in placement.warnings:
        tell(f"warning: {warning}", quiet=quiet)
    model = load_model(checkpoint, placement)
    tell(f"{printable(checkpoint.name)} on {placement}", quiet=quiet)
    most = evaluations(sampling.steps, sampling.num_evaluations, videos)
    with progress("tuning", most, "evaluations", quiet=quiet) as ticker:
        tuned = search(model, sampling, videos=videos, seed=seed, batch_size=batch_size, on_evaluation=ticker.advance)
    about = {
        "mpvideo": __version__,
        "checkpoint": {"name": hub_name(ckpt) or checkpoint.name, "sha256": model.sha256},
        "evaluations": tuned.sampling.num_evaluations,
        "videos": videos,
        "seed": seed,
        "error": tuned.error,
        "plain_error": tuned.plain_error if math.isfinite(tuned.plain_error) else None,
        "dtype": placement.dtype_name,
    }
    chosen = _chosen(tuned.sampling)
    preset = {"format": FORMAT, "sampling": chosen, "clamp": checkpoint.config.edm.clamp, "tuned": about}
    write_json_file(path, preset, overwrite=overwrite)
    told = {"path": str(path), "sampling": chosen, **about}
    write_result(json.dumps(told) + "\n" if as_json else f"{printable(path)}\n")
    advice = "it gains nothing; more --videos may find better levels"
    if tuned.error < tuned.plain_error:
        # One of a preset's name is found only with its folder.
        named = f"./{path}" if str(path) in PRESETS else str(path)
        advice = f"use it: --preset {printable(named)}"
    tell(
        f"{printable(path)}: difference from exact videos {tuned.error:.3f}, {tuned.plain_error:.3f} with the schedule "
        f"{sampling.schedule}\n{advice}\ndone in {time.monotonic() - began:.1f} s",
        quiet=quiet,
    )


def _settings(checkpoint: Checkpoint, nfe: int, sampler: str | None, **given: Any) -> SamplingConfig:
    """The checkpoint's settings without noise, with a sampler and the steps that so many evaluations allow."""
    if sampler in STOCHASTIC:
        raise UsageError(
            f"--sampler must be one without noise of its own, got {sampler}",
            hint="For example --sampler deis.",
        )
    if sampler in (None, "auto"):
        sampler = SamplingConfig(steps=nfe).solver
    steps = (nfe + 1) // 2 if sampler == "heun" else nfe
    silent = dataclasses.replace(checkpoint.config.sampling, s_churn=0.0, restarts=0, sampler="auto")
    return sampling_settings(
        dataclasses.replace(checkpoint.config, sampling=silent), guide=None, sampler=sampler, steps=steps, **given
    )


def _destination(ckpt: Path | None, checkpoint: Checkpoint, sampling: SamplingConfig) -> Path:
    strength = "" if sampling.guidance == 1 else f"-guidance-{sampling.guidance:g}"
    name = f"{Path(checkpoint.name).stem}-{sampling.sampler}-{sampling.num_evaluations}{strength}.json"
    if ckpt is None or is_on_hub(ckpt):
        return Path(name)
    return checkpoint.path / name if checkpoint.path.is_dir() else checkpoint.path.with_name(name)


def _chosen(sampling: SamplingConfig) -> dict[str, Any]:
    """The settings that the preset gives: those of the sampler, and the guidance that the levels were made for."""
    fields = ["sampler", "sigmas", "s_churn", "restarts", *GUIDANCE]
    if sampling.sigmas is None:  # nothing better was found than the schedule that was there
        fields += SPACING
    return {name: getattr(sampling, name) for name in fields}

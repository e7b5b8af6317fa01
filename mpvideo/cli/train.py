"""`mpvideo train`: make a checkpoint from videos."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mpvideo.checks import check_float, check_int
from mpvideo.cli.costs import autoencoder_steps_left, measure_costs, tell_costs, warn_of_minutes
from mpvideo.cli.options import AsJson, Quiet, usage_errors
from mpvideo.cli.streams import tell, write_result
from mpvideo.cli.training_plan import MENAGERIE, check_data, check_out, check_place, plan_of, recipe_of
from mpvideo.cli.watching import TerminalWatcher
from mpvideo.config import DeviceName
from mpvideo.text import printable
from mpvideo.training.recipe import PRESETS, PresetName, TrainedCodec

if TYPE_CHECKING:
    from mpvideo.training.plan import Plan

DATA_PANEL = "What to train on"
LENGTH_PANEL = "How long, and what is written when"
RECIPE_PANEL = "The recipe (what is left out comes from the preset)"
COMPUTE_PANEL = "Where to compute"

DtypeChoice = Literal["auto", "float32", "bfloat16"]


def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder of videos, whose subfolders are classes if it has any; or the word menagerie: the world "
            "that the bundled weights were trained on.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="RUN",
            help="The run's folder. Given again with the same options, training goes on where it stopped.",
            rich_help_panel=DATA_PANEL,
        ),
    ],
    codec: Annotated[
        TrainedCodec,
        typer.Option(
            "--codec",
            metavar="NAME",
            help="latent: an autoencoder is trained first, and the network makes its latents, 16 x 16 pixels each. "
            "gray or rgb: the network makes the pixels, which takes far longer.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = "latent",
    preset: Annotated[
        PresetName | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="tiny, small or base: the size of network and video. By default tiny, and small for the menagerie; "
            "--dry-run shows what each costs.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="N",
            help="Height and width in pixels; by default the preset's.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", metavar="N", help="Frames of a video; by default the preset's.", rich_help_panel=DATA_PANEL
        ),
    ] = None,
    stride: Annotated[
        int,
        typer.Option("--stride", metavar="N", help="Take every Nth frame of a file.", rich_help_panel=DATA_PANEL),
    ] = 1,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="FOLDER",
            help="Where decoded videos are kept; by default mpvideo's folder in ~/.cache.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init",
            metavar="CKPT",
            help="Begin with the weights of a checkpoint of the same network, and with its autoencoder; "
            "hf:owner/repo[/file][@revision] is one on the Hugging Face hub.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            help="Optimiser steps in all; by default the preset's. The same command with a higher N trains on, even "
            "when all were taken.",
            rich_help_panel=LENGTH_PANEL,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            metavar="X",
            help="End this call after X minutes of training, if not done; the exit code is 0 all the same. There is a "
            'checkpoint when the autoencoder is trained and the network has begun; before, --json says "path": null.',
            rich_help_panel=LENGTH_PANEL,
        ),
    ] = None,
    snapshot_minutes: Annotated[
        float,
        typer.Option("--snapshot-minutes", metavar="X", help="Between snapshots.", rich_help_panel=LENGTH_PANEL),
    ] = 5.0,
    sheet_minutes: Annotated[
        float,
        typer.Option("--sheet-minutes", metavar="X", help="Between contact sheets.", rich_help_panel=LENGTH_PANEL),
    ] = 10.0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what would be trained and what it costs; with --json as one object on standard output.",
            rich_help_panel=LENGTH_PANEL,
        ),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="N", help="Samples of a step.", rich_help_panel=RECIPE_PANEL),
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            "--micro-batch",
            metavar="N",
            help="Samples in the network at once; the gradients of the others are added up.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    p_mean: Annotated[
        float | None,
        typer.Option("--p-mean", metavar="X", help="Mean of ln(sigma).", rich_help_panel=RECIPE_PANEL),
    ] = None,
    p_std: Annotated[
        float | None,
        typer.Option("--p-std", metavar="X", help="Its standard deviation.", rich_help_panel=RECIPE_PANEL),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="X", help="Adam's rate after the warm-up.", rich_help_panel=RECIPE_PANEL),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option("--warmup", metavar="N", help="Steps that the rate rises.", rich_help_panel=RECIPE_PANEL),
    ] = None,
    decay: Annotated[
        int | None,
        typer.Option(
            "--decay",
            metavar="N",
            help="The step after which it falls as 1 / sqrt(step).",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    label_dropout: Annotated[
        float | None,
        typer.Option(
            "--label-dropout",
            metavar="X",
            help="Share of samples trained without their class, for guidance.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    self_condition: Annotated[
        bool | None,
        typer.Option(
            "--self-condition/--no-self-condition",
            help="Whether the network is given its previous estimate.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    clip_frames: Annotated[
        int | None,
        typer.Option(
            "--clip-frames",
            metavar="N",
            help="Train some steps on short clips of N frames, more of them at once.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    clip_share: Annotated[
        float | None,
        typer.Option("--clip-share", metavar="X", help="Share of such steps.", rich_help_panel=RECIPE_PANEL),
    ] = None,
    autoencoder_steps: Annotated[
        int | None,
        typer.Option(
            "--autoencoder-steps",
            metavar="N",
            help="Steps of the autoencoder, of 64 images each; with --init by default 0: it stays as it is.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            help="Decides weights, noise, and the order of a folder's clips or the renderings of the menagerie.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    device: Annotated[
        DeviceName,
        typer.Option(
            "--device",
            metavar="NAME",
            help="cpu, cuda or mps; auto takes the best there is.",
            rich_help_panel=COMPUTE_PANEL,
        ),
    ] = "auto",
    dtype: Annotated[
        DtypeChoice,
        typer.Option(
            "--dtype",
            metavar="NAME",
            help="float32, bfloat16, or auto: measured, and bfloat16 only where it is clearly faster.",
            rich_help_panel=COMPUTE_PANEL,
        ),
    ] = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a checkpoint on your videos, or on the menagerie.

    DATA is a folder with a subfolder for each class, or with videos only; MP4, WebM, GIF and folders of PNG frames are
    read. RUN gets the checkpoint model.safetensors, which `mpvideo sample --ckpt RUN` takes, the log, the loss curve
    and contact sheets. Ctrl-C saves first; the same command goes on. The path of the checkpoint goes to standard
    output.

    \b
    mpvideo train clips --out run --minutes 10
    mpvideo train menagerie --out run --dry-run
    torchrun --nproc-per-node 2 -m mpvideo train clips --out run --batch-size 16
    """
    preset_name: PresetName = preset or ("small" if data == MENAGERIE else "tiny")
    recipe = recipe_of(
        PRESETS[preset_name], codec=codec, init=init, autoencoder_steps=autoencoder_steps,
        batch_size=batch_size, micro_batch=micro_batch, P_mean=p_mean, P_std=p_std,
        peak_rate=rate, warmup_steps=warmup, decay_steps=decay, label_dropout=label_dropout, clip_frames=clip_frames,
        clip_share=clip_share, seed=seed,
    )  # fmt: skip
    with usage_errors("steps", "stride", "size", "frames", "minutes", "snapshot_minutes", "sheet_minutes"):
        _check_numbers(steps, stride, size, frames, minutes, snapshot_minutes, sheet_minutes)
    check_data(data, codec=codec, size=size, frames=frames, stride=stride)
    check_out(out, data)

    for option, given, reason in (
        ("--cache", cache is not None and data == MENAGERIE, "for the menagerie, which is drawn as it is needed"),
        ("--autoencoder-steps", autoencoder_steps is not None and codec != "latent", "without --codec latent"),
        ("--clip-share", clip_share is not None and recipe.clip_frames is None, "without --clip-frames"),
    ):
        if given:
            tell(f"warning: {option} has no effect {reason}", quiet=quiet)

    # The options are known to be right before torch, which takes a second, is imported.
    from mpvideo import menagerie
    from mpvideo.device import choose_placement, memory_errors
    from mpvideo.nn.memory import FOR_STEPS, keep_freed_memory
    from mpvideo.processes import join_processes
    from mpvideo.training.cost import faster_dtype
    from mpvideo.training.plan import Rhythm
    from mpvideo.training.record import recorded_dtype
    from mpvideo.training.run import Run

    keep_freed_memory(FOR_STEPS)
    with (
        join_processes() as processes,
        memory_errors("the training", "Give a smaller --micro-batch, --size, --frames or --preset."),
    ):
        # auto is measured below, on the network itself, once for all calls of a run.
        recorded = recorded_dtype(out) if dtype == "auto" else None
        recipe = dataclasses.replace(recipe, dtype=recorded or "float32" if dtype == "auto" else dtype)
        if device in ("auto", "cuda"):
            processes.take_gpu()
        placement = choose_placement(device, recipe.dtype)
        place = processes.device(placement.device)
        told = not quiet and processes.first
        if processes.first and not dry_run:
            check_place(out)

        def say(line: str) -> None:
            tell(line, quiet=not told)

        for warning in placement.warnings:
            say(f"warning: {warning}")
        if data == MENAGERIE:  # whatever the preset's are: its videos are what they are
            size, frames = menagerie.SIZE, menagerie.FRAMES
        plan = plan_of(
            data, PRESETS[preset_name], recipe, processes,
            codec=codec, size=size, frames=frames, stride=stride,
            cache=cache, init=init, steps=steps, self_condition=bool(self_condition),
            out=out, dry_run=dry_run, say=say,
        )  # fmt: skip
        if dtype == "auto":
            if recorded is None and processes.first:
                say("measuring a few steps, to choose between float32 and bfloat16")  # on pixels that takes minutes
                recorded = faster_dtype(plan.model, plan.recipe, place)
            dtype = "bfloat16" if processes.agree(processes.first and recorded == "bfloat16") else "float32"
        plan = dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, dtype=dtype))
        if dry_run or (told and not (out / "snapshot.pt").exists()):
            costs = measure_costs(
                plan, preset_name, place, processes=processes.count, others=dry_run, size=size, frames=frames
            )
            tell_costs(costs, say)
            if minutes is not None and told and costs["autoencoder"] is not None:
                each = costs["autoencoder"]["seconds_per_step"]
                warn_of_minutes(minutes, each, autoencoder_steps_left(out, plan.recipe), plan.recipe, say)
        if dry_run:
            if as_json and processes.first:
                write_result(json.dumps(costs) + "\n")
            return
        rhythm = Rhythm(
            snapshot=60 * snapshot_minutes, sheet=60 * sheet_minutes, limit=None if minutes is None else 60 * minutes
        )
        with TerminalWatcher(quiet=not told) as watcher:
            run = Run(plan, out, watcher=watcher, rhythm=rhythm, processes=processes, device=place)
            done = run.train()
        if processes.first:
            _report(out, plan, step=run.step, done=done, as_json=as_json, quiet=quiet)
    if watcher.wish:
        watcher.wish.end()


def _check_numbers(
    steps: int | None,
    stride: int,
    size: int | None,
    frames: int | None,
    minutes: float | None,
    snapshot_minutes: float,
    sheet_minutes: float,
) -> None:
    for name, number in (("steps", steps), ("stride", stride), ("size", size), ("frames", frames)):
        if number is not None:
            check_int(name, number, 1)
    if minutes is not None:
        check_float("minutes", minutes, 0.0, open_low=True)
    check_float("snapshot_minutes", snapshot_minutes, 0.0)
    check_float("sheet_minutes", sheet_minutes, 0.0)


def _report(out: Path, plan: "Plan", *, step: int, done: bool, as_json: bool, quiet: bool) -> None:
    path = out / "model.safetensors"
    made = path.exists()  # not before the network's first step
    if as_json:
        write_result(json.dumps({"path": str(path) if made else None, "done": done}) + "\n")
    elif made:
        write_result(f"{path}\n")
    if not made:
        left = autoencoder_steps_left(out, plan.recipe)
        reason = f": {left:,} of the autoencoder's {plan.recipe.autoencoder_steps:,} steps are left" if left else ""
        tell(f"{printable(out)} has no checkpoint yet{reason}; the same command goes on", quiet=quiet)
    else:
        so_far = f"{step:,} of {plan.steps:,} steps are done; the same command goes on"
        tell("done" if done else so_far, quiet=quiet)

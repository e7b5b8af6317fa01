"""What a training costs in time, as `mpvideo train` tells it before it begins."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from mpvideo.training.recipe import PRESETS, PresetName, Recipe

if TYPE_CHECKING:
    import torch

    from mpvideo.training import Say
    from mpvideo.training.run import Plan


def tell_costs(
    plan: "Plan", preset: PresetName, place: "torch.device", say: "Say", *, processes: int, others: bool
) -> float:
    """Says what the training costs, measured here; for the other presets too, on request.

    Returns:
        Seconds that a step of the autoencoder takes; 0 if none is to be trained.
    """
    from mpvideo.training.autoencoder import IMAGES_PER_STEP
    from mpvideo.training.cost import (
        autoencoder_seconds_per_step,
        num_autoencoder_parameters,
        num_parameters,
        seconds_per_step,
        step_flops,
    )

    model, recipe = plan.model, plan.recipe
    seconds = seconds_per_step(model, recipe, place) / processes
    flops, each = step_flops(model, recipe), 0.0
    say(f"{plan.description}; {model.frames} frames, {plan.video.codec}, on {place.type} in {recipe.dtype}")
    if (shape := plan.video.autoencoder) is not None and recipe.autoencoder_steps:
        each = autoencoder_seconds_per_step(shape, plan.video.pixel_size(model.image_size), recipe.dtype, place)
        say(
            f"autoencoder: {num_autoencoder_parameters(shape) / 1e6:.1f} M parameters, about {_duration(each)} a step "
            f"of {IMAGES_PER_STEP} images, {recipe.autoencoder_steps:,} steps in about "
            f"{_duration(each * recipe.autoencoder_steps)}"
        )
    say(_cost_line(preset, num_parameters(model), flops, seconds, recipe.batch_size, plan.steps))
    for name, other in PRESETS.items() if others else ():
        if name == preset:
            continue
        sized = other.model(
            plan.video,
            size=plan.video.pixel_size(model.image_size),
            frames=model.frames,
            num_classes=model.num_classes,
            self_condition=model.self_condition,
        )
        other_recipe = Recipe(**other.recipe)
        operations = step_flops(sized, other_recipe)
        # Not measured: a step of base can take a minute on a CPU.
        guess = seconds * operations / flops
        say(_cost_line(name, num_parameters(sized), operations, guess, other_recipe.batch_size, other.steps))
    return each


def warn_of_minutes(minutes: float, each: float, left: int, recipe: Recipe, say: "Say") -> None:
    """Says so if a call ends before there can be a checkpoint.

    Args:
        minutes: after which it ends.
        each: seconds that a step of the autoencoder takes.
        left: how many of these are to be taken.
    """
    if 60 * minutes > each * left:
        return
    enough = math.ceil(1.5 * each * left / 60 + 1)
    say(
        f"warning: --minutes {minutes:g} ends this call before there is a checkpoint: the autoencoder comes first, and "
        f"its {left:,} steps take about {_duration(each * left)}; give --minutes {enough} or more, a smaller --size, "
        f"or fewer --autoencoder-steps than {recipe.autoencoder_steps:,}"
    )


def autoencoder_steps_left(out: Path, recipe: Recipe) -> int:
    """How many steps of a run's autoencoder are to be taken before those of the network."""
    from mpvideo.training.snapshot import load_snapshot

    if (out / "autoencoder.safetensors").exists() or (out / "snapshot.pt").exists():
        return 0
    snapshot = out / "autoencoder.pt"
    done = load_snapshot(snapshot).get("step") if snapshot.exists() else 0
    return recipe.autoencoder_steps - (done if isinstance(done, int) else 0)


def _cost_line(name: str, parameters: int, flops: int, seconds: float, batch: int, steps: int) -> str:
    return (
        f"{name}: {parameters / 1e6:.1f} M parameters, {flops / 1e9:,.0f} GFLOP and about {_duration(seconds)} a step "
        f"of {batch} samples, {steps:,} steps in about {_duration(seconds * steps)}"
    )


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 2 else f"{seconds:.2f} s"

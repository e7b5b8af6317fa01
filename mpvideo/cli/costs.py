"""What a training costs in time, as `mpvideo train` tells it before it begins.

The object that `measure_costs` returns, as `mpvideo train --dry-run --json` prints it:

    data, codec, device, dtype
                    what would be trained on what, and where
    autoencoder     parameters, seconds_per_step, batch_size (in images) and steps; null if none is to be trained
    networks        a list of each preset's: preset, frames and size of the videos, parameters, flops_per_step,
                    seconds_per_step, batch_size and steps; first that of the training, whose seconds are measured
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpvideo.config import ModelConfig, VideoConfig
from mpvideo.training.recipe import PRESETS, PresetName, Recipe

if TYPE_CHECKING:
    import torch

    from mpvideo.training import Say
    from mpvideo.training.plan import Plan


def measure_costs(
    plan: "Plan",
    preset: PresetName,
    place: "torch.device",
    *,
    processes: int,
    others: bool,
    size: int | None,
    frames: int | None,
) -> dict[str, Any]:
    """Measures what the training costs here, and estimates from it what the other presets would cost, on request.

    Args:
        plan: the training.
        preset: its own.
        place: the device.
        processes: how many share the work.
        others: whether the other presets are asked for, too.
        size, frames: of all videos; None for those of each preset.

    Returns:
        The object described above.
    """
    from mpvideo.training.autoencoder import IMAGES_PER_STEP
    from mpvideo.training.cost import (
        autoencoder_seconds_per_step,
        num_autoencoder_parameters,
        seconds_per_step,
        step_flops,
    )

    model, recipe, video = plan.model, plan.recipe, plan.video
    seconds = seconds_per_step(model, recipe, place) / processes
    autoencoder = None
    if (shape := video.autoencoder) is not None and recipe.autoencoder_steps:
        each = autoencoder_seconds_per_step(shape, video.pixel_size(model.image_size), recipe.dtype, place)
        autoencoder = {
            "parameters": num_autoencoder_parameters(shape),
            "seconds_per_step": each,
            "batch_size": IMAGES_PER_STEP,
            "steps": recipe.autoencoder_steps,
        }
    networks = [_network_costs(preset, video, model, recipe, seconds, plan.steps)]
    for name, other in PRESETS.items() if others else ():
        if name == preset:
            continue
        sized = other.model(
            video,
            size=size or other.size,
            frames=frames or other.frames,
            num_classes=model.num_classes,
            self_condition=model.self_condition,
        )
        other_recipe = Recipe(**other.recipe)
        # Not measured: a step of base can take a minute on a CPU.
        guess = seconds * step_flops(sized, other_recipe) / step_flops(model, recipe)
        networks.append(_network_costs(name, video, sized, other_recipe, guess, other.steps))
    return {
        "data": plan.description,
        "codec": video.codec,
        "device": place.type,
        "dtype": recipe.dtype,
        "autoencoder": autoencoder,
        "networks": networks,
    }


def _network_costs(
    preset: PresetName, video: VideoConfig, model: ModelConfig, recipe: Recipe, seconds: float, steps: int
) -> dict[str, Any]:
    from mpvideo.training.cost import num_parameters, step_flops

    return {
        "preset": preset,
        "frames": model.frames,
        "size": video.pixel_size(model.image_size),
        "parameters": num_parameters(model),
        "flops_per_step": step_flops(model, recipe),
        "seconds_per_step": seconds,
        "batch_size": recipe.batch_size,
        "steps": steps,
    }


def tell_costs(costs: Mapping[str, Any], say: "Say") -> None:
    """Says what `measure_costs` returned."""
    say(f"{costs['data']}; {costs['codec']}, on {costs['device']} in {costs['dtype']}")
    if (part := costs["autoencoder"]) is not None:
        say(
            f"autoencoder: {part['parameters'] / 1e6:.1f} M parameters, about {_duration(part['seconds_per_step'])} a "
            f"step of {part['batch_size']} images, {part['steps']:,} steps in about "
            f"{_duration(part['seconds_per_step'] * part['steps'])}"
        )
    for index, part in enumerate(costs["networks"]):
        chosen = "" if index == 0 else "with --preset "
        say(
            f"{chosen}{part['preset']}: {part['frames']} frames of {part['size']}x{part['size']}, "
            f"{part['parameters'] / 1e6:.1f} M parameters, {part['flops_per_step'] / 1e9:,.0f} GFLOP and about "
            f"{_duration(part['seconds_per_step'])} a step of {part['batch_size']} samples, {part['steps']:,} steps in "
            f"about {_duration(part['seconds_per_step'] * part['steps'])}"
        )


def warn_of_minutes(minutes: float, each: float, left: int, recipe: Recipe, say: "Say") -> None:
    """Says so if a call ends before there can be a checkpoint, as far as can be told.

    Args:
        minutes: after which it ends.
        each: seconds that a step of the autoencoder takes.
        left: how many of these are to be taken.
    """
    if 60 * minutes > each * left:
        return
    enough = math.ceil(1.5 * each * left / 60 + 1)
    say(
        f"warning: --minutes {minutes:g} may end this call before there is a checkpoint: the autoencoder comes first, "
        f"and its {left:,} steps take about {_duration(each * left)}; give --minutes {enough} or more, a smaller "
        f"--size, or fewer --autoencoder-steps than {recipe.autoencoder_steps:,}"
    )


def autoencoder_steps_left(out: Path, recipe: Recipe) -> int:
    """How many steps of a run's autoencoder are to be taken before those of the network."""
    from mpvideo.training.snapshot import load_snapshot

    if (out / "autoencoder.safetensors").exists() or (out / "snapshot.pt").exists():
        return 0
    snapshot = out / "autoencoder.pt"
    done = load_snapshot(snapshot).get("step") if snapshot.exists() else 0
    return recipe.autoencoder_steps - (done if isinstance(done, int) else 0)


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 2 else f"{seconds:.2f} s"

"""Whether a network knows what "no class" is, which classifier-free guidance asks it."""

from collections.abc import Mapping
from typing import Any

import torch

from mpvideo.device import memory_errors
from mpvideo.diffusion import SeededNoise, class_rows
from mpvideo.errors import OutOfMemoryError
from mpvideo.model import Model

_SAMPLES = 8


def recorded_label_dropout(training: Mapping[str, Any]) -> float | None:
    """The share of samples that a network was trained on without their label, if its record says so."""
    recipe = training.get("recipe")
    share = recipe.get("label_dropout") if isinstance(recipe, Mapping) else None
    return None if isinstance(share, bool) or not isinstance(share, int | float) else float(share)


@torch.inference_mode()
def null_label_error(model: Model) -> float:
    """How far the estimates without a class lie from those of the class, by those of other classes, squared.

    At the highest noise level a sample tells nothing of its class. The best estimate there without a class is the mean
    of those with one, half as far from each, squared, as they are from one another: a network that was trained without
    labels gives about 0.5. One that does worse than a wrong class does, above 1, has not learned it.

    A small number does not show that the zero label was trained. Where the embeddings of the classes scatter around 0,
    the zero label lies in their middle and gives about their mean by itself: two small networks trained alike, with and
    without label dropout, both gave 0.50. They differed at low noise, where good networks trained with it differ as
    much from one another. So this finds only labels that are plainly wrong; what is certain is the training's record.

    It costs three passes of a batch of eight, or of eight single samples where memory does not suffice, and draws
    nothing from the seeds of any video.

    Args:
        model: of a network with two classes or more.

    Raises:
        OutOfMemoryError: there is not enough memory for one video.
    """
    about = model.config
    shape, count = about.model, about.model.num_classes
    if count is None or count < 2:
        raise ValueError(f"num_classes must be at least 2, got {count}")
    sigma = about.sampling.sigma_max
    classes = torch.arange(_SAMPLES) * max(1, count // _SAMPLES) % count
    rows, others = (class_rows(each, count) for each in (classes, (classes + 1 + count // 3) % count))
    noise = SeededNoise(range(_SAMPLES), model.placement.device)
    x = sigma * noise.randn(shape.channels, shape.frames, shape.image_size, shape.image_size)

    def part(labels: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        with memory_errors("one video", "Try another --dtype or --device."):
            return model.denoiser(labels)(x, sigma)[0]

    def estimate(labels: torch.Tensor) -> torch.Tensor:
        try:
            return part(labels, x)
        except OutOfMemoryError:
            return torch.cat([part(*each) for each in zip(torch.split(labels, 1), torch.split(x, 1), strict=True)])

    own = estimate(rows)
    apart = (estimate(others) - own).square().sum()
    return (((estimate(torch.zeros_like(rows)) - own).square().sum() / apart).item()) if apart > 0 else 0.0


def unlabelled_warning(model: Model) -> str | None:
    """What to warn of before classifier-free guidance; None if there is no sign that anything is wrong.

    What the checkpoint's training record says of label dropout counts; where it says nothing, `null_label_error`.
    """
    share = recorded_label_dropout(model.config.training)
    if share is None:
        error = null_label_error(model) if (model.config.model.num_classes or 0) > 1 else 0.0
        if error <= 1:
            return None
        seen = f"its estimate for no class is {error**0.5:.1f} times as far off as that for a wrong one"
    elif share > 0:
        return None
    else:
        seen = "its record says label_dropout 0"
    return f"this network shows no sign of having been trained without labels ({seen}): guidance may spoil its videos"

"""Videos of fixed seeds from a network in training, to look at."""

import math

import torch
from torch import Tensor

from mpvideo.config import EDMConfig, SamplingConfig
from mpvideo.diffusion import (
    EDMDenoiser,
    GuidedDenoiser,
    SeededNoise,
    class_rows,
    guidance_of,
    schedule,
    solver,
)
from mpvideo.nn import InferenceUnet3D, KarrasUnet3D
from mpvideo.training.factored import finished_weights
from mpvideo.video.codec import Codec

NUM_VIDEOS = 8
STEPS = 12


@torch.no_grad()
def preview(
    net: KarrasUnet3D, codec: Codec, edm: EDMConfig, sampling: SamplingConfig, classes: tuple[str, ...] | None
) -> tuple[Tensor, list[str]]:
    """Samples eight videos of seeds 0 to 7, of classes spread over all there are.

    Args:
        net: the network, in evaluation mode.
        codec: decodes its tensor.
        edm: its preconditioning.
        sampling: noise levels and guidance; the steps are few here, and by the solver that suits them, as this is only
            a look.
        classes: their names, or None.

    Returns:
        The videos (8, T, H, W, C), uint8, and a caption for each.
    """
    device = next(net.parameters()).device
    model = net.config
    labels, captions = None, [f"seed {seed}" for seed in range(NUM_VIDEOS)]
    if model.num_classes is not None:
        indices = _spread(model.num_classes)
        labels = class_rows(torch.tensor(indices), model.num_classes).to(device)
        names = classes or tuple(f"class {index}" for index in range(model.num_classes))
        captions = [names[index] for index in indices]
    main = EDMDenoiser(
        net=InferenceUnet3D(model, finished_weights(net), legacy_fan_in=edm.legacy_fan_in, device=device),
        sigma_data=edm.sigma_data,
        clamp=edm.clamp,
        self_condition=model.self_condition,
        class_labels=labels,
        dtype=torch.float32,
    )
    strength = sampling.guidance if labels is not None else 1.0
    denoiser = GuidedDenoiser(main, guidance_of(sampling, strength))
    noise = SeededNoise(range(NUM_VIDEOS), device)
    brief = SamplingConfig(steps=STEPS, sigma_min=sampling.sigma_min, sigma_max=sampling.sigma_max, rho=sampling.rho)
    sigmas = schedule(brief)
    x = noise.randn(model.channels, model.frames, model.image_size, model.image_size) * sigmas[0].item()
    x = solver(brief)(denoiser, x, sigmas, noise=noise.randn_like)
    # A network that diverged shows as gray, and does not end its training here.
    return codec.decode(x.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)).cpu(), captions


def _spread(num_classes: int) -> list[int]:
    """A class for each video, from all over; no class twice where there are enough, nor, of the menagerie, a motion."""
    stride = max(1, num_classes // NUM_VIDEOS)
    while math.gcd(stride, num_classes) > 1:
        stride += 1
    return [video * stride % num_classes for video in range(NUM_VIDEOS)]

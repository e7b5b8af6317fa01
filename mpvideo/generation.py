"""One request to videos: the road that data takes from a checkpoint to frames.

checkpoint = open_checkpoint(path)
model = load_model(checkpoint, choose_placement())
for video in generate(model, [Job(seed=0, class_index=207)], checkpoint.config.sampling):
    video.frames  # (T, H, W, C) uint8
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mpvideo.blend import Blend
from mpvideo.checkpoint import Checkpoint
from mpvideo.checkpoint.guide import check_guide
from mpvideo.checkpoint.load import load_tensors
from mpvideo.checks import check_int
from mpvideo.config import AutoencoderConfig, CheckpointConfig, SamplingConfig
from mpvideo.device import Placement, memory_errors
from mpvideo.diffusion import (
    Branches,
    EDMDenoiser,
    GuidedDenoiser,
    SeededNoise,
    blended_rows,
    evaluated_levels,
    guidance_of,
    schedule,
    solver,
)
from mpvideo.errors import MPVideoError, OutOfMemoryError, UsageError
from mpvideo.nn import InferenceUnet3D
from mpvideo.text import printable
from mpvideo.video.autoencoder import Autoencoder
from mpvideo.video.codec import Codec, LatentCodec, PixelCodec

_CODEC_PREFIX = "codec."

OnEvaluation = Callable[[int], None]
"""`on_evaluation(samples)`, called after each evaluation of the network with the size of its batch.

Under guidance a sample counts once for each of its branches. A negative number takes back what a batch had counted
that ran out of memory and is made anew in smaller ones.
"""

OnSmallerBatch = Callable[[int, int], None]
"""`on_smaller_batch(tried, size)`: memory did not suffice for `tried` videos at once; from now on it is `size`."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One video to make.

    Attributes:
        seed: decides every random draw, 0 to 2**63 - 1; or a blend of two, see `SeededNoise`.
        class_index: its class, or a blend of classes; None lets the seed choose where the network has classes.
    """

    seed: int | Blend
    class_index: int | Blend | None = None


@dataclass(frozen=True, kw_only=True)
class Video:
    """A finished video.

    Attributes:
        seed: of its job.
        class_index: its class, chosen by the seed if the job named none; None for a network without classes.
        frames: (T, H, W, C) uint8, C = 1 gray, 3 RGB, 4 RGBA.
    """

    seed: int | Blend
    class_index: int | Blend | None
    frames: npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint in memory, ready to sample.

    Attributes:
        config: what the checkpoint says of itself.
        net: the raw network in its inference form, on the placement's device and in its dtype.
        codec: between the network's tensor and pixels, on the same device.
        placement: the device, and the dtype that the network computes in.
        sha256: of the weights that were read, in hex; see `mpvideo.checkpoint.load.load_tensors`.
        guide: the network that guides it, if that is another than itself.
    """

    config: CheckpointConfig
    net: InferenceUnet3D
    codec: Codec
    placement: Placement
    sha256: str
    guide: "Guide | None" = None


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A second network, for autoguidance.

    Attributes:
        name: of its checkpoint.
        config, net, sha256: as of `Model`.
    """

    name: str
    config: CheckpointConfig
    net: InferenceUnet3D
    sha256: str


def load_model(checkpoint: Checkpoint, placement: Placement, *, guide: Checkpoint | None = None) -> Model:
    """Reads a checkpoint's weights and builds its network and codec.

    Args:
        checkpoint: the checkpoint.
        placement: where to compute, and in what.
        guide: the checkpoint of a second network to guide it with.

    Raises:
        CheckpointError: the weights cannot be read or are not finite.
        UsageError: the guide is for other videos, see `mpvideo.checkpoint.guide`; or for other latents.
        DeviceError: there is not enough memory.
    """
    config = checkpoint.config
    if guide is not None:
        check_guide(config, guide)
    with memory_errors("the weights", "Close other programs, or use a smaller checkpoint or another --device."):
        tensors, sha256 = load_tensors(checkpoint.header)
        parts = _codec_tensors(tensors)
        second = None if guide is None else _load_guide(guide, parts, config, placement)
        codec: Codec = PixelCodec()
        if (shape := config.video.autoencoder) is not None:
            codec = LatentCodec(_build_autoencoder(shape, parts, placement.device), config.edm.sigma_data)
        net = _build_network(config, tensors, placement)
    return Model(config=config, net=net, codec=codec, placement=placement, sha256=sha256, guide=second)


def _load_guide(guide: Checkpoint, codec: dict[str, Tensor], config: CheckpointConfig, placement: Placement) -> Guide:
    """Reads the network of a guide for the checkpoint that has this codec and config."""
    tensors, sha256 = load_tensors(guide.header)
    parts = _codec_tensors(tensors)
    same = guide.config.edm.sigma_data == config.edm.sigma_data and all(
        # Up to the rounding of the dtypes that they may be saved in.
        torch.allclose(codec[name].float(), parts[name].float(), rtol=1e-2, atol=1e-3)
        for name in codec
    )
    if codec and not same:
        raise UsageError(
            f"--guide must have the checkpoint's own autoencoder, {printable(guide.name)} has another",
            hint="What their latents mean differs. `mpvideo train --init` keeps the autoencoder.",
        )
    net = _build_network(guide.config, tensors, placement)
    return Guide(name=guide.name, config=guide.config, net=net, sha256=sha256)


def _codec_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Takes the codec's tensors out, under its own names."""
    names = [name for name in tensors if name.startswith(_CODEC_PREFIX)]
    return {name.removeprefix(_CODEC_PREFIX): tensors.pop(name) for name in names}


def _build_network(config: CheckpointConfig, tensors: dict[str, Tensor], placement: Placement) -> InferenceUnet3D:
    return InferenceUnet3D(
        config.model,
        tensors,
        legacy_fan_in=config.edm.legacy_fan_in,
        device=placement.device,
        dtype=placement.dtype,
        compiled=placement.compiled,
    )


def _build_autoencoder(shape: AutoencoderConfig, tensors: dict[str, Tensor], device: torch.device) -> Autoencoder:
    """Builds an autoencoder around tensors that are already there, so that weights are never held twice."""
    with torch.device("meta"):
        autoencoder = Autoencoder(shape)
    floats = {name: tensors.pop(name).to(device, torch.float32) for name in list(tensors)}
    autoencoder.load_state_dict(floats, assign=True)
    return autoencoder.eval().requires_grad_(False)


def drawn_class(seed: int | Blend, num_classes: int) -> int:
    """The class that a seed chooses by itself."""
    return int(SeededNoise([seed]).random_classes(num_classes)[0])


def _class_of(job: Job, num_classes: int | None) -> int | Blend | None:
    """The class that a job names, checked, or else the one that its seed draws."""
    if num_classes is None:
        if job.class_index is not None:
            raise ValueError(f"class_index must be None for a network without classes, got {job.class_index!r}")
        return None
    if job.class_index is None:
        return drawn_class(job.seed, num_classes)
    for index in job.class_index.numbers if isinstance(job.class_index, Blend) else (job.class_index,):
        check_int("class_index", index, 0, num_classes - 1)
    return job.class_index


def _label_rows(net: InferenceUnet3D, classes: Sequence[int | Blend | None], num_classes: int) -> Tensor:
    """The classes as rows of weights, (B, num_classes)."""
    rows = torch.zeros(len(classes), num_classes)
    for row, chosen in zip(rows, classes, strict=True):
        if isinstance(chosen, Blend):
            row[list(chosen.numbers)] = torch.tensor(chosen.shares)
        elif chosen is not None:
            row[chosen] = 1.0
    return blended_rows(rows, net.class_embedding)


def count_evaluations(sampling: SamplingConfig) -> int:
    """Evaluations of the network for one video: one for each branch, at each noise level where it is evaluated."""
    levels = evaluated_levels(solver(sampling), schedule(sampling))
    if sampling.guidance == 1:
        return len(levels)
    return len(levels) + sum(map(guidance_of(sampling).covers, levels))


def generate(
    model: Model,
    jobs: Sequence[Job],
    sampling: SamplingConfig,
    *,
    clamp: bool | None = None,
    batch_size: int = 1,
    on_evaluation: OnEvaluation | None = None,
    on_smaller_batch: OnSmallerBatch | None = None,
) -> Iterator[Video]:
    """Samples videos batch by batch and yields them in the order of the jobs.

    A seed gives the same video at any batch size, up to rounding. So a batch that runs out of memory is made anew in
    halves, and all that follow have the size of the half.

    Args:
        model: the checkpoint.
        jobs: what to make.
        sampling: settings of the sampler.
        clamp: whether denoised estimates are clamped to [-1, 1]; None for what the checkpoint says.
        batch_size: how many videos are sampled at once.
        on_evaluation: told of each evaluation of the network; in all, every video takes count_evaluations(sampling).
        on_smaller_batch: told when memory does not suffice, once for each size tried.

    Raises:
        ValueError: batch_size, a seed or a class_index out of range, or a class_index for a network without classes.
        OutOfMemoryError: there is not enough memory for a single video.
        MPVideoError: a video came out as NaN or infinity.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    start = 0
    while start < len(jobs):
        batch = jobs[start : start + batch_size]
        sampled = _try_batch(model, batch, sampling, clamp, on_evaluation)
        if sampled is None:
            batch_size = len(batch) // 2
            if on_smaller_batch is not None:
                on_smaller_batch(len(batch), batch_size)
            continue
        start += len(batch)
        for job, latent, index in zip(batch, *sampled, strict=True):
            with memory_errors("one decoded video", "Close other programs, or try another --device."):
                frames = _decode(model, latent)
            yield Video(seed=job.seed, class_index=index, frames=frames)


def _try_batch(
    model: Model,
    jobs: Sequence[Job],
    sampling: SamplingConfig,
    clamp: bool | None,
    on_evaluation: OnEvaluation | None,
) -> tuple[Tensor, Sequence[int | Blend | None]] | None:
    """Samples one batch; None if there is not enough memory for more than one video."""
    passed_on = 0

    def count(samples: int) -> None:
        nonlocal passed_on
        if on_evaluation is not None:
            on_evaluation(samples)
            passed_on += samples

    try:
        with memory_errors("one video", "Try another --dtype or --device."):
            return _sample(model, jobs, sampling, clamp, count)
    except OutOfMemoryError:
        if len(jobs) == 1:
            raise
    if passed_on and on_evaluation is not None:
        on_evaluation(-passed_on)
    return None


def _decode(model: Model, x: Tensor) -> npt.NDArray[np.uint8]:
    """One video's tensor (C, T, H, W) to frames (T, H, W, C)."""
    try:
        return model.codec.decode(x.unsqueeze(0))[0].cpu().numpy()
    except FloatingPointError as error:
        raise MPVideoError(
            f"the sampled video is not usable: {error}",
            hint="Try --dtype float32 and the checkpoint's own sampling settings, or look at the weights with "
            "`mpvideo inspect --check`.",
        ) from None


def _with_own_tables(model: Model) -> Model:
    """The same weights in networks of its own, so that samplings at the same time do not disturb each other."""
    guide = model.guide and dataclasses.replace(model.guide, net=copy.copy(model.guide.net))
    return dataclasses.replace(model, net=copy.copy(model.net), guide=guide)


def _guide_denoiser(model: Model, main: EDMDenoiser) -> EDMDenoiser | None:
    """The denoiser of the guide; its labels will be those of `main`."""
    if model.guide is None:
        return None
    about = model.guide.config
    return dataclasses.replace(
        main,
        net=model.guide.net,
        sigma_data=about.edm.sigma_data,
        self_condition=about.model.self_condition,
        class_labels=None,
    )


@torch.inference_mode()
def _sample(
    model: Model,
    jobs: Sequence[Job],
    sampling: SamplingConfig,
    clamp: bool | None,
    on_evaluation: OnEvaluation | None,
) -> tuple[Tensor, Sequence[int | Blend | None]]:
    """Samples one batch: (B, C, T, H, W) of the network's tensor, and the classes."""
    model = _with_own_tables(model)
    edm, shape = model.config.edm, model.config.model
    noise = SeededNoise([job.seed for job in jobs], model.placement.device)
    classes = [_class_of(job, shape.num_classes) for job in jobs]
    labels = None
    if shape.num_classes is not None:
        labels = _label_rows(model.net, classes, shape.num_classes).to(model.placement.device)
    main = EDMDenoiser(
        net=model.net,
        sigma_data=edm.sigma_data,
        clamp=edm.clamp if clamp is None else clamp,
        self_condition=shape.self_condition,
        class_labels=labels,
        dtype=model.placement.dtype,
    )
    denoiser = GuidedDenoiser(main, guidance_of(sampling), guide=_guide_denoiser(model, main))

    def counted(x: Tensor, sigma: float, state: Branches | None) -> tuple[Tensor, Branches | None]:
        result = denoiser(x, sigma, state)
        if on_evaluation is not None:
            on_evaluation(denoiser.evaluations_at(sigma, len(x)))
        return result

    sigmas, solve = schedule(sampling), solver(sampling)
    asked = denoiser.denoisers(list(dict.fromkeys(evaluated_levels(solve, sigmas))))
    for net in (model.net,) if model.guide is None else (model.net, model.guide.net):
        net.prepare(*((each.noise_embeddings(its), each.class_labels) for each, its in asked if each.net is net))
    x = noise.randn(shape.channels, shape.frames, shape.image_size, shape.image_size) * sigmas[0].item()
    return solve(counted, x, sigmas, noise=noise.randn_like), classes

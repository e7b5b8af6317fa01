"""What training a network costs: parameters, operations, and time measured here."""

import time
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from mpvideo.architecture import autoencoder_shapes, network_flops, network_shapes
from mpvideo.config import AutoencoderConfig, ModelConfig
from mpvideo.diffusion import class_rows
from mpvideo.nn import KarrasUnet3D
from mpvideo.probe import check_block, without_bfloat16
from mpvideo.training.autoencoder import AutoencoderTrainer
from mpvideo.training.objective import Objective
from mpvideo.training.recipe import Recipe, TrainingDtype

_CLEARLY_FASTER = 0.9
"""bfloat16 costs accuracy: it has to save at least a tenth of the time."""

_ROUNDS = 3
"""How often the dtypes are compared: a run keeps to the one that is found faster."""

_LONG = 20.0
"""Seconds after which nothing is measured again: of steps as long as that, what makes ready is next to nothing."""


def num_parameters(model: ModelConfig) -> int:
    """Number of values in the network's tensors."""
    return sum(prod(shape) for shape in network_shapes(model).values())


def num_autoencoder_parameters(config: AutoencoderConfig) -> int:
    """Number of values in an autoencoder's tensors."""
    return sum(prod(shape) for shape in autoencoder_shapes(config).values())


def step_flops(model: ModelConfig, recipe: Recipe) -> int:
    """Floating-point operations of one optimiser step: forwards, and backwards at twice the cost of a forward.

    Half the steps of a self-conditioned network have one more forward.
    """
    forwards = 3.5 if model.self_condition else 3.0
    return int(forwards * network_flops(model) * recipe.batch_size)


def seconds_per_step(
    model: ModelConfig, recipe: Recipe, device: torch.device | str = "cpu", *, repeats: int = 2
) -> float:
    """Measures a forward and a backward of one micro-batch, and scales it to a step; data are not counted.

    The first, which makes ready, is not counted either, unless they take long; the fastest of the others is.
    """
    return _seconds_in_turns(model, recipe, torch.device(device), (recipe.dtype,), repeats)[recipe.dtype]


def _seconds_in_turns(
    model: ModelConfig, recipe: Recipe, device: torch.device, dtypes: Sequence[TrainingDtype], repeats: int
) -> dict[TrainingDtype, float]:
    """`seconds_per_step` in each of several dtypes, one after the other: what slows the machine slows them all."""
    count = min(recipe.micro_batch, recipe.batch_size)
    best: dict[TrainingDtype, float] = {}
    spent = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = Objective(KarrasUnet3D(**vars(model)).to(device), 0.5).to(device).train()
        clean = torch.randn(count, model.channels, model.frames, model.image_size, model.image_size, device=device)
        noise, sigma = torch.randn_like(clean), torch.ones(count, device=device)
        rows = None
        if model.num_classes is not None:
            rows = class_rows(torch.zeros(count, dtype=torch.long), model.num_classes).to(device)
        for attempt in range(1 + repeats):
            if spent > _LONG:
                break
            for dtype in dtypes:
                began = time.perf_counter()
                mean, _ = objective(clean, noise, sigma, rows, dtype=getattr(torch, dtype))
                mean.backward()
                float(mean.detach())  # a GPU has to be waited for
                taken = time.perf_counter() - began
                spent += taken
                best[dtype] = min(best[dtype], taken) if attempt > 1 else taken
                objective.zero_grad()
    scale = step_flops(model, recipe) / (3 * network_flops(model) * count)
    return {dtype: seconds * scale for dtype, seconds in best.items()}


def autoencoder_seconds_per_step(
    config: AutoencoderConfig, size: int, dtype: TrainingDtype, device: torch.device | str = "cpu", *, repeats: int = 2
) -> float:
    """Measures an optimiser step of an autoencoder on frames of `size` pixels; data are not counted.

    The first, which makes ready, is not counted either; the fastest of the others is.
    """

    def images(numbers: range) -> Tensor:
        return torch.randint(256, (len(numbers), size, size, 3), dtype=torch.uint8)

    with torch.random.fork_rng(devices=[]):
        trainer = AutoencoderTrainer(config, images, steps=1 + repeats, dtype=dtype, device=device)
        trainer.train_step()
        taken = []
        for _ in range(repeats):
            began = time.perf_counter()
            trainer.train_step()
            taken.append(time.perf_counter() - began)
    return min(taken)


def faster_dtype(model: ModelConfig, recipe: Recipe, device: torch.device | str = "cpu") -> TrainingDtype:
    """The dtype for a network to compute in: bfloat16 where it is right, and is measured to be clearly faster."""
    kind = torch.device(device).type
    if without_bfloat16(kind) is not None or check_block(kind, "bfloat16").problem is not None:
        return "float32"
    seconds = _seconds_in_turns(model, recipe, torch.device(device), ("float32", "bfloat16"), _ROUNDS)
    return "bfloat16" if seconds["bfloat16"] < _CLEARLY_FASTER * seconds["float32"] else "float32"

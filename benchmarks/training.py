"""Training steps a second: mpvideo's trainer against a plain loop around the published package's module.

    pip install --no-deps denoising-diffusion-pytorch==2.3.4
    python benchmarks/training.py

Both train the network of the menagerie's preset on the same latents, with the same batches, on the same threads. They
take turns, so that whatever else slows the machine slows both, and what is quoted is the median of the turns' ratios.

The plain loop is what the package's users write: the module in float32 as it is, EDM's loss, torch's Adam, one average
of the weights. mpvideo's trainer does more in a step: two averages, the learned weight of the noise levels, gradients
checked.
"""

import argparse
import copy
import importlib
import importlib.util
import statistics
import sys
import time
import types
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mpvideo.config import ModelConfig
from mpvideo.diffusion import preconditioning
from mpvideo.nn import KarrasUnet3D
from mpvideo.training.cost import faster_dtype
from mpvideo.training.recipe import PRESETS, Recipe, codec_config
from mpvideo.training.trainer import Trainer

PACKAGE = "denoising_diffusion_pytorch"
SIGMA_DATA = 0.5


def package_network(model: ModelConfig) -> torch.nn.Module:
    """The package's module with the same arguments; what the rest of the package needs is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit("install the package first: pip install --no-deps denoising-diffusion-pytorch==2.3.4")
    package = types.ModuleType(PACKAGE)
    package.__path__ = list(found.submodule_search_locations)
    sys.modules[PACKAGE] = package
    module = importlib.import_module(f"{PACKAGE}.karras_unet_3d")
    net: torch.nn.Module = module.KarrasUnet3D(**vars(model))
    return net


def plain_loop(model: ModelConfig, recipe: Recipe, latents: Tensor, labels: Tensor) -> Callable[[], None]:
    """A step of the loop that one writes around the package's module."""
    net = package_network(model).train()
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.peak_rate, betas=(0.9, 0.99))

    def step() -> None:
        sigma = (torch.randn(len(latents)) * recipe.P_std + recipe.P_mean).exp()
        column = sigma.view(-1, 1, 1, 1, 1)
        _, _, c_in, c_noise = preconditioning(column, SIGMA_DATA)
        noise = torch.randn_like(latents)
        target = c_in * (column / SIGMA_DATA * latents - SIGMA_DATA * noise)
        out = net(c_in * (latents + column * noise), time=c_noise.flatten(), class_labels=labels)
        optimizer.zero_grad()
        (out - target).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, 0.01)

    return step


def mpvideo_loop(model: ModelConfig, recipe: Recipe, latents: Tensor, labels: Tensor) -> Callable[[], None]:
    """A step of mpvideo's trainer."""
    trainer = Trainer(KarrasUnet3D(**vars(model)), recipe, sigma_data=SIGMA_DATA)

    def batches(numbers: Sequence[int], frames: int | None) -> tuple[Tensor, Tensor]:
        return latents[: len(numbers)], labels[: len(numbers)]

    def step() -> None:
        trainer.train_step(batches)

    return step


def seconds(step: Callable[[], None], repeats: int) -> float:
    """Seconds a step takes."""
    began = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - began) / repeats


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2, help="steps of a turn")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = PRESETS["small"].model(codec_config("latent", 8.0), size=64, frames=32, num_classes=1000)
    count = arguments.batch_size
    plain_recipe = Recipe(batch_size=count, micro_batch=count)
    dtype = faster_dtype(model, plain_recipe)
    recipe = Recipe(batch_size=count, micro_batch=count, dtype=dtype)
    latents = SIGMA_DATA * torch.randn(count, model.channels, model.frames, model.image_size, model.image_size)
    labels = torch.randint(1000, (count,))
    loops = {
        "package": plain_loop(model, plain_recipe, latents, labels),
        "mpvideo": mpvideo_loop(model, recipe, latents, labels),
    }
    for step in loops.values():
        step()
    turns = [{name: seconds(step, arguments.repeats) for name, step in loops.items()} for _ in range(arguments.turns)]
    for name in loops:
        print(f"{name}: {count / statistics.median(turn[name] for turn in turns):.1f} videos a second")
    ratios = sorted(turn["package"] / turn["mpvideo"] for turn in turns)
    print(
        f"mpvideo in {dtype} on {torch.get_num_threads()} threads is {statistics.median(ratios):.2f} times as fast "
        f"(turns: {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )


if __name__ == "__main__":
    main()

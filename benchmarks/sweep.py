"""Short trainings on the menagerie, to compare the settings of `mpvideo train`: what each leaves of the noise.

    python benchmarks/sweep.py --p-mean=-0.8,0.4,1.0 --p-std 1.0,1.4
    python benchmarks/sweep.py --rate 0.008,0.016 --batch-size 8,16

Every combination trains the preset's network on the latents of the bundled autoencoder, from the same random weights
and on as many videos (or up to a batch more), with as many steps of warm-up. What is printed is the error of the
average of width 0.10 on other videos, for each noise level: its mean square, as a share of the latents' variance.
"""

import argparse
import itertools
from dataclasses import replace

import torch

from mpvideo.checkpoint import bundled_checkpoint
from mpvideo.diffusion import class_rows
from mpvideo.diffusion.noise import seeded_generator
from mpvideo.nn import KarrasUnet3D
from mpvideo.nn.memory import FOR_STEPS, keep_freed_memory
from mpvideo.training.cost import faster_dtype
from mpvideo.training.factored import FactoredClassEmbedding
from mpvideo.training.initial import own_autoencoder
from mpvideo.training.latents import encoded_batches
from mpvideo.training.objective import Objective
from mpvideo.training.recipe import AUTOENCODER, PRESETS, Recipe, codec_config
from mpvideo.training.trainer import Batches, Trainer
from mpvideo.training.world import MenagerieData
from mpvideo.video.codec import LatentCodec

SIGMA_DATA = 0.5
EMA_STD = 0.10
FIRST_OTHER = 2**50
"""Number of the first video that is not trained on."""
AT_ONCE = 16
"""How many videos are measured on at once."""


def untrained(data: MenagerieData) -> KarrasUnet3D:
    """The preset's network in its random weights, as `mpvideo train` begins with seed 0."""
    model = PRESETS["small"].model(codec_config("latent", data.fps), size=64, frames=32, num_classes=1000)
    torch.manual_seed(0)
    net = KarrasUnet3D(**vars(model))
    net.to_class_emb = FactoredClassEmbedding(data.factors, 4 * model.dim)
    return net


@torch.no_grad()
def errors(net: KarrasUnet3D, batches: Batches, levels: list[float], videos: int, dtype: torch.dtype) -> list[float]:
    """Mean squared error of the denoised, as a share of the variance, at each noise level."""
    objective = Objective(net, SIGMA_DATA).eval()
    sums = [0.0] * len(levels)
    for start in range(FIRST_OTHER, FIRST_OTHER + videos, AT_ONCE):
        clean, labels = batches(range(start, min(start + AT_ONCE, FIRST_OTHER + videos)), None)
        noise = torch.randn(clean.shape, generator=seeded_generator(start))
        for index, sigma in enumerate(levels):
            _, loss = objective(clean, noise, torch.full((len(clean),), sigma), class_rows(labels, 1000), dtype=dtype)
            # From the raw network's error to that of the denoised: times c_out**2 / sigma_data**2.
            sums[index] += float(loss.sum()) * sigma**2 / (sigma**2 + SIGMA_DATA**2)
    return [total / videos for total in sums]


def _floats(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _ints(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Trains, measures and prints."""
    preset = Recipe(**PRESETS["small"].recipe)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--p-mean", type=_floats, default=[preset.P_mean])
    parser.add_argument("--p-std", type=_floats, default=[preset.P_std])
    parser.add_argument("--rate", type=_floats, default=[preset.peak_rate])
    parser.add_argument("--batch-size", type=_ints, default=[preset.batch_size])
    parser.add_argument("--videos", type=int, default=4800, help="how many to train on")
    parser.add_argument("--warmup", type=int, default=50, help="steps of warm-up")
    parser.add_argument("--sigmas", type=_floats, default=[0.3, 0.8, 1.2, 2, 3.3, 5, 8, 12])
    parser.add_argument("--others", type=int, default=128, help="how many videos to measure on")
    arguments = parser.parse_args()
    keep_freed_memory(FOR_STEPS)
    data = MenagerieData()
    dtype = faster_dtype(untrained(data).config, preset)
    autoencoder = own_autoencoder(bundled_checkpoint(), AUTOENCODER).to(getattr(torch, dtype))
    batches = encoded_batches(data, LatentCodec(autoencoder, SIGMA_DATA), torch.device("cpu"))
    print(f"{arguments.videos} videos each, {dtype}, torch {torch.__version__}\n")
    titles = ["P_mean", "P_std", "rate", "batch", *(f"σ = {sigma:g}" for sigma in arguments.sigmas)]
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}", flush=True)
    settings = itertools.product(arguments.p_mean, arguments.p_std, arguments.rate, arguments.batch_size)
    for P_mean, P_std, rate, batch_size in settings:
        recipe = replace(
            preset, P_mean=P_mean, P_std=P_std, peak_rate=rate, warmup_steps=arguments.warmup, dtype=dtype,
            batch_size=batch_size, micro_batch=batch_size,
        )  # fmt: skip
        trainer = Trainer(untrained(data), recipe, sigma_data=SIGMA_DATA)
        while trainer.samples < arguments.videos:
            trainer.train_step(batches)
        left = errors(
            trainer.averages[EMA_STD].average, batches, arguments.sigmas, arguments.others, getattr(torch, dtype)
        )
        row = [P_mean, P_std, rate, batch_size]
        print(f"| {' | '.join([*(f'{value:g}' for value in row), *(f'{error:.3f}' for error in left)])} |", flush=True)


if __name__ == "__main__":
    main()

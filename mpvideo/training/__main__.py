"""Trains the bundled weights: `python -m mpvideo.training --out RUN`.

A run folder holds autoencoder.safetensors, snapshot.pt (to go on from) and, at the end, model.safetensors. The same
command goes on where it stopped. Renderings are endless: batch n shows seeds that no other batch shows.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import mpvideo
from mpvideo import menagerie
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.config import AutoencoderConfig, CheckpointConfig, ModelConfig, SamplingConfig, VideoConfig
from mpvideo.nn import KarrasUnet3D
from mpvideo.training.autoencoder import train_autoencoder
from mpvideo.training.factored import FactoredClassEmbedding
from mpvideo.training.loop import Recipe, Trainer, finished_weights, train
from mpvideo.video.autoencoder import Autoencoder
from mpvideo.video.codec import LatentCodec

SIGMA_DATA = 0.5
FACTORS = (len(menagerie.ANIMALS), len(menagerie.COATS), len(menagerie.MOTIONS))
AUTOENCODER = AutoencoderConfig(width=32)
MODEL = ModelConfig(
    image_size=menagerie.SIZE // AUTOENCODER.factor,
    frames=menagerie.FRAMES,
    dim=32,
    dim_max=128,
    num_classes=menagerie.NUM_CLASSES,
    num_downsamples=2,
    num_blocks_per_stage=1,
    attn_res=(4, 2),
    attn_dim_head=32,
    dropout=0.0,
)

# The autoencoder's images and the network's videos come from different seeds.
AUTOENCODER_SEEDS = 2**40


def report(line: str) -> None:
    """Prints a line of progress with the time of day."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def images(count: int) -> Iterator[Tensor]:
    """Endless batches (count, H, W, 3) of single frames."""
    generator = torch.Generator().manual_seed(0)
    first = AUTOENCODER_SEEDS
    while True:
        classes = torch.randint(menagerie.NUM_CLASSES, (count,), generator=generator)
        frames = torch.randint(menagerie.FRAMES, (count, 1), generator=generator)
        yield menagerie.render(classes, torch.arange(first, first + count), frame_indices=frames)[:, 0]
        first += count


def videos(number: int, count: int) -> tuple[Tensor, Tensor]:
    """Batch `number`: videos (count, T, H, W, 3) and classes (count,), the same at every call."""
    generator = torch.Generator().manual_seed(number)
    classes = torch.randint(menagerie.NUM_CLASSES, (count,), generator=generator)
    return menagerie.render(classes, torch.arange(number * count, (number + 1) * count)), classes


def trained_autoencoder(path: Path, seconds: float) -> Autoencoder:
    """Loads the run's autoencoder, or trains and saves it."""
    if not path.exists():
        weights = train_autoencoder(AUTOENCODER, images(64), seconds=seconds, report=report).state_dict()
        save_file(weights, path)
    autoencoder = Autoencoder(AUTOENCODER)
    autoencoder.load_state_dict(load_file(path))
    return autoencoder.eval().requires_grad_(False)


def main() -> None:
    """Trains for the times given on the command line and writes the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m mpvideo.training", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--autoencoder-seconds", type=float, default=420.0, help="once, at the beginning")
    parser.add_argument("--seconds", type=float, default=3600.0, help="for the network, in this call")
    options = parser.parse_args()
    run: Path = options.out
    run.mkdir(parents=True, exist_ok=True)

    autoencoder = trained_autoencoder(run / "autoencoder.safetensors", options.autoencoder_seconds)
    codec = LatentCodec(autoencoder.to(torch.bfloat16), SIGMA_DATA, frames_at_once=256)
    recipe = Recipe()
    torch.manual_seed(recipe.seed)
    net = KarrasUnet3D(**{name: getattr(MODEL, name) for name in MODEL.__dataclass_fields__})
    net.to_class_emb = FactoredClassEmbedding(FACTORS, 4 * MODEL.dim)
    trainer = Trainer(net, recipe, sigma_data=SIGMA_DATA)

    @torch.no_grad()
    def batches(number: int) -> tuple[Tensor, Tensor]:
        frames, classes = videos(number, recipe.batch_size)
        return codec.encode(frames).float(), classes

    # Ctrl-C and SIGTERM end the training after the step in hand, and what it has learned is kept.
    deadline, signals = time.monotonic() + options.seconds, list[int]()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    train(
        trainer,
        batches,
        run / "snapshot.pt",
        keep_going=lambda: not signals and time.monotonic() < deadline,
        report=report,
    )

    autoencoder.load_state_dict(load_file(run / "autoencoder.safetensors"))
    weights = finished_weights(trainer.ema.average)
    weights |= {f"codec.{name}": tensor for name, tensor in autoencoder.float().state_dict().items()}
    config = CheckpointConfig(
        title="Menagerie: 1,000 classes of small animals, coats and motions",
        license="MIT",
        model=MODEL,
        video=VideoConfig(codec="latent", fps=float(menagerie.FPS), autoencoder=AUTOENCODER),
        sampling=SamplingConfig(),
        classes=menagerie.class_names(),
        training={
            "data": "mpvideo.menagerie",
            "steps": trainer.step,
            "batch_size": recipe.batch_size,
            "samples": trainer.step * recipe.batch_size,
            "ema_std": recipe.ema_std,
            "P_mean": recipe.P_mean,
            "P_std": recipe.P_std,
            "version": mpvideo.__version__,
        },
    )
    halves = {name: tensor.to(torch.float16) for name, tensor in weights.items()}
    save_checkpoint(run / "model.safetensors", halves, config, overwrite=True)


if __name__ == "__main__":
    main()

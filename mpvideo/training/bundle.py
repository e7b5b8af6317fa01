"""The bundled weights: what they are made of, what they are trained on, and the checkpoint that comes of it."""

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

import mpvideo
from mpvideo import menagerie
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.config import AutoencoderConfig, CheckpointConfig, ModelConfig, SamplingConfig, VideoConfig
from mpvideo.diffusion.noise import seeded_generator
from mpvideo.errors import CheckpointError
from mpvideo.files import atomic_path
from mpvideo.nn import KarrasUnet3D
from mpvideo.text import printable
from mpvideo.training import Say
from mpvideo.training.autoencoder import train_autoencoder
from mpvideo.training.factored import FactoredClassEmbedding
from mpvideo.training.loop import Batches, Recipe, Trainer, finished_weights
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

_IMAGE_SEEDS = 2**40
"""The autoencoder's renderings have seeds from here on, the network's from 0."""

_CLASS_SEEDS = 2**62
"""Classes are drawn by generators of their own, apart from those of the training noise."""


def images(count: int) -> Iterator[Tensor]:
    """Endless batches (count, H, W, 3) of single frames, no rendering ever twice."""
    generator = seeded_generator(_CLASS_SEEDS + _IMAGE_SEEDS)
    first = _IMAGE_SEEDS
    while True:
        classes = torch.randint(menagerie.NUM_CLASSES, (count,), generator=generator)
        frames = torch.randint(menagerie.FRAMES, (count, 1), generator=generator)
        yield menagerie.render(classes, torch.arange(first, first + count), frame_indices=frames)[:, 0]
        first += count


def videos(number: int, count: int) -> tuple[Tensor, Tensor]:
    """Batch `number`: videos (count, T, H, W, 3) and classes (count,), the same at every call, no rendering twice."""
    classes = torch.randint(menagerie.NUM_CLASSES, (count,), generator=seeded_generator(_CLASS_SEEDS + number))
    return menagerie.render(classes, torch.arange(number * count, (number + 1) * count)), classes


def trained_autoencoder(path: Path, *, steps: int, say: Say) -> Autoencoder:
    """Loads the autoencoder of a run, or trains it and saves it at `path`.

    Raises:
        CheckpointError: there is a file, but not that of an autoencoder.
        OutputError: the file cannot be written.
    """
    if not path.exists():
        trained = train_autoencoder(AUTOENCODER, images(64), steps=steps, say=say)
        with atomic_path(path, overwrite=True) as aside:
            aside.write_bytes(save(trained.state_dict()))
    autoencoder = Autoencoder(AUTOENCODER)
    try:
        autoencoder.load_state_dict(load(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"{printable(path)} is not the autoencoder of a run: {printable(error)}",
            hint="Move it away to train it anew.",
        ) from error
    return autoencoder.eval().requires_grad_(False)


def new_trainer(recipe: Recipe) -> Trainer:
    """A trainer of an untrained network whose class embedding is a sum over animal, coat and motion."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = KarrasUnet3D(**vars(MODEL))
        net.to_class_emb = FactoredClassEmbedding(FACTORS, 4 * MODEL.dim)
        return Trainer(net, recipe, sigma_data=SIGMA_DATA)


def latent_batches(autoencoder: Autoencoder, batch_size: int) -> Batches:
    """The videos as latents, encoded in bfloat16."""
    codec = LatentCodec(copy.deepcopy(autoencoder).to(torch.bfloat16), SIGMA_DATA, frames_at_once=256)

    @torch.no_grad()
    def batches(number: int) -> tuple[Tensor, Tensor]:
        frames, classes = videos(number, batch_size)
        return codec.encode(frames), classes

    return batches


def save_bundle(path: Path, trainer: Trainer, autoencoder: Autoencoder) -> None:
    """Writes the averaged network and the autoencoder as one checkpoint in float16.

    Raises:
        CheckpointError: weights are not finite.
        OutputError: the file cannot be written.
    """
    recipe = trainer.recipe
    weights = finished_weights(trainer.ema.average)
    weights |= {f"codec.{name}": tensor for name, tensor in autoencoder.state_dict().items()}
    config = CheckpointConfig(
        title="Menagerie: 1,000 classes of small animals, coats and motions",
        license="MIT",
        model=MODEL,
        video=VideoConfig(codec="latent", fps=float(menagerie.FPS), autoencoder=AUTOENCODER),
        # Chosen by eye on a few sheets, not measured: guidance settled the coats, churn made shapes steadier.
        sampling=SamplingConfig(guidance=2.0, s_churn=30.0),
        classes=menagerie.class_names(),
        training={
            "data": "mpvideo.menagerie",
            "steps": trainer.step,
            "samples": trainer.step * recipe.batch_size,
            "recipe": vars(recipe),
            "version": mpvideo.__version__,
        },
    )
    # Weights have root mean square 1 and need float16's precision more than bfloat16's range.
    halves = {name: tensor.to(torch.float16) for name, tensor in weights.items()}
    save_checkpoint(path, halves, config, overwrite=True)

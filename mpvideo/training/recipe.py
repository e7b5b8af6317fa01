"""How to train: the settings that decide the numbers, and presets of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from mpvideo.checks import check_choice, check_float, check_int
from mpvideo.config import MAX_SEED, AutoencoderConfig, DownsampleType, ModelConfig, VideoConfig

TrainingDtype = Literal["float32", "bfloat16"]
PresetName = Literal["tiny", "small", "base"]
TrainedCodec = Literal["gray", "rgb", "latent"]


WIDEST_STD = 0.288675
"""Relative width of the uniform average of weights, the widest there is (EDM2, section 3.2); itself not one of them."""

NARROWEST_STD = 0.01
"""Of the averages that can be asked for: over the last hundredth of a training."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained. Two runs with the same data, network and recipe give the same weights.

    Attributes:
        batch_size: samples of one optimiser step, over all processes.
        micro_batch: how many of them go through the network at once; gradients are summed up over the rest.
        P_mean, P_std: mean and standard deviation of ln(sigma) (EDM, arXiv 2206.00364, table 1).
        peak_rate, warmup_steps, decay_steps: see `mpvideo.training.loss.learning_rate`.
        label_dropout: probability of training a sample without its label, for guidance.
        clip_frames: length of the short clips that some steps are trained on; None for none. Such a step has as many
            more samples as they are shorter, and costs the same.
        clip_share: fraction of the steps that train on short clips.
        autoencoder_steps: of 64 images each, before the network is trained; only for latents. 0 to keep the one that
            the training begins with.
        dtype: what the network computes in; weights and their updates stay in float32.
        seed: of weights, noise, and the order of the data.

    Raises:
        ValueError: a field out of range.
    """

    batch_size: int = 16
    micro_batch: int = 16
    P_mean: float = 0.2
    P_std: float = 1.3
    peak_rate: float = 0.006
    warmup_steps: int = 200
    decay_steps: int = 3000
    label_dropout: float = 0.1
    clip_frames: int | None = None
    clip_share: float = 0.5
    autoencoder_steps: int = 7000
    dtype: TrainingDtype = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_int("batch_size", self.batch_size, 1, 65536)
        check_int("micro_batch", self.micro_batch, 1, 65536)
        check_float("P_mean", self.P_mean, -100.0, 100.0)
        check_float("P_std", self.P_std, 0.0, 100.0)
        check_float("peak_rate", self.peak_rate, 0.0, 1.0, open_low=True)
        check_int("warmup_steps", self.warmup_steps, 0)
        check_int("decay_steps", self.decay_steps, 1)
        check_float("label_dropout", self.label_dropout, 0.0, 1.0)
        if self.clip_frames is not None:
            check_int("clip_frames", self.clip_frames, 1)
        check_float("clip_share", self.clip_share, 0.0, 1.0)
        check_int("autoencoder_steps", self.autoencoder_steps, 0)
        check_choice("dtype", self.dtype, get_args(TrainingDtype))
        check_int("seed", self.seed, 0, MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A size of network with what suits it.

    Attributes:
        size, frames: of the videos, in pixels and frames.
        dim, dim_max, num_blocks_per_stage, attn_dim_head: of `ModelConfig`.
        smallest: the height at which the network stops halving.
        shortest: the length in frames, at that height, at which it stops halving the frames.
        attn_res: of `ModelConfig`.
        steps: how long to train.
        recipe: fields of `Recipe` that differ from its defaults.
    """

    size: int
    frames: int
    dim: int
    dim_max: int
    num_blocks_per_stage: int
    attn_dim_head: int
    smallest: int
    shortest: int
    attn_res: tuple[int, ...]
    steps: int
    recipe: Mapping[str, Any]

    def model(self, video: VideoConfig, *, size: int, frames: int, num_classes: int | None, **more: Any) -> ModelConfig:
        """The network for videos of `size` pixels and `frames` frames in the given codec.

        It halves height and width while the height stays above `smallest` and divides, and the frames with them as far
        as they divide; then the frames alone while there are more than `shortest` and they divide, so that the deepest
        level sees the video as a whole.

        Raises:
            ValueError: no network of this kind has that size.
        """
        image_size, rest = divmod(size, video.pixel_size(1))
        if rest or not image_size:
            raise ValueError(
                f"size must be a multiple of {video.pixel_size(1)} for the codec {video.codec}, got {size}"
            )
        height, length = image_size, frames
        types: list[DownsampleType] = []
        while height > self.smallest and height % 2 == 0:
            types.append("image" if length % 2 else "all")
            height, length = height // 2, length if length % 2 else length // 2
        while length > self.shortest and length % 2 == 0:
            types.append("frame")
            length //= 2
        return ModelConfig(
            image_size=image_size,
            frames=frames,
            dim=self.dim,
            dim_max=self.dim_max,
            num_classes=num_classes,
            channels=video.channels,
            num_downsamples=len(types),
            downsample_types="all" if set(types) <= {"all"} else tuple(types),
            num_blocks_per_stage=self.num_blocks_per_stage,
            attn_res=self.attn_res,
            attn_dim_head=self.attn_dim_head,
            **{"dropout": 0.0, **more},
        )


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "tiny": Preset(
            size=64, frames=16, dim=32, dim_max=64, num_blocks_per_stage=1, attn_dim_head=32, smallest=2,
            shortest=8, attn_res=(4, 2), steps=2000,
            recipe={
                "P_mean": 0.5, "peak_rate": 0.01, "warmup_steps": 50, "decay_steps": 1000, "autoencoder_steps": 400,
            },
        ),
        "small": Preset(
            size=64, frames=32, dim=64, dim_max=88, num_blocks_per_stage=1, attn_dim_head=44, smallest=2,
            shortest=8, attn_res=(2,), steps=20_000,
            recipe={"P_mean": 1.0, "P_std": 1.4, "peak_rate": 0.016, "autoencoder_steps": 9000},
        ),
        "base": Preset(
            size=64, frames=32, dim=64, dim_max=256, num_blocks_per_stage=2, attn_dim_head=64, smallest=2,
            shortest=8, attn_res=(8, 4, 2), steps=100_000,
            recipe={
                "batch_size": 64, "micro_batch": 16, "peak_rate": 0.008, "warmup_steps": 1000, "decay_steps": 10_000,
                "autoencoder_steps": 20_000,
            },
        ),
    }
)  # fmt: skip
"""Sizes to choose from. What of it was swept, and what was not, stands in weights.md."""

AUTOENCODER = AutoencoderConfig(width=24, latent_channels=16, num_downsamples=4)
"""Latents of 16 channels, a sixteenth of the size: few places leave a small network wide at each of them."""


def codec_config(codec: TrainedCodec, fps: float) -> VideoConfig:
    """What a checkpoint says of its videos, trained with this codec."""
    return VideoConfig(codec=codec, fps=fps, autoencoder=AUTOENCODER if codec == "latent" else None)


def changed_fields(before: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Names of the recipe's fields that differ from those recorded before."""
    now = asdict(recipe)
    return [field.name for field in fields(recipe) if before.get(field.name) != now[field.name]]

"""What a checkpoint says of itself: frozen dataclasses, checked where they are made.

One JSON object (in the safetensors header under the key `mpvideo`, or in a config.json beside the weights) holds a
`CheckpointConfig`. Every dataclass raises ValueError for a field out of range; `CheckpointConfig.from_dict` turns that
into a CheckpointError that names the place. Only the standard library is imported here, so that a config can be read
and checked without torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from mpvideo.checks import build, check_bool, check_choice, check_float, check_int
from mpvideo.errors import CheckpointError
from mpvideo.sampling_config import SamplingConfig as SamplingConfig  # a part like those below, and found beside them
from mpvideo.text import printable

FORMAT = 1

DownsampleType = Literal["all", "image", "frame"]
CodecName = Literal["gray", "rgb", "rgba", "latent"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

MAX_SEED = 2**63 - 1
"""The greatest seed; 0 is the least, and a seed like any other."""

MAX_NAME = 1_000
"""Longest name of a class or checkpoint, in characters: every video's record has one of each."""

MIN_FPS, MAX_FPS = 0.01, 240.0
"""The slowest and the fastest video, in frames a second."""

PIXEL_CHANNELS: dict[str, int] = {"gray": 1, "rgb": 3, "rgba": 4}
"""Channels of the codecs that need no autoencoder."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Constructor arguments of `mpvideo.nn.KarrasUnet3D`.

    Attributes:
        image_size: height and width of the tensor that the network sees.
        frames: its number of frames.
        dim: width of the first level; it doubles at each downsampling.
        dim_max: the width at which doubling stops.
        num_classes: number of classes, or None for an unconditional network.
        channels: channels of input and output.
        num_downsamples: number of downsampling stages S.
        num_blocks_per_stage: one number for all, or S + 1 of them; S of them use the first one twice.
        downsample_types: which axes each stage halves: 'all' (frames, height, width), 'image' or 'frame'; one or S.
        attn_res: heights of the levels that have attention (never the blocks of the first level).
        fourier_dim: width of the noise level's Fourier features, an even number.
        attn_dim_head: width of one attention head.
        attn_flash: accepted for the published package's sake; it has no effect on values.
        mp_cat_t: balance of the skip concatenation, 0 (all running tensor) to 1 (all skip).
        mp_add_emb_t: balance of noise (0) and class (1) embedding.
        attn_res_mp_add_t: balance of an attention's residual sum, 0 to 1.
        resnet_mp_add_t: accepted and never used, as in the published package: every block uses 0.3.
        dropout: probability, in training only.
        self_condition: whether the network also takes its previous estimate, concatenated on channels.
        factorize_space_time_attn: whether down- and upsampling blocks attend over space, then over time.
    """

    image_size: int
    frames: int
    dim: int = 192
    dim_max: int = 768
    num_classes: int | None = None
    channels: int = 4
    num_downsamples: int = 3
    num_blocks_per_stage: int | tuple[int, ...] = 4
    downsample_types: DownsampleType | tuple[DownsampleType, ...] = "all"
    attn_res: tuple[int, ...] = (16, 8)
    fourier_dim: int = 16
    attn_dim_head: int = 64
    attn_flash: bool = False
    mp_cat_t: float = 0.5
    mp_add_emb_t: float = 0.5
    attn_res_mp_add_t: float = 0.3
    resnet_mp_add_t: float = 0.3
    dropout: float = 0.1
    self_condition: bool = False
    factorize_space_time_attn: bool = False

    def __post_init__(self) -> None:
        self._freeze_sequences()
        for name in ("image_size", "frames", "dim", "dim_max", "channels", "attn_dim_head"):
            check_int(name, getattr(self, name), 1, 65536)
        if self.num_classes is not None:
            check_int("num_classes", self.num_classes, 1, 10_000_000)
        check_int("num_downsamples", self.num_downsamples, 0, 16)
        check_int("fourier_dim", self.fourier_dim, 2, 65536)
        if self.fourier_dim % 2:
            raise ValueError(f"fourier_dim must be even, got {self.fourier_dim}")
        for name in ("mp_cat_t", "mp_add_emb_t", "attn_res_mp_add_t", "resnet_mp_add_t"):
            check_float(name, getattr(self, name), 0.0, 1.0)
        check_float("dropout", self.dropout, 0.0, 1.0, open_high=True)
        for name in ("attn_flash", "self_condition", "factorize_space_time_attn"):
            check_bool(name, getattr(self, name))
        self._check_stages()

    def _freeze_sequences(self) -> None:
        """JSON and callers may hand lists over; a frozen config holds tuples."""
        for name in ("num_blocks_per_stage", "downsample_types", "attn_res"):
            value = getattr(self, name)
            if isinstance(value, list | set):
                object.__setattr__(self, name, tuple(value))
            elif name == "attn_res" and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, name, (value,))

    def _check_stages(self) -> None:
        S = self.num_downsamples
        if not isinstance(self.attn_res, tuple):
            raise ValueError(f"attn_res must be a list of whole numbers, got {self.attn_res!r}")
        # 0 downsamplings to 16 make 17 levels at most: more entries than that can only cost time.
        check_int("the number of entries of attn_res", len(self.attn_res), 0, 64)
        for value in self.attn_res:
            check_int("attn_res", value, 1)
        blocks = self.num_blocks_per_stage
        if isinstance(blocks, tuple):
            if len(blocks) not in ((S, S + 1) if S else (1,)):
                raise ValueError(
                    f"num_blocks_per_stage must be one number, {S} or {S + 1} of them for num_downsamples {S}; "
                    f"got {len(blocks)}: {list(blocks)}"
                )
            for value in blocks:
                check_int("num_blocks_per_stage", value, 1, 1024)
        else:
            check_int("num_blocks_per_stage", blocks, 1, 1024)
        check_int("num_blocks_per_stage summed over the levels", sum(self.stage_blocks), 1, 1024)
        types = self.downsample_types
        if isinstance(types, tuple) and len(types) != S:
            raise ValueError(
                f"downsample_types must be one word or {S} of them for num_downsamples {S}; "
                f"got {len(types)}: {list(types)}"
            )
        for word in types if isinstance(types, tuple) else (types,):
            check_choice("downsample_types", word, get_args(DownsampleType))
        halvings = {axis: sum(word in ("all", axis) for word in self.stage_types) for axis in ("image", "frame")}
        for name, axis in (("image_size", "image"), ("frames", "frame")):
            if getattr(self, name) % 2 ** halvings[axis]:
                raise ValueError(
                    f"{name} must be divisible by {2 ** halvings[axis]}, because {halvings[axis]} stages halve it; "
                    f"got {getattr(self, name)}"
                )

    @property
    def stage_types(self) -> tuple[DownsampleType, ...]:
        """What each of the S stages halves."""
        types = self.downsample_types
        return types if isinstance(types, tuple) else (types,) * self.num_downsamples

    @property
    def frames_multiple(self) -> int:
        """What the number of frames of an input must be a multiple of: the factor by which the stages shorten it."""
        return int(2 ** sum(word != "image" for word in self.stage_types))

    @property
    def stage_blocks(self) -> tuple[int, ...]:
        """Number of plain blocks on each of the S + 1 levels, the first level's first."""
        blocks = self.num_blocks_per_stage
        if not isinstance(blocks, tuple):
            return (blocks,) * (self.num_downsamples + 1)
        return blocks if len(blocks) == self.num_downsamples + 1 else (blocks[0], *blocks)


@dataclass(frozen=True, kw_only=True)
class EDMConfig:
    """How the network was preconditioned in training.

    Attributes:
        sigma_data: standard deviation of the training data (EDM, arXiv 2206.00364, table 1).
        clamp: whether denoised estimates are clamped to [-1, 1] while sampling, as the published package does.
        legacy_fan_in: whether 3D convolutions scale by dim_in * k**2 instead of dim_in * k**3, as weights trained
            with releases of the package before 28 February 2024 need.
    """

    sigma_data: float = 0.5
    clamp: bool = False
    legacy_fan_in: bool = False

    def __post_init__(self) -> None:
        check_float("sigma_data", self.sigma_data, 0.0, 1e6, open_low=True)
        check_bool("clamp", self.clamp)
        check_bool("legacy_fan_in", self.legacy_fan_in)


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Architecture of the per-frame autoencoder that travels inside a latent checkpoint.

    Attributes:
        width: channels of its first level; each of the `num_downsamples` halvings of the image doubles them.
        latent_channels: channels of a latent frame.
        num_downsamples: how often the image is halved.
    """

    width: int = 32
    latent_channels: int = 4
    num_downsamples: int = 3

    def __post_init__(self) -> None:
        check_int("width", self.width, 1, 4096)
        check_int("latent_channels", self.latent_channels, 1, 4096)
        check_int("num_downsamples", self.num_downsamples, 1, 8)

    @property
    def factor(self) -> int:
        """Pixels of the image to one of the latent, along each side."""
        return int(2**self.num_downsamples)


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """What the network's channels mean and how fast its frames play.

    Attributes:
        codec: 'gray', 'rgb', 'rgba' (values in [-1, 1]) or 'latent' (through the autoencoder).
        fps: frames a second, 0.01 to 240.
        autoencoder: architecture of the autoencoder; given exactly when the codec is 'latent'.
    """

    codec: CodecName
    fps: float = 8.0
    autoencoder: AutoencoderConfig | None = None

    def __post_init__(self) -> None:
        check_choice("codec", self.codec, get_args(CodecName))
        check_float("fps", self.fps, MIN_FPS, MAX_FPS)
        if (self.codec == "latent") != (self.autoencoder is not None):
            state = "missing" if self.autoencoder is None else "given"
            raise ValueError(f"autoencoder must be given exactly for the codec latent; it is {state} for {self.codec}")

    @property
    def channels(self) -> int:
        """Channels of the tensor that the network must make for this codec."""
        if self.autoencoder is not None:
            return self.autoencoder.latent_channels
        return PIXEL_CHANNELS[self.codec]

    @property
    def pixel_channels(self) -> int:
        """Channels of the decoded frames: 1, 3 or 4."""
        return 3 if self.autoencoder is not None else PIXEL_CHANNELS[self.codec]

    def pixel_size(self, image_size: int) -> int:
        """Height and width in pixels of a video whose network sees `image_size`."""
        return image_size * (self.autoencoder.factor if self.autoencoder else 1)


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Everything that a checkpoint says of itself, apart from its tensors.

    Attributes:
        model: the network's architecture.
        video: what its channels mean.
        edm: its preconditioning.
        sampling: the settings to sample it with unless the user says otherwise.
        classes: one name for each class, or None.
        training: a free record: what it was trained on, how long, by which version.
        title, license: one line each, or None.
    """

    model: ModelConfig
    video: VideoConfig
    edm: EDMConfig = field(default_factory=EDMConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    classes: tuple[str, ...] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        if self.model.channels != self.video.channels:
            raise ValueError(
                f"model.channels must be {self.video.channels} for the codec {self.video.codec}, "
                f"got {self.model.channels}"
            )
        if self.classes is not None:
            if not isinstance(self.classes, list | tuple):
                raise ValueError(f"classes must be a list of names, got {self.classes!r}")
            object.__setattr__(self, "classes", tuple(self.classes))
            self._check_classes(self.classes)
        if not isinstance(self.training, Mapping):
            raise ValueError(f"training must be an object, got {self.training!r}")
        for name in ("title", "license"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"{name} must be a string, got {getattr(self, name)!r}")

    def _check_classes(self, classes: tuple[str, ...]) -> None:
        if self.model.num_classes is None:
            raise ValueError("classes must be left out for a network without classes (num_classes is None)")
        for index, name in enumerate(classes):
            if not isinstance(name, str) or not name.strip() or "," in name:
                raise ValueError(f"classes must be names without commas, got {name!r} at {index}")
            if len(name) > MAX_NAME:
                raise ValueError(
                    f"classes must be names of at most {MAX_NAME:,} characters, got {len(name):,} at {index}"
                )
        if len(classes) != self.model.num_classes:
            raise ValueError(f"classes must be {self.model.num_classes} names, as num_classes; got {len(classes)}")
        seen: set[str] = set()
        for name in classes:
            if name in seen:
                raise ValueError(f"classes must be different names, got {name!r} twice")
            seen.add(name)

    @property
    def pixel_size(self) -> int:
        """Height and width of the videos, in pixels."""
        return self.video.pixel_size(self.model.image_size)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object: `format` first, fields that are None left out (but nothing of the free record)."""
        record = asdict(self)
        return {"format": FORMAT, **_without_none(record), "training": record["training"]}

    def to_json(self) -> str:
        """The JSON text, the same for the same config."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> "CheckpointConfig":
        """Checks and builds a config.

        Args:
            data: the JSON object.
            where: the file (and part of it) that it came from, for messages.

        Raises:
            CheckpointError: unknown format version, unknown or missing field, or a value out of range.
        """
        check_format(data, where)
        data = {key: value for key, value in data.items() if key != "format"}
        parts: dict[str, type] = {"model": ModelConfig, "edm": EDMConfig, "sampling": SamplingConfig}
        for key, part in parts.items():
            if key in data:
                data[key] = build(part, data[key], f"{where}: {key}")
        if "video" in data:
            video = data["video"]
            if isinstance(video, Mapping) and video.get("autoencoder") is not None:
                autoencoder = build(AutoencoderConfig, video["autoencoder"], f"{where}: video.autoencoder")
                video = {**video, "autoencoder": autoencoder}
            data["video"] = build(VideoConfig, video, f"{where}: video")
        if isinstance(data.get("classes"), list):
            data["classes"] = tuple(data["classes"])
        return build(cls, data, where)


def check_format(data: Mapping[str, Any], where: str, what: str = "config") -> None:
    """Refuses configs, or presets, of a version that this program does not know.

    Raises:
        CheckpointError: `format` is missing or is not the number that this version writes.
    """
    if (version := data.get("format")) != FORMAT or isinstance(version, bool):
        raise CheckpointError(
            f"{where}: {what} format must be {FORMAT}, got {printable(repr(version), 80)}",
            hint=f"The file comes from a newer mpvideo, or is not an mpvideo {what}: try a newer version."
            if isinstance(version, int)
            else f'Add "format": {FORMAT} if this is an mpvideo {what}.',
        )


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value

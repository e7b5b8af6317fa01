"""A checkpoint in memory: its network in the form that samples, its codec, and what writes its records."""

import copy
import dataclasses
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mpvideo.checkpoint import Checkpoint
from mpvideo.checkpoint.guide import check_guide
from mpvideo.checkpoint.load import load_tensors
from mpvideo.config import AutoencoderConfig, CheckpointConfig
from mpvideo.device import Placement, memory_errors
from mpvideo.diffusion import EDMDenoiser
from mpvideo.errors import UsageError
from mpvideo.nn import InferenceUnet3D
from mpvideo.nn.memory import return_freed_memory
from mpvideo.record import Recorder, Weights
from mpvideo.text import printable
from mpvideo.video.autoencoder import Autoencoder
from mpvideo.video.codec import Codec, LatentCodec, PixelCodec

_CODEC_PREFIX = "codec."


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint in memory, ready to sample.

    Attributes:
        checkpoint: where it comes from, and what it says of itself.
        net: the raw network in its inference form, on the placement's device and in its dtype.
        codec: between the network's tensor and pixels, on the same device.
        placement: the device, and the dtype that the network computes in.
        sha256: of the weights that were read, in hex; see `mpvideo.checkpoint.load.load_tensors`.
        guide: the network that guides it, if that is another than itself.
        name: what the checkpoint is called in records, where that is not the name of its file: hf:owner/repo...
    """

    checkpoint: Checkpoint
    net: InferenceUnet3D
    codec: Codec
    placement: Placement
    sha256: str
    guide: "Guide | None" = None
    name: str | None = None

    @property
    def config(self) -> CheckpointConfig:
        """What the checkpoint says of itself."""
        return self.checkpoint.config

    @cached_property
    def recorder(self) -> Recorder:
        """What writes the records of its videos."""
        guide = None if self.guide is None else Weights(name=self.guide.name, sha256=self.guide.sha256)
        return Recorder(
            self.checkpoint,
            name=self.name,
            sha256=self.sha256,
            dtype=self.placement.dtype_name,
            device=self.placement.device_name,
            compiled=self.placement.compiled,
            torch=torch.__version__,
            guide=guide,
        )

    def denoiser(self, class_labels: Tensor | None = None, *, clamp: bool = False) -> EDMDenoiser:
        """The network with its preconditioning.

        Args:
            class_labels: of a batch, in a form that `EDMDenoiser` takes, on any device.
            clamp: whether every estimate is clamped.
        """
        return _denoiser(self, self.placement, class_labels, clamp)

    def guide_denoiser(self, class_labels: Tensor | None = None, *, clamp: bool = False) -> EDMDenoiser | None:
        """The same of the network that guides it, if there is one."""
        if self.guide is None:
            return None
        return _denoiser(self.guide, self.placement, class_labels, clamp)

    def with_own_tables(self) -> "Model":
        """The same weights in networks whose tables of embeddings are their own.

        So samplings in several threads do not take each other's. That holds for the tables alone: what `--compile`
        records on CUDA belongs to the weights, and only one thread at a time may sample with it.
        """
        guide = self.guide and dataclasses.replace(self.guide, net=copy.copy(self.guide.net))
        return dataclasses.replace(self, net=copy.copy(self.net), guide=guide)


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A second network, for autoguidance.

    Attributes:
        name: what its checkpoint is called in records.
        config, net, sha256: as of `Model`.
    """

    name: str
    config: CheckpointConfig
    net: InferenceUnet3D
    sha256: str


def _denoiser(part: Model | Guide, placement: Placement, class_labels: Tensor | None, clamp: bool) -> EDMDenoiser:
    return EDMDenoiser(
        part.net,
        sigma_data=part.config.edm.sigma_data,
        clamp=clamp,
        self_condition=part.config.model.self_condition,
        class_labels=None if class_labels is None else class_labels.to(placement.device),
        dtype=placement.dtype,
    )


def load_model(
    checkpoint: Checkpoint,
    placement: Placement,
    *,
    guide: Checkpoint | None = None,
    name: str | None = None,
    guide_name: str | None = None,
) -> Model:
    """Reads a checkpoint's weights and builds its network and codec.

    On a CPU the C library is asked to return freed memory, and by the network after its first pass to keep it for the
    next ones, see `mpvideo.nn.memory`: for the rest of the process.

    Args:
        checkpoint: the checkpoint.
        placement: where to compute, and in what.
        guide: the checkpoint of a second network to guide it with.
        name, guide_name: what they are called in records, where these are not the names of their files.

    Raises:
        CheckpointError: the weights cannot be read or are not finite.
        UsageError: the guide is for other videos, see `mpvideo.checkpoint.guide`; or for other latents.
        DeviceError: there is not enough memory.
    """
    config = checkpoint.config
    if guide is not None:
        check_guide(config, guide)
    if placement.device.type == "cpu":  # before the weights come, or they leave gaps
        return_freed_memory()
    with memory_errors("the weights", "Close other programs, or use a smaller checkpoint or another --device."):
        tensors, sha256 = load_tensors(checkpoint.header)
        parts = _codec_tensors(tensors)
        second = None if guide is None else _load_guide(guide, parts, config, placement)
        codec: Codec = PixelCodec()
        if (shape := config.video.autoencoder) is not None:
            codec = LatentCodec(_build_autoencoder(shape, parts, placement.device), config.edm.sigma_data)
        net = _build_network(config, tensors, placement)
    if second is not None and guide_name is not None:
        second = dataclasses.replace(second, name=guide_name)
    return Model(
        checkpoint=checkpoint, net=net, codec=codec, placement=placement, sha256=sha256, guide=second, name=name
    )


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
        keep_freed=placement.device.type == "cpu",
    )


def _build_autoencoder(shape: AutoencoderConfig, tensors: dict[str, Tensor], device: torch.device) -> Autoencoder:
    """Builds an autoencoder around tensors that are already there, so that weights are never held twice."""
    with torch.device("meta"):
        autoencoder = Autoencoder(shape)
    floats = {name: tensors.pop(name).to(device, torch.float32) for name in list(tensors)}
    autoencoder.load_state_dict(floats, assign=True)
    if device.type == "cpu":  # where that order takes three quarters of the time
        autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return autoencoder.eval().requires_grad_(False)

"""Beginning a training with the weights of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mpvideo.checkpoint import open_checkpoint
from mpvideo.checkpoint.load import load_tensors
from mpvideo.config import AutoencoderConfig, EDMConfig, ModelConfig, VideoConfig
from mpvideo.errors import CheckpointError, UsageError, naming
from mpvideo.nn import KarrasUnet3D
from mpvideo.text import printable
from mpvideo.training.factored import FactoredClassEmbedding
from mpvideo.video.autoencoder import Autoencoder

_CODEC_PREFIX = "codec."

_FREE = ("dropout", "attn_flash", "resnet_mp_add_t")
"""Fields of a network that change nothing of what its weights mean; the last two change nothing at all."""

_OF_SIZE = "Give the --preset, --size, --frames and --codec that it was trained with; latents are smaller than videos."

_HINTS = {
    "image_size": _OF_SIZE,
    "frames": _OF_SIZE,
    "channels": _OF_SIZE,
    "num_classes": "DATA must have as many classes as it was trained on.",
    "self_condition": "Give --self-condition or --no-self-condition, as it was trained.",
}
"""What gives the fields of a network that options or the data decide; the preset gives the others."""


class InitialWeights:
    """What a checkpoint has to begin with.

    Args:
        path: the checkpoint.
        model, video: what is to be trained; the checkpoint must be of the same.
        sigma_data: of the training, and of the checkpoint; weights learned under another one are of no use.

    Attributes:
        sha256: of its tensors; see `mpvideo.checkpoint.load.load_tensors`.
        autoencoder: its autoencoder, or None.
        classes: names of the classes that it was trained on, or None.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        UsageError: it is one of another network or codec.
    """

    def __init__(
        self, path: Path, model: ModelConfig, video: VideoConfig, *, sigma_data: float = EDMConfig.sigma_data
    ) -> None:
        with naming("--init", path):
            checkpoint = open_checkpoint(path)
        config = checkpoint.config
        for name, own in vars(model).items():
            if name not in _FREE and (theirs := getattr(config.model, name)) != own:
                raise UsageError(
                    f"--init must be a checkpoint of the network to train, with {name} {printable(own)}, but "
                    f"{printable(path)} has {printable(theirs)}",
                    hint=_HINTS.get(
                        name, "The --preset must be the one that it was trained with, if mpvideo trained it."
                    ),
                )
        if config.video.codec != video.codec:
            raise UsageError(
                f"--init must be a checkpoint of the codec {video.codec}, but {printable(path)} is one of "
                f"{config.video.codec}"
            )
        for name, own in {} if video.autoencoder is None else vars(video.autoencoder).items():
            if (theirs := getattr(config.video.autoencoder, name)) != own:
                raise UsageError(
                    f"--init must be a checkpoint with an autoencoder of {name} {own}, "
                    f"but that of {printable(path)} has {theirs}"
                )
        for name, own in {"sigma_data": sigma_data, "legacy_fan_in": False}.items():
            if (theirs := getattr(config.edm, name)) != own:
                raise UsageError(
                    f"--init must be a checkpoint with {name} {printable(own)}, as it is trained here, but "
                    f"{printable(path)} has {printable(theirs)}"
                )
        tensors, self.sha256 = load_tensors(checkpoint.header)
        floats = {name: tensor.float() for name, tensor in tensors.items()}
        self.classes = config.classes
        self.autoencoder: Autoencoder | None = None
        if video.autoencoder is not None:
            self.autoencoder = _autoencoder_in(floats, video.autoencoder)
        self._weights = {name: tensor for name, tensor in floats.items() if not name.startswith(_CODEC_PREFIX)}

    def load_into(self, net: KarrasUnet3D) -> None:
        """Replaces the weights of a network, whose class embedding may be factored."""
        weights = dict(self._weights)
        if isinstance(embedding := net.to_class_emb, FactoredClassEmbedding):
            weights["to_class_emb.weight"] = _factors_of(weights["to_class_emb.weight"], embedding)
        net.load_state_dict(weights)


def own_autoencoder(path: Path, config: AutoencoderConfig) -> Autoencoder:
    """The autoencoder in a run's own checkpoint, in the precision of that.

    Raises:
        CheckpointError: the checkpoint cannot be read, or has another one.
    """
    checkpoint = open_checkpoint(path)
    if checkpoint.config.video.autoencoder != config:
        raise CheckpointError(f"{printable(path)} has another autoencoder than this run, or none")
    tensors, _ = load_tensors(checkpoint.header)
    return _autoencoder_in(tensors, config)


def _autoencoder_in(tensors: Mapping[str, Tensor], config: AutoencoderConfig) -> Autoencoder:
    """The autoencoder among the tensors of a checkpoint."""
    autoencoder = Autoencoder(config)
    prefix = len(_CODEC_PREFIX)
    parts = {name[prefix:]: tensor for name, tensor in tensors.items() if name.startswith(_CODEC_PREFIX)}
    autoencoder.load_state_dict(parts)
    return autoencoder


def _factors_of(table: Tensor, embedding: FactoredClassEmbedding) -> Tensor:
    """The factors whose sums come nearest to a full table: exact for a table that was made of such sums."""
    design = embedding.design.cpu().double()  # on the CPU, as MPS has no float64
    # The sums do not change when a constant moves from one factor to another: take the smallest factors.
    solution: Tensor = torch.linalg.lstsq(design.T, table.double().T, driver="gelsd").solution
    return solution.T.float()

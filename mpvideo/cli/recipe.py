"""How the videos of a run are made, and the record of it that each of them carries."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpvideo import __version__
from mpvideo.checkpoint import Checkpoint
from mpvideo.config import SamplingConfig

if TYPE_CHECKING:
    from mpvideo.generation import Model, Video
    from mpvideo.video import Encoding


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What all videos of a run share.

    Attributes:
        checkpoint: what they come from.
        sampling: settings of the sampler.
        clamp: whether denoised estimates are clamped.
        frames: how many frames of each are kept.
        encoding: how they are written.
    """

    checkpoint: Checkpoint
    sampling: SamplingConfig
    clamp: bool
    frames: int
    encoding: "Encoding"

    def class_name(self, index: int | None) -> str | None:
        """What the checkpoint calls a class, if anything."""
        names = self.checkpoint.config.classes
        return None if names is None or index is None else names[index]

    def record(self, video: "Video", model: "Model", command: str) -> dict[str, Any]:
        """How a video was made, to be kept in its file: JSON, without names of folders.

        Args:
            video: the video.
            model: what made it.
            command: the command that makes it again.
        """
        import torch

        return {
            "mpvideo": __version__,
            "command": command,
            "checkpoint": {"name": self.checkpoint.name, "sha256": model.sha256},
            "class": video.class_index,
            "class_name": self.class_name(video.class_index),
            "seed": video.seed,
            "frames": self.frames,
            "sampling": dataclasses.asdict(self.sampling),
            "clamp": self.clamp,
            "device": model.placement.device_name,
            "dtype": model.placement.dtype_name,
            "torch": torch.__version__,
        }

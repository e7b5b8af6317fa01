"""How the videos of a run are made, and the record of it that each of them carries."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpvideo.checkpoint import Checkpoint
from mpvideo.cli.hub import is_on_hub
from mpvideo.config import SamplingConfig
from mpvideo.formats import Encoding

if TYPE_CHECKING:
    from mpvideo.generation import Model, Video
    from mpvideo.record import Record, Recorder


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What all videos of a run share.

    Attributes:
        checkpoint: what they come from.
        sampling: settings of the sampler.
        clamp: whether denoised estimates are clamped.
        frames: how many frames of each are kept.
        encoding: how they are written.
        exact: whether each is sampled by itself.
    """

    checkpoint: Checkpoint
    sampling: SamplingConfig
    clamp: bool
    frames: int
    encoding: Encoding
    exact: bool

    def recorder(self, model: "Model", asked_for: Path | None, guide: Path | None = None) -> "Recorder":
        """What writes the records of the run.

        Args:
            model: what makes the videos.
            asked_for, guide: the checkpoints as the command line names them.
        """
        import torch

        from mpvideo.record import Recorder, Weights

        second = model.guide
        return Recorder(
            self.checkpoint,
            name=_hub_name(asked_for),
            sha256=model.sha256,
            dtype=model.placement.dtype_name,
            device=model.placement.device_name,
            compiled=model.placement.compiled,
            torch=torch.__version__,
            guide=None if second is None else Weights(name=_hub_name(guide) or second.name, sha256=second.sha256),
        )

    def record(self, recorder: "Recorder", video: "Video") -> "Record":
        """How a video was made, to be kept in its file."""
        return recorder.record(
            seed=video.seed,
            class_index=video.class_index,
            frames=self.frames,
            sampling=self.sampling,
            clamp=self.clamp,
            encoding=self.encoding,
            exact=self.exact,
        )


def _hub_name(path: Path | None) -> str | None:
    return str(path) if path is not None and is_on_hub(path) else None

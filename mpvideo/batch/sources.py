"""Which weights a video comes from, and what writes its record."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mpvideo.checkpoint import Checkpoint

if TYPE_CHECKING:
    from mpvideo.device import Placement
    from mpvideo.model import Model
    from mpvideo.record import Recorder, Weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """The checkpoint that makes a video, and the one that guides it, if there is one; equal only to itself.

    Attributes:
        checkpoint, guide: the checkpoints.
        ckpt, guide_ckpt: what the user calls them; None for the weights that come with mpvideo.
        name, guide_name: what records call them, where that is not the name of the file.
        check: called with the model when it is there; raises an error if its weights are not those that were meant.
    """

    checkpoint: Checkpoint
    ckpt: str | None = None
    name: str | None = None
    guide: Checkpoint | None = None
    guide_ckpt: str | None = None
    guide_name: str | None = None
    check: "Callable[[Model], None] | None" = None

    def load(self, placement: "Placement") -> "Model":
        """Reads the weights; see `mpvideo.model.load_model`."""
        from mpvideo.model import load_model  # noqa: PLC0415 - torch, which planning does without

        model = load_model(self.checkpoint, placement, guide=self.guide, name=self.name, guide_name=self.guide_name)
        if self.check is not None:
            self.check(model)
        return model

    @cached_property
    def weights(self) -> "tuple[Weights, Weights | None]":
        """What records say of both: their names and hashes. Reads the files, but builds nothing of them.

        Raises:
            CheckpointError: a file cannot be read.
        """
        from mpvideo.checkpoint.load import hash_tensors  # noqa: PLC0415
        from mpvideo.record import Weights  # noqa: PLC0415

        own = Weights(name=self.name or self.checkpoint.name, sha256=hash_tensors(self.checkpoint.header))
        if self.guide is None:
            return own, None
        return own, Weights(name=self.guide_name or self.guide.name, sha256=hash_tensors(self.guide.header))

    def recorder(self, placement: "Placement") -> "Recorder":
        """What would write the records of videos that are made there, without loading a model."""
        from mpvideo.model import recorder_of  # noqa: PLC0415

        own, guide = self.weights
        return recorder_of(self.checkpoint, placement, name=self.name, sha256=own.sha256, guide=guide)

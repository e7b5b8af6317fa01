"""Which weights a video comes from, and what writes its record."""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mpvideo.checkpoint import Checkpoint

if TYPE_CHECKING:
    from mpvideo.device import Placement
    from mpvideo.model import Model
    from mpvideo.record import Weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """The checkpoint that makes a video, and the one that guides it, if there is one.

    Two are equal if one model does for both. How to sample makes no difference: requests say it themselves, and what
    depends on it must not be kept by sources alone.

    Attributes:
        checkpoint, guide: the checkpoints.
        ckpt, guide_ckpt: what the user calls them; None for the weights that come with mpvideo.
        name, guide_name: what records call them, where that is not the name of the file.
    """

    checkpoint: Checkpoint
    ckpt: str | None = None
    name: str | None = None
    guide: Checkpoint | None = None
    guide_ckpt: str | None = None
    guide_name: str | None = None

    @cached_property
    def key(self) -> bytes:
        """What is the same in all that are equal, and in no others: a few bytes, to be kept however many there are."""
        parts: list[object] = []
        for each, name in ((self.checkpoint, self.name), (self.guide, self.guide_name)):
            if each is not None:
                config = each.config
                parts += [os.path.realpath(each.path), name or each.name, *each.header.stamps.values()]
                parts += [config.model, config.video, config.edm, config.classes]
        return hashlib.sha256(repr(parts).encode()).digest()

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Sources) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def are_current(self) -> bool:
        """Whether the files are still those that were opened."""
        return all(each is None or each.header.is_current() for each in (self.checkpoint, self.guide))

    def load(self, placement: "Placement") -> "Model":
        """Reads the weights; see `mpvideo.model.load_model`."""
        from mpvideo.model import load_model  # noqa: PLC0415 - torch, which planning does without

        return load_model(self.checkpoint, placement, guide=self.guide, name=self.name, guide_name=self.guide_name)

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

"""What training asks of its data."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Dataset(Protocol):
    """Endless numbered samples, the same at every call and in every process.

    Attributes:
        classes: the names of the classes in their order; None for data without classes.
        factors: where every class is a combination of a value of each of several factors, the numbers of their
            values, the slowest factor first (see `mpvideo.training.factored`); None elsewhere.
        fps: frames a second of the samples.
    """

    @property
    def classes(self) -> tuple[str, ...] | None: ...  # noqa: D102
    @property
    def factors(self) -> tuple[int, ...] | None: ...  # noqa: D102
    @property
    def fps(self) -> float: ...  # noqa: D102

    def batch(
        self, numbers: Sequence[int], frames: int | None = None, *, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """Samples by their numbers.

        Args:
            numbers: any, in any order.
            frames: for clips of fewer frames than a whole sample has.
            device: where the frames are wanted.

        Returns:
            Frames (B, T, H, W, C) uint8, on the device, and labels (B,) int64, on the CPU: indices into `classes`, or
            zeros without classes.
        """
        ...

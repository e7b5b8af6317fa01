"""The Fréchet distance between videos and real ones, in the features of a network that the user names."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mpvideo.errors import UsageError
from mpvideo.evaluation.frechet import frechet_distance
from mpvideo.evaluation.network import RESIZING, FeatureNetwork
from mpvideo.text import counted
from mpvideo.video.decode import Frames, UnreadableVideo


@dataclass(frozen=True)
class DistanceReport:
    """A distance and how it came about.

    Attributes:
        frechet: the distance; it compares only with distances of the same protocol.
        num_videos, num_real: how many videos of each kind there were.
        too_short, unreadable: how many real ones were left out because they have too few frames, or cannot be read.
        protocol: what else the distance depends on.
    """

    frechet: float
    num_videos: int
    num_real: int
    too_short: int
    unreadable: int
    protocol: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        counted = {name: getattr(self, name) for name in ("num_videos", "num_real", "too_short", "unreadable")}
        return {"frechet": self.frechet, **counted, **self.protocol}


class DistanceMeasure:
    """Is given videos one by one, keeps their features, and reports in the end."""

    def __init__(self, network: FeatureNetwork) -> None:
        self._network = network
        self._features: list[Tensor] = []
        self._real: list[Tensor] = []
        self._too_short = self._unreadable = 0
        self._shape: tuple[int, ...] | None = None

    def add(self, frames: Frames) -> None:
        """Measures a video, (T, H, W, C) uint8, of the shape of the first one.

        Raises:
            UsageError: it has another shape.
            MPVideoError: the network fails on it.
        """
        if self._shape is None:
            self._shape = frames.shape
        if frames.shape[:3] != self._shape[:3]:
            T, H, W, _ = self._shape
            raise UsageError(
                f"all videos must have {counted(T, 'frame')} of {W}x{H} pixels like the first one, got "
                f"{counted(frames.shape[0], 'frame')} of {frames.shape[2]}x{frames.shape[1]}"
            )
        self._features.append(self._network.features(frames))

    def add_real(self, frames: Frames | UnreadableVideo | None) -> None:
        """Measures a real video, or counts one that cannot be read, or is too short (None).

        Raises:
            MPVideoError: the network fails on it.
        """
        if frames is None:
            self._too_short += 1
        elif isinstance(frames, UnreadableVideo):
            self._unreadable += 1
        else:
            self._real.append(self._network.features(frames))

    def check_real(self) -> None:
        """Makes sure that there are enough real videos.

        Raises:
            UsageError: there are fewer than two.
        """
        if len(self._real) < 2:
            raise UsageError(
                f"--data must have at least 2 videos that are long enough, got {len(self._real)}; "
                f"{self._too_short} are too short, {self._unreadable} cannot be read"
            )

    def report(self) -> DistanceReport:
        """Sums up.

        Raises:
            UsageError: there are fewer than two videos, or than two real ones.
        """
        self.check_real()
        if len(self._features) < 2 or self._shape is None:
            raise UsageError(f"at least 2 videos must be compared, got {len(self._features)}")
        T, H, W, _ = self._shape
        network = self._network
        return DistanceReport(
            frechet=frechet_distance(torch.stack(self._features), torch.stack(self._real)),
            num_videos=len(self._features),
            num_real=len(self._real),
            too_short=self._too_short,
            unreadable=self._unreadable,
            protocol={
                "network": {"name": network.path.name, "sha256": network.sha256, "called_with": network.flags},
                "frames": T,
                "height": H,
                "width": W,
                "feature_size": network.size,
                "resizing": RESIZING,
            },
        )

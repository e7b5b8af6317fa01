"""How far a video is from the nearest rendering that a network was trained on.

A network that memorises repeats training renderings: its videos would lie much nearer to them than fresh renderings of
the same class do. The measure is the root mean square over all pixels of a video, 0..255.

What it can show: wholesale copying of what it looks at. What it cannot: it looks at up to 16 renderings of the video's
own class, the first that `mpvideo train menagerie` shows, out of hundreds or thousands; a copy of a later one goes
unseen. They are what a training with seed 0 and without `--init` begins with, as that of the bundled weights did;
another one is shown others, and no copy of those is found. Pixels weigh the backdrop more than the animal, and a video
that is blurred, or between all others, is near to all of them: a ratio a little below 1 says that videos are smooth,
and only one far below 1 that they are copies.
"""

from collections import defaultdict

import torch
from torch import Tensor

from mpvideo import menagerie
from mpvideo.training.world import MenagerieData

SAMPLES = 16_384
"""How many training samples, from number 0 on, are searched: on average they hold 16 of each class, at the least 4."""

PER_CLASS = 16
"""How many renderings of a class are looked at, at most."""

_AT_ONCE = 512


class TrainingRenderings:
    """The first training samples, from number 0 on, by class, drawn again when they are asked for.

    Args:
        samples: how many are searched, at least 1.
    """

    def __init__(self, samples: int = SAMPLES) -> None:
        self._seeds: dict[int, list[int]] = defaultdict(list)
        data = MenagerieData()
        for start in range(0, samples, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, samples))
            _, classes = data.batch(numbers, frames=1)  # the classes are wanted; one frame is the least it draws
            for number, index in zip(numbers, classes.tolist(), strict=True):
                if len(self._seeds[index]) < PER_CLASS:
                    self._seeds[index].append(number)

    def count(self, class_index: int) -> int:
        """How many there are of a class, 0 .. PER_CLASS."""
        return len(self._seeds[class_index])

    def nearest(self, videos: Tensor, class_index: int) -> Tensor:
        """Distances of videos to the nearest training rendering of a class.

        Args:
            videos: (B, 32, 64, 64, 3) uint8.
            class_index: 0..999, of which there is at least one rendering.

        Returns:
            (B,) float64 root mean squares, 0..255.

        Raises:
            ValueError: there is no rendering of that class.
        """
        seeds = self._seeds[class_index]
        if not seeds:
            raise ValueError(f"class_index must have training renderings, got {class_index}")
        drawn = menagerie.render(torch.full((len(seeds),), class_index), torch.tensor(seeds))
        wanted = videos.float()
        # One at a time, the differences stay in the processor's cache.
        distances = [(wanted - rendering.float()).square_().mean((1, 2, 3, 4)) for rendering in drawn]
        return torch.stack(distances).amin(0).double().sqrt()

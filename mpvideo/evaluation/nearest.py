"""How far a video is from the nearest rendering that a network was trained on.

A network that memorises repeats training renderings: its videos would lie much nearer to them than fresh renderings of
the same class do. The measure is the root mean square over all pixels of a video, 0..255.

What it can show: wholesale copying of what it looks at. What it cannot: it looks at up to 16 renderings of the video's
own class, the first that the network's run was shown, out of hundreds or thousands; a copy of a later one, or of one
that the weights of its `--init` were trained on, goes unseen. Where the checkpoint does not say what it was shown, they
are the first of a training with seed 0 and without `--init`, with which that of the bundled weights began; of another
one no copy is found then. Pixels weigh the backdrop more than the animal, and a video that is blurred, or between all
others, is near to all of them: a ratio a little below 1 says that videos are smooth, and only one far below 1 that they
are copies.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mpvideo import menagerie
from mpvideo.checks import check_int
from mpvideo.training.world import MenagerieData

SAMPLES = 16_384
"""How many training samples are searched, if there are so many: on average they hold 16 of each class."""

PER_CLASS = 16
"""How many renderings of a class are looked at, at most."""

_AT_ONCE = 512


def shown_numbers(training: Mapping[str, Any]) -> Sequence[int] | None:
    """The numbers of the first training samples that a run was shown, at most `SAMPLES`.

    Args:
        training: what its checkpoint says of it; anyone may have written that.

    Returns:
        None if it does not say, or the run was not on the menagerie.
    """
    try:
        if training["source"]["data"] != "menagerie":
            return None
        first, steps = training["first_sample"], training["steps"]
        batch_size, clip_frames = training["recipe"]["batch_size"], training["recipe"].get("clip_frames")
        check_int("first_sample", first, 0, 2**61 - 2**47)
        check_int("steps", steps, 1)
        check_int("batch_size", batch_size, 1, 65536)
        if clip_frames is not None:
            check_int("clip_frames", clip_frames, 1, menagerie.FRAMES)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    # With short clips a step takes more numbers, of which only the first are surely shown; see `Trainer.train_step`.
    apart = batch_size * (1 if clip_frames is None else menagerie.FRAMES // clip_frames)
    starts = range(first, first + apart * min(steps, -(-SAMPLES // batch_size)), apart)
    return [start + number for start in starts for number in range(batch_size)][:SAMPLES]


class TrainingRenderings:
    """Training samples, by class, drawn again when they are asked for.

    Args:
        shown: their numbers, as the network's run was shown them; None if that is not known, for the first of a
            training with seed 0 and without `--init`.

    Attributes:
        about: which they are, as JSON takes it.
    """

    def __init__(self, shown: Sequence[int] | None = None) -> None:
        self._seeds: dict[int, list[int]] = defaultdict(list)
        searched = range(SAMPLES) if shown is None else shown
        self.about = {
            "per_class_at_most": PER_CLASS,
            "of_training_samples": len(searched),
            "first_sample": searched[0],
            "of_its_run": shown is not None,
        }
        data = MenagerieData()
        for start in range(0, len(searched), _AT_ONCE):
            numbers = searched[start : start + _AT_ONCE]
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

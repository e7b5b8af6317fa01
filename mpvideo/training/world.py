"""The menagerie as training data: endless renderings, another one for every number.

A training is shown none twice. One with another seed, or with other weights to begin with, has numbers of its own, see
`mpvideo.training.plan.Plan.first_sample`: that two meet has a chance of less than one in billions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mpvideo import menagerie
from mpvideo.diffusion.noise import seeded_generator

FACTORS = (len(menagerie.ANIMALS), len(menagerie.COATS), len(menagerie.MOTIONS))
"""What a class is a combination of, the slowest first; see `mpvideo.training.factored`."""

_CLASS_SEEDS = 2**62
"""Classes and starts are drawn by generators of their own, apart from those of anything else."""


class MenagerieData:
    """The data set of `mpvideo.menagerie`: sample n is the rendering of seed n, of a class that n draws."""

    classes: tuple[str, ...] | None = menagerie.class_names()
    factors: tuple[int, ...] | None = FACTORS
    fps = float(menagerie.FPS)

    def batch(
        self, numbers: Sequence[int], frames: int | None = None, *, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """Samples by their numbers, 0 .. 2**61; see `mpvideo.training.data.Dataset`.

        They are rendered where they are wanted if that is a CUDA device: a core of a CPU takes 4 to 8 ms for each.
        """
        wanted = torch.device(device)
        place = wanted if wanted.type == "cuda" else torch.device("cpu")
        draws = torch.stack([torch.rand(2, generator=seeded_generator(_CLASS_SEEDS + number)) for number in numbers])
        classes = (draws[:, 0].double() * menagerie.NUM_CLASSES).long()
        length = menagerie.FRAMES if frames is None else frames
        start = (draws[:, 1].double() * (menagerie.FRAMES - length + 1)).long()
        indices = start.unsqueeze(1) + torch.arange(length)
        videos = menagerie.render(classes.to(place), torch.tensor(numbers, device=place), frame_indices=indices)
        return videos.to(wanted), classes

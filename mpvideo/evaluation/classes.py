"""Which classes are sampled to measure a checkpoint."""

import torch

from mpvideo.diffusion.noise import seeded_generator


def balanced_classes(num: int, num_classes: int, seed: int) -> list[int]:
    """Draws `num` classes so that each comes as often as any other, up to one: shuffled rounds through all of them."""
    generator = seeded_generator(seed)
    rounds = [torch.randperm(num_classes, generator=generator) for _ in range(0, num, num_classes)]
    return [int(index) for index in torch.cat(rounds)[:num]]

"""Seeded randomness: one generator a sample, so that a seed means the same video in any company."""

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from mpvideo.blend import Blend
from mpvideo.config import MAX_SEED


class SeededNoise:
    """All random draws of a batch of samples, each from its own generator on the CPU, keyed by its seed.

    Every sample draws in this order: its class, always, whether it is used or not; its start noise; churn noise step by
    step. So a seed gives the same video at any batch size, place in the batch or device, and naming the class that a
    seed drew gives the video that the seed gives by itself. Draws are float32 whatever the dtype they are asked in.

    A blend of two seeds draws from both generators, and every draw is the `slerp` of theirs; its class is the first's.

    Args:
        seeds: one seed for each sample, 0 .. MAX_SEED, or a blend of two.
        device: where the noise goes; it is always drawn on the CPU.

    Attributes:
        generators: the samples' generators, in the order of seeds; of a blend, one after the other.

    Raises:
        ValueError: no seeds, a seed out of range, or a blend of more than two.
    """

    def __init__(self, seeds: Sequence[int | Blend], device: torch.device | str = "cpu") -> None:
        if not seeds:
            raise ValueError("seeds must be at least one, got none")
        self.device = torch.device(device)
        self._samples = [_seeded(seed) for seed in seeds]
        self.generators = [generator for generators, _ in self._samples for generator in generators]
        # Drawn here, so that no caller can forget it or draw it late.
        draws = [
            [torch.rand((), generator=generator, dtype=torch.float64) for generator in generators]
            for generators, _ in self._samples
        ]
        self._class_draws = torch.stack([first for first, *_ in draws])

    def __len__(self) -> int:
        return len(self._samples)

    def random_classes(self, num_classes: int) -> Tensor:
        """The class that each seed drew, uniform over 0 .. num_classes - 1: (B,) int64. Asking draws nothing.

        Raises:
            ValueError: num_classes is below 1.
        """
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        return (self._class_draws * num_classes).long().to(self.device)

    def randn(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal noise for every sample: (B, *shape)."""
        draws = []
        for generators, share in self._samples:
            first, *second = [torch.randn(shape, generator=generator) for generator in generators]
            draws.append(slerp(first, second[0], share) if second else first)
        return torch.stack(draws).to(dtype).to(self.device)

    def randn_like(self, x: Tensor) -> Tensor:
        """Standard normal noise of the shape and dtype of x (B, ...): the `noise` of the samplers.

        Raises:
            ValueError: the batch of x is not that of the seeds.
        """
        if len(x) != len(self):
            raise ValueError(f"x must have {len(self)} samples, one for each seed, got {len(x)}")
        return self.randn(*x.shape[1:], dtype=x.dtype)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical linear interpolation (Shoemake 1985) from a, at `share` 0, to b, at 1; both to the bit.

    Between two draws of normal noise a straight line would pass through noise of less variance; the arc does not.
    """
    norms = a.norm().double() * b.norm().double()
    cosine = (a.double() * b.double()).sum().item() / norms.item() if norms.item() else 1.0
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    if math.sin(angle) < 1e-6:  # one direction, or opposite ones, between which there is no one arc
        return torch.lerp(a, b, share)
    return math.sin((1 - share) * angle) / math.sin(angle) * a + math.sin(share * angle) / math.sin(angle) * b


def _seeded(seed: int | Blend) -> tuple[tuple[torch.Generator, ...], float]:
    """The generators of a sample, one or two, and the share of the second."""
    if not isinstance(seed, Blend):
        return (seeded_generator(seed),), 0.0
    if len(seed.parts) != 2:
        raise ValueError(f"seeds must be blends of two, got {seed}")
    first, second = seed.numbers
    return (seeded_generator(first), seeded_generator(second)), seed.shares[1]


def seeded_generator(seed: int) -> torch.Generator:
    """A CPU generator for a seed of up to 63 bits.

    torch's Mersenne Twister is keyed by the lower 32 bits alone, so that 2**32 would repeat 0: the upper half is
    hashed into them. Seeds below 2**32 draw what torch draws.

    Raises:
        ValueError: the seed is not a whole number from 0 to MAX_SEED.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seeds must be whole numbers from 0 to {MAX_SEED}, got {seed!r}")
    high, low = divmod(seed, 2**32)
    return torch.Generator().manual_seed(low ^ zlib.crc32(high.to_bytes(4, "big")) if high else low)

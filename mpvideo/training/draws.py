"""Random draws that depend on a key alone: the same in any order, in any process, and after any interruption."""

import hashlib

import torch

from mpvideo.diffusion.noise import seeded_generator


def generator_for(*key: object) -> torch.Generator:
    """A generator for one purpose, such as the noise of one sample, on the CPU."""
    return seeded_generator(_digest(key) >> 65)


def draw_index(count: int, *key: object) -> int:
    """A number from 0 to count - 1, uniform."""
    return _digest(key) * count >> 128


def _digest(key: tuple[object, ...]) -> int:
    digest = hashlib.blake2b(" ".join(map(str, key)).encode(), digest_size=16).digest()
    return int.from_bytes(digest, "big")

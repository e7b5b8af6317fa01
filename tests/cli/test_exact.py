"""`sample --exact`: bytes that do not depend on the run that a video was made in."""

import hashlib
from pathlib import Path

import pytest
import torch

from mpvideo.diffusion import EDMDenoiser
from tests.cli.conftest import Program


def test_the_same_bytes_in_any_run(program: Program, ckpt: Path) -> None:
    """Every run has other videos beside it, and asks for other batches."""
    hashes = set()
    options = ("sample", "--ckpt", ckpt, "--class", 1, "--steps", 2, "--guidance", 2, "--exact", "--quiet")
    for first, num, batch_size in ((5, 1, 4), (3, 3, 2), (5, 5, 8), (1, 6, 1)):
        out = f"{num}-{{seed}}.mp4"
        done = program(*options, "--seed", first, "--num", num, "--batch-size", batch_size, "--out", out)
        assert done.code == 0, done.stderr
        hashes.add(hashlib.sha256(Path(f"{num}-5.mp4").read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_every_video_is_sampled_by_itself(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what the bytes depend on: kernels may round differently in larger batches, though not all do."""
    sizes: list[int] = []
    call = EDMDenoiser.__call__

    def evaluate(denoiser: EDMDenoiser, x: torch.Tensor, sigma: float, state: object = None) -> object:
        sizes.append(len(x))
        return call(denoiser, x, sigma, state)  # type: ignore[arg-type]

    monkeypatch.setattr(EDMDenoiser, "__call__", evaluate)
    options = ("sample", "--ckpt", ckpt, "--steps", 1, "--sampler", "euler", "--num", 4)
    assert program(*options, "--exact", "--batch-size", 4, "--out", "a{seed}.gif").code == 0
    assert sizes == [1, 1, 1, 1]
    sizes.clear()
    assert program(*options, "--batch-size", 4, "--out", "b{seed}.gif").code == 0
    assert sizes == [4]

"""`sample --exact`: bytes that do not depend on the run that a video was made in."""

import hashlib
from pathlib import Path

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

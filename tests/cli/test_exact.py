"""`sample --exact`: bytes that do not depend on the run that a video was made in."""

import hashlib
from pathlib import Path

from tests.cli.conftest import Program


def test_the_same_bytes_in_any_run(program: Program, ckpt: Path) -> None:
    """Every run has other videos beside it, and asks for other batches."""
    hashes = set()
    options = ("sample", "--ckpt", ckpt, "--class", 1, "--steps", 2, "--guidance", 2, "--exact", "--quiet")
    for run, (seeds, batch_size) in enumerate((("5", 4), ("3-5", 2), ("5-9", 8), ("1-6", 1), ("9,5,2", 3))):
        done = program(*options, "--seed", seeds, "--batch-size", batch_size, "--out", f"{run}-{{seed}}.mp4")
        assert done.code == 0, done.stderr
        hashes.add(hashlib.sha256(Path(f"{run}-5.mp4").read_bytes()).hexdigest())
    assert len(hashes) == 1

"""A short training for several processes, which writes down what it did; not a test by itself.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.training.together FOLDER
"""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from mpvideo.processes import Processes, join_processes
from mpvideo.training.recipe import Recipe
from mpvideo.training.trainer import Trainer
from tests.networks import TINY_SHAPE, randn, tiny_network

RECIPE = Recipe(batch_size=4, micro_batch=2, P_mean=-0.4, peak_rate=0.01, warmup_steps=10, decay_steps=30)
RECIPES = {
    "whole": (50, RECIPE),
    "parts": (8, replace(RECIPE, micro_batch=1, clip_frames=2, clip_share=0.5)),
    "damaged": (3, RECIPE),
}
"""Steps and recipe of each training; with two processes, the first needs no micro-batches and the second does."""

DAMAGED = 7
"""Sample that is no number, in the training of that name; the second process gets it."""


def batches(numbers: Sequence[int], clip: int | None) -> tuple[Tensor, Tensor]:
    """Noise around a picture of its class's brightness."""
    labels = torch.tensor(numbers) % 5
    C, T, H, W = TINY_SHAPE
    noise = torch.stack([randn(C, clip or T, H, W, seed=number) for number in numbers])
    return 0.1 * noise + (0.35 * (labels - 2)).view(-1, 1, 1, 1, 1), labels


def damaged_batches(numbers: Sequence[int], clip: int | None) -> tuple[Tensor, Tensor]:
    """The same, with one pixel that is no number."""
    clean, labels = batches(numbers, clip)
    if DAMAGED in numbers:
        clean[numbers.index(DAMAGED), 0, 0, 0, 0] = torch.nan
    return clean, labels


def train(name: str, processes: Processes) -> dict[str, Any]:
    """Trains, and tells the losses of every step, a fingerprint of the weights, and how often gradients travelled."""
    steps, recipe = RECIPES[name]
    net = tiny_network(gain=None, num_downsamples=0, downsample_types="all", attn_res=(8,))
    with torch.random.fork_rng():
        torch.manual_seed(processes.rank)  # nothing may depend on the global generator
        trainer = Trainer(net, recipe, sigma_data=0.5, processes=processes)
    journeys: list[int] = []
    if isinstance(trainer._objective, DistributedDataParallel):

        def count(state: None, bucket: GradBucket) -> Future[Tensor]:
            journeys.append(trainer.step)
            return allreduce_hook(None, bucket)  # type: ignore[arg-type]

        trainer._objective.register_comm_hook(None, count)
    chosen = damaged_batches if name == "damaged" else batches
    reports = [trainer.train_step(chosen) for _ in range(steps)]
    tensors = {**trainer.objective.state_dict(), **trainer.averages[0.05].average.state_dict(prefix="average.")}
    return {
        "sigmas": [report.sigma.tolist() for report in reports],
        "losses": [report.loss.tolist() for report in reports],
        "nonfinite": [report.nonfinite for report in reports],
        "weights": {key: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for key, tensor in tensors.items()},
        "finite": all(bool(tensor.isfinite().all()) for tensor in tensors.values()),
        "journeys": [journeys.count(step) for step in range(steps)],
        "samples": trainer.samples,
    }


def main(folder: Path) -> None:
    """Trains everything and uses everything that the processes offer."""
    with join_processes() as processes:
        rank = processes.rank
        told: dict[str, Any] = {"rank": rank, "count": processes.count, "local_rank": processes.local_rank}
        told["share"] = list(processes.share(range(10, 16)))
        told["gathered"] = processes.gather(torch.arange(3.0) + 10 * rank).tolist()
        told["agreed"] = [processes.agree(rank == 0), processes.agree(rank == 1)]
        told["alike"] = [processes.alike("both"), processes.alike(str(rank))]
        with processes.one_after_another(), (folder / "order").open("a") as file:
            file.write(str(rank))
        processes.wait()
        told["order"] = (folder / "order").read_text()
        for name in RECIPES:
            told[name] = train(name, processes)
        (folder / f"rank{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # A thread of gloo's may still let go of the hook's futures, and must not do so in an interpreter that ends.
    os._exit(0)

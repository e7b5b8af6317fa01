"""Training steps a second: mpvideo's trainer against a plain loop around the published package's module.

    pip install --no-deps denoising-diffusion-pytorch==2.3.4
    python benchmarks/training.py

All train the network of the menagerie's preset on batches of the same size, made of noise, on the same cores. They take
turns of several steps, in alternating order, so that whatever else slows the machine slows them all, and what is quoted
is the median of the turns' ratios.

- package: what the package's users write: the module in float32 as it is, EDM's loss, torch's Adam, one average of the
  weights, on all threads; and the same under bfloat16 autocast, where the processor has instructions for bfloat16.
- mpvideo: the trainer in one process on all threads, in the dtype that it measures to be faster, and as torchrun would
  start it, one process a core. It does more in a step: two averages, the learned weight of the noise levels, gradients
  checked.
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from package import package_network
from torch import Tensor

from mpvideo.config import ModelConfig
from mpvideo.diffusion import preconditioning
from mpvideo.nn import KarrasUnet3D
from mpvideo.nn.memory import FOR_STEPS, keep_freed_memory
from mpvideo.probe import without_bfloat16
from mpvideo.processes import Processes, join_processes
from mpvideo.training.cost import faster_dtype
from mpvideo.training.recipe import PRESETS, Recipe, TrainingDtype, codec_config
from mpvideo.training.trainer import Trainer

SIGMA_DATA = 0.5
STEPS = 4
"""That are timed in a turn, after one that is not: as in a training they follow others, while the first of a turn finds
nothing of its own in the caches."""


def plain_step(model: ModelConfig, recipe: Recipe, dtype: torch.dtype) -> Callable[[], None]:
    """A step of the loop that one writes around the package's module."""
    net = package_network(model).train()
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.peak_rate, betas=(0.9, 0.99))
    latents, labels = data(model, recipe.batch_size)

    def step() -> None:
        sigma = (torch.randn(len(latents)) * recipe.P_std + recipe.P_mean).exp()
        column = sigma.view(-1, 1, 1, 1, 1)
        _, _, c_in, c_noise = preconditioning(column, SIGMA_DATA)
        noise = torch.randn_like(latents)
        target = c_in * (column / SIGMA_DATA * latents - SIGMA_DATA * noise)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = net(c_in * (latents + column * noise), time=c_noise.flatten(), class_labels=labels)
        optimizer.zero_grad()
        (out.float() - target).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, 0.01)

    return step


def trainer_step(model: ModelConfig, recipe: Recipe, processes: Processes) -> Callable[[], None]:
    """A step of mpvideo's trainer, shared by the processes."""
    trainer = Trainer(KarrasUnet3D(**vars(model)), recipe, sigma_data=SIGMA_DATA, processes=processes)
    latents, labels = data(model, recipe.batch_size)

    def step() -> None:
        trainer.train_step(lambda numbers, frames: (latents[: len(numbers)], labels[: len(numbers)]))

    return step


def data(model: ModelConfig, count: int) -> tuple[Tensor, Tensor]:
    """A batch of noise, and classes."""
    latents = torch.randn(count, model.channels, model.frames, model.image_size, model.image_size)
    return SIGMA_DATA * latents, torch.randint(1000, (count,))


def work(role: str, batch_size: int) -> None:
    """Takes a turn's steps for every line of standard input, and says how many seconds they took."""
    torch.manual_seed(0)
    model = PRESETS["small"].model(codec_config("latent", 8.0), size=64, frames=32, num_classes=1000)
    recipe = Recipe(batch_size=batch_size, micro_batch=batch_size)
    with join_processes() as processes:
        if processes.count != int(os.environ.get("WORLD_SIZE", "1")):
            raise SystemExit("the processes do not train together")
        if role.startswith("package"):
            step = plain_step(model, recipe, torch.bfloat16 if role.endswith("bfloat16") else torch.float32)
        else:
            keep_freed_memory(FOR_STEPS)  # as `mpvideo train` does
            first = processes.first and faster_dtype(model, recipe) == "bfloat16"
            chosen: TrainingDtype = "bfloat16" if processes.agree(first) else "float32"
            recipe = replace(recipe, dtype=chosen)
            step = trainer_step(model, recipe, processes)
        step()
        print("ready" if role.startswith("package") else f"ready {recipe.dtype}", flush=True)
        for _ in sys.stdin:
            step()
            began = time.perf_counter()
            for _ in range(STEPS):
                step()
            print(f"seconds {time.perf_counter() - began}", flush=True)


class Contender:
    """The processes that share a step; idle, without using a core, until they are asked for a turn.

    Attributes:
        dtype: what they compute in, if they choose it.
    """

    REST = 0.05
    """Seconds before each turn, in which the threads of the processes before it stop looking for work."""

    def __init__(self, role: str, batch_size: int, count: int, threads: int) -> None:
        self.processes = []
        for rank in range(count):
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            if count > 1:
                environment |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
                environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
                environment |= {"TORCHELASTIC_RUN_ID": "benchmark"}  # by which mpvideo knows torchrun's processes
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, __file__, "--role", role, "--batch-size", str(batch_size)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )
        self.dtype = self._told("ready")[0]

    def seconds(self) -> float:
        """How long a step takes, as the mean over a turn of the slowest of the processes."""
        time.sleep(self.REST)
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("turn\n")
            process.stdin.flush()
        return max(map(float, self._told("seconds"))) / STEPS

    def _told(self, word: str) -> list[str]:
        """What each process says after `word`."""
        told = []
        for process in self.processes:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith(word)), None)
            if line is None:
                raise SystemExit("a process failed; see what it printed")
            told.append(line.removeprefix(word).strip())
        return told

    def end(self) -> None:
        """Lets the processes go: all of them before any is waited for, since each waits for the others at its end."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        if any(process.wait() for process in self.processes):
            raise SystemExit("a process failed; see what it printed")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        work(arguments.role, arguments.batch_size)
        return
    cores = torch.get_num_threads()
    names = {
        "package, float32": ("package", 1, cores),
        "package, bfloat16 autocast": ("package bfloat16", 1, cores),
        "mpvideo, one process": ("mpvideo", 1, cores),
        f"mpvideo, {cores} processes": ("mpvideo", cores, 1),
    }
    if without_bfloat16("cpu") is not None:  # a step of it would take minutes
        del names["package, bfloat16 autocast"]
    contenders = {
        name: Contender(role, arguments.batch_size, count, threads) for name, (role, count, threads) in names.items()
    }
    turns = []
    for turn in range(arguments.turns):
        order = list(contenders)[:: 1 if turn % 2 else -1]
        turns.append({name: contenders[name].seconds() for name in order})
    for name, one in contenders.items():
        ratios = [turn["package, float32"] / turn[name] for turn in turns]
        print(
            f"{name}{f', {one.dtype}' if one.dtype else ''}: "
            f"{arguments.batch_size / statistics.median(turn[name] for turn in turns):.1f} videos a second, "
            f"{statistics.median(ratios):.2f} times the plain loop ({min(ratios):.2f} to {max(ratios):.2f})"
        )
        one.end()


if __name__ == "__main__":
    main()

"""Passes of the network: mpvideo's inference form against the published package's module, on the same weights.

    pip install --no-deps denoising-diffusion-pytorch==2.3.4
    python benchmarks/sampling.py [--device cuda]

All contenders hold the same weights and see the same input, and take turns in alternating order, so that whatever else
slows the machine slows them all. Each is in a process of its own, since mpvideo has the C library keep freed memory,
which would make the package faster as well. Times are medians; ratios are medians of the turns' ratios. Operations are
those of the direct convolution, whatever is computed instead; the limit is a product of two 2048x2048 matrices in the
same dtype. The error is relative to the package's float32 output. Peak memory is measured in further processes and
counts from before the weights are there, without the pages of libraries; behind it stands what the weights
and 1.3 times the tensors alive at the network's fattest point take.

With --device cuda mpvideo is compiled, too, as --compile does, and memory is what torch had allocated at most.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from package import package_network
from torch import Tensor

from mpvideo.architecture import activation_bytes, clips_at_once, network_flops, network_shapes
from mpvideo.checkpoint import bundled_checkpoint, open_checkpoint
from mpvideo.checkpoint.load import load_tensors
from mpvideo.config import ModelConfig
from mpvideo.diffusion import class_rows
from mpvideo.nn import InferenceUnet3D
from mpvideo.nn.memory import return_freed_memory

_SMALL = {"frames": 16, "image_size": 32, "num_blocks_per_stage": 2, "channels": 3, "num_classes": 10}
NETS = {
    "bundled": open_checkpoint(bundled_checkpoint()).config.model,
    "32-wide": ModelConfig(**_SMALL, dim=32, dim_max=128, num_downsamples=2, attn_res=(8,), attn_dim_head=32),
    "64-wide": ModelConfig(**_SMALL, dim=64, dim_max=256, num_downsamples=3, attn_res=(8, 4), attn_dim_head=64),
    "example": ModelConfig(
        frames=32, image_size=64, dim=8, dim_max=768, num_classes=1000, num_downsamples=6, attn_dim_head=8,
        num_blocks_per_stage=(4, 3, 2, 2, 2, 2), downsample_types=("image", "frame") * 3,
        factorize_space_time_attn=True,
    ),
}  # fmt: skip
"""The bundled model, two nets of ordinary widths, and the example of the package's own page."""

Evaluate = Callable[[], Tensor]

DTYPES = ("float32", "bfloat16")
"""What both compute in; in bfloat16 the package under autocast."""

PASSES = 6
"""Whose peak memory is told: in the third it may still grow, as what is freed is not laid out alike in each."""


def weights(name: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The bundled weights, or random ones, by their names in the state dict."""
    if name == "bundled":
        tensors, _ = load_tensors(open_checkpoint(bundled_checkpoint()).header)
        # One by one, as mpvideo loads them: both dtypes at once would count as the network's memory.
        names = [key for key in tensors if not key.startswith("codec.")]
        return {key: tensors.pop(key).to(dtype) for key in names}
    generator = torch.Generator().manual_seed(0)
    shapes = network_shapes(NETS[name])
    return {
        key: torch.full((), 0.5) if key.endswith("gain") else torch.randn(shape, generator=generator).to(dtype)
        for key, shape in shapes.items()
    }


def contender(
    role: str, name: str, batch: int, device: str, *, compiled: bool = False, stored: torch.dtype = torch.float32
) -> Evaluate:
    """One pass of a network of that kind, made of weights stored in some dtype, ready to be called."""
    model = NETS[name]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, model.channels, model.frames, model.image_size, model.image_size, generator=generator)
    x, labels, time = x.to(device), torch.arange(batch), torch.full((batch,), 0.1, device=device)
    dtype = torch.bfloat16 if role.endswith("bfloat16") else torch.float32
    if role.startswith("mpvideo"):
        on_cpu = device == "cpu"
        if on_cpu:
            return_freed_memory()  # as `mpvideo.model.load_model` does
        net = InferenceUnet3D(
            model, weights(name, stored), device=device, dtype=dtype, compiled=compiled, keep_freed=on_cpu
        )
        rows = class_rows(labels, model.num_classes or 0).to(device)
        net.prepare((time[:1], rows))
        return lambda: net(x, time, class_labels=rows)
    package = package_network(model).eval()
    package.load_state_dict(weights(name))
    package, labels = package.to(device), labels.to(device)
    run = torch.compile(package) if compiled else package

    def evaluate() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            return run(x, time=time, class_labels=labels)  # type: ignore[no-any-return]

    return evaluate


def matmul(dtype: torch.dtype, device: str) -> Evaluate:
    """The product that stands for what the machine can do."""
    a, b = torch.randn(2, 2048, 2048).to(device, dtype)
    return lambda: a @ b


def seconds(evaluate: Evaluate) -> float:
    """How long one call takes, until its result is there."""
    began = time.perf_counter()
    result = evaluate()
    if result.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


class Contender:
    """A process that makes a `contender`; idle, without using a core, until it is asked for a pass.

    Attributes:
        output: of its first pass, in float32.
    """

    REST = 0.05
    """Seconds before each pass, in which the threads of the process before it stop looking for work."""

    def __init__(self, role: str, name: str, batch: int, device: str, *, compiled: bool = False) -> None:
        context = get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=serve, args=(end, role, name, batch, device, compiled), daemon=True)
        self._process.start()
        end.close()  # the process has its own, and with it gone, receiving fails
        self.output = torch.from_numpy(self._pipe.recv())

    def seconds(self) -> float:
        """How long a pass takes."""
        time.sleep(self.REST)
        self._pipe.send(True)
        return float(self._pipe.recv())

    def end(self) -> None:
        """Lets the process go."""
        self._pipe.send(False)
        self._process.join()


@torch.no_grad()
def serve(pipe: Connection, role: str, name: str, batch: int, device: str, compiled: bool) -> None:
    """What a contender's process runs: sends its output, and for every True the seconds of a pass.

    It comes after another, as passes of a video do: the first after those of others finds nothing in the caches.
    """
    evaluate = contender(role, name, batch, device, compiled=compiled)
    pipe.send(evaluate().float().cpu().numpy())
    while pipe.recv():
        evaluate()
        pipe.send(seconds(evaluate))


def measure(timers: dict[str, Callable[[], float]], turns: int) -> list[dict[str, float]]:
    """Seconds of each contender in each turn, after one that does not count; every second turn runs backwards."""
    for timer in timers.values():
        timer()
    taken = []
    for turn in range(turns):
        order = list(timers)[:: 1 if turn % 2 else -1]
        taken.append({role: timers[role]() for role in order})
    return taken


def peak_megabytes(role: str, name: str, batch: int, device: str) -> float:
    """Peak resident memory of `PASSES` passes in a process of their own, from before the weights are there.

    What torch's own files take, whose pages come as their code is first run, is no part of it.
    """
    command = [sys.executable, __file__, "--memory", role, "--nets", name, "--batches", str(batch)]
    command += ["--device", device]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def tell_peak(role: str, name: str, batch: int, device: str) -> None:
    """What `peak_megabytes` runs."""
    torch.randn(256, 256) @ torch.randn(256, 256)  # what the libraries take at their first use
    before, code = _status("VmRSS"), _status("RssFile")
    # As loaded from a checkpoint in that dtype; more in another would be the checkpoint's, not the network's.
    stored = torch.bfloat16 if role == "mpvideo bfloat16" else torch.float32
    evaluate = contender(role, name, batch, device, stored=stored)
    for _ in range(PASSES):
        evaluate()
    if device == "cuda":
        print(torch.cuda.max_memory_allocated() / 2**20)
        return
    print(_status("VmHWM") - before - (_status("RssFile") - code))


def _status(field: str) -> float:
    """What Linux says of this process's memory, in MiB. (getrusage would count the parent's from before exec.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def report(name: str, batch: int, turns: int, device: str, *, compiled: bool, limits: dict[str, float]) -> None:
    """Measures one net at one batch size in the dtypes of `limits`, and prints a row for each contender."""
    model = NETS[name]
    package = [f"package {dtype}" for dtype in limits]
    ours = [f"mpvideo {dtype}" for dtype in limits]
    contenders = {role: Contender(role, name, batch, device) for role in (*package, *ours)}
    if compiled:
        roles = package if device == "cpu" else (*package, *ours)  # ours gains nothing by it on CPUs
        contenders |= {f"{role} compiled": Contender(role, name, batch, device, compiled=True) for role in roles}
    reference = contenders["package float32"].output
    errors = {role: float((one.output - reference).norm() / reference.norm()) for role, one in contenders.items()}
    taken = measure({role: one.seconds for role, one in contenders.items()}, turns)
    for one in contenders.values():
        one.end()
    median = {role: statistics.median(turn[role] for turn in taken) for role in contenders}
    best = min((role for role in contenders if role.startswith("package")), key=median.__getitem__)
    flops = network_flops(model) * batch
    parameters = sum(tensor.numel() for tensor in weights(name).values())
    for role in contenders:
        rate = flops / median[role] / 1e9
        against = {other: statistics.median(turn[other] / turn[role] for turn in taken) for other in contenders}
        share = rate / limits["bfloat16" if "bfloat16" in role else "float32"]
        width = 2 if role.startswith("mpvideo bfloat16") else 4
        together = min(batch, clips_at_once(model, width)) if device == "cpu" else batch
        wanted = (parameters * width + 1.3 * together * activation_bytes(model, width)) / 2**20
        memory = "" if "compiled" in role else f"{peak_megabytes(role, name, batch, device):.0f}"
        if memory and role.startswith("mpvideo"):
            memory += f" of {wanted:.0f}"
        print(
            f"| {name} | {batch} | {role} | {1e3 * median[role]:.1f} | {against['package float32']:.2f} | "
            f"{against[best]:.2f} | {rate:.0f} | {share:.2f} | {errors[role]:.1e} | {memory} |",
            flush=True,
        )


@torch.no_grad()
def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default=",".join(NETS), help="which nets, of " + ", ".join(NETS))
    parser.add_argument("--batches", default="1,4", help="batch sizes")
    parser.add_argument(
        "--dtypes", default=",".join(DTYPES), choices=(DTYPES[0], ",".join(DTYPES)), help="what to compute in"
    )
    parser.add_argument("--turns", type=int, default=5, help="how often each contender is timed")
    parser.add_argument("--no-compile", action="store_true", help="leave out the package under torch.compile")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    nets, batches = arguments.nets.split(","), [int(word) for word in arguments.batches.split(",")]
    if arguments.memory:
        tell_peak(arguments.memory, nets[0], batches[0], arguments.device)
        return
    device = arguments.device
    products = {dtype: matmul(getattr(torch, dtype), device) for dtype in arguments.dtypes.split(",")}
    taken = measure({name: partial(seconds, product) for name, product in products.items()}, 20)
    limits = {name: 2 * 2048**3 / statistics.median(turn[name] for turn in taken) / 1e9 for name in products}
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}; a product of 2048x2048 matrices: ", end="")
    print(", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in limits.items()))
    print()
    print("| net | batch | | ms | times package float32 | times package's best | GFLOP/s | of the limit | error | MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in nets:
        for batch in batches:
            report(name, batch, arguments.turns, device, compiled=not arguments.no_compile, limits=limits)


if __name__ == "__main__":
    main()

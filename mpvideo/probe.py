"""A small block of the network, tried out: does a device compute what it should, and is bfloat16 faster there?

Some releases of drivers and libraries return wrong 3D convolutions or wrong attention without a word: cuDNN 9.8 to
9.14 in bfloat16 (or right ones, slowly), Metal on some releases of macOS. A few milliseconds tell.

Letters: B batch, C channels, T frames, H W height and width.
"""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mpvideo.architecture import network_plan, network_shapes
from mpvideo.config import ModelConfig
from mpvideo.nn.inference import Block, Weights
from mpvideo.nn.processor import onednn_bfloat16

ERROR_LIMITS = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 5e-3}
"""Largest error of the block, relative to its result, that rounding explains: several times what a sound device has."""

_ROUNDS = 5
_SECONDS = 0.1  # the time after which no further round begins: without its own units, bfloat16 can be very slow

_HEADS = 2
# (B, C, T, H, W). To be timed a block must be so large that its arithmetic counts, not how it is called, and on a CPU
# that float32 has Winograd's method, as in most of a network: with it bfloat16 must be faster to be worth its rounding.
# Planes of 2x2 are computed in another way than larger ones.
_CHECKED = ((1, 64, 4, 8, 8), (1, 64, 4, 2, 2))
_TIMED_ON_CPU = (1, 128, 8, 8, 8)
_TIMED_ELSEWHERE = (4, 128, 8, 16, 16)


@dataclass(frozen=True)
class Check:
    """What came of comparing the block on a device with the same block in float64 on the CPU.

    Attributes:
        device: 'cpu', 'cuda' or 'mps'.
        dtype: 'float32', 'bfloat16' or 'float16'.
        error: norm of the difference, relative to the norm of the result; None if there is no finite result.
        failure: why there is no result; None if there is one.
    """

    device: str
    dtype: str
    error: float | None
    failure: str | None = None

    @property
    def limit(self) -> float:
        """The largest error that passes."""
        return ERROR_LIMITS[self.dtype]

    @property
    def problem(self) -> str | None:
        """What is wrong, as a clause that goes on from the device or the dtype; None if nothing is."""
        if self.failure is not None:
            return f"fails on a test block: {self.failure}"
        if self.error is None:
            return "gives NaN or infinity on a test block"
        if self.error > self.limit:
            return f"is wrong on a test block: relative error {self.error:.1g}, at most {self.limit:g} expected"
        return None


class Trial:
    """A block of the network's inference form, one that halves and attends, in fixed weights on fixed input.

    Args:
        shape: of the result, (B, C, T, H, W); the input is twice as long, high and wide.
        device: where to compute.
        dtype: what to compute in.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> None:
        B, C, T, H, _ = shape
        model = ModelConfig(
            image_size=2 * H, frames=2 * T, dim=C, dim_max=C, num_downsamples=1, num_blocks_per_stage=1,
            attn_res=(H,), attn_dim_head=C // _HEADS,
        )  # fmt: skip
        plan = next(block for block in network_plan(model) if block.resamples)
        draw = torch.Generator().manual_seed(0)
        tensors = {
            name: torch.randn(size, generator=draw)
            for name, size in network_shapes(model).items()
            if name.startswith(f"{plan.name}.")
        }
        self._block = Block(plan, model, Weights(tensors, device, dtype))
        self._x = torch.randn(B, 2 * T, 2 * H, 2 * H, C, generator=draw).to(device, dtype)
        self._scale = torch.rand(B, 1, 1, 1, C, generator=draw).to(device, dtype)
        self.device, self.dtype = device, dtype

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        """Computes the block, (B, T, H, W, C)."""
        return self._block(self._x, self._scale)


@cache
def check_block(device: str, dtype: str) -> Check:
    """Compares the block on a device with float64 on the CPU; measured once in a process."""
    try:
        with _one_thread():  # among other programs, threads that wait for each other would take longer than the work
            results = _checked(torch.device(device), getattr(torch, dtype))
    except (MemoryError, RuntimeError) as error:  # no kernel, no memory, a driver that does not fit
        words = str(error).strip()
        return Check(device, dtype, None, words.splitlines()[0] if words else type(error).__name__)
    errors = [relative_error(result, sound) for result, sound in zip(results, _reference(), strict=True)]
    return Check(device, dtype, max(errors) if all(map(math.isfinite, errors)) else None)


@cache
def _reference() -> list[Tensor]:
    with _one_thread():
        return _checked(torch.device("cpu"), torch.float64)


def _checked(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Results of the block, each in float64 on the CPU."""
    return [Trial(shape, device, dtype)().cpu().double() for shape in _CHECKED]


def relative_error(result: Tensor, reference: Tensor) -> float:
    """Norm of the difference, relative to that of the reference."""
    return float((result - reference).norm() / reference.norm())


def without_bfloat16(device: str) -> str | None:
    """Why bfloat16 is not worth a measurement on a device, a clause; None if it is.

    A CPU without instructions for it is 10 to 50 times as slow in it as in float32, and so would be the measurement.
    """
    if device == "mps":
        return "bfloat16 is not tried on MPS"
    if device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "this GPU has no bfloat16 units"
    if device == "cpu" and not onednn_bfloat16():
        return "this processor has no bfloat16 instructions that torch uses"
    return None


@cache
def measure_speedup(device: str) -> float | None:
    """How many times as fast as in float32 the block is in bfloat16; None if it cannot be computed.

    Measured once in a process, in a few tens of milliseconds; the fastest of several rounds, turn by turn, counts. On
    the CPU it is the processor time of one thread, which other programs hardly change: the same machine makes the same
    choice, busy or not.
    """
    seconds = dict.fromkeys((torch.float32, torch.bfloat16), math.inf)
    shape = _TIMED_ON_CPU if device == "cpu" else _TIMED_ELSEWHERE
    try:
        blocks = {dtype: Trial(shape, torch.device(device), dtype) for dtype in seconds}
        with _one_thread():
            for block in blocks.values():
                _timed(block)
            began = time.perf_counter()
            for _ in range(_ROUNDS):
                for dtype, block in blocks.items():
                    seconds[dtype] = min(seconds[dtype], _timed(block))
                if time.perf_counter() - began > _SECONDS:
                    break
    except (MemoryError, RuntimeError):
        return None
    return seconds[torch.float32] / seconds[torch.bfloat16]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _timed(block: Trial) -> float:
    # Windows counts a thread's time in sixtieths of a second.
    clock = time.thread_time if block.device.type == "cpu" and os.name != "nt" else time.perf_counter
    began = clock()
    float(block()[0, 0, 0, 0, 0])  # an accelerator has to be waited for
    return clock() - began

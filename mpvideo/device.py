"""Which device and dtype to compute with, and why."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import get_args

import torch

from mpvideo.checks import check_choice
from mpvideo.config import DeviceName, DtypeName
from mpvideo.errors import DeviceError, OutOfMemoryError
from mpvideo.nn.compilation import compiler_problem
from mpvideo.probe import Check, check_block, measure_speedup, without_bfloat16
from mpvideo.text import counted, printable

CLEARLY_FASTER = 1.1
"""bfloat16 costs accuracy and has to be at least this many times as fast as float32.

On processors with fast bfloat16 the block is, on the least of those measured, 1.19 to 1.31 times as fast (AVX-512 of an
EPYC; networks there 1.4 to 2.3 times), on the others no faster: a measurement that is off by 7 % does not change the
choice.
"""

# How RuntimeErrors say it that have no type of their own: the CPU's on Linux and on Windows, C++'s, and Metal's.
_NO_MEMORY = (
    "can't allocate memory", "not enough memory", "bad_alloc", "out of memory", "alloc_failed", "invalid buffer size"
)  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """Where and in what a network runs.

    Attributes:
        device: the device.
        dtype: what the network computes in; the sampler's loop stays in float32.
        reason: why this dtype, where it was not asked for; a clause.
        warnings: why what would be better, or was asked for, is not used, one sentence each; for the caller to pass on.
        compiled: whether torch.compile makes the network's code.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str = ""
    warnings: tuple[str, ...] = ()
    compiled: bool = False

    @property
    def dtype_name(self) -> str:
        """The dtype as the user writes it."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def device_name(self) -> str:
        """The kind of device, e.g. 'cpu' or 'cuda'."""
        return self.device.type

    @property
    def words(self) -> str:
        """Device and dtype in words: 'CPU, 2 threads, in bfloat16'."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)} in {self.dtype_name}"
        if self.device.type == "cpu":
            return f"CPU, {counted(torch.get_num_threads(), 'thread')}, in {self.dtype_name}"
        return f"{self.device.type.upper()} in {self.dtype_name}"

    def __str__(self) -> str:
        words = f"{self.words}, compiled at the first use" if self.compiled else self.words
        return f"{words}: {self.reason}" if self.reason else words


def available_devices() -> tuple[DeviceName, ...]:
    """The devices that torch reports, best first; the last is the CPU."""
    there: dict[DeviceName, bool] = {
        "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True
    }  # fmt: skip
    return tuple(name for name, usable in there.items() if usable)


def choose_placement(device: DeviceName = "auto", dtype: DtypeName = "auto", *, compiled: bool = False) -> Placement:
    """Picks a device and a dtype.

    CUDA and MPS have to compute a small block as the CPU does (`mpvideo.probe`). The first call in a process measures,
    for some tens of milliseconds.

    Args:
        device: 'auto' takes CUDA if it is there and computes well, else MPS likewise, else the CPU.
        dtype: 'auto' is float32, or on CUDA and the CPU bfloat16 where it is measured to be accurate and clearly
            faster.
        compiled: whether torch.compile is to make the network's code. That it works is tried, in some seconds; where it
            does not, there is a warning.

    Raises:
        ValueError: there is no device or dtype of that name.
        DeviceError: the device asked for is not there, or does not compute well.
    """
    check_choice("device", device, get_args(DeviceName))
    check_choice("dtype", dtype, get_args(DtypeName))
    placement = _choose(device, dtype)
    if not compiled:
        return placement
    if (problem := compiler_problem(placement.device_name)) is None:
        return replace(placement, compiled=True)
    warning = f"--compile is not used, torch.compile does not work here: {printable(problem)}"
    return replace(placement, warnings=(*placement.warnings, warning))


def _choose(device: DeviceName, dtype: DtypeName) -> Placement:
    """`choose_placement` without the compiler."""
    available = available_devices()
    if device != "auto" and device not in available:
        raise DeviceError(
            f"--device {device} is not available to torch {torch.__version__} here; available: {', '.join(available)}",
            hint="Leave --device out to take the best there is.",
        )
    warnings: tuple[str, ...] = ()
    for name in available if device == "auto" else (device,):
        if name == "cpu":
            break
        if name == "cuda":
            # By default cuDNN rounds the inputs of float32 convolutions to TF32's ten bits: not what float32 promises.
            torch.backends.cudnn.allow_tf32 = False
        check = check_block(name, "float32" if dtype == "auto" else dtype)
        if check.problem is None:
            return Placement(torch.device(name), *_dtype(name, dtype), warnings)
        problem = f"{check.dtype} {printable(check.problem)}{_libraries(name)}"
        if device != "auto":
            raise DeviceError(
                f"--device {name} cannot be used: {problem}",
                hint="Try --dtype float32, or --device cpu." if check.dtype != "float32" else "Try --device cpu.",
            )
        warnings += (f"{name.upper()} is not used: {problem}",)
    if dtype == "bfloat16" and (reason := without_bfloat16("cpu")) is not None:
        warnings += (f"bfloat16 takes many times as long as float32 here: {reason}",)
    return Placement(torch.device("cpu"), *_dtype("cpu", dtype), warnings)


def _dtype(device: DeviceName, asked: DtypeName) -> tuple[torch.dtype, str]:
    """The dtype asked for, or else one measured to be good, and why that one."""
    if asked != "auto":
        return getattr(torch, asked), ""
    if (reason := without_bfloat16(device)) is not None:
        return torch.float32, reason
    check = check_block(device, "bfloat16")
    return decide_dtype(check, measure_speedup(device) if check.problem is None else None, _libraries(device))


def decide_dtype(bfloat16: Check, speedup: float | None, libraries: str = "") -> tuple[torch.dtype, str]:
    """Decides between bfloat16 and float32 from measurements alone.

    Args:
        bfloat16: whether it is accurate.
        speedup: how many times as fast as float32 it is; None if unknown.
        libraries: what to blame, in brackets.

    Returns:
        The dtype, and why: a clause.
    """
    if bfloat16.problem is not None:
        return torch.float32, f"bfloat16 {printable(bfloat16.problem)}{libraries}"
    if speedup is None:
        return torch.float32, f"the speed of bfloat16 could not be measured{libraries}"
    if speedup < CLEARLY_FASTER:
        found = f"{math.floor(100 * speedup) / 100:.2f} times as fast on a test block, {CLEARLY_FASTER:g} is wanted"
        return torch.float32, f"bfloat16 is {found}{libraries}"
    return torch.bfloat16, f"a test block is {speedup:.1f} times as fast as in float32"


def _libraries(device: str) -> str:
    """' (cuDNN 9.10.2)', the usual suspect on CUDA; nothing elsewhere."""
    return f" (cuDNN {version})" if device == "cuda" and (version := cudnn_version()) else ""


def cudnn_version() -> str | None:
    """The version of cuDNN, e.g. '9.10.2'; None without it."""
    try:
        number = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    except RuntimeError:  # one that does not fit torch
        return "unusable"
    if number is None:
        return None
    thousand = 10_000 if number >= 90_000 else 1_000  # 8907 is 8.9.7, 91002 is 9.10.2
    return f"{number // thousand}.{number % thousand // 100}.{number % 100}"


@contextmanager
def memory_errors(what: str, hint: str) -> Iterator[None]:
    """Turns running out of memory, on any device, into an OutOfMemoryError: there was not enough for `what`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        words = str(error).lower()
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(phrase in words for phrase in _NO_MEMORY):
            raise
        raise OutOfMemoryError(f"not enough memory for {what}", hint=hint) from error

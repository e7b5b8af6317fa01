"""Which device and dtype to compute with, and why."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from mpvideo.config import DeviceName, DtypeName
from mpvideo.errors import DeviceError, OutOfMemoryError
from mpvideo.text import counted

# How RuntimeErrors say it that have no type of their own: the CPU's on Linux and on Windows, C++'s, and Metal's.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory")


@dataclass(frozen=True)
class Placement:
    """Where and in what a network runs.

    Attributes:
        device: the device.
        dtype: what the network computes in; the sampler's loop stays in float32.
    """

    device: torch.device
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        """The dtype as the user writes it."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def device_name(self) -> str:
        """The kind of device, e.g. 'cpu' or 'cuda'."""
        return self.device.type

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)} in {self.dtype_name}"
        if self.device.type == "cpu":
            return f"CPU, {counted(torch.get_num_threads(), 'thread')}, in {self.dtype_name}"
        return f"{self.device.type.upper()} in {self.dtype_name}"


def choose_placement(device: DeviceName = "auto", dtype: DtypeName = "auto") -> Placement:
    """Picks a device and a dtype.

    Args:
        device: 'auto' takes CUDA if there is one, else MPS, else the CPU.
        dtype: 'auto' is float32: the reference, the same on every device up to rounding.

    Raises:
        DeviceError: the device asked for is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[device]:
        usable = ", ".join(name for name, usable in available.items() if usable)
        raise DeviceError(
            f"--device {device} is not available to torch {torch.__version__} here; available: {usable}",
            hint="Leave --device out to take the best there is.",
        )
    if device == "cuda":
        # By default cuDNN rounds the inputs of float32 convolutions to TF32's ten bits: not what float32 promises.
        torch.backends.cudnn.allow_tf32 = False
    return Placement(torch.device(device), torch.float32 if dtype == "auto" else getattr(torch, dtype))


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

"""The processes that work together: one alone, or those that torchrun started."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

from mpvideo.errors import DeviceError, MPVideoError

_JOINING = timedelta(hours=6)
"""How long they wait for one another to start."""

_PATIENCE = timedelta(days=14)
"""How long the others wait for the first one, which prepares the data and trains the autoencoder by itself: that may
take days. If it ends early they hear of it at once."""


class Store(Protocol):
    """What all processes read and write; see torch.distributed.Store."""

    def add(self, key: str, amount: int, /) -> int:
        """Adds to a number, 0 at first, and returns the sum."""
        ...

    def set(self, key: str, value: str, /) -> None:
        """Writes a value."""
        ...

    def get(self, key: str, /) -> bytes:
        """Reads a value, when it has been written."""
        ...


@dataclass(frozen=True)
class Processes:
    """How many processes there are, and which of them this is.

    Attributes:
        rank: number of this process; the one with 0 writes and speaks.
        count: how many there are.
        local_rank: number of this process on its machine, and of its GPU.
        store: what they all read and write; None for one alone.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    store: Store | None = None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def take_gpu(self) -> None:
        """Makes a GPU of its own the one that this process computes on, if there is one: before any is tried out."""
        if self.count > 1 and torch.cuda.is_available() and self.local_rank < torch.cuda.device_count():
            torch.cuda.set_device(self.local_rank)

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: a GPU of its own, where several processes share a machine with GPUs.

        Raises:
            DeviceError: there are fewer GPUs than processes on this machine.
        """
        if self.count == 1 or device.type != "cuda":
            return device
        if self.local_rank >= torch.cuda.device_count():
            raise DeviceError(
                f"process {self.local_rank} of this machine needs a GPU of its own, and there are "
                f"{torch.cuda.device_count()}",
                hint="Give torchrun a smaller --nproc-per-node.",
            )
        return torch.device("cuda", self.local_rank)

    def share(self, numbers: range) -> range:
        """The part of `numbers` that falls to this process; their count must be a multiple of `count`."""
        size = len(numbers) // self.count
        return numbers[self.rank * size : (self.rank + 1) * size]

    def gather(self, values: Tensor) -> Tensor:
        """The (B,) tensors of all processes, on the CPU, one after the other: (count * B,), in each of them."""
        if self.count == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(parts, values)
        return torch.cat(parts)

    def agree(self, flag: bool) -> bool:
        """The flag of the first process, in each of them."""
        if self.count == 1:
            return flag
        value = torch.tensor([float(flag)])
        dist.broadcast(value, 0)
        return bool(value)

    def alike(self, text: str) -> bool:
        """Whether all processes give the same text; they all hear the answer."""
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        return len(set(self.gather(torch.tensor([number])).tolist())) == 1

    def wait(self) -> None:
        """Returns when all processes have come here."""
        if self.count > 1:
            dist.barrier()

    @contextmanager
    def one_after_another(self) -> Iterator[None]:
        """Lets the first process through the block, and then the others."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()


ALONE = Processes()
"""One process by itself."""


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Joins the processes that torchrun started together with this one, if it did, until the block ends.

    They talk over NCCL where there are both CUDA and it, and else over gloo.

    Raises:
        MPVideoError: another process ended too early.
    """
    if not dist.is_torchelastic_launched():  # a cluster may set RANK for purposes of its own
        yield ALONE
        return
    store, rank, count = next(rendezvous("env://", timeout=_JOINING))
    processes = Processes(rank, count, int(os.environ.get("LOCAL_RANK", "0")), store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    group_store = PrefixStore("group", store)
    dist.init_process_group(backend, timeout=_PATIENCE, store=group_store, rank=rank, world_size=count)
    try:
        yield processes
        dist.barrier()  # whoever leaves first would cut the others off
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise MPVideoError(
            f"process {processes.rank} of {processes.count} lost the others",
            hint="See what they printed; the same command goes on from what is there.",
        ) from error
    finally:
        dist.destroy_process_group()

"""The processes that make a batch together: this one alone, or those that torchrun started.

Each knows by its number which requests are its own; they only add up how far they are, in the store of
torch.distributed. So none waits for another before the end, and the requests of one that dies are left to the next run.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mpvideo.batch.share import Share

if TYPE_CHECKING:
    from mpvideo.processes import Processes

_LOOK = 0.2
"""Seconds between two looks at whether the others have come here."""


def launched() -> tuple[int, int]:
    """The number of this process, and how many torchrun started: 0 and 1 without it. The others are not asked."""
    if not under_torchrun():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ  # what torch.distributed looks at, without importing it


class Crew:
    """This process and those that work with it.

    Args:
        processes: who they are; None for this one alone.
    """

    def __init__(self, processes: "Processes | None" = None) -> None:
        self.processes = processes
        self._alone: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many processes there are."""
        return 1 if self.processes is None else self.processes.count

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks."""
        return self.processes is None or self.processes.first

    def part(self, share: Share) -> Share:
        """What of a share falls to this process."""
        return share if self.processes is None else share.part(self.processes.rank, self.processes.count)

    def add(self, name: str, amount: int = 0) -> int:
        """Adds to a number that all have in common, and returns what it is then."""
        if self.processes is None or self.processes.store is None:
            self._alone[name] += amount
            return self._alone[name]
        return int(self.processes.store.add(f"mpvideo/{name}", amount))

    def word(self, name: str, choose: Callable[[], str]) -> str:
        """A word that the first process chooses, in each of them."""
        if self.processes is None or self.processes.store is None:
            return choose()
        if self.first:
            self.processes.store.set(f"mpvideo/{name}", choose())
        return bytes(self.processes.store.get(f"mpvideo/{name}")).decode()

    def meet(self, name: str, stop: Callable[[], bool], look: Callable[[], None] = lambda: None) -> bool:
        """Waits until all have come to the place of this name.

        Args:
            name: of the place.
            stop: whether to wait no longer.
            look: called now and then.

        Returns:
            Whether all have come.
        """
        here = self.add(name, 1)
        while here < self.count and not stop():
            time.sleep(_LOOK)
            look()
            here = self.add(name)
        return here >= self.count


@contextmanager
def join_crew() -> Iterator[Crew]:
    """Joins the processes that torchrun started together with this one, if it did, until the block ends.

    Raises:
        MPVideoError: another process ended too early.
    """
    if not under_torchrun():
        yield Crew()
        return
    from mpvideo.processes import join_processes  # noqa: PLC0415 - torch, which planning does without

    with join_processes() as processes:
        yield Crew(processes)

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mpvideo.nn.memory import FOR_PASSES, FOR_STEPS, give_back_memory


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_goes_back():
    """Many small tensors, every tenth of which stays: their pages are between those that stay."""
    tensors = [torch.ones(100_000 // 4) for _ in range(1000)]
    kept = tensors[::10]
    full = resident()
    del tensors
    give_back_memory()
    assert len(kept) == 100
    assert resident() < full - 50_000_000


FREES = """
import sys, torch
from tests.nn.test_memory import resident
from mpvideo.nn.memory import keep_freed_memory, return_freed_memory
if sys.argv[1] != "default":
    keep_freed_memory(int(sys.argv[1]))
if "returned" in sys.argv:
    return_freed_memory()
for values in (900_000, 6_000_000):
    before = resident()
    torch.ones(values)
    print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is asked")
def test_freed_memory_is_kept():
    """Of a tensor of 3.6 MB and one of 24, by default neither, nor once they are to be returned again."""
    by_default, for_passes, for_steps, returned = (
        [int(line) for line in subprocess.check_output([sys.executable, "-c", FREES, *how], text=True).split()]
        for how in (["default"], [str(FOR_PASSES)], [str(FOR_STEPS)], [str(FOR_STEPS), "returned"])
    )
    assert max(by_default[0], returned[0]) < 1_800_000 < 3_000_000 < min(for_passes[0], for_steps[0])
    assert max(by_default[1], for_passes[1], returned[1]) < 12_000_000
    assert for_steps[1] > 17_000_000  # it may begin in what the smaller one left

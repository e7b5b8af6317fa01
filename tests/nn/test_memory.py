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
from mpvideo.nn.memory import keep_freed_memory
if sys.argv[1] != "default":
    keep_freed_memory(int(sys.argv[1]))
before = resident()
torch.ones(6_000_000)
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is asked")
def test_freed_memory_is_kept():
    """A tensor of 24 MB goes back to the system by default, and if only smaller ones are to be kept."""
    by_default, for_passes, for_steps = (
        int(subprocess.run([sys.executable, "-c", FREES, how], check=True, capture_output=True, text=True).stdout)
        for how in ("default", str(FOR_PASSES), str(FOR_STEPS))
    )
    assert max(by_default, for_passes) < 12_000_000 < 20_000_000 < for_steps

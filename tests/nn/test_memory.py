import sys
from pathlib import Path

import pytest
import torch

from mpvideo.nn.memory import give_back_memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_goes_back():
    """Many small tensors, every tenth of which stays: their pages are between those that stay."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    tensors = [torch.ones(100_000 // 4) for _ in range(1000)]
    kept = tensors[::10]
    full = resident()
    del tensors
    give_back_memory()
    assert len(kept) == 100
    assert resident() < full - 50_000_000

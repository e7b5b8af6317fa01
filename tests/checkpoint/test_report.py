"""What sampling costs, told from the header."""

from pathlib import Path
from typing import Any

import pytest

from mpvideo.architecture import network_flops
from mpvideo.checkpoint import read_header
from mpvideo.checkpoint.memory import sampling_memory
from mpvideo.checkpoint.report import describe
from tests.checkpoints import CONFIG, save_tiny


@pytest.mark.parametrize(("guidance", "passes"), [(1.0, 1), (2.0, 2), (0.0, 2)])
def test_cost(tmp_path: Path, guidance: float, passes: int) -> None:
    header = read_header(save_tiny(tmp_path / "a.safetensors", CONFIG))
    overrides: dict[str, Any] = {"sampling": {"sampler": "heun", "steps": 5, "guidance": guidance}}
    report = describe(header, overrides=overrides)
    cost, flops = report["cost"], network_flops(CONFIG.model)
    assert report["loads"]
    assert cost["flops_per_evaluation"] == flops
    assert (cost["evaluations"], cost["passes"]) == (9, passes)
    assert cost["flops_per_video"] == 9 * passes * flops
    stored = 4 * report["parameters"]["total"]
    assert cost["memory"] == {
        dtype: sampling_memory(CONFIG, dtype, stored, passes) for dtype in ("float32", "bfloat16", "float16")
    }

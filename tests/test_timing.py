from pathlib import Path

import pytest

from mpvideo import timing as timing_module
from mpvideo.checkpoint import open_checkpoint
from mpvideo.device import choose_placement
from mpvideo.generation import count_passes
from mpvideo.timing import SamplingTime, measure_sampling
from tests.checkpoints import save_tiny, tiny_config


def test_a_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks when it is read: before and after loading, after each step, and at the end."""
    ticks = iter([0.0, 10.0, 15.0, 17.0, 20.0, 24.0, 24.5])
    monkeypatch.setattr(timing_module, "_now", lambda placement: next(ticks))
    config = tiny_config()
    checkpoint = open_checkpoint(save_tiny(tmp_path / "a.safetensors", config))
    taken = measure_sampling(checkpoint, choose_placement("cpu", "float32"))
    assert (taken.loading, taken.first, taken.evaluation, taken.decoding) == (10, 5, 3, 0.5)
    assert taken.evaluations == count_passes(config.sampling) > 1
    assert taken.video == 5 + 3 * (taken.evaluations - 1) + 0.5


def test_guidance_takes_two_passes_a_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 10.0, 14.0, 20.0, 26.0, 32.0, 33.0])
    monkeypatch.setattr(timing_module, "_now", lambda placement: next(ticks))
    path = save_tiny(tmp_path / "a.safetensors", tiny_config())
    checkpoint = open_checkpoint(path, overrides={"sampling": {"guidance": 2.0}})
    taken: SamplingTime = measure_sampling(checkpoint, choose_placement("cpu", "float32"))
    assert (taken.first, taken.evaluation) == (2, 3)

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpvideo.checkpoint import open_checkpoint
from mpvideo.config import SamplingConfig
from mpvideo.device import Placement
from mpvideo.diffusion import EDMDenoiser
from mpvideo.errors import MPVideoError, OutOfMemoryError
from mpvideo.model import Model, load_model
from mpvideo.tuning import evaluations, tune
from tests.checkpoints import save_tiny, tiny_config

CPU = Placement(torch.device("cpu"), torch.float32, "asked for")
SAMPLING = SamplingConfig(sampler="ipndm", steps=4, guidance=2.0)


@pytest.fixture(autouse=True)
def few_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short search: what is tested does not depend on how fine it is."""
    monkeypatch.setattr("mpvideo.tuning.TEACHER_STEPS", 16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = save_tiny(tmp_path_factory.mktemp("tiny") / "tiny.safetensors", tiny_config(self_condition=True))
    return load_model(open_checkpoint(path), CPU)


@pytest.mark.parametrize("sampler", ["ipndm", "heun"])
def test_the_schedule_found_is_better(model: Model, sampler: str) -> None:
    taken = 0

    def count(samples: int) -> None:
        nonlocal taken
        taken += samples

    sampling = replace(SAMPLING, sampler=sampler, s_churn=5.0 if sampler == "heun" else 0.0)
    tuned = tune(model, sampling, videos=3, batch_size=2, on_evaluation=count)
    assert tuned.error < tuned.plain_error
    assert 0 < taken <= evaluations(4, sampling.num_evaluations, 3)
    found = tuned.sampling
    assert found.sigmas is not None and len(found.sigmas) == found.steps == 4
    assert found.sigma_max == 80.0
    assert (found.sampler, found.guidance, found.s_churn) == (sampler, 2.0, 0.0)
    assert all(float(f"{sigma:.6g}") == sigma for sigma in found.sigmas)


def test_it_is_the_same_again_and_in_other_batches(model: Model) -> None:
    one, other = (tune(model, SAMPLING, videos=3, batch_size=size).sampling for size in (3, 1))
    assert one == other == tune(model, SAMPLING, videos=3, batch_size=3).sampling


def test_the_schedule_that_is_there_stays_if_nothing_is_better(model: Model) -> None:
    """With one step there is nothing to choose."""
    tuned = tune(model, replace(SAMPLING, steps=1), videos=1)
    assert tuned.error == tuned.plain_error


def test_videos_that_are_not_finite(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    call = EDMDenoiser.__call__

    def broken(self: EDMDenoiser, x: torch.Tensor, sigma: float, state: object = None) -> object:
        denoised, state = call(self, x, sigma, state)  # type: ignore[arg-type]
        return denoised * math.nan, state

    monkeypatch.setattr(EDMDenoiser, "__call__", broken)
    with pytest.raises(MPVideoError, match="have NaN or infinity in them"):
        tune(model, SAMPLING, videos=1)


def test_too_little_memory(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(EDMDenoiser, "__call__", full)
    with pytest.raises(OutOfMemoryError, match="not enough memory for so many videos at once") as caught:
        tune(model, SAMPLING, videos=1)
    assert caught.value.hint == "Give a smaller --batch-size."


def test_the_clamp_of_the_checkpoint_holds(tmp_path: Path) -> None:
    config = tiny_config()
    clamped = replace(config, edm=replace(config.edm, clamp=True))
    path = save_tiny(tmp_path / "tiny.safetensors", clamped)
    assert tune(load_model(open_checkpoint(path), CPU), SAMPLING, videos=1).error < 1

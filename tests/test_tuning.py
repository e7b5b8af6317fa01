import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpvideo import tuning
from mpvideo.checkpoint import open_checkpoint
from mpvideo.config import SamplingConfig
from mpvideo.device import Placement
from mpvideo.diffusion import EDMDenoiser, karras_sigmas
from mpvideo.errors import MPVideoError, OutOfMemoryError
from mpvideo.model import Model, load_model
from mpvideo.tuning import Tuned, _improved, evaluations, tune
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
    assert taken == evaluations(4, sampling.num_evaluations, 3), "progress ends at its total"
    found = tuned.sampling
    assert found.sigmas is not None and len(found.sigmas) == found.steps == 4
    assert found.sigma_max == 80.0
    assert (found.sampler, found.guidance, found.s_churn) == (sampler, 2.0, 0.0)
    assert all(float(f"{sigma:.6g}") == sigma for sigma in found.sigmas)


def test_it_is_the_same_again_and_in_other_batches(model: Model) -> None:
    one, other = (tune(model, SAMPLING, videos=3, batch_size=size).sampling for size in (3, 1))
    assert one == other == tune(model, SAMPLING, videos=3, batch_size=3).sampling


def test_the_best_of_all_is_taken(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among candidates in any order, and the schedule that is there if they are worse."""
    best = tune(model, SAMPLING, videos=1)
    levels = [float(f"{sigma:.6g}") for sigma in karras_sigmas(16, 0.002, 80.0).tolist()]
    assert best.sampling.sigmas is not None
    path, bad = tuple(levels.index(sigma) for sigma in best.sampling.sigmas), (0, 1, 2, 3)
    monkeypatch.setattr("mpvideo.tuning._ROUNDS", 0)

    def found(*paths: tuple[int, ...]) -> Tuned:
        monkeypatch.setattr("mpvideo.tuning.candidates", lambda *_: iter(paths))
        return tune(model, SAMPLING, videos=1)

    assert found(path, bad) == found(bad, path) == best
    plain = found(bad)
    assert plain.sampling.sigmas is None
    assert plain.error == plain.plain_error == best.plain_error > best.error


def test_levels_are_improved_one_by_one() -> None:
    def error(path: Sequence[int]) -> float:
        return float(np.square(np.subtract(path, (0, 5, 6, 14))).sum())

    assert _improved(error, error((0, 4, 8, 13)), (0, 4, 8, 13), 16) == (0, (0, 5, 6, 14))
    assert _improved(error, 1, (0, 5, 6, 13), 14) == (1, (0, 5, 6, 13))  # there is no level further down
    assert _improved(error, error((0, 1, 2, 3)), (0, 1, 2, 3), 16)[1] == (0, 1, 2, 6)  # nor may any be passed by


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "dpmpp-2m-sde"}, "sampler must be one without noise of its own, got dpmpp-2m-sde"),
        ({"steps": 17}, "steps must be at most 16, got 17"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_any_work(model: Model, settings: dict[str, Any], message: str) -> None:
    taken: list[int] = []
    with pytest.raises(ValueError, match=message):
        tune(model, replace(SAMPLING, **settings), videos=1, on_evaluation=taken.append)
    assert taken == []


def test_videos_that_are_not_finite(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    call = EDMDenoiser.__call__

    def broken(self: EDMDenoiser, x: torch.Tensor, sigma: float, state: object = None) -> object:
        denoised, state = call(self, x, sigma, state)  # type: ignore[arg-type]
        return denoised * math.nan, state

    monkeypatch.setattr(EDMDenoiser, "__call__", broken)
    with pytest.raises(MPVideoError, match="have NaN or infinity in them"):
        tune(model, SAMPLING, videos=1)


def test_the_videos_that_it_is_judged_by_are_not_finite(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    error, judged = tuning._Videos.error, []

    def of(videos: tuning._Videos, sampling: SamplingConfig) -> float:
        judged.append(videos)
        return error(videos, sampling) if videos is judged[0] else math.inf

    monkeypatch.setattr(tuning._Videos, "error", of)
    with pytest.raises(MPVideoError, match="have NaN or infinity in them"):
        tune(model, SamplingConfig(steps=3, sampler="euler"), videos=2)
    assert judged[-1] is not judged[0]


def test_too_little_memory(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(EDMDenoiser, "__call__", full)
    with pytest.raises(OutOfMemoryError, match="not enough memory for so many videos at once") as caught:
        tune(model, SAMPLING, videos=1)
    assert caught.value.hint == "Give a smaller --batch-size."


@pytest.mark.parametrize("clamp", [True, False])
def test_the_clamp_of_the_checkpoint_holds(clamp: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, seen = tiny_config(), set()
    call = EDMDenoiser.__call__

    def watched(self: EDMDenoiser, *arguments: Any) -> object:
        seen.add(self.clamp)
        return call(self, *arguments)

    monkeypatch.setattr(EDMDenoiser, "__call__", watched)
    path = save_tiny(tmp_path / "tiny.safetensors", replace(config, edm=replace(config.edm, clamp=clamp)))
    tune(load_model(open_checkpoint(path), CPU), replace(SAMPLING, steps=2), videos=1)
    assert seen == {clamp}

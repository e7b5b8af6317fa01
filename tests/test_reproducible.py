"""A seed gives the same video whatever is made beside it: up to rounding, or where it is made by itself to the bit."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from mpvideo.checkpoint import open_checkpoint
from mpvideo.config import SamplingConfig
from mpvideo.device import choose_placement
from mpvideo.generation import generate
from mpvideo.job import Job
from mpvideo.model import Model, load_model
from tests.checkpoints import save_tiny, tiny_config

SAMPLINGS = {
    "plain": SamplingConfig(sampler="heun", steps=6),
    "churned": SamplingConfig(sampler="heun", steps=6, s_churn=3.0),
    "guided": SamplingConfig(sampler="euler", steps=6, s_churn=3.0, guidance=2.0),
}
LEAST_DECIBELS = {"float32": 60.0, "bfloat16": 35.0}
"""bfloat16's kernels round differently in different batches, to eight bits."""

SEEDS = tuple(range(100, 108))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    config = tiny_config("latent", self_condition=True)
    path = save_tiny(tmp_path_factory.mktemp("ckpt") / "tiny.safetensors", config)
    return load_model(open_checkpoint(path), choose_placement("cpu", request.param))


def videos(model: Model, seeds: Sequence[int], sampling: SamplingConfig, batch_size: int) -> dict[int, np.ndarray]:
    jobs = [Job(seed=seed, class_index=seed % 3, sampling=sampling) for seed in seeds]
    made = generate(model, jobs, batch_size=batch_size)
    return {job.seed: video.frames for job, video in zip(jobs, made, strict=True)}


def decibels(a: dict[int, np.ndarray], b: dict[int, np.ndarray]) -> float:
    """The least peak signal-to-noise ratio of any video that is in both."""
    errors = [((a[seed].astype(float) - b[seed]) ** 2).mean() for seed in a.keys() & b.keys()]
    return float(10 * np.log10(255**2 / max(*errors, 1e-12)))


@pytest.mark.parametrize("name", SAMPLINGS)
def test_the_batch_does_not_show(model: Model, name: str) -> None:
    sampling, least = SAMPLINGS[name], LEAST_DECIBELS[model.placement.dtype_name]
    alone = videos(model, SEEDS, sampling, 1)
    assert decibels({0: alone[100]}, {0: alone[103]}) < 35, "another seed, of the same class, shows"
    shuffled = random.Random(0).sample(SEEDS, len(SEEDS))
    for batch_size in (1, 3, 8):
        assert decibels(alone, videos(model, SEEDS, sampling, batch_size)) >= least
        assert decibels(alone, videos(model, shuffled, sampling, batch_size)) >= least
    left = shuffled[3:]  # of a run that was stopped
    assert decibels(alone, videos(model, left, sampling, 3)) >= least


@pytest.mark.parametrize("name", SAMPLINGS)
def test_made_by_itself_every_bit_is_the_same(model: Model, name: str) -> None:
    sampling = SAMPLINGS[name]
    first = videos(model, SEEDS[:1], sampling, 1)[SEEDS[0]]
    for round_ in range(4):
        seeds = [*random.Random(round_).sample(SEEDS, 3), SEEDS[0]]
        assert (videos(model, seeds, sampling, 1)[SEEDS[0]] == first).all()

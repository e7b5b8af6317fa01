"""A run in this process, of a network that trains in a blink."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.config import CheckpointConfig
from mpvideo.errors import UsageError
from mpvideo.training.initial import InitialWeights
from mpvideo.training.recipe import Recipe
from mpvideo.training.run import Plan, Rhythm, Run
from tests.checkpoints import random_tensors, save_tiny, tiny_config

RECIPE = Recipe(batch_size=2, micro_batch=2, autoencoder_steps=0)


class Colours:
    """Videos of one colour each; remembers the numbers asked for."""

    classes: tuple[str, ...] | None = None
    factors: tuple[int, ...] | None = None
    fps = 8.0

    def __init__(self, size: int = 8) -> None:
        self.size = size
        self.numbers: list[int] = []

    def batch(
        self, numbers: Sequence[int], frames: int | None = None, *, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        self.numbers += numbers
        levels = torch.tensor([number % 251 for number in numbers], dtype=torch.uint8)
        videos = levels.view(-1, 1, 1, 1, 1).repeat(1, frames or 4, self.size, self.size, 3)
        return videos.to(device), torch.zeros(len(numbers), dtype=torch.int64)


class Silent:
    """Hears what is said, and stops after so many steps of the network."""

    def __init__(self, steps: int | None = None) -> None:
        self.said: list[str] = []
        self._steps, self._taken = steps, 0

    def say(self, line: str) -> None:
        self.said.append(line)

    def advance(self, phase: str, step: int, total: int, words: str) -> None:
        self._taken += phase == "network"

    def stopping(self) -> bool:
        return self._steps is not None and self._taken >= self._steps


def config(codec: str = "rgb") -> CheckpointConfig:
    return tiny_config(codec, num_classes=None, dropout=0.0)


def plan(codec: str = "rgb", *, init: Path | None = None, **settings: Any) -> Plan:
    about = config(codec)
    return Plan(
        **{
            "data": Colours(about.pixel_size),
            "source": {"data": "colours"},
            "video": about.video,
            "model": about.model,
            "recipe": RECIPE,
            "steps": 4,
            "sampling": about.sampling,
            "initial": None if init is None else InitialWeights(init, about.model, about.video),
            **settings,
        }
    )


def train(plan: Plan, folder: Path, *, stop_after: int | None = None) -> Silent:
    watcher = Silent(stop_after)
    Run(plan, folder, watcher=watcher, rhythm=Rhythm()).train()
    return watcher


# What it begins with


def other_weights(path: Path, codec: str = "rgb") -> Path:
    tensors = {name: tensor.flip(0) for name, tensor in random_tensors(config(codec)).items()}
    save_checkpoint(path, tensors, config(codec))
    return path


def test_other_weights_of_the_same_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    begun = save_tiny(tmp_path / "a" / "model.safetensors", config())
    other = other_weights(tmp_path / "b" / "model.safetensors")
    run = tmp_path / "run"
    train(plan(init=begun), run, stop_after=0)
    with pytest.raises(UsageError) as caught:
        train(plan(init=other), run)
    assert caught.value.message == f"{run} was begun with other settings: --init has other weights than then"
    train(plan(init=begun), run)


def test_other_weights_are_told_by_their_name(tmp_path: Path) -> None:
    begun = save_tiny(tmp_path / "a.safetensors", config())
    run = tmp_path / "run"
    train(plan(init=begun), run, stop_after=0)
    for init, words in ((other_weights(tmp_path / "b.safetensors"), "b.safetensors"), (None, "not given")):
        with pytest.raises(UsageError, match=rf"other settings: --init is {words}, was a\.safetensors$"):
            train(plan(init=init), run)


# Its samples


def numbers(plan: Plan, folder: Path, stops: Sequence[int | None] = (None,)) -> list[int]:
    """What a run asks its data for, in as many calls as there are stops."""
    data = Colours(config(plan.video.codec).pixel_size)
    for stop in stops:
        train(replace(plan, data=data), folder, stop_after=stop)
    return data.numbers


def test_other_runs_have_other_samples(tmp_path: Path) -> None:
    one = save_tiny(tmp_path / "one.safetensors", config())
    other = other_weights(tmp_path / "other.safetensors")
    seeded = replace(RECIPE, seed=1)
    plans = {
        "first": plan(),
        "seed": plan(recipe=seeded),
        "init": plan(init=one),
        "other": plan(init=other),
        "both": plan(init=one, recipe=seeded),
    }
    asked = {name: numbers(each, tmp_path / name) for name, each in plans.items()}
    assert asked["first"] == list(range(8))
    for name, each in asked.items():
        assert each == list(range(each[0], each[0] + 8)), name
        # Neither the judge's, nor those of evaluations, nor beyond what the menagerie takes.
        assert name == "first" or 2**47 <= each[0] < 2**61 - 2**47
    assert len({number for each in asked.values() for number in each}) == 5 * 8


def test_a_run_that_goes_on_takes_the_samples_after(tmp_path: Path) -> None:
    begun = plan(init=save_tiny(tmp_path / "model.safetensors", config()))
    whole = numbers(begun, tmp_path / "whole")
    assert numbers(begun, tmp_path / "parts", (1, 2, None)) == whole


def test_images_of_the_autoencoder_have_numbers_of_their_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        training = plan("latent", recipe=replace(RECIPE, seed=seed, autoencoder_steps=1))
        first = training.first_sample
        assert (first == 0) is (seed == 0)
        asked = numbers(training, tmp_path / str(seed))
        images = [number for number in asked if number >= first + 2**40]
        assert images == list(range(images[0], images[0] + len(images)))
        assert images[0] == first + 2**40
        assert sorted(set(asked) - set(images)) == list(range(first, first + 8))

"""A run in this process, of a network that trains in a blink."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from mpvideo.checkpoint import open_checkpoint
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.config import CheckpointConfig
from mpvideo.errors import CheckpointError, MPVideoError, UsageError
from mpvideo.processes import Processes
from mpvideo.training.autoencoder import load_autoencoder, save_autoencoder
from mpvideo.training.folder import ClipFormat, FolderData, open_folder
from mpvideo.training.initial import InitialWeights
from mpvideo.training.plan import Plan, Rhythm
from mpvideo.training.posthoc import find_snapshots
from mpvideo.training.recipe import Recipe
from mpvideo.training.run import Run
from mpvideo.training.snapshot import load_snapshot
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
            "source": {"data": "colours"} | ({} if init is None else {"init": init.name}),
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


def test_processes_that_see_other_videos_do_not_train_together(tmp_path: Path) -> None:
    """As where a file could not be read by one of them: each would count its samples in another order."""
    asked = []

    class Unlike(Processes):
        def alike(self, text: str) -> bool:
            asked.append(json.loads(text))
            return False

    run = Run(plan(), tmp_path / "run", watcher=Silent(0), rhythm=Rhythm(), processes=Unlike(count=2))
    with pytest.raises(MPVideoError, match="do not see the same videos"):
        run.train()
    assert asked == [[plan().begun_with(), plan().steps, None]]
    assert not (tmp_path / "run").exists()


def test_caches_in_another_order_matter_to_latents_alone(tmp_path: Path) -> None:
    """All processes read those of the first one, which lie as its cache's frames do."""

    def text(codec: str, arrangement: str) -> str:
        data = Mock(spec=FolderData, arrangement=arrangement, factors=None, classes=None)
        whole = replace(plan(codec), data=data)
        return Run(whole, tmp_path / "run", watcher=Silent(0), rhythm=Rhythm())._what_to_train()

    assert text("latent", "one") != text("latent", "other")
    assert text("rgb", "one") == text("rgb", "other")


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


def test_a_run_that_goes_on_still_says_what_it_was_begun_with(tmp_path: Path) -> None:
    """The weights themselves are not read any more."""
    begun, run = save_tiny(tmp_path / "a.safetensors", config()), tmp_path / "run"
    train(plan(init=begun), run, stop_after=1)
    first = open_checkpoint(run / "model.safetensors").config.training
    train(replace(plan(init=begun), initial=None), run)
    last = open_checkpoint(run / "model.safetensors").config.training
    assert first is not None and last is not None and last["steps"] == 4
    assert last["source"] == first["source"] and last["source"]["init_sha256"]


@pytest.mark.parametrize(("steps", "made"), [(4, [2, 4]), (5, [3, 5]), (1, [1])])
def test_snapshots_of_averages_are_no_more_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, made: list[int]
) -> None:
    monkeypatch.setattr("mpvideo.training.run.EMA_SNAPSHOTS", 2)
    train(plan(steps=steps), tmp_path / "run")
    assert sorted({snapshot.step for snapshot in find_snapshots(tmp_path / "run")}) == made


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


def test_the_checkpoint_says_with_which_sample_a_run_began(tmp_path: Path) -> None:
    begun = plan(recipe=replace(RECIPE, seed=5))
    train(begun, tmp_path / "run", stop_after=1)
    assert open_checkpoint(tmp_path / "run").config.training["first_sample"] == begun.first_sample > 0


def test_a_run_that_goes_on_takes_the_samples_after(tmp_path: Path) -> None:
    begun = plan(init=save_tiny(tmp_path / "model.safetensors", config()))
    whole = numbers(begun, tmp_path / "whole")
    assert numbers(begun, tmp_path / "parts", (1, 2, None)) == whole


def test_a_run_goes_on_without_the_weights_that_it_began_with(tmp_path: Path) -> None:
    """They may have been trained on, or be gone."""
    begun = plan(init=save_tiny(tmp_path / "model.safetensors", config()))
    whole = numbers(begun, tmp_path / "whole")
    run = tmp_path / "run"
    assert numbers(begun, run, (1,)) == whole[:2]
    assert numbers(replace(begun, initial=None), run) == whole[2:]
    with pytest.raises(UsageError, match="--init is not given, was model"):
        train(plan(), run)


@pytest.mark.parametrize("name", ["model.safetensors", "snapshot.pt", "loss.png", "ema/std-0.050-step-00000002.x"])
def test_files_of_no_known_run_are_neither_replaced_nor_gone_on_from(tmp_path: Path, name: str) -> None:
    (path := tmp_path / name).parent.mkdir(exist_ok=True)
    path.write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=f"has {name}, but no run.json that says of which run that is$"):
        train(plan(), tmp_path)
    assert path.read_text() == "precious"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_lost_its_snapshot_is_not_begun_anew(tmp_path: Path) -> None:
    """Its averages and its checkpoint would be gone."""
    train(plan(), tmp_path)
    (tmp_path / "snapshot.pt").unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"has model\.safetensors, but no snapshot\.pt to go on from$"):
        train(plan(steps=6), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_first_checkpoint_comes_after_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between them, a run goes on."""
    monkeypatch.setattr("mpvideo.training.run.save_checkpoint", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(plan(), tmp_path)
    assert (tmp_path / "snapshot.pt").exists() and not (tmp_path / "model.safetensors").exists()
    monkeypatch.undo()
    train(plan(), tmp_path)
    assert (tmp_path / "model.safetensors").exists()


def test_a_training_that_diverged_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("diverged" in line for line in train(plan(), tmp_path / "sound").said)
    monkeypatch.setattr("mpvideo.training.run.DIVERGED", 1e-3)
    said = train(plan(), tmp_path / "diverged").said
    assert sum(line.startswith("warning: the training has diverged: the loss is ") for line in said) == 1


def test_a_run_that_an_older_version_began(tmp_path: Path) -> None:
    """It knew no hash of --init, and had all runs begin with sample 0."""
    begun = plan(init=save_tiny(tmp_path / "model.safetensors", config()))
    train(begun, run := tmp_path / "run", stop_after=1)
    record = json.loads((run / "run.json").read_text())
    assert len(record["source"].pop("init_sha256")) == 64
    (run / "run.json").write_text(json.dumps(record))
    state = torch.load(run / "snapshot.pt", weights_only=True)
    assert state.pop("first_sample") == begun.first_sample
    torch.save(state, run / "snapshot.pt")
    assert numbers(begun, run) == list(range(2, 8))


def test_images_of_the_autoencoder_have_numbers_of_their_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        training = plan("latent", recipe=replace(RECIPE, seed=seed, autoencoder_steps=1))
        first = training.first_sample
        assert (first == 0) is (seed == 0)
        asked = numbers(training, tmp_path / str(seed))
        images = [number - first - 2**40 for number in asked if number >= first + 2**40]
        shown, measured = range(64, 64 + 8), range(64, 64 + 32 * 64)
        assert images == [*range(64), *shown, *measured], "of one step, of its sheet, of the latents' statistics"
        assert sorted({number for number in asked if number < first + 2**40}) == list(range(first, first + 8))


@pytest.mark.parametrize("key", ["averages", "first_sample", "objective", "optimizer", "samples", "step", "settings"])
@pytest.mark.parametrize("gone", [True, False])
def test_a_snapshot_of_something_else_is_named(tmp_path: Path, key: str, gone: bool) -> None:
    begun, run = plan(), tmp_path / "run"
    train(begun, run, stop_after=1)
    state = torch.load(run / "snapshot.pt", weights_only=True)
    state[key] = None
    if gone:
        del state[key]
    torch.save(state, run / "snapshot.pt")
    if gone and key == "first_sample":  # the first snapshots had none
        train(begun, run)
        return
    with pytest.raises(CheckpointError, match=r"snapshot\.pt"):
        train(begun, run)


def test_pictures_that_a_call_came_to_no_more_are_made_by_the_next(tmp_path: Path) -> None:
    begun, run = plan(), tmp_path / "run"
    train(begun, run)
    sheets = sorted((run / "sheets").iterdir())
    for lost in ([run / "loss.png"], sheets[-1:]):
        for path in lost:
            path.unlink()
        train(begun, run)
        assert (run / "loss.png").exists() and sorted((run / "sheets").iterdir()) == sheets


def test_pictures_of_the_autoencoder_are_made_on_the_way(tmp_path: Path) -> None:
    begun = plan("latent", recipe=replace(RECIPE, autoencoder_steps=2))
    Run(begun, tmp_path / "run", watcher=Silent(0), rhythm=Rhythm(sheet=0.0)).train()
    Run(begun, tmp_path / "run", watcher=Silent(3), rhythm=Rhythm(sheet=0.0)).train()
    names = {path.name for path in (tmp_path / "run" / "sheets").iterdir()}
    assert names >= {"autoencoder-00000001.png", "autoencoder-00000002.png"}


@pytest.mark.parametrize("state", [{}, {"step": 1}, {"step": "1", "steps": 2}])
def test_a_snapshot_of_another_autoencoder_is_named(tmp_path: Path, state: dict[str, object]) -> None:
    begun = plan("latent", recipe=replace(RECIPE, autoencoder_steps=2))
    train(begun, tmp_path / "run", stop_after=0)
    torch.save(state, tmp_path / "run" / "autoencoder.pt")
    with pytest.raises(CheckpointError, match=r"autoencoder\.pt: the snapshot must be that of an autoencoder"):
        train(begun, tmp_path / "run")


# The autoencoder once the network has begun


def codec(run: Path) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in load_file(run / "model.safetensors").items() if name.startswith("codec.")}


@pytest.mark.parametrize("steps", [0, 1])
def test_the_autoencoder_to_begin_with_is_trained_on_for_as_many_steps_as_asked(tmp_path: Path, steps: int) -> None:
    init = save_tiny(tmp_path / "init.safetensors", config("latent"))
    begun = plan("latent", init=init, recipe=replace(RECIPE, autoencoder_steps=steps))
    train(begun, tmp_path / "run", stop_after=1)
    before = load_file(init)
    kept = all(torch.equal(tensor, before[name].half()) for name, tensor in codec(tmp_path / "run").items())
    assert kept is (steps == 0)


@pytest.mark.parametrize("initial", [True, False])
def test_an_autoencoder_that_is_gone_is_no_new_one(tmp_path: Path, initial: bool) -> None:
    """It is that of --init, or what the run's checkpoint has of it, whoever trained it."""
    init = save_tiny(tmp_path / "init.safetensors", config("latent")) if initial else None
    begun = plan("latent", init=init, recipe=replace(RECIPE, autoencoder_steps=0 if initial else 1))
    run = tmp_path / "run"
    train(begun, run, stop_after=1)
    before = codec(run)
    (run / "autoencoder.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="is not the autoencoder of a run"):
        train(begun, run)
    (run / "autoencoder.safetensors").unlink()
    watcher = train(begun, run)
    gone = "autoencoder.safetensors is gone: taken from model.safetensors"
    assert (gone in watcher.said) is not initial
    after = codec(run)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert load_snapshot(run / "snapshot.pt")["step"] == 4


def test_an_autoencoder_that_is_nowhere(tmp_path: Path) -> None:
    begun = plan("latent", recipe=replace(RECIPE, autoencoder_steps=1))
    run = tmp_path / "run"
    train(begun, run, stop_after=1)
    (run / "autoencoder.safetensors").unlink()
    (run / "model.safetensors").unlink()
    save_tiny(run / "model.safetensors", config())
    with pytest.raises(CheckpointError, match=r"has another autoencoder than this run, or none$"):
        train(begun, run)
    (run / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"autoencoder\.safetensors is gone, and so is model\.safetensors, "):
        train(begun, run)
    assert not (run / "autoencoder.safetensors").exists()


def test_the_autoencoder_of_another_run_is_refused(tmp_path: Path) -> None:
    runs = {}
    for seed in (0, 1):
        runs[seed] = plan("latent", recipe=replace(RECIPE, seed=seed, autoencoder_steps=1))
        train(runs[seed], tmp_path / str(seed), stop_after=1)
    own, other = (tmp_path / str(seed) / "autoencoder.safetensors" for seed in (0, 1))
    kept = own.read_bytes()
    own.write_bytes(other.read_bytes())
    with pytest.raises(CheckpointError, match=r"autoencoder\.safetensors is another one than the network was"):
        train(runs[0], own.parent)
    own.write_bytes(kept)
    train(runs[0], own.parent, stop_after=1)
    # A snapshot of an older version does not say which one it was.
    snapshot = own.parent / "snapshot.pt"
    state = torch.load(snapshot, weights_only=True)
    assert len(state.pop("autoencoder")) == 64
    torch.save(state, snapshot)
    train(runs[0], own.parent)
    state = load_snapshot(snapshot)
    assert state["step"] == 4 and len(state["autoencoder"]) == 64


def test_latents_are_those_of_the_autoencoder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    frames = [Image.fromarray(np.full((16, 16, 3), 40 * level, np.uint8)) for level in range(6)]
    frames[0].save(tmp_path / "data" / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    data = open_folder(tmp_path / "data", tmp_path / "cache", ClipFormat(size=16, frames=4), seed=0, say=[].append)
    begun = plan("latent", data=data, init=save_tiny(tmp_path / "init.safetensors", config("latent")))
    run = tmp_path / "run"
    assert "encoding 6 frames" in train(begun, run, stop_after=1).said
    [before] = run.glob("latents-*.npy")
    assert "encoding 6 frames" not in train(begun, run, stop_after=1).said
    for name in ("snapshot.pt", "model.safetensors"):  # a network that has learned its latents goes on with no other
        (run / name).unlink()
    assert begun.video.autoencoder is not None
    other = load_autoencoder(run / "autoencoder.safetensors", begun.video.autoencoder)
    other.mean.add_(1.0)
    save_autoencoder(other, run / "autoencoder.safetensors")
    assert "encoding 6 frames" in train(begun, run).said
    [after] = run.glob("latents-*.npy")
    assert after != before


# Being stopped


def test_before_the_first_step_there_is_no_checkpoint(tmp_path: Path) -> None:
    train(plan(), tmp_path / "run", stop_after=0)
    assert {path.name for path in (tmp_path / "run").rglob("*")} == {"run.json", ".lock", "sheets", "ema"}
    train(plan(), tmp_path / "run", stop_after=1)
    assert (tmp_path / "run" / "sheets" / "step-00000001.png").exists()
    (tmp_path / "run" / "model.safetensors").unlink()
    train(plan(), tmp_path / "run", stop_after=0)  # what was taken away is written again
    assert (tmp_path / "run" / "model.safetensors").exists()

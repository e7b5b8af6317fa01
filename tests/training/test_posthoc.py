import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mpvideo.checkpoint import Header
from mpvideo.checkpoint.load import read_tensors
from mpvideo.errors import CheckpointError, OutputError
from mpvideo.training import posthoc
from mpvideo.training.ema import PowerEMA, profile_error
from mpvideo.training.posthoc import find_snapshots, forget_after, reconstruct, save_ema_snapshot, std_word
from tests.networks import randn

STDS = (0.05, 0.10)
TARGETS = (0.05, 0.06, 0.075, 0.10, 0.125, 0.15, 0.175, 0.20)
STEPS, SNAPSHOTS = 2048, 32


class Weights(nn.Module):
    """A network's worth of tensors that move in different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.walk = nn.Parameter(torch.zeros(500))
        self.drift = nn.Parameter(randn(500))
        self.kept_length = nn.Parameter(randn(500, seed=1))
        self.gain = nn.Parameter(torch.zeros(()))
        self.register_buffer("frequencies", randn(7, seed=2).to(torch.float16).float())


def train(module: Weights) -> Iterator[int]:
    """Moves the weights; yields the steps."""
    generator = torch.Generator().manual_seed(0)
    start, way, swing = module.drift.detach().clone(), randn(500, seed=3), randn(500, seed=4)
    for step in range(1, STEPS + 1):
        noise = torch.randn(2, 500, generator=generator)
        time = torch.tensor(step / STEPS)
        with torch.no_grad():
            module.walk += noise[0]
            module.drift.copy_(start + way * time.sqrt() + swing * torch.sin(5 * time))
            module.kept_length += 0.03 * noise[1]
            module.kept_length /= module.kept_length.square().mean().sqrt()
            module.gain.copy_(0.3 * (1 - torch.exp(-4 * time)))
        yield step


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[float, dict[str, Tensor]]]:
    """A run with 32 snapshots of both averages, and the true averages at its end."""
    run = tmp_path_factory.mktemp("run")
    module = Weights().double()
    averages = {std: PowerEMA(module, std) for std in TARGETS} | {std: PowerEMA(module, std) for std in STDS}
    for step in train(module):
        for average in averages.values():
            average.update(step)
        if step % (STEPS // SNAPSHOTS) == 0:
            for std in STDS:
                save_ema_snapshot(run, averages[std].average, ema_std=std, step=step)
    return run, {std: average.average.state_dict() for std, average in averages.items()}


def relative_error(seen: Tensor, true: Tensor) -> float:
    return ((seen - true).norm() / true.norm()).item()


@pytest.mark.parametrize("std", TARGETS)
def test_any_width_comes_out_close_to_the_true_average(trained, std):
    run, true = trained
    seen = dict(reconstruct(find_snapshots(run), std))
    assert seen.keys() == true[std].keys()
    for name, tensor in seen.items():
        assert tensor.dtype == torch.float64 and tensor.shape == true[std][name].shape
        assert relative_error(tensor, true[std][name]) < 1e-3, name  # the promise is 1e-2; float16 alone is 2e-4
    assert torch.allclose(seen["frequencies"], true[std]["frequencies"], rtol=1e-12), "nothing moved them"


def test_the_error_said_beforehand_is_no_better_than_the_real_one(trained):
    run, true = trained
    snapshots = find_snapshots(run)
    steps, stds = [item.step for item in snapshots], [item.ema_std for item in snapshots]
    for std in (0.15, 0.20):  # beside which the rounding of snapshots is nothing
        seen = dict(reconstruct(snapshots, std))
        worst = max(relative_error(seen[name], true[std][name]) for name in ("walk", "drift", "kept_length"))
        assert worst < profile_error(steps, stds, STEPS, std) < 1e-2


def test_an_earlier_step(trained):
    run, _ = trained
    snapshots = find_snapshots(run, 512)
    assert [snapshot.step for snapshot in snapshots] == [step for step in range(64, 513, 64) for _ in STDS]
    module = Weights().double()
    average = PowerEMA(module, 0.08)
    for step in train(module):
        average.update(step)
        if step == 512:
            break
    seen = dict(reconstruct(snapshots, 0.08))
    assert relative_error(seen["walk"], average.average.walk.detach()) < 2e-3, "of eight snapshots"
    with pytest.raises(ValueError, match=r"^step must be one that has snapshots \(64, 128, .*, 2048\), got 100$"):
        find_snapshots(run, 100)


def test_one_tensor_of_one_snapshot_is_in_memory_at_a_time(trained, monkeypatch):
    alive: list[weakref.ref[Tensor]] = []
    reads = 0

    def watched(header: Header) -> Iterator[object]:
        nonlocal reads
        reads += 1
        assert len(header.tensors) == 1
        assert not any(reference() is not None for reference in alive), "what was read before is gone"
        [pair] = read_tensors(header)
        alive[:] = [weakref.ref(pair[1])]
        yield pair

    monkeypatch.setattr(posthoc, "read_tensors", watched)
    snapshots = find_snapshots(trained[0])
    names = [name for name, _ in reconstruct(snapshots, 0.075)]
    assert len(names) == 5 and reads == 5 * 2 * SNAPSHOTS


def small(step: int = 0) -> nn.Linear:
    module = nn.Linear(3, 2)
    nn.init.constant_(module.weight, 1.0 + step)
    nn.init.zeros_(module.bias)
    return module


def save_small(run: Path, *steps: int) -> None:
    for step in steps:
        for std in STDS:
            save_ema_snapshot(run, small(step), ema_std=std, step=step)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "ema").iterdir())


def test_what_a_snapshot_is(tmp_path):
    save_ema_snapshot(tmp_path, small(), ema_std=0.05, step=1024, factors=(2, 3))
    path = tmp_path / "ema" / "std-0.050-step-00001024.safetensors"
    with safe_open(path, "pt") as file:
        assert {name: file.get_tensor(name).dtype for name in file.keys()} == {  # noqa: SIM118
            "weight": torch.float16,
            "bias": torch.float16,
        }
        metadata = file.metadata()
    assert metadata.keys() == {"mpvideo"}
    assert json.loads(metadata["mpvideo"]) == {"format": 1, "ema_std": 0.05, "step": 1024, "factors": [2, 3]}
    [snapshot] = find_snapshots(tmp_path)
    assert (snapshot.ema_std, snapshot.step, snapshot.factors) == (0.05, 1024, (2, 3))
    before = path.read_bytes()
    save_ema_snapshot(tmp_path, small(), ema_std=0.05, step=1024, factors=(2, 3))
    assert path.read_bytes() == before and names(tmp_path) == [path.name]


def test_a_snapshot_that_cannot_be_written(tmp_path):
    (tmp_path / "ema").write_text("a file")
    with pytest.raises(OutputError, match="ema could not be written"):
        save_ema_snapshot(tmp_path, small(), ema_std=0.05, step=1)


def test_one_snapshot_is_what_it_is(tmp_path):
    save_ema_snapshot(tmp_path, small(4), ema_std=0.10, step=7)
    assert dict(reconstruct(find_snapshots(tmp_path), 0.2))["weight"].eq(5).all()


def test_leftovers_of_a_longer_continuation_are_forgotten(tmp_path):
    forget_after(tmp_path, 3)  # there is nothing yet
    save_small(tmp_path, 2, 4, 6)
    (tmp_path / "ema" / "note.txt").write_text("mine")
    forget_after(tmp_path, 4)
    assert [snapshot.step for snapshot in find_snapshots(tmp_path)] == [2, 2, 4, 4]
    assert "note.txt" in names(tmp_path) and len(names(tmp_path)) == 5


@pytest.mark.parametrize("std", [0.0, 0.2887, float("nan")])
def test_a_width_out_of_range(tmp_path, std):
    save_small(tmp_path, 1)
    with pytest.raises(ValueError, match=r"^ema_std must be in \(0, 0\.2887\), got "):
        list(reconstruct(find_snapshots(tmp_path), std))


def test_a_folder_without_snapshots(tmp_path):
    with pytest.raises(CheckpointError, match=r"std-0\.050-step-00000064\.safetensors; it has none"):
        find_snapshots(tmp_path)
    with pytest.raises(CheckpointError, match="there is no such folder"):
        find_snapshots(tmp_path / "other")
    with pytest.raises(CheckpointError, match="cannot be read"):
        find_snapshots(tmp_path / ("x" * 300))


def test_damage_names_the_file(tmp_path):
    save_small(tmp_path, 1, 2)
    path = tmp_path / "ema" / "std-0.100-step-00000001.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=rf"{path.name} is truncated"):
        find_snapshots(tmp_path)
    path.write_bytes(whole[:-2] + b"\xff\x7f")
    snapshots = find_snapshots(tmp_path)
    with pytest.raises(CheckpointError, match=rf"{path.name}: weights must be finite, weight contains NaN"):
        list(reconstruct(snapshots, 0.07))
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=rf"{path.name} changed between"):
        list(reconstruct(snapshots, 0.07))


def test_a_file_that_is_not_what_its_name_says(tmp_path):
    save_small(tmp_path, 1)
    path = tmp_path / "ema" / "std-0.100-step-00000001.safetensors"
    path.rename(path.with_name("std-0.100-step-00000002.safetensors"))
    with pytest.raises(CheckpointError, match=r"step-00000002\.safetensors is not the snapshot that its name says"):
        find_snapshots(tmp_path)


def test_factors_that_are_none(tmp_path):
    save_small(tmp_path, 1)
    path = tmp_path / "ema" / "std-0.100-step-00000001.safetensors"
    about = json.dumps({"format": 1, "ema_std": 0.1, "step": 1, "factors": [0, "2"]})
    save_file({"weight": torch.zeros(2)}, path, {"mpvideo": about})
    with pytest.raises(CheckpointError, match="factors must be a list of whole numbers from 1, or null"):
        find_snapshots(tmp_path)


def test_snapshots_of_another_network(tmp_path):
    save_small(tmp_path, 1)
    save_ema_snapshot(tmp_path, nn.Linear(4, 2), ema_std=0.05, step=2)
    with pytest.raises(CheckpointError, match=r"step-00000001\.safetensors must hold the tensors that std-0\.050-step"):
        find_snapshots(tmp_path)


@pytest.mark.parametrize(
    ("std", "word"), [(0.05, "0.050"), (0.1, "0.100"), (0.1234, "0.1234"), (0.1204, "0.1204"), (0.15, "0.150")]
)
def test_words_for_widths(std, word):
    assert std_word(std) == word

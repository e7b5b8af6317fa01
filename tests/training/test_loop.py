import copy
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from mpvideo.errors import CheckpointError
from mpvideo.nn import KarrasUnet3D
from mpvideo.training import loop
from mpvideo.training.factored import FactoredClassEmbedding
from mpvideo.training.loop import Recipe, Trainer, finished_weights, train
from mpvideo.training.loss import denoising_loss
from tests.networks import TINY, TINY_SHAPE, randn, tiny_network

RECIPE = Recipe(batch_size=4, peak_rate=0.02, warmup_steps=2, decay_steps=1000, bfloat16=False, seed=3)


def batches(number: int) -> tuple[Tensor, Tensor]:
    """Noise of the standard deviation 0.5, brighter the higher the class."""
    generator = torch.Generator().manual_seed(1000 + number)
    labels = torch.randint(5, (4,), generator=generator)
    clean = 0.1 * torch.randn(4, *TINY_SHAPE, generator=generator)
    return clean + (0.35 * (labels - 2)).view(-1, 1, 1, 1, 1), labels


def trainer(recipe: Recipe = RECIPE, *, seed: int = 0, factors: tuple[int, ...] = (), **overrides: Any) -> Trainer:
    net = tiny_network(gain=None, seed=seed, **overrides)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if factors:
            net.to_class_emb = FactoredClassEmbedding(factors, 4 * TINY["dim"])
        return Trainer(net, recipe, sigma_data=0.5)


def run(trainer: Trainer, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.train_step(*batches(trainer.step))
    return trainer


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """Its state through a file, as `train` writes and reads it."""
    file = io.BytesIO()
    torch.save(trainer.state(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


def flat(state: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(state, dict | list | tuple):
        return {name: state}
    entries = state.items() if isinstance(state, dict) else enumerate(state)
    return {path: leaf for key, value in entries for path, leaf in flat(value, f"{name}/{key}").items()}


def different(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Where two states differ by as little as a bit."""
    a, b = flat(one), flat(other)
    assert a.keys() == b.keys()
    assert len(a) > 100
    return [k for k in a if not (torch.equal(a[k], b[k]) if isinstance(a[k], Tensor) else a[k] == b[k])]


@pytest.mark.parametrize("overrides", [{}, {"factors": (5, 1)}, {"dropout": 0.3}])
def test_resuming_takes_the_very_same_steps(overrides):
    torch.manual_seed(98)  # nothing may depend on the global generator
    whole = run(trainer(**overrides), 6)
    torch.manual_seed(99)
    first = run(trainer(**overrides), 3)
    second = trainer(seed=1, **overrides)
    assert different(second.state()["net"], first.state()["net"])
    second.load_state(snapshot(first))
    assert different(second.state(), first.state()) == []
    assert different(run(second, 3).state(), whole.state()) == []
    assert whole.step == 6


def test_seed_of_the_recipe_matters():
    other = Recipe(**{**vars(RECIPE), "seed": 4})
    assert different(run(trainer(), 2).state()["net"], run(trainer(other), 2).state()["net"])


def test_global_generator_is_left_alone():
    training = trainer(dropout=0.3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run(training, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_losses_of_a_step():
    training = trainer()
    sigma, loss = training.train_step(*batches(0))
    assert sigma.shape == loss.shape == (4,)
    assert (sigma > 0).all()
    assert not loss.requires_grad
    assert training.step == 1
    assert all(parameter.grad is None for parameter in training.parameters)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_loss_falls(bfloat16):
    """On a data set of one picture, bright in one channel and dark in the other, an exact denoiser has no loss."""
    training = trainer(Recipe(**{**vars(RECIPE), "bfloat16": bfloat16}))
    clean = torch.tensor([0.5, -0.5]).view(2, 1, 1, 1).expand(4, *TINY_SHAPE)
    labels, noise, sigma = torch.zeros(4, dtype=torch.long), randn(*clean.shape), torch.tensor([0.5, 1.0, 2.0, 4.0])

    @torch.no_grad()
    def measured() -> float:
        net = copy.deepcopy(training.net).eval()
        return denoising_loss(net, clean, noise, sigma, 0.5, torch.eye(5)[labels]).mean().item()

    assert measured() == pytest.approx(1, abs=0.05)
    for _ in range(20):
        training.train_step(clean, labels)
    assert measured() < 0.5
    assert training.net.input_block.weight.dtype == torch.float32


def test_average_follows_the_network():
    training = run(trainer(), 4)
    name = "downs.0.block1.1.weight"
    now, average = training.net.state_dict()[name], training.ema.average.state_dict()[name]
    start = trainer().net.state_dict()[name]
    assert 0 < (now - average).norm() < (now - start).norm()
    expected = copy.deepcopy(training.ema.average)
    training.train_step(*batches(4))
    beta = (1 - 1 / 5) ** (training.ema.gamma + 1)
    expected = beta * expected.state_dict()[name] + (1 - beta) * training.net.state_dict()[name]
    torch.testing.assert_close(training.ema.average.state_dict()[name], expected)


def test_learning_rate_reaches_the_optimizer():
    training = trainer()
    rates = []
    for _ in range(3):
        run(training, 1)
        rates.append(training.optimizer.param_groups[0]["lr"])
    assert rates == [0.01, 0.02, 0.02]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_gradients_that_are_not_finite_are_neutralised(bad):
    training = run(trainer(), 2)
    clean, labels = batches(2)
    clean[0, 0, 0, 0, 0] = bad
    _, loss = training.train_step(clean, labels)
    assert not loss.isfinite().all()
    state = flat(training.state())
    assert all(leaf.isfinite().all() for leaf in state.values() if isinstance(leaf, Tensor))
    _, loss = training.train_step(*batches(3))
    assert loss.isfinite().all()


@pytest.mark.parametrize(("dropout", "rows"), [(0.0, 20), (1.0, 0)])
def test_label_dropout(dropout, rows):
    """A dropped label is a row of zeros, a kept one is one-hot."""
    training = trainer(Recipe(**{**vars(RECIPE), "label_dropout": dropout}))
    seen: list[Tensor] = []
    training.net.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["class_labels"]), with_kwargs=True
    )
    run(training, 5)
    labels = torch.cat([batches(number)[1] for number in range(5)])
    assert torch.cat(seen).sum() == rows
    if rows:
        assert torch.equal(torch.cat(seen), torch.eye(5)[labels])


def test_label_dropout_is_a_probability():
    training = trainer(Recipe(**{**vars(RECIPE), "label_dropout": 0.5}))
    seen: list[Tensor] = []
    training.net.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["class_labels"]), with_kwargs=True
    )
    run(training, 15)
    assert 15 <= torch.cat(seen).sum() <= 45  # of 60: the mean, and four standard deviations


# The loop


class Clock:
    """One second for every look at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def until(count: int) -> Callable[[], bool]:
    """Says yes that many times, then no."""
    answers = iter([True] * count + [False])
    return lambda: next(answers)


def test_train_goes_on_where_it_stopped(tmp_path: Path):
    """Two short calls give what one long call gives, and the second reports where it goes on."""
    path, lines = tmp_path / "snapshot.pt", []
    train(trainer(), batches, path, keep_going=until(2), say=lines.append)
    assert torch.load(path, weights_only=True)["step"] == 2
    assert lines == []
    second = trainer(seed=1)
    train(second, batches, path, keep_going=until(3), say=lines.append)
    assert lines == ["network: going on from step 2"]
    assert second.step == 5
    assert different(second.state(), run(trainer(), 5).state()) == []
    assert different(torch.load(path, weights_only=True), second.state()) == []
    assert [file.name for file in tmp_path.iterdir()] == ["snapshot.pt"]


def test_train_that_is_told_to_stop_at_once(tmp_path: Path):
    path, training = tmp_path / "snapshot.pt", trainer()
    train(training, batches, path, keep_going=until(0), say=print)
    assert training.step == 0
    assert torch.load(path, weights_only=True)["step"] == 0


def test_snapshots_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A step takes a second of the clock: one after more than three of them, one at the end."""
    saved: list[int] = []
    monkeypatch.setattr(loop, "_save", lambda state, path: saved.append(state["step"]))
    train(trainer(), batches, tmp_path / "snapshot.pt", keep_going=until(10), snapshot_every=3, say=print)
    assert saved == [4, 8, 10]


def test_reports_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One for every 31 seconds of the clock, of the steps since the last one."""
    training, lines = trainer(), []

    def step(clean: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        training.step += 1
        first = 1.0 if training.step <= 31 else 5.0
        return torch.tensor([0.1, 0.3, 1.0, 4.0]), torch.tensor([first, 2.0, 3.0, 4.0])

    monkeypatch.setattr(training, "train_step", step)
    train(training, batches, tmp_path / "snapshot.pt", keep_going=until(70), say=lines.append)
    levels = "<0.6: 2.000, <2: 3.000, <6: 4.000, <inf: -"
    assert lines == [
        f"network: step 31, 124 samples, 4.0 samples/s, loss 2.5000; by sigma <0.2: 1.000, {levels}",
        f"network: step 62, 248 samples, 4.0 samples/s, loss 3.5000; by sigma <0.2: 5.000, {levels}",
    ]


def test_a_snapshot_of_other_settings_is_refused():
    state = snapshot(run(trainer(), 1))
    other = trainer(Recipe(**{**vars(RECIPE), "batch_size": 8}))
    with pytest.raises(CheckpointError, match="batch_size must be that of the snapshot, 4, got 8"):
        other.load_state(state)
    with pytest.raises(CheckpointError, match="dropout must be that of the snapshot"):
        trainer(dropout=0.5).load_state(state)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x80\x02K\x01."])
def test_a_damaged_snapshot_is_told(tmp_path: Path, content: bytes):
    path = tmp_path / "snapshot.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"snapshot.pt is not a snapshot that can be read"):
        train(trainer(), batches, path, keep_going=until(1), say=print)
    assert path.read_bytes() == content


def test_a_network_without_classes():
    training = trainer(num_classes=None)
    assert run(training, 2).step == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch_size", 0), ("decay_steps", 0), ("label_dropout", 1.5), ("P_std", -1.0), ("peak_rate", float("nan"))],
)
def test_recipes_that_cannot_be(field: str, value: float):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Recipe(**{field: value})


# The result


def test_finished_weights_of_a_plain_network():
    net = tiny_network()
    weights = finished_weights(net)
    assert weights.keys() == net.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(tensor.requires_grad for tensor in weights.values())


def test_finished_weights_of_factors_fit_a_plain_network():
    training = run(trainer(factors=(5, 1)), 3)
    plain = KarrasUnet3D(**TINY).eval()
    plain.load_state_dict(finished_weights(training.ema.average))
    x, time = randn(5, *TINY_SHAPE), torch.linspace(-1, 1, 5)
    out = plain(x, time, class_labels=torch.arange(5))
    assert out.any()
    torch.testing.assert_close(out, training.ema.average(x, time, class_labels=torch.arange(5)))

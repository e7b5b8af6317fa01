import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mpvideo.config import ModelConfig
from mpvideo.diffusion import preconditioning
from mpvideo.diffusion.noise import seeded_generator
from mpvideo.errors import CheckpointError
from mpvideo.processes import ALONE, Processes
from mpvideo.training.factored import FactoredClassEmbedding
from mpvideo.training.recipe import Recipe
from mpvideo.training.snapshot import load_snapshot, save_snapshot
from mpvideo.training.trainer import EMA_STDS, Trainer, check_shares, clips_per_sample
from tests.networks import TINY, TINY_SHAPE, randn, tiny_network

RECIPE = Recipe(batch_size=4, micro_batch=4, P_mean=-0.4, peak_rate=0.02, warmup_steps=2, decay_steps=1000, seed=3)
CLIPS = replace(RECIPE, clip_frames=2, clip_share=0.5)


def batches(numbers: Sequence[int], clip: int | None) -> tuple[Tensor, Tensor]:
    """Noise of the standard deviation 0.5, brighter the higher the class."""
    C, T, H, W = TINY_SHAPE
    samples, labels = [], []
    for number in numbers:
        generator = seeded_generator(1000 + number)
        labels.append(torch.randint(5, (), generator=generator))
        samples.append(0.1 * torch.randn(C, clip or T, H, W, generator=generator) + 0.35 * (labels[-1] - 2))
    return torch.stack(samples), torch.stack(labels)


def trainer(
    recipe: Recipe = RECIPE,
    *,
    seed: int = 0,
    factors: tuple[int, ...] = (),
    processes: Processes = ALONE,
    **overrides: Any,
) -> Trainer:
    net = tiny_network(gain=None, seed=seed, **overrides)
    if factors:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net.to_class_emb = FactoredClassEmbedding(factors, 4 * TINY["dim"])
    return Trainer(net, recipe, sigma_data=0.5, processes=processes)


class Scale(nn.Module):
    """Stands in for the network where only what goes into it matters: fast, and with a single weight."""

    def __init__(self, **overrides: Any) -> None:
        super().__init__()
        self.config = ModelConfig(**{**TINY, **overrides})
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(
        self, x: Tensor, time: Tensor, self_cond: Tensor | None = None, class_labels: Tensor | None = None
    ) -> Tensor:
        return self.gain * (x if self_cond is None else 0.5 * (x + self_cond))


def fast_trainer(recipe: Recipe = RECIPE, **overrides: Any) -> Trainer:
    return Trainer(Scale(**overrides), recipe, sigma_data=0.5)  # type: ignore[arg-type]


def run(trainer: Trainer, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.train_step(batches)
    return trainer


class Calls:
    """What a trainer's network was asked and answered, call by call."""

    def __init__(self, trainer: Trainer) -> None:
        self.all: list[dict[str, Any]] = []
        trainer.net.register_forward_hook(self._take, with_kwargs=True)

    def _take(self, module: Any, args: tuple[Tensor, Tensor], kwargs: dict[str, Any], out: Tensor) -> None:
        self.all.append({"x": args[0], "time": args[1], "out": out, "self_cond": None, **kwargs})

    def labels(self) -> Tensor:
        return torch.cat([call["class_labels"] for call in self.all])


class Seen:
    """Which samples were asked for: a list of numbers and the length of clips for each batch."""

    def __init__(self) -> None:
        self.numbers: list[list[int]] = []
        self.clips: list[int | None] = []

    def __call__(self, numbers: Sequence[int], clip: int | None) -> tuple[Tensor, Tensor]:
        self.numbers.append(list(numbers))
        self.clips.append(clip)
        return batches(numbers, clip)


def gradients(trainer: Trainer) -> list[Tensor]:
    """The gradients that the optimiser gets in one step."""
    taken: list[Tensor] = []
    step = trainer.optimizer.step

    def taking() -> None:
        taken.extend(parameter.grad.clone() for parameter in trainer.parameters if parameter.grad is not None)
        step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.optimizer, "step", taking)
        trainer.train_step(batches)
    assert len(taken) == len(trainer.parameters)
    return taken


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


# Going on


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        (RECIPE, {}),
        (RECIPE, {"dropout": 0.3, "self_condition": True}),
        (CLIPS, {"num_classes": None}),
        (replace(CLIPS, micro_batch=1), {"dropout": 0.3, "self_condition": True, "factors": (5, 1)}),
    ],
)
def test_resuming_takes_the_very_same_steps(tmp_path: Path, recipe: Recipe, overrides: dict[str, Any]) -> None:
    torch.manual_seed(98)  # nothing may depend on the global generator
    whole = run(trainer(recipe, **overrides), 4)
    torch.manual_seed(99)
    first = run(trainer(recipe, **overrides), 2)
    save_snapshot(first.state(), tmp_path / "snapshot.pt")
    second = trainer(recipe, seed=1, **overrides)
    assert different(second.state()["objective"], first.state()["objective"])
    second.load_state(load_snapshot(tmp_path / "snapshot.pt"))
    assert different(second.state(), first.state()) == []
    assert different(run(second, 2).state(), whole.state()) == []
    assert whole.step == 4


def test_a_snapshot_may_lie_otherwise_in_memory() -> None:
    def laid_out_anew(state: Any) -> Any:
        if isinstance(state, dict):
            return {key: laid_out_anew(value) for key, value in state.items()}
        return state.contiguous() if isinstance(state, Tensor) else state

    whole, second = run(trainer(), 4), trainer(seed=1)
    state = run(trainer(), 2).state()
    second.load_state({**state, "optimizer": laid_out_anew(state["optimizer"])})
    assert different(run(second, 2).state(), whole.state()) == []


def test_seed_of_the_recipe_decides_everything_but_the_network() -> None:
    other = replace(RECIPE, seed=4)
    ours, again, theirs = (trainer(recipe, num_classes=None) for recipe in (RECIPE, RECIPE, other))
    assert different(ours.state(), again.state()) == []
    assert not torch.equal(ours.objective.uncertainty.linear.weight, theirs.objective.uncertainty.linear.weight)
    ours, theirs = (fast_trainer(recipe) for recipe in (RECIPE, other))
    assert not torch.isin(ours.train_step(batches).sigma, theirs.train_step(batches).sigma).any()


def test_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run(trainer(CLIPS, dropout=0.3, self_condition=True), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_state_of_something_else_is_refused() -> None:
    state = run(trainer(), 1).state()
    for recipe, message in (
        (replace(RECIPE, batch_size=8), "^batch_size must stay what this run was begun with, 4, got 8$"),
        (replace(RECIPE, clip_frames=2), "^clip_frames must stay what this run was begun with, None, got 2$"),
    ):
        training = trainer(recipe)
        with pytest.raises(CheckpointError, match=message) as caught:
            training.load_state(state)
        assert caught.value.hint == "Train in another folder, or give the settings that the run was begun with."
        assert training.step == 0
    with pytest.raises(CheckpointError, match=r"^dropout must stay what this run was begun with, 0\.0, got 0\.5$"):
        trainer(dropout=0.5).load_state(state)
    newer = {**state, "settings": {**state["settings"], "model": {**state["settings"]["model"], "depth": 3}}}
    with pytest.raises(CheckpointError, match=r"^depth must stay what this run was begun with, 3, got None$"):
        trainer().load_state(newer)
    for other in ({}, {"step": 3, "settings": {"model": {}}}, {"settings": 5}):
        with pytest.raises(CheckpointError, match=r"^the snapshot must be that of a network in training"):
            trainer().load_state(other)


# A step


def test_report_of_a_step() -> None:
    training = fast_trainer()
    report = training.train_step(batches)
    assert report.sigma.shape == report.loss.shape == (4,)
    assert (report.sigma > 0).all()
    assert report.loss.dtype == torch.float32
    assert not report.loss.requires_grad
    assert report.nonfinite == 0
    assert (training.step, training.samples) == (1, 4)
    assert all(parameter.grad is None for parameter in training.parameters)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_falls(dtype: Any) -> None:
    """On a data set of one picture, bright in one channel and dark in the other, an exact denoiser has no loss."""
    training = trainer(replace(RECIPE, dtype=dtype))
    picture = torch.tensor([0.5, -0.5]).view(2, 1, 1, 1).expand(4, *TINY_SHAPE)
    noise, sigma = randn(*picture.shape), torch.tensor([0.5, 1.0, 2.0, 4.0])

    @torch.no_grad()
    def measured() -> float:
        _, loss = copy.deepcopy(training.objective).eval()(picture, noise, sigma, torch.eye(5)[:4])
        return float(loss.mean())

    assert measured() == pytest.approx(1, abs=0.05)
    for _ in range(12):
        training.train_step(lambda numbers, clip: (picture, torch.arange(4)))
    assert measured() < 0.75
    calls = Calls(run(training, 1))
    training.train_step(batches)
    assert {str(call["out"].dtype) for call in calls.all} == {f"torch.{dtype}"}
    assert {parameter.dtype for parameter in training.parameters} == {torch.float32}


@pytest.mark.parametrize("clip_share", [0.0, 1.0])
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_give_the_same_gradients(clip_share: float, micro_batch: int) -> None:
    recipe = replace(CLIPS, clip_share=clip_share)
    whole, parts = run(trainer(recipe), 2), trainer(replace(recipe, micro_batch=micro_batch))
    parts.load_state({**whole.state(), "settings": parts.state()["settings"]})
    calls = Calls(parts)
    for expected, actual in zip(gradients(whole), gradients(parts), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)
    more = 1 + int(clip_share)
    assert [len(call["x"]) for call in calls.all] == [micro_batch * more] * (4 // micro_batch) + [more] * (
        4 % micro_batch
    )


def test_gradients_are_those_of_the_mean_over_the_batch() -> None:
    """Computed again from what the network was given."""
    training = run(trainer(replace(RECIPE, micro_batch=3, label_dropout=0.0)), 2)
    before = copy.deepcopy(training.objective)
    calls, seen = Calls(training), batches(range(8, 12), None)
    taken = gradients(training)
    x, time = (torch.cat([call[name] for call in calls.all]) for name in ("x", "time"))
    column = (4 * time).exp().view(-1, 1, 1, 1, 1)
    _, _, c_in, _ = preconditioning(column, 0.5)
    clean, labels = seen
    noise = (x / c_in - clean) / column
    mean, _ = before(clean, noise, column.flatten(), torch.eye(5)[labels])
    wanted = torch.autograd.grad(mean, list(before.parameters()))
    for expected, actual in zip(wanted, taken, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5)


def test_learning_rate_reaches_the_optimizer() -> None:
    training, rates = fast_trainer(), []
    for _ in range(3):
        run(training, 1)
        rates.append(training.optimizer.rate)
    assert rates == [0.01, 0.02, 0.02]


def test_averages_follow_the_network() -> None:
    training = run(trainer(), 4)
    assert list(training.averages) == list(EMA_STDS)
    name = "downs.0.block1.1.weight"
    start, now = trainer().net.state_dict()[name], training.net.state_dict()[name]
    before = {std: average.average.state_dict()[name].clone() for std, average in training.averages.items()}
    assert 0 < (now - before[0.05]).norm() < (now - before[0.10]).norm() < (now - start).norm()
    run(training, 1)
    for std, average in training.averages.items():
        beta = (1 - 1 / 5) ** (average.gamma + 1)
        expected = beta * before[std] + (1 - beta) * training.net.state_dict()[name]
        torch.testing.assert_close(average.average.state_dict()[name], expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_sample_that_is_no_number_does_no_harm(bad: float) -> None:
    training = run(trainer(), 2)

    def damaged(numbers: Sequence[int], clip: int | None) -> tuple[Tensor, Tensor]:
        clean, labels = batches(numbers, clip)
        clean[0, 0, 0, 0, 0] = bad
        return clean, labels

    report = training.train_step(damaged)
    assert not report.loss.isfinite().all()
    assert report.nonfinite > 0
    assert all(leaf.isfinite().all() for leaf in flat(training.state()).values() if isinstance(leaf, Tensor))
    report = training.train_step(batches)
    assert report.loss.isfinite().all()
    assert report.nonfinite == 0


def test_gradients_that_are_no_numbers_are_counted_and_the_others_kept() -> None:
    clean, damaged = run(trainer(), 2), run(trainer(), 2)
    position = [name for name, _ in damaged.objective.named_parameters()].index("net.downs.0.block1.1.weight")

    def spoil(gradient: Tensor) -> Tensor:
        spoilt = gradient.clone()
        spoilt[0, :3, 0, 0, 0] = torch.tensor([torch.nan, torch.inf, -torch.inf])
        return spoilt

    damaged.parameters[position].register_hook(spoil)
    taken, wanted = gradients(damaged), gradients(clean)
    wanted[position][0, :3, 0, 0, 0] = 0
    assert all(map(torch.equal, taken, wanted))
    assert damaged.train_step(batches).nonfinite == 3


# The samples


def test_no_two_steps_share_a_sample() -> None:
    training, seen = fast_trainer(replace(CLIPS, batch_size=2, micro_batch=1)), Seen()
    for _ in range(20):
        training.train_step(seen)
    steps = [(a + b, clip) for a, b, clip in zip(seen.numbers[::2], seen.numbers[1::2], seen.clips[::2], strict=True)]
    assert seen.clips[::2] == seen.clips[1::2]
    assert {clip for _, clip in steps} == {None, 2}
    assert all(len(numbers) == (2 if clip is None else 4) for numbers, clip in steps)
    numbers = [number for part in seen.numbers for number in part]
    assert len(set(numbers)) == len(numbers) == training.samples


def test_samples_are_numbered_from_the_first() -> None:
    training, seen = Trainer(Scale(), RECIPE, sigma_data=0.5, first_sample=2**60), Seen()  # type: ignore[arg-type]
    sigmas = [training.train_step(seen).sigma for _ in range(2)]
    assert seen.numbers == [list(range(2**60 + start, 2**60 + start + 4)) for start in (0, 4)]
    ours = fast_trainer()
    assert not torch.isin(torch.cat(sigmas), torch.cat([ours.train_step(batches).sigma for _ in range(2)])).any()


@pytest.mark.parametrize(("share", "clips"), [(0.0, 0), (1.0, 6)])
def test_share_of_short_clips(share: float, clips: int) -> None:
    training, seen = fast_trainer(replace(CLIPS, clip_share=share)), Seen()
    calls = Calls(training)
    for _ in range(6):
        report = training.train_step(seen)
        assert report.loss.shape == (len(seen.numbers[-1]),)
    assert seen.clips.count(2) == clips
    assert {call["x"].shape[2] for call in calls.all} == {2 if clips else 4}


def test_noise_of_short_clips() -> None:
    """A clip with 1 / F of the frames gets 1 / sqrt(F) of the noise: as much is left to see."""
    training = fast_trainer(replace(CLIPS, P_std=0.0, P_mean=0.3, clip_frames=1), downsample_types=("image", "image"))
    levels = {}
    for _ in range(12):
        report = training.train_step(seen := Seen())
        levels[seen.clips[0]] = report.sigma
    assert levels[1].shape == (16,)
    torch.testing.assert_close(levels[None], torch.full((4,), 0.3).exp())
    torch.testing.assert_close(levels[1], torch.full((16,), 0.3).exp() / 2)


def test_noise_levels_and_noise_are_those_of_the_distribution() -> None:
    training = fast_trainer(replace(RECIPE, batch_size=64, micro_batch=64))
    calls = Calls(training)
    levels, noise = [], []
    for step in range(4):
        report = training.train_step(batches)
        levels.append(report.sigma.log())
        clean, _ = batches(range(64 * step, 64 * (step + 1)), None)
        column = report.sigma.view(-1, 1, 1, 1, 1)
        noise.append((calls.all[-1]["x"] * (column**2 + 0.25).sqrt() - clean) / column)
    every = torch.cat(levels)
    assert every.unique().numel() == 256
    assert every.mean().item() == pytest.approx(-0.4, abs=4 * 1.3 / 16)
    assert every.std().item() == pytest.approx(1.3, rel=0.15)
    drawn = torch.cat(noise)
    assert drawn.std().item() == pytest.approx(1, abs=0.01)
    assert drawn.mean().item() == pytest.approx(0, abs=0.01)
    others = torch.corrcoef(drawn.flatten(1)) - torch.eye(256)  # no sample's noise is another one's
    assert others.abs().max() < 6 / 512**0.5


@pytest.mark.parametrize(("dropout", "rows"), [(0.0, 20), (1.0, 0)])
def test_label_dropout(dropout: float, rows: int) -> None:
    """A dropped label is a row of zeros, a kept one is one-hot."""
    training = fast_trainer(replace(RECIPE, label_dropout=dropout))
    calls = Calls(training)
    run(training, 5)
    assert calls.labels().sum() == rows
    if rows:
        assert torch.equal(calls.labels(), torch.eye(5)[batches(range(20), None)[1]])


def test_label_dropout_is_a_probability() -> None:
    training = fast_trainer(replace(RECIPE, label_dropout=0.25))
    calls = Calls(training)
    run(training, 20)
    kept = calls.labels().sum()  # of 80: the mean, and four standard deviations
    assert 44 <= kept <= 76
    assert set(calls.labels().sum(1).tolist()) == {0.0, 1.0}


def test_a_network_without_classes() -> None:
    training = trainer(num_classes=None)
    calls = Calls(training)
    assert run(training, 2).step == 2
    assert all(call["class_labels"] is None for call in calls.all)


# Self-conditioning


def test_self_conditioning() -> None:
    """About half of the steps ask for an estimate first, without gradient, and condition on the denoised one."""
    training = fast_trainer(replace(RECIPE, batch_size=2, micro_batch=2), self_condition=True)
    calls, twice = Calls(training), 0
    for _ in range(40):
        calls.all.clear()
        run(training, 1)
        first, last = calls.all[0], calls.all[-1]
        assert first["self_cond"] is None
        assert last["out"].requires_grad
        if len(calls.all) == 1:
            continue
        twice += 1
        assert len(calls.all) == 2
        assert not first["out"].requires_grad
        assert torch.equal(first["x"], last["x"])
        assert torch.equal(first["class_labels"], last["class_labels"])
        sigma = (4 * first["time"]).exp().view(-1, 1, 1, 1, 1)
        noisy = first["x"] * (sigma**2 + 0.25).sqrt()
        denoised = 0.25 / (sigma**2 + 0.25) * noisy + sigma * 0.5 / (sigma**2 + 0.25).sqrt() * first["out"]
        torch.testing.assert_close(last["self_cond"], denoised, rtol=1e-4, atol=1e-5)
    assert 8 <= twice <= 32  # the mean, and four standard deviations


def test_no_self_conditioning_in_a_network_without_it() -> None:
    training = fast_trainer(replace(RECIPE, batch_size=1, micro_batch=1))
    calls = Calls(training)
    run(training, 10)
    assert len(calls.all) == 10


# What cannot be


def test_a_batch_that_cannot_be_shared_out() -> None:
    three = Processes(rank=0, count=3)
    with pytest.raises(ValueError, match=r"^batch_size must be a multiple of 3, the number of processes, got 4$"):
        trainer(processes=three)
    check_shares(replace(RECIPE, batch_size=6), three)


def test_clips_that_cannot_be() -> None:
    model = tiny_network().config
    assert clips_per_sample(RECIPE, model) == 1
    assert clips_per_sample(CLIPS, model) == 2
    assert clips_per_sample(replace(CLIPS, clip_frames=4), model) == 1
    with pytest.raises(ValueError, match=r"^clip_frames must divide the length of a sample, 4, got 3$"):
        trainer(replace(CLIPS, clip_frames=3))
    with pytest.raises(ValueError, match=r"^clip_frames must be a multiple of 2, .* got 1$"):
        trainer(replace(CLIPS, clip_frames=1))

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mpvideo.architecture import network_flops
from mpvideo.config import ModelConfig
from mpvideo.nn import KarrasUnet3D
from mpvideo.probe import Check
from mpvideo.training import cost
from mpvideo.training.cost import faster_dtype, num_parameters, seconds_per_step, step_flops
from mpvideo.training.objective import Objective
from mpvideo.training.recipe import Recipe
from tests.networks import TINY

MODEL: dict[str, Any] = {
    "image_size": 16, "frames": 4, "dim": 16, "dim_max": 32, "num_classes": 5, "channels": 3, "num_downsamples": 2,
    "num_blocks_per_stage": 1, "attn_res": (8, 4), "attn_dim_head": 16, "dropout": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"num_classes": None}, {"self_condition": True, "attn_res": ()}])
def test_parameters_are_those_of_the_module(changes: dict[str, Any]) -> None:
    model = ModelConfig(**{**TINY, **changes})
    tensors = KarrasUnet3D(**vars(model)).state_dict().values()
    assert num_parameters(model) == sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize(
    "changes",
    [{}, {"attn_res": ()}, {"factorize_space_time_attn": True}, {"self_condition": True}, {"num_downsamples": 1}],
)
def test_operations_are_what_torch_counts(changes: dict[str, Any]) -> None:
    """Forward and backward of two samples; half of the steps with a forward more under self-conditioning."""
    model = ModelConfig(**{**MODEL, **changes})
    objective = Objective(KarrasUnet3D(**vars(model)), 0.5).train()
    clean = torch.randn(2, 3, 4, 16, 16)
    counts = []
    for self_conditioned in (False, True) if model.self_condition else (False,):
        # The fused attention of CPUs is not counted.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            labels = torch.eye(5)[:2]
            mean, _ = objective(clean, clean, torch.ones(2), labels, self_conditioned=self_conditioned)
            mean.backward()
        counts.append(counter.get_total_flops())
    # Whatever the micro-batches: they are of one step.
    for micro_batch in (1, 16):
        recipe = Recipe(batch_size=2, micro_batch=micro_batch)
        assert step_flops(model, recipe) == pytest.approx(sum(counts) / len(counts), rel=0.03)
    assert step_flops(model, Recipe(batch_size=6)) == 3 * step_flops(model, Recipe(batch_size=2))


def test_seconds_are_measured() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for changes in ({}, {"num_classes": None, "self_condition": True, "dropout": 0.3}):
        model = ModelConfig(**{**TINY, **changes})
        small = seconds_per_step(model, Recipe(batch_size=1, micro_batch=1), repeats=1)
        assert 0 < small < 20
    assert torch.equal(torch.get_rng_state(), before)
    assert seconds_per_step(model, Recipe(batch_size=1, micro_batch=1, dtype="bfloat16"), repeats=1) > 0


@pytest.mark.parametrize(("self_condition", "passes"), [(False, 3.0), (True, 3.5)])
def test_seconds_are_scaled_to_a_step(monkeypatch: pytest.MonkeyPatch, self_condition: bool, passes: float) -> None:
    """The fastest but the first, of 9, 3, 2 and 5 seconds, for two samples of ten."""
    ticks = iter([0.0, 9.0, 10.0, 13.0, 20.0, 22.0, 30.0, 35.0])
    monkeypatch.setattr(cost, "_LONG", 100)
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    model = ModelConfig(**{**TINY, "self_condition": self_condition})
    seconds = seconds_per_step(model, Recipe(batch_size=10, micro_batch=2), repeats=3)
    assert seconds == pytest.approx(2.0 * 5 * passes / 3)
    assert next(ticks, None) is None


@pytest.mark.parametrize(("taken", "counted"), [([19.0, 0.5, 0.25, 0.3], 0.25), ([19.0, 2.0], 2.0), ([21.0], 21.0)])
def test_long_steps_are_measured_once(monkeypatch: pytest.MonkeyPatch, taken: list[float], counted: float) -> None:
    """And then that is the one that makes ready."""
    ticks = iter([tick for seconds in taken for tick in (0.0, seconds)])
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert seconds_per_step(ModelConfig(**TINY), Recipe(batch_size=1, micro_batch=1), repeats=3) == counted
    assert next(ticks, None) is None


def test_no_more_than_a_batch_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[torch.Size] = []
    real = Objective.forward

    def noted(self: Objective, clean: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        shapes.append(clean.shape)
        return real(self, clean, *args, **kwargs)

    monkeypatch.setattr(Objective, "forward", noted)
    model = ModelConfig(**TINY)
    seconds_per_step(model, Recipe(batch_size=2, micro_batch=16), repeats=1)
    assert shapes == [(2, 2, 4, 8, 8)] * 2


@pytest.mark.parametrize(
    ("taken", "faster"),
    [
        ([9, 9, 10, 5, 10, 5, 10, 5], "bfloat16"),
        ([9, 9, 10, 8.9, 10, 8.9, 10, 8.9], "bfloat16"),
        ([9, 9, 10, 9.5, 10, 9.5, 10, 9.5], "float32"),
        ([9, 1, 10, 20, 10, 20, 10, 20], "float32"),
        ([9, 9, 10, 20, 30, 20, 20, 5], "bfloat16"),  # disturbed most of the time
    ],
)
def test_faster_dtype(monkeypatch: pytest.MonkeyPatch, taken: list[float], faster: str) -> None:
    """Measured in turns, float32 first, of which the first do not count: bfloat16 where it saves more than a tenth."""
    ticks = iter([tick for seconds in taken for tick in (0.0, seconds)])
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(cost, "_LONG", 100)
    monkeypatch.setattr(cost, "without_bfloat16", lambda device: None)
    seen: list[torch.dtype] = []
    real = Objective.forward
    monkeypatch.setattr(
        Objective, "forward", lambda self, *args, dtype: seen.append(dtype) or real(self, *args, dtype=dtype)
    )
    assert faster_dtype(ModelConfig(**TINY), Recipe(batch_size=1), "cpu") == faster
    assert seen == [torch.float32, torch.bfloat16] * 4
    assert next(ticks, None) is None
    monkeypatch.setattr(cost, "without_bfloat16", {"cpu": "no instructions"}.get)
    assert faster_dtype(ModelConfig(**TINY), Recipe(), "cpu") == "float32", "what would take long is not tried"


def test_what_a_device_computes_wrong_is_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "without_bfloat16", lambda device: None)
    monkeypatch.setattr(cost, "check_block", lambda device, dtype: Check(device, dtype, error=1.0))
    monkeypatch.setattr(cost, "_seconds_in_turns", lambda *_: {"float32": 1.0, "bfloat16": 0.1})
    assert faster_dtype(ModelConfig(**TINY), Recipe(), "cpu") == "float32"
    monkeypatch.setattr(cost, "check_block", lambda device, dtype: Check(device, dtype, error=1e-3))
    assert faster_dtype(ModelConfig(**TINY), Recipe(), "cpu") == "bfloat16"


def test_operations_grow_with_the_network() -> None:
    model = ModelConfig(**MODEL)
    assert step_flops(model, Recipe(batch_size=1)) == 3 * network_flops(model)


def test_what_is_measured_is_laid_out_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, seen = Objective.forward, []

    def looked_at(objective: Objective, *arguments: Any, **options: Any) -> Any:
        kernels = [value for value in objective.net.parameters() if value.ndim == 5]
        seen.append(all(kernel.is_contiguous(memory_format=torch.channels_last_3d) for kernel in kernels))
        return forward(objective, *arguments, **options)

    monkeypatch.setattr(Objective, "forward", looked_at)
    seconds_per_step(ModelConfig(**TINY), Recipe(batch_size=1, micro_batch=1), repeats=1)
    assert seen
    assert all(seen)

"""What a training costs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mpvideo.cli.costs import measure_costs, tell_costs, warn_of_minutes
from mpvideo.cli.training_plan import plan_of
from mpvideo.processes import ALONE
from mpvideo.training import cost
from mpvideo.training.recipe import PRESETS, Recipe


def costs(monkeypatch: pytest.MonkeyPatch, **shape: int | None) -> dict[str, Any]:
    """Of the menagerie by the preset tiny, where every step takes a second."""
    monkeypatch.setattr(cost, "seconds_per_step", lambda *_: 1.0)
    monkeypatch.setattr(cost, "autoencoder_seconds_per_step", lambda *_: 0.5)
    shape = {"size": None, "frames": None, **shape}
    plan = plan_of(
        "menagerie", PRESETS["tiny"], Recipe(**PRESETS["tiny"].recipe), ALONE, codec="latent", stride=1, cache=None,
        init=None, steps=None, self_condition=False, out=Path("run"), dry_run=True, say=[].append, **shape,
    )  # fmt: skip
    return measure_costs(plan, "tiny", torch.device("cpu"), processes=2, others=True, **shape)


@pytest.mark.parametrize(
    ("shape", "shapes"),
    [
        ({}, [(16, 64), (32, 64), (32, 64)]),
        ({"size": 32}, [(16, 32), (32, 32), (32, 32)]),
        ({"frames": 8}, [(8, 64), (8, 64), (8, 64)]),
        ({"size": 64, "frames": 32}, [(32, 64), (32, 64), (32, 64)]),
    ],
)
def test_presets_have_their_own_shape_where_none_is_given(
    monkeypatch: pytest.MonkeyPatch, shape: dict[str, int | None], shapes: list[tuple[int, int]]
) -> None:
    found = costs(monkeypatch, **shape)["networks"]
    assert [network["preset"] for network in found] == ["tiny", "small", "base"]
    assert [(network["frames"], network["size"]) for network in found] == shapes
    assert found[0]["seconds_per_step"] == 0.5
    for network in found[1:]:
        share = network["flops_per_step"] / found[0]["flops_per_step"]
        assert network["seconds_per_step"] == pytest.approx(0.5 * share)


def test_what_is_told_is_what_json_has(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    found = costs(monkeypatch)
    assert json.loads(json.dumps(found)) == found
    tell_costs(found, said.append)
    tiny = found["networks"][0]
    assert said[:3] == [
        "the menagerie: endless renderings of 1,000 classes; latent, on cpu in float32",
        "autoencoder: 1.4 M parameters, about 0.50 s a step of 64 images, 400 steps in about 3 min",
        f"tiny: 16 frames of 64x64, {tiny['parameters'] / 1e6:.1f} M parameters, "
        f"{tiny['flops_per_step'] / 1e9:.0f} GFLOP and about 0.50 s a step of 16 samples, 2,000 steps in about 17 min",
    ]
    assert [line.split(":")[0] for line in said[3:]] == ["with --preset small", "with --preset base"]


def test_minutes_that_cannot_suffice() -> None:
    said: list[str] = []
    for minutes, left in ((14, 400), (13, 400), (2, 60), (3, 0)):
        warn_of_minutes(minutes, 2.0, left, Recipe(autoencoder_steps=400), said.append)
    assert said == [
        "warning: --minutes 13 may end this call before there is a checkpoint: the autoencoder comes first, and its "
        "400 steps take about 13 min; give --minutes 21 or more, a smaller --size, or fewer --autoencoder-steps than "
        "400",
        "warning: --minutes 2 may end this call before there is a checkpoint: the autoencoder comes first, and its 60 "
        "steps take about 2 min; give --minutes 4 or more, a smaller --size, or fewer --autoencoder-steps than 400",
    ]

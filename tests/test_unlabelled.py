"""What is warned of before classifier-free guidance."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from mpvideo.checkpoint import bundled_checkpoint, open_checkpoint
from mpvideo.device import choose_placement
from mpvideo.errors import OutOfMemoryError
from mpvideo.model import Model, load_model
from mpvideo.unlabelled import null_label_error, recorded_label_dropout, unlabelled_warning
from tests.checkpoints import save_tiny, tiny_config
from tests.diffusion.conftest import GaussianNet


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = save_tiny(tmp_path_factory.mktemp("ckpt") / "tiny.safetensors", tiny_config(num_classes=16))
    return load_model(open_checkpoint(path), choose_placement("cpu", "float32"))


def model(tiny: Model, away: float, training: dict[str, Any] | None = None) -> Model:
    """Exact for 16 Gaussian classes; the estimate for no class is `away` times their spread from their mean."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(16, 3, 4, 8, 8, generator=generator)
    net = GaussianNet(0.5, means, means.mean(0) + away * torch.randn(3, 4, 8, 8, generator=generator))
    config = dataclasses.replace(tiny.config, training=training or {})
    checkpoint = dataclasses.replace(tiny.checkpoint, config=config)
    return dataclasses.replace(tiny, checkpoint=checkpoint, net=net)  # type: ignore[arg-type]


def test_the_mean_of_all_classes_is_half_as_far_as_they_are_from_each_other(tiny: Model) -> None:
    assert null_label_error(model(tiny, 0.0)) == pytest.approx(0.5, abs=0.05)
    assert null_label_error(model(tiny, 2.0)) == pytest.approx((1 + 2.0**2) / 2, rel=0.1)


def test_it_takes_no_more_memory_than_one_video(tiny: Model) -> None:
    class Tight:
        def __init__(self, net: Any, most: int) -> None:
            self.net, self.most = net, most

        def __call__(self, x: torch.Tensor, *rest: Any, **more: Any) -> Any:
            if len(x) > self.most:
                raise MemoryError
            return self.net(x, *rest, **more)

    plenty = model(tiny, 2.0)
    one, none = (dataclasses.replace(plenty, net=Tight(plenty.net, most)) for most in (1, 0))  # type: ignore[arg-type]
    assert null_label_error(one) == pytest.approx(null_label_error(plenty), rel=1e-4)
    with pytest.raises(OutOfMemoryError, match="not enough memory for one video"):
        null_label_error(none)


def test_a_measurement_where_nothing_is_recorded(tiny: Model) -> None:
    assert unlabelled_warning(model(tiny, 0.0)) is None
    assert unlabelled_warning(model(tiny, 2.0)) == (
        "this network shows no sign of having been trained without labels (its estimate for no class is 1.6 times as "
        "far off as that for a wrong one): guidance may spoil its videos"
    )


def test_the_record_is_believed(tiny: Model) -> None:
    assert unlabelled_warning(model(tiny, 2.0, {"recipe": {"label_dropout": 0.1}})) is None
    words = unlabelled_warning(model(tiny, 0.0, {"recipe": {"label_dropout": 0}}))
    assert words is not None
    assert "(its record says label_dropout 0)" in words


@pytest.mark.parametrize("training", [{}, {"recipe": 3}, {"recipe": {}}, {"recipe": {"label_dropout": "0.1"}}])
def test_records_that_say_nothing(training: dict[str, Any]) -> None:
    assert recorded_label_dropout(training) is None


def test_one_class_has_none_to_compare_with(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "one.safetensors", tiny_config(num_classes=1))
    one = load_model(open_checkpoint(path), choose_placement("cpu", "float32"))
    assert unlabelled_warning(one) is None
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        null_label_error(one)


def test_the_bundled_network_knows_what_no_class_is() -> None:
    bundled = load_model(open_checkpoint(bundled_checkpoint()), choose_placement("cpu", "float32"))
    assert null_label_error(bundled) < 1
    assert recorded_label_dropout(bundled.config.training)

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mpvideo.checkpoint import read_header
from mpvideo.checkpoint.health import check_weights, problems_of, relative_differences, unit_rms, warnings_of
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.nn.layers import normalize
from tests.checkpoint.files import CONFIG, random_tensors


def trained() -> dict[str, Tensor]:
    """Weights as training leaves them: every output unit with a root mean square of 1, gains moved away from 0."""
    return {
        name: normalize(tensor) if name.endswith(".weight") else tensor.clone() + 0.1 * (tensor.ndim == 0)
        for name, tensor in random_tensors().items()
    }


def checked(path: Path, tensors: dict[str, Tensor]) -> tuple[dict[str, list[object]], str]:
    save_checkpoint(path, tensors, CONFIG)
    check = check_weights(read_header(path))
    return check, " ".join(f"{warning.message} {warning.hint}" for warning in warnings_of(check))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_nothing_is_said_of_trained_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    check, words = checked(tmp_path / "a", {name: tensor.to(dtype) for name, tensor in trained().items()})
    assert not any(check.values()) and words == "" and problems_of(check) == []


def test_unit_rms() -> None:
    weight = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]])
    assert torch.allclose(unit_rms(weight), torch.tensor([math.sqrt(12.5), 0.0], dtype=torch.float64))


@pytest.mark.parametrize(("scale", "shown"), [(1e25, "1e+25 to 1e+25"), (1e300, "beyond float64 to beyond float64")])
def test_weights_whose_squares_are_beyond_their_dtype(tmp_path: Path, scale: float, shown: str) -> None:
    dtype = torch.float32 if scale < 1e30 else torch.float64
    tensors = {name: tensor.to(dtype) for name, tensor in trained().items()}
    tensors["input_block.weight"] *= scale
    check, words = checked(tmp_path / "a", tensors)
    assert json.loads(json.dumps(check, allow_nan=False)) == check
    assert f"input_block.weight ({shown})" in words


@pytest.mark.parametrize("scale", [0.0, 0.1, 30.0])
def test_one_output_unit_out_of_line(tmp_path: Path, scale: float) -> None:
    tensors = trained()
    name = "input_block.weight"
    tensors[name][1] *= scale
    check, words = checked(tmp_path / "a", tensors)
    (found,) = check["unnormalized"]
    assert isinstance(found, dict) and found["name"] == name
    assert min(1, scale) == pytest.approx(found["low"], abs=1e-3)
    assert max(1, scale) == pytest.approx(found["high"], rel=1e-3)
    assert f"1 weight far from the root mean square of 1 per output unit that training leaves: {name}" in words
    assert problems_of(check) == [], "such weights are legal"


def test_an_untrained_network(tmp_path: Path) -> None:
    tensors = trained()
    tensors["output_block.1.gain"].zero_()
    check, words = checked(tmp_path / "a", tensors)
    assert check["zero"] == check["zero_gains"] == ["output_block.1.gain"] and "it is untrained" in words
    tensors = trained()
    tensors["mids.0.to_emb.1.gain"].zero_()
    _, words = checked(tmp_path / "b", tensors)
    assert "1 of these still there" in words and "untrained" not in words


def test_relative_differences(tmp_path: Path) -> None:
    before, after = trained(), trained()
    name = "input_block.weight"
    after[name] = after[name] * 0.75
    del_name = "mids.0.to_emb.1.gain"
    before[del_name].zero_()
    after[del_name].zero_()
    save_checkpoint(tmp_path / "a", before, CONFIG)
    save_checkpoint(tmp_path / "b", {key: value.double() for key, value in after.items()}, CONFIG)
    apart, passed_over = relative_differences(read_header(tmp_path / "a"), read_header(tmp_path / "b"))
    assert apart.keys() == before.keys() and passed_over == []
    assert apart.pop(name) == pytest.approx(0.25) and not any(apart.values())

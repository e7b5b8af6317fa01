"""Folders as accelerate's save_state leaves them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mpvideo.checkpoint import read_header
from mpvideo.checkpoint.conversion import find_source
from mpvideo.checkpoint.report import describe
from mpvideo.checkpoint.state_folder import state_files
from mpvideo.errors import CheckpointError, UsageError
from tests.checkpoints import random_tensors

WEIGHTS = random_tensors()
OTHER = {"weight": torch.zeros(2)}


class Odd:
    """Something that no file of weights has."""


def average() -> dict[str, Tensor]:
    """As ema_pytorch keeps it, which holds the raw weights too."""
    return {f"{name}.{key}": tensor for name in ("online_model", "ema_model") for key, tensor in WEIGHTS.items()}


def test_the_model_that_is_one_of_this_kind_is_taken(tmp_path: Path) -> None:
    save_file(OTHER, tmp_path / "model.safetensors")
    save_file(WEIGHTS, tmp_path / "model_1.safetensors")
    torch.save(Odd(), tmp_path / "custom_checkpoint_0.pkl")
    torch.save({"lr": 1}, tmp_path / "optimizer.bin")
    source = find_source(tmp_path)
    assert source.contents.path == tmp_path / "model_1.safetensors"
    told = "\n".join(source.lines())
    assert "left out: model.safetensors holds no network of this kind" in told
    assert "custom_checkpoint_0.pkl is no file of weights alone: it wants tests." in told


def test_an_average_beside_the_model_is_taken(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "pytorch_model.bin")
    torch.save(average(), tmp_path / "custom_checkpoint_1.pkl")
    source = find_source(tmp_path)
    assert source.network.is_average and source.contents.path.name == "custom_checkpoint_1.pkl"
    assert "left out: pytorch_model.bin holds another network" in source.lines()
    with pytest.raises(UsageError, match=r"networks in pytorch_model\.bin, custom_checkpoint_1\.pkl, one of which"):
        find_source(tmp_path, ema=False)
    assert find_source(tmp_path, prefix="online_model").contents.path.name == "custom_checkpoint_1.pkl"
    with pytest.raises(UsageError, match="holds no network under the prefix 'x'"):
        find_source(tmp_path, prefix="x")


def test_several_averages_want_a_choice(tmp_path: Path) -> None:
    """And are not passed over for raw weights."""
    torch.save(WEIGHTS, tmp_path / "pytorch_model.bin")
    averages = {f"{name}.ema_model.{key}": tensor for name in ("short", "long") for key, tensor in WEIGHTS.items()}
    torch.save(averages, tmp_path / "custom_checkpoint_0.pkl")
    for ema in (None, True):
        with pytest.raises(UsageError, match=r"custom_checkpoint_0\.pkl holds 2 networks, --prefix must choose"):
            find_source(tmp_path, ema=ema)
    assert find_source(tmp_path, ema=False).contents.path.name == "pytorch_model.bin"
    assert find_source(tmp_path, prefix="long.ema_model").network.is_average


def test_several_models_want_a_choice(tmp_path: Path) -> None:
    for name in ("model", "model_1"):
        save_file(WEIGHTS, tmp_path / f"{name}.safetensors")
    with pytest.raises(UsageError, match=r"networks in model\.safetensors, model_1\.safetensors") as caught:
        find_source(tmp_path)
    assert f"for example {tmp_path / 'model.safetensors'}" in (caught.value.hint or "")
    assert find_source(tmp_path / "model_1.safetensors").network.prefix == ""


def test_which_files_count(tmp_path: Path) -> None:
    for name in ("model.safetensors.index.json", "model-00001-of-00002.safetensors", "pytorch_model.bin", "model_x"):
        (tmp_path / name).touch()
    assert [file.name for file in state_files(tmp_path)] == ["model.safetensors.index.json"], "safetensors first"
    (tmp_path / "model.safetensors").touch()
    assert [file.name for file in state_files(tmp_path)] == ["model.safetensors"], "the whole before its shards"
    for number in range(1, 102):
        (tmp_path / f"model_{number}.safetensors").touch()
    with pytest.raises(CheckpointError, match="at most 100 files of weights, it has 102"):
        find_source(tmp_path)


def test_nothing_to_convert(tmp_path: Path) -> None:
    save_file(OTHER, tmp_path / "model_1.safetensors")
    with pytest.raises(CheckpointError, match=r"holds no KarrasUnet3D in model_1\.safetensors"):
        find_source(tmp_path)
    (tmp_path / "model_2.safetensors").write_bytes(b"<!doctype html>")
    with pytest.raises(CheckpointError, match="is an HTML page"):
        find_source(tmp_path)


def test_inspect_points_to_convert(tmp_path: Path) -> None:
    save_file(OTHER, tmp_path / "model.safetensors")
    save_file(WEIGHTS, tmp_path / "model_1.safetensors")
    problem = describe(read_header(tmp_path))["problems"][0]
    assert problem["hint"] == "`mpvideo convert` looks through all of model.safetensors, model_1.safetensors."

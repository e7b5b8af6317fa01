import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mpvideo.checkpoint import open_checkpoint
from mpvideo.checkpoint.load import load_tensors
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.errors import CheckpointError, OutputError
from tests.checkpoint.files import CONFIG, latent_config, random_tensors


def test_round_trip_in_mixed_dtypes(tmp_path: Path) -> None:
    config = latent_config(classes=("a", "b", "ü"), training={"steps": 3})
    dtypes = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
    tensors = {
        name: tensor.to(dtypes[index % 4]) for index, (name, tensor) in enumerate(random_tensors(config).items())
    }
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tensors, config)
    checkpoint = open_checkpoint(path)
    assert checkpoint.config == config
    for loaded in (load_tensors(checkpoint.header)[0], load_file(path)):
        assert loaded.keys() == tensors.keys()
        assert all(
            loaded[name].dtype == item.dtype and torch.equal(loaded[name], item) for name, item in tensors.items()
        )
    for info in checkpoint.header.tensors.values():
        assert info.start % tensors[info.name].element_size() == 0
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"mpvideo": config.to_json()}


def test_same_content_same_bytes(tmp_path: Path) -> None:
    tensors = random_tensors()
    save_checkpoint(tmp_path / "a", tensors, CONFIG)
    save_checkpoint(tmp_path / "b", dict(reversed(tensors.items())), CONFIG)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_views_and_gradients_are_saved_as_values(tmp_path: Path) -> None:
    tensors = random_tensors()
    name = "to_time_emb.1.weight"
    odd = dict(tensors) | {name: torch.nn.Parameter(tensors[name].t().contiguous().t())}
    save_checkpoint(tmp_path / "a", odd, CONFIG)
    assert torch.equal(load_file(tmp_path / "a")[name], tensors[name])


def test_tensors_must_fit_the_config(tmp_path: Path) -> None:
    good = random_tensors()
    name = "input_block.weight"
    for tensors, words in (
        ({key: value for key, value in good.items() if key != name}, "lack input_block.weight"),
        ({**good, "extra": torch.zeros(1)}, "it has no extra"),
        ({**good, name: torch.zeros(2)}, "must have the shape"),
        ({**good, name: good[name].int()}, "got torch.int32"),
    ):
        with pytest.raises(ValueError, match=words):
            save_checkpoint(tmp_path / "a", tensors, CONFIG)
    with pytest.raises(CheckpointError, match=f"is not written: .* in {name}"):
        save_checkpoint(tmp_path / "a", {**good, name: good[name] / 0}, CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_overwriting_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        save_checkpoint(path, random_tensors(), CONFIG)
    assert path.read_bytes() == b"precious"
    save_checkpoint(path, random_tensors(), CONFIG, overwrite=True)
    assert open_checkpoint(path).config == CONFIG


def test_umask_and_links(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "real")
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "link", random_tensors(), CONFIG)
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "there" / "real").stat().st_mode) == 0o640
    assert [entry.name for entry in (tmp_path / "there").iterdir()] == ["real"]


def test_failure_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"precious")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"the disk is full: .*a could not be written"):
        save_checkpoint(path, random_tensors(), CONFIG, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpvideo.checkpoint import open_checkpoint, read_header
from mpvideo.checkpoint.header import INDEX_FILE
from mpvideo.checkpoint.load import is_finite, load_tensors, value_range
from mpvideo.checkpoint.reading import read_into
from mpvideo.errors import CheckpointError
from tests.checkpoint.files import CONFIG, entry, pack, put, random_tensors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_loads_what_the_reference_wrote(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = random_tensors(dtype=dtype)
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, metadata={"mpvideo": CONFIG.to_json()})
    loaded, _ = load_tensors(open_checkpoint(path).header)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == dtype and torch.equal(loaded[name], tensor)
        assert loaded[name].untyped_storage().nbytes() == tensor.nbytes, "each tensor owns its own bytes only"


def test_folder_with_config_and_shards(tmp_path: Path) -> None:
    tensors = random_tensors()
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    put(tmp_path / INDEX_FILE, json.dumps({"weight_map": weight_map}).encode())
    put(tmp_path / "config.json", CONFIG.to_json().encode())
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config == CONFIG
    loaded, _ = load_tensors(checkpoint.header)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_loaded_tensor_does_not_follow_the_file(tmp_path: Path) -> None:
    path = put(tmp_path / "a", pack({"a": entry(0, 8)}, bytes(8)))
    loaded, _ = load_tensors(read_header(path))
    path.write_bytes(b"")
    assert torch.equal(loaded["a"], torch.zeros(2))


def test_file_that_shrinks_after_its_header_was_read(tmp_path: Path) -> None:
    path = put(tmp_path / "a", pack({"a": entry(0, 8)}, bytes(8)))
    header = read_header(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="changed between the reading of its header and of its weights"):
        load_tensors(header)
    path.unlink()
    with pytest.raises(CheckpointError, match="does not exist"):
        load_tensors(header)


def test_another_file_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    path = put(tmp_path / "a", pack({"a": entry(0, 8)}, bytes(8)))
    header = read_header(path)
    put(tmp_path / "b", pack({"a": entry(0, 8)}, bytes([1] * 8))).replace(path)
    with pytest.raises(CheckpointError, match="changed between the reading of its header and of its weights"):
        load_tensors(header)


def test_non_finite_weights_are_named(tmp_path: Path) -> None:
    tensors = {f"t{index:02}": torch.ones(3, dtype=torch.bfloat16) for index in range(14)}
    for index, value in enumerate([float("nan"), float("inf"), -float("inf")] * 4):
        tensors[f"t{index:02}"][index % 3] = value
    save_file(tensors, tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"12 tensors contain NaN or infinity: t00, .*t09 and 2 more"):
        load_tensors(read_header(tmp_path / "a"))


def test_dtypes_that_weights_cannot_have(tmp_path: Path) -> None:
    path = put(tmp_path / "a", pack({"a": entry(0, 8, dtype="I32")}, bytes(8)))
    with pytest.raises(CheckpointError, match="a is I32"):
        load_tensors(read_header(path))


def test_scalars_and_empty_tensors(tmp_path: Path) -> None:
    save_file({"gain": torch.tensor(0.5), "none": torch.zeros(2, 0)}, tmp_path / "a")
    (loaded, _), wanted = load_tensors(read_header(tmp_path / "a")), load_file(tmp_path / "a")
    assert loaded["gain"].shape == () and loaded["gain"] == wanted["gain"] and loaded["none"].shape == (2, 0)


def digest(path: Path) -> str:
    return load_tensors(read_header(path))[1]


def test_hash_sees_content_and_not_packaging(tmp_path: Path) -> None:
    one = put(tmp_path / "one", pack({"b": entry(0, 4), "a": entry(4, 12)}, b"abcd12345678"))
    (folder := tmp_path / "folder").mkdir()
    put(folder / "model.safetensors", pack({"a": entry(0, 8), "b": entry(8, 12)}, b"12345678abcd"))
    (shards := tmp_path / "shards").mkdir()
    put(shards / "one", pack({"b": entry(0, 4)}, b"abcd"))
    put(shards / "two", pack({"a": entry(0, 8)}, b"12345678"))
    put(shards / INDEX_FILE, json.dumps({"weight_map": {"a": "two", "b": "one"}}).encode())
    known = hashlib.sha256(b'["a","F32",[2]]\n12345678["b","F32",[1]]\nabcd').hexdigest()
    assert digest(one) == digest(folder) == digest(shards) == known


def test_hash_sees_every_change(tmp_path: Path) -> None:
    changes = [
        pack({"b": entry(0, 4), "a": entry(4, 12)}, b"abcd12345678"),
        pack({"b": entry(0, 4), "a": entry(4, 12)}, b"abcd12345679"),
        pack({"b": entry(0, 4), "c": entry(4, 12)}, b"abcd12345678"),
        pack({"b": entry(0, 4), "a": entry(4, 12, [1, 2])}, b"abcd12345678"),
        pack({"b": entry(0, 4, [2], "F16"), "a": entry(4, 12)}, b"abcd12345678"),
    ]
    assert len({digest(put(tmp_path / "x", data)) for data in changes}) == len(changes)


def test_hash_is_of_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte is read once, so that the hash cannot be of other bytes than the weights."""
    path = put(tmp_path / "a", pack({"a": entry(0, 8), "b": entry(8, 12)}, bytes(12)))
    read: list[int] = []

    def counting(file: Any, start: int, buffer: memoryview, path: Path) -> None:
        read.extend(range(start, start + len(buffer)))
        read_into(file, start, buffer, path)

    header = read_header(path)
    monkeypatch.setattr("mpvideo.checkpoint.load.read_into", counting)
    load_tensors(header)
    assert read == list(range(path.stat().st_size - 12, path.stat().st_size))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_is_finite(value: float) -> None:
    assert is_finite(torch.ones(3)) and is_finite(torch.zeros(0))
    assert not is_finite(torch.tensor([1.0, value]))


def test_value_range() -> None:
    assert value_range(torch.tensor([3.0, -1.0])) == (-1, 3)
    assert value_range(torch.zeros(0)) == (0, 0)
    assert all(value != value for value in value_range(torch.tensor([1.0, float("nan")])))

"""Files made to hurt: whatever they hold, a CheckpointError or a description, at little cost."""

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpvideo.checkpoint import container as container_module
from mpvideo.checkpoint import read_header, resolve_config
from mpvideo.checkpoint.header import INDEX_FILE, WEIGHTS_FILE
from mpvideo.checkpoint.load import read_tensors
from mpvideo.checkpoint.reading import MAX_JSON_BYTES, MAX_JSON_VALUES, parse_json, read_into
from mpvideo.checkpoint.report import describe
from mpvideo.checkpoint.torch_file import is_torch_file, read_torch_file
from mpvideo.config import ModelConfig
from mpvideo.errors import CheckpointError
from tests.checkpoint.files import CONFIG, entry, latent_config, pack, put

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
FUZZ = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def survives(path: Path) -> None:
    """Reads a file in every way that needs no weights."""
    try:
        header = read_header(path, strict=False)
        report = describe(header)
    except CheckpointError as error:
        assert error.message.isprintable()
    else:
        json.dumps(report, allow_nan=False)
        assert all(problem["message"].isprintable() for problem in report["problems"])
        assert report["loads"] == (not report["problems"])


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_corpus(path: Path, tmp_path: Path) -> None:
    """Small files that each reach something else in the readers; the names say what."""
    survives(path)
    if is_torch_file(data := path.read_bytes()):
        try:
            read_torch_file(path)
        except CheckpointError as error:
            assert error.message.isprintable()
    put(tmp_path / INDEX_FILE, data)
    survives(tmp_path)


@pytest.mark.parametrize("tiny", [b"{}", b"[]", b"1", b'{"a":1}', b'"a"'])
def test_many_tiny_values_are_refused_before_they_are_made(tmp_path: Path, tiny: bytes) -> None:
    text = b'{"a":[' + b",".join([tiny] * (MAX_JSON_VALUES + 1)) + b"]}"
    path = put(tmp_path / "x.safetensors", pack(text))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="it must hold at most 250,000 values"):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(text) + 1_000_000
    finally:
        tracemalloc.stop()


def test_as_many_values_as_a_large_network_needs() -> None:
    entries = {f"downs.{index}.block1.1.weight": entry(0, 4, [1, 1, 1, 1, 1]) for index in range(20_000)}
    assert parse_json(json.dumps(entries)) == entries


def test_long_headers_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "x.safetensors", (MAX_JSON_BYTES + 1).to_bytes(8, "little") + b"{")
    os.truncate(path, MAX_JSON_BYTES + 100)
    read = []
    monkeypatch.setattr(container_module, "read_into", lambda *rest: read.append(rest) or read_into(*rest))
    with pytest.raises(CheckpointError, match="must have at most 16,000,000 bytes, got 16,000,001"):
        read_header(path)
    assert not read
    index = tmp_path / INDEX_FILE
    index.touch()
    os.truncate(index, MAX_JSON_BYTES + 1)
    with pytest.raises(CheckpointError, match="at most 16,000,000 bytes"):
        read_header(index)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"attn_res": [8] * 65}, "the number of entries of attn_res must be at most 64, got 65"),
        ({"num_blocks_per_stage": 1000, "num_downsamples": 1}, "summed over the levels must be at most 1024, got 2000"),
        ({"num_blocks_per_stage": [512, 512], "num_downsamples": 1}, None),
    ],
)
def test_configs_that_would_take_long(fields: dict[str, Any], words: str | None) -> None:
    if words is None:
        ModelConfig(image_size=8, frames=8, **fields)
        return
    with pytest.raises(ValueError, match=words):
        ModelConfig(image_size=8, frames=8, **fields)


def test_a_file_that_shrinks_while_its_header_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "x.safetensors", pack({"a": entry(0, 8)}, bytes(8)))
    real = container_module.read_start

    def read_start(*rest: Any) -> bytes:
        start = real(*rest)
        os.truncate(path, 20)
        return start

    monkeypatch.setattr(container_module, "read_start", read_start)
    with pytest.raises(CheckpointError, match=r"is truncated: .* bytes wanted") as caught:
        read_header(path)
    assert "changed while it was read" in (caught.value.hint or "")


def test_a_file_that_is_written_to_while_its_weights_are_read(tmp_path: Path) -> None:
    path = put(tmp_path / "x.safetensors", pack({"a": entry(0, 8), "b": entry(8, 16)}, bytes(16)))
    reading = read_tensors(read_header(path))
    next(reading)
    os.utime(path, ns=(0, 0))
    next(reading)
    with pytest.raises(CheckpointError, match=r"x\.safetensors changed while its weights were read"):
        next(reading)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes on the disk")
@pytest.mark.parametrize("name", [WEIGHTS_FILE, INDEX_FILE, "config.json"])
def test_pipes_in_a_folder(tmp_path: Path, name: str) -> None:
    if name == "config.json":
        put(tmp_path / WEIGHTS_FILE, pack({}))
    os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match="must be a regular file, but is a pipe"):
        resolve_config(read_header(tmp_path))


def test_shards_may_be_links_but_not_paths(tmp_path: Path) -> None:
    """As in Hugging Face's cache, whose files are links to blobs elsewhere."""
    put(tmp_path / "blob", pack({"a": entry(0, 4)}, bytes(4)))
    (folder := tmp_path / "folder").mkdir()
    (folder / "one.safetensors").symlink_to("../blob")
    index = put(folder / INDEX_FILE, b'{"weight_map": {"a": "one.safetensors"}}')
    assert set(read_header(index).tensors) == {"a"}
    put(index, b'{"weight_map": {"a": "../blob"}}')
    with pytest.raises(CheckpointError, match=r"names of files in the same folder, got '../blob'"):
        read_header(index)


@FUZZ
@given(text=st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
def test_any_config_text(tmp_path: Path, text: bytes) -> None:
    survives(put(tmp_path / "x", pack({"__metadata__": {"mpvideo": text.decode("utf-8", "replace")}})))


FIELDS = [
    (group, field)
    for group, fields in latent_config(classes=("a", "b", "c")).to_dict().items()
    for field in (fields if isinstance(fields, dict) else [None])
]


@FUZZ
@given(place=st.sampled_from(FIELDS), value=JSON, other=st.sampled_from(FIELDS), second=JSON)
def test_any_value_in_any_field_of_the_config(
    tmp_path: Path, place: tuple[str, str | None], value: object, other: tuple[str, str | None], second: object
) -> None:
    config = latent_config(classes=("a", "b", "c")).to_dict()
    for (group, field), item in ((place, value), (other, second)):
        if field is None or not isinstance(config[group], dict):
            config[group] = item
        else:
            config[group] = {**config[group], field: item}
    survives(put(tmp_path / "x", pack({"__metadata__": {"mpvideo": json.dumps(config)}})))


@FUZZ
@given(index=st.fixed_dictionaries({}, optional={"weight_map": JSON, "metadata": JSON, "x": JSON}))
def test_any_index(tmp_path: Path, index: object) -> None:
    put(tmp_path / INDEX_FILE, json.dumps(index).encode())
    survives(tmp_path)


def test_the_config_itself_is_not_what_these_tests_refuse(tmp_path: Path) -> None:
    path = put(tmp_path / "x", pack({"__metadata__": {"mpvideo": CONFIG.to_json()}}))
    assert resolve_config(read_header(path)) == CONFIG

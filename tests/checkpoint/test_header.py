import dataclasses
import errno
import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from mpvideo.checkpoint import read_header
from mpvideo.checkpoint.header import INDEX_FILE, WEIGHTS_FILE
from mpvideo.errors import CheckpointError, ExitCode
from tests.checkpoint.files import CONFIG, entry, pack, put, random_tensors

GOOD = pack({"a": entry(0, 8), "b": entry(8, 12, []), "__metadata__": {"k": "v"}}, bytes(12))


def torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, buffer)
    return buffer.getvalue()


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "x")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.safetensors"))
    return buffer.getvalue()


def refused(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert caught.value.exit_code == ExitCode.CHECKPOINT
    assert caught.value.message.isprintable()
    return caught.value


def test_good_file(tmp_path: Path) -> None:
    path = put(tmp_path / "a.safetensors", GOOD)
    header = read_header(path)
    assert header.files == (path,) and header.file_size == len(GOOD) and header.sidecar is None
    assert header.metadata == {"k": "v"} and header.config is None and header.name == "a.safetensors"
    a, b = header.tensors["a"], header.tensors["b"]
    assert (a.dtype, a.shape, a.size, a.count) == ("F32", (2,), 8, 2)
    assert (b.shape, b.count, b.start, b.stop) == ((), 1, len(GOOD) - 4, len(GOOD))


def test_agrees_with_the_reference_writer(tmp_path: Path) -> None:
    tensors = random_tensors()
    save_file(tensors, tmp_path / "a.safetensors", metadata={"mpvideo": CONFIG.to_json()})
    header = read_header(tmp_path / "a.safetensors")
    assert {name: info.shape for name, info in header.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    assert header.config == json.loads(CONFIG.to_json())


@pytest.mark.parametrize(
    ("data", "words", "hint"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "an HTML page", "download link"),
        (b"\n <html>", "an HTML page", "download link"),
        (b"<?xml version='1.0'?><Error/>", "an XML document", "download link"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs pointer", "git lfs pull"),
        (pickle.dumps({"a": 1}), "a Python pickle", "mpvideo convert"),
        (torch_file(), "a PyTorch .pt file", "mpvideo convert"),
        (zipped("readme.txt"), "a zip archive", "Unpack"),
        (zipped("a.npy"), "a NumPy .npz", ".safetensors"),
        (gzip.compress(GOOD), "a gzip archive", "Unpack"),
        (tarred(), "a tar archive", "Unpack"),
        (b'{"model": {"dim": 8}}', "a JSON file", "folder"),
        (b"[1, 2, 3, 4, 5]", "a JSON file", "folder"),
        (b"[build-system]\nrequires = []", "a text file", ".safetensors"),
        (b"GGUF\x03\0\0\0\0\0\0\0", "a GGUF file", ".safetensors"),
        (b"\0\0\0\x20ftypisom\0\0", "an MP4 video", ".safetensors"),
        (bytes(600), "nothing but zeros", "unfinished"),
        (b"", "is empty", "again"),
        (b"\x10\0\0", "too short: 3 bytes", "again"),
        (b"\xff" * 8 + b'{"a"', "a header of 18,446,744,073,709,551,615 bytes", "damaged"),
        (b"\x01\x02\x03\x04\xff\xfe\xfd\xfc" * 9, "of no format known here", ".safetensors"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, data: bytes, words: str, hint: str) -> None:
    error = refused(put(tmp_path / "x.safetensors", data))
    assert "must be a safetensors file, but" in error.message and words in error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"a": entry(0, 8)}, bytes(7), "truncated: it must have"),
        ({"a": entry(0, 8)}, bytes(9), "has 1 bytes after its last tensor"),
        ({"a": entry(4, 8)}, bytes(8), "leaves a gap"),
        ({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12), "leaves a gap"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), "overlaps"),
        ({"a": entry(0, 8, [3])}, bytes(8), "takes 12 bytes, its data_offsets give 8"),
        ({"a": entry(0, 4, [-1])}, bytes(4), "whole numbers from 0"),
        ({"a": entry(0, 4, [True])}, bytes(4), "whole numbers from 0"),
        ({"a": entry(0, 4, [1.0])}, bytes(4), "whole numbers from 0"),
        ({"a": entry(0, 4, [1] * 65)}, bytes(4), "at most 64"),
        ({"a": entry(0, 4, [2**62, 2**62])}, bytes(4), "bytes, its data_offsets give 4"),
        ({"a": entry(0, 4, [2**64])}, bytes(4), "whole numbers from 0"),
        ({"a": entry(0, 4, dtype="F33")}, bytes(4), "dtype must be one of"),
        ({"a": entry(0, 4, dtype=["F32"])}, bytes(4), "dtype must be one of"),
        ({"a": {**entry(0, 4), "data_offsets": [4, 0]}}, bytes(4), "rising order"),
        ({"a": {**entry(0, 4), "data_offsets": [0]}}, bytes(4), "rising order"),
        ({"a": {**entry(0, 4), "extra": 1}}, bytes(4), "exactly dtype, shape and data_offsets"),
        ({"a": [1]}, b"", "exactly dtype, shape and data_offsets"),
        ({"\x1b[31m": [1]}, b"", "\\x1b[31m"),
        ({"__metadata__": {"k": 1}}, b"", "__metadata__ must be an object of strings"),
        (b'{"a": 1, "a": 2}', b"", "key 'a' is given twice"),
        (b'{"a": NaN}', b"", "numbers must be finite, got NaN"),
        (b'{"a": 1e999}', b"", "numbers must be finite, got 1e999"),
        (b'{"a": ' + b"9" * 5000 + b"}", b"", "at most 20 digits, got 5000"),
        (b'{"a": ' + b"[" * 100_000, b"", "nested at most 64"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", b"", "nested at most 64"),
        (b'{"\\ud800": 1}', b"", "surrogates not allowed"),
        (b'{"\xff": 1}', b"", "can't decode"),
        (b'{"a": }', b"", "not valid JSON"),
        (b"{} x", b"", "not valid JSON"),
    ],
)
def test_broken_headers(tmp_path: Path, header: object, data: bytes, words: str) -> None:
    assert words in refused(put(tmp_path / "x.safetensors", pack(header, data))).message


def test_header_longer_than_the_file(tmp_path: Path) -> None:
    error = refused(put(tmp_path / "x.safetensors", GOOD[:40]))
    assert "its header needs" in error.message and "the file has 40" in error.message


def test_length_is_forgiven_on_request_only(tmp_path: Path) -> None:
    path = put(tmp_path / "x.safetensors", GOOD[:-5])
    header = read_header(path, strict=False)
    assert set(header.tensors) == {"a", "b"}
    assert [refused(path).message] == [error.message for error in header.damage]


def test_not_a_file(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none").message
    assert "cannot be read" in refused(tmp_path / ("n" * 5000)).message
    assert "cannot be read" in refused(Path("a\0b")).message
    (tmp_path / "link").symlink_to("nowhere")
    assert "link to a file that does not exist" in refused(tmp_path / "link").message
    assert "\\x1b" in refused(tmp_path / "\x1b[2J").message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes on the disk")
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "pipe, socket or device" in refused(tmp_path / "pipe").message
    assert "pipe, socket or device" in refused(Path("/dev/zero")).message


def test_folder(tmp_path: Path) -> None:
    assert "it has neither" in refused(tmp_path).message
    (tmp_path / "run.json").touch()
    assert "has no checkpoint yet" in (error := refused(tmp_path)).message
    assert error.hint == "`mpvideo train` with the same data, --out and other options goes on with it."
    (tmp_path / "run.json").unlink()
    put(tmp_path / "dog.safetensors", GOOD)
    assert "dog.safetensors" in (refused(tmp_path).hint or "")
    put(tmp_path / "config.json", b"{}")
    assert read_header(tmp_path / "dog.safetensors").sidecar is None
    put(tmp_path / WEIGHTS_FILE, GOOD)
    header = read_header(tmp_path)
    assert header.sidecar == tmp_path / "config.json" and header.name == tmp_path.name
    assert read_header(tmp_path / WEIGHTS_FILE).sidecar == header.sidecar


def shards(folder: Path, weight_map: object | None = None) -> Path:
    put(folder / "one.safetensors", pack({"a": entry(0, 8), "__metadata__": {"mpvideo": "{}"}}, b"12345678"))
    put(folder / "two.safetensors", pack({"b": entry(0, 4)}, b"abcd"))
    if weight_map is None:
        weight_map = {"a": "one.safetensors", "b": "two.safetensors"}
    put(folder / INDEX_FILE, json.dumps({"metadata": {"total_size": 12}, "weight_map": weight_map}).encode())
    return folder


def test_shards(tmp_path: Path) -> None:
    for path in (shards(tmp_path), tmp_path / INDEX_FILE):
        header = read_header(path)
        assert [file.name for file in header.files] == ["one.safetensors", "two.safetensors"]
        assert set(header.tensors) == {"a", "b"} and header.config == {}
        assert header.file_size == sum(file.stat().st_size for file in header.files)


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({}, "weight_map must be an object"),
        ([], "weight_map must be an object"),
        ({"a": "../one.safetensors"}, "files in the same folder"),
        ({"a": "/etc/passwd"}, "files in the same folder"),
        ({"a": "C:\\one"}, "files in the same folder"),
        ({"a": ".."}, "files in the same folder"),
        ({"a": 1}, "files in the same folder"),
        ({"a": "three.safetensors"}, "three.safetensors does not exist"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, "not in their shards: b (one.safetensors)"),
        ({"b": "two.safetensors", "c": "one.safetensors"}, "it also has a"),
    ],
)
def test_broken_indexes(tmp_path: Path, weight_map: object, words: str) -> None:
    assert words in refused(shards(tmp_path, weight_map)).message


def test_shards_that_contradict_each_other(tmp_path: Path) -> None:
    shards(tmp_path)
    put(tmp_path / "two.safetensors", pack({"b": entry(0, 4), "__metadata__": {"mpvideo": "[]"}}, b"abcd"))
    assert "different configs" in refused(tmp_path).message


def test_a_link_keeps_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Hugging Face's cache, where what it leads to is called by its hash."""
    put(tmp_path / "0123abcd", GOOD)
    (tmp_path / "dog.safetensors").symlink_to("0123abcd")
    assert read_header(tmp_path / "dog.safetensors").name == "dog.safetensors"
    (folder := tmp_path / "folder").mkdir()
    put(folder / WEIGHTS_FILE, GOOD)
    monkeypatch.chdir(folder)
    assert read_header(Path()).name == "folder"
    assert read_header(Path(WEIGHTS_FILE)).name == WEIGHTS_FILE
    in_the_root = dataclasses.replace(read_header(folder), path=Path(folder.anchor))
    assert in_the_root.name == WEIGHTS_FILE, "which has no name of its own"


def test_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names can be listed, but nothing can be said of what they stand for."""
    real = os.stat

    def stat(path: Any, *rest: Any, **options: Any) -> os.stat_result:
        if Path(path).parent == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert refused(tmp_path).message == f"{tmp_path / WEIGHTS_FILE} cannot be read: permission denied"


def test_header_of_a_sparse_giant(tmp_path: Path) -> None:
    size = 50_000_000_000
    path = put(tmp_path / "giant.safetensors", pack({"a": entry(0, size)}))
    try:
        os.truncate(path, path.stat().st_size + size)
    except OSError:
        pytest.skip("this file system has no sparse files of 50 GB")
    assert read_header(path).tensors["a"].count == size // 4


def survives(path: Path, data: bytes) -> None:
    put(path, data)
    try:
        header = read_header(path)
    except CheckpointError as error:
        assert error.message.isprintable()
    else:
        assert sum(info.size for info in header.tensors.values()) <= len(data)


FUZZ = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@FUZZ
@given(data=st.binary(max_size=64))
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    survives(tmp_path / "x", data)


@FUZZ
@given(
    flips=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, len(GOOD)),
)
def test_mutations_of_a_good_file(tmp_path: Path, flips: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(GOOD)
    for place, value in flips:
        data[place] = value
    survives(tmp_path / "x", bytes(data[:cut] if cut % 3 == 0 else data))


@FUZZ
@given(fields=st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "x"]), JSON), whole=JSON)
def test_any_json_in_the_header(tmp_path: Path, fields: dict[str, object], whole: object) -> None:
    survives(tmp_path / "x", pack({"a": {**entry(0, 4), **fields}}, bytes(4)))
    survives(tmp_path / "x", pack({"a": whole, "__metadata__": whole}))


def test_the_reference_writer_is_read_in_every_dtype(tmp_path: Path) -> None:
    dtypes = [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64, torch.int64]
    data = save({str(dtype): torch.zeros(3, 0 if dtype == torch.int8 else 2, dtype=dtype) for dtype in dtypes})
    assert len(read_header(put(tmp_path / "x", data)).tensors) == len(dtypes)

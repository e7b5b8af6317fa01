import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpvideo.checkpoint.torch_file import TorchTensor, is_torch_file, read_torch_file
from mpvideo.checkpoint.torch_report import describe_torch_file
from mpvideo.errors import CheckpointError
from tests.checkpoint.files import put


def state() -> dict[str, Any]:
    """What trainers write: a wrapped state dict, an optimiser's state, and a few plain values."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 3)).sum().backward()
    optimiser.step()
    return {
        "model": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half": [torch.zeros(5, 6, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.float16)],
        "float8": torch.zeros(2).to(torch.float8_e4m3fn),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "step": 7,
        "scale": float("nan"),
    }


def tensors_in(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    found: dict[str, torch.Tensor] = {}
    for key, item in items:
        found |= tensors_in(item, f"{name}.{key}" if name else str(key))
    return found


@pytest.mark.parametrize("zipped", [True, False])
def test_lists_what_torch_saves(tmp_path: Path, zipped: bool) -> None:
    content = state()
    path = tmp_path / "a.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert is_torch_file(path.read_bytes()[:512])
    file = read_torch_file(path)
    assert file.tensors == {
        name: TorchTensor(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in tensors_in(content).items()
    }
    assert file.values["step"] == 7 and file.values["optimiser.param_groups.0.lr"] == 0.001
    assert file.damage is None and file.size == path.stat().st_size
    report = describe_torch_file(file)
    assert report["values"]["scale"] is None and report["loads"] is False
    assert report["parameters"]["parts"]["model"] == 12 + 4 * 5 + 1


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/mpvideo-was-here",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Evil(), f"it wants {os.system.__module__}.system, which is refused"),
        ({"a": Path("x")}, "it wants pathlib"),
        ({"a": torch.nn.Linear(1, 1)}, "it wants torch.nn.modules.linear.Linear, which is refused"),
        ({"a": 2**70}, "more than 64 bits"),
        ({("a", "b"): 1}, "a key must be plain, got tuple"),
    ],
)
def test_everything_else_is_refused_by_name(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="is no file of weights alone") as caught:
        read_torch_file(tmp_path / "a.pt")
    assert words in caught.value.message and "Nothing of it was run" in (caught.value.hint or "")


def archive(path: Path, data: bytes, **others: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a/data.pkl", data)
        for name, content in others.items():
            target.writestr(f"a/{name}", content)
    return path


def nested(levels: int) -> list[Any]:
    """A list of a few bytes that unfolds to 2 ** levels entries."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pickle.dumps(nested(60)), "too many values"),
        (b"\x80\x02]" + b"]" * 200 + b"a" * 200 + b".", "too deep"),
        (b"\x80\x02}X" + struct.pack("<I", 2000) + b"a" * 2000 + b"}X\x01\x00\x00\x00bK\x01sss.", None),
        (b"\x80\x02" + b"N0" * 60_000 + b"N.", "more than 100,000 opcodes"),
        (b" " * 16_000_001, "data.pkl has more than 16,000,000 bytes"),
        (b"\x80\x02r\xff\xff\xff\x7f", "opcodes make no sense"),  # a memo of 2 ** 31 entries, to the C unpickler
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f", "is no file of weights alone"),  # a string of 2 ** 63 bytes
        (b"\x80\x02N", "is no file of weights alone"),
        (b"\x80\x02]K\x01R.", "it calls a list"),
        (b"\x80\x02NK\x01\x93.", "a name that is no text"),
        (b"\x80\x02(ios\nsystem\n.", "opcode INST has no business"),
        (b"\x80\x02K\x01Q.", "arguments that are no tuple"),
        (b"\x80\x02(Q.", "opcodes make no sense"),
        (b"\x80\x02)ccollections\nOrderedDict\n.", None),
        (b"", "is no file of weights alone"),
    ],
)
def test_hostile_pickles(tmp_path: Path, data: bytes, words: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpvideo.checkpoint.inert.MAX_OPCODES", 100_000)
    monkeypatch.setattr("mpvideo.checkpoint.torch_file._MAX_ENTRIES", 10_000)
    path = archive(tmp_path / "a.pt", data)
    if words is None:
        try:
            read_torch_file(path)
        except CheckpointError as error:
            assert error.message.isprintable()
        return
    with pytest.raises(CheckpointError, match=words):
        read_torch_file(path)


@pytest.mark.parametrize(
    "content",
    [["x" * 2_000] * 1_000, [torch.zeros([1] * 64)] * 10_000, {"x" * 980: [None] * 2_000}],
    ids=["one text", "one tensor", "one long name"],
)
def test_a_listing_much_longer_than_its_file_is_refused(
    tmp_path: Path, content: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in many places has few bytes in a pickle."""
    monkeypatch.setattr("mpvideo.checkpoint.torch_file._MAX_CHARACTERS", 1_000_000)
    torch.save(content, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 30_000
    with pytest.raises(CheckpointError, match="a listing of its names and values must have at most 1,000,000 char"):
        read_torch_file(tmp_path / "a.pt")


def test_storages_must_be_there_whole(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(4)}, tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as source:
        data = next(source.read(name) for name in source.namelist() if name.endswith("data.pkl"))
    assert "another length: 0" in (read_torch_file(archive(tmp_path / "a.pt", data)).damage or "")
    short = read_torch_file(archive(tmp_path / "b.pt", data, **{"data/0": bytes(15)}))
    assert short.damage is not None and "another length" in describe_torch_file(short)["problems"][0]["message"]
    assert read_torch_file(archive(tmp_path / "c.pt", data, **{"data/0": bytes(16)})).damage is None


def test_programs_and_other_archives(tmp_path: Path) -> None:
    script = archive(tmp_path / "a.pt", b"", **{"code/__torch__.py": b""})
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_torch_file(script)
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as target:
        target.writestr("readme", "data.pkl")
    with pytest.raises(CheckpointError, match=r"must hold one data.pkl, it has 0"):
        read_torch_file(tmp_path / "b.pt")


def test_torch_is_not_imported(tmp_path: Path) -> None:
    torch.save(OrderedDict(a=torch.zeros(2)), tmp_path / "a.pt")
    code = (
        "import sys; from pathlib import Path; from mpvideo.checkpoint.torch_file import read_torch_file\n"
        f"print(len(read_torch_file(Path({str(tmp_path / 'a.pt')!r})).tensors), 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1 False\n"


def saved(content: object, *, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


LEGACY = saved({"a": torch.zeros(2), "b": [1, "x", None]}, zipped=False)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(flips=st.lists(st.tuples(st.integers(0, len(LEGACY) - 1), st.integers(0, 255)), max_size=5), tail=st.binary())
def test_mutations_give_a_listing_or_an_error(tmp_path: Path, flips: list[tuple[int, int]], tail: bytes) -> None:
    data = bytearray(LEGACY)
    for place, value in flips:
        data[place] = value
    try:
        read_torch_file(put(tmp_path / "a.pt", bytes(data) if flips else b"\x80\x02" + tail))
    except CheckpointError as error:
        assert error.message.isprintable()


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_safetensors_header_of_an_unlucky_length_is_no_pickle(length):
    start = length.to_bytes(8, "little") + b'{"__metadata__":{}}'
    assert start.startswith(b"\x80")
    assert not is_torch_file(start)


def test_a_directory_of_a_million_files_is_not_read(tmp_path: Path) -> None:
    """Zip archives may have one however short their files are; in the form for long ones, too."""
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, protocol=2))
    data = path.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    directory = data[start:end] * 150_000
    short = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFE, 0xFFFE, len(directory), start, 0)
    long = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 150_000, 150_000, len(directory), start)
    long += struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(directory), 1)
    long += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *(0xFFFF,) * 2, *(0xFFFFFFFF,) * 2, 0)
    signed = short[:16] + b"PK\x05\x06\0\0"  # as an offset, which zipfile corrects
    for last in (short, long, signed, short[:-2] + b"\x03\0..."):
        path.write_bytes(data[:start] + directory + last)
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError, match=f"at most 8,000,000 bytes, it has {len(directory):,}"):
                read_torch_file(path)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()


def test_an_entry_beyond_what_can_be_counted_to(tmp_path: Path) -> None:
    """Its place, in the record for large archives (zip64), is 2**64 - 1."""
    path = tmp_path / "a.pt"
    data = bytearray(saved({"a": torch.zeros(2)}, zipped=True))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as source, zipfile.ZipFile(path, "w") as plain:
        for name in source.namelist():
            plain.writestr(name, source.read(name))
    data = bytearray(path.read_bytes())
    entry = data.find(b"PK\x01\x02")
    (length,) = struct.unpack("<H", data[entry + 28 : entry + 30])
    data[entry + 42 : entry + 46] = b"\xff" * 4
    data[entry + 30 : entry + 32] = struct.pack("<H", 12)
    data[entry + 46 + length : entry + 46 + length] = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    end = data.rfind(b"PK\x05\x06")
    (size,) = struct.unpack("<I", data[end + 12 : end + 16])
    data[end + 12 : end + 16] = struct.pack("<I", size + 12)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="is no file of weights alone: "):
        read_torch_file(path)


def test_an_archive_without_its_end_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    os.truncate(tmp_path / "a.pt", (tmp_path / "a.pt").stat().st_size - 1)
    with pytest.raises(CheckpointError, match="begins like a zip archive and does not end like one: cut short"):
        read_torch_file(tmp_path / "a.pt")

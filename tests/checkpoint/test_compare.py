from dataclasses import replace
from pathlib import Path

from mpvideo.architecture import checkpoint_shapes
from mpvideo.checkpoint import read_header
from mpvideo.checkpoint.compare import compare, with_values
from mpvideo.checkpoint.save import save_checkpoint
from tests.checkpoint.files import CONFIG, latent_config, pack, put, random_tensors, with_shapes


def test_a_checkpoint_and_itself(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", random_tensors(), CONFIG)
    header = read_header(tmp_path / "a")
    report = compare(header, header)
    assert report["same"] and report["config"] == [] and report["problems"] == []
    assert report["tensors"]["shared"] == len(header.tensors)
    assert with_values(report, {"x": 0.0})["same"] and not with_values(report, {"x": 1e-9})["same"]
    assert not with_values(report, {"x": None})["same"]


def test_what_differs_is_named(tmp_path: Path) -> None:
    before, after = latent_config(classes=("a", "b", "c")), latent_config(classes=("a", "b", "d"), title="new")
    after = replace(after, sampling=replace(after.sampling, steps=5))
    save_checkpoint(tmp_path / "a", random_tensors(before), before)
    halves = {
        name: tensor.half() if name.endswith("gain") else tensor for name, tensor in random_tensors(after).items()
    }
    save_checkpoint(tmp_path / "b", halves, after)
    report = compare(read_header(tmp_path / "a"), read_header(tmp_path / "b"))
    assert report["config"] == [
        {"field": "sampling.steps", "a": 32, "b": 5},
        {"field": "classes", "a": ["a", "b", "c"], "b": ["a", "b", "d"]},
        {"field": "title", "a": None, "b": "new"},
    ]
    assert {(entry["a"], entry["b"]) for entry in report["tensors"]["retyped"]} == {("float32", "float16")}
    assert not report["same"]


def test_other_tensors_and_no_config(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", random_tensors(), CONFIG)
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    other = put(tmp_path / "b", pack({"input_block.weight": one, "new": {**one, "data_offsets": [8, 16]}}, bytes(16)))
    report = compare(read_header(tmp_path / "a"), read_header(other))
    tensors = report["tensors"]
    assert tensors["added"] == ["new"] and "output_block.1.gain" in tensors["missing"] and tensors["shared"] == 0
    assert [(entry["name"], entry["b"]) for entry in tensors["reshaped"]] == [("input_block.weight", [2])]
    assert "does not say which architecture" in report["problems"][0]["message"]


def test_what_does_not_resolve_is_compared_as_far_as_it_is_declared(tmp_path: Path) -> None:
    shapes = checkpoint_shapes(CONFIG)
    bare, same, other, broken = (
        read_header(with_shapes(tmp_path / name, shapes, config))
        for name, config in (("a", None), ("b", None), ("c", {"format": 1, "title": "dogs"}), ("d", "no JSON"))
    )
    report = compare(bare, same)
    assert report["same"] and len(report["problems"]) == 2, "both lack what the tensors do not tell"
    assert with_values(report, {"x": 0.0})["same"] and not with_values(report, {"x": 0.5})["same"]
    report = compare(bare, other)
    assert not report["same"] and report["config"] == [{"field": "title", "a": None, "b": "dogs"}]
    assert not compare(broken, broken)["same"], "nobody knows"


def test_values_come_greatest_first() -> None:
    report = with_values({"same": True}, {"a": 0.1, "b": None, "c": 0.5})
    assert list(report["values"]) == ["b", "c", "a"]

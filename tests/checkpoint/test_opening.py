from pathlib import Path

import pytest

from mpvideo.architecture import checkpoint_shapes
from mpvideo.checkpoint import bundled_checkpoint, open_checkpoint
from mpvideo.checkpoint import opening as opening_module
from mpvideo.errors import CheckpointError
from tests.checkpoint.files import CONFIG, with_shapes


def test_config_of_the_header(tmp_path: Path) -> None:
    path = with_shapes(tmp_path / "a.safetensors", checkpoint_shapes(CONFIG), CONFIG.to_dict())
    checkpoint = open_checkpoint(path)
    assert checkpoint.config == CONFIG and checkpoint.path == path and checkpoint.name == "a.safetensors"


def test_wrong_dtypes(tmp_path: Path) -> None:
    path = with_shapes(tmp_path / "a", checkpoint_shapes(CONFIG), CONFIG.to_dict(), dtype="I32")
    with pytest.raises(CheckpointError, match=r"not of dtype float16, bfloat16, float32, float64: .*\(I32\)") as caught:
        open_checkpoint(path)
    assert "does not fit its config" in caught.value.message


def test_missing_bundled_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(opening_module, "__file__", str(tmp_path / "mpvideo" / "checkpoint" / "opening.py"))
    with pytest.raises(CheckpointError, match="lacks its bundled weights") as caught:
        bundled_checkpoint()
    assert "Reinstall" in (caught.value.hint or "")


def test_a_file_without_config_is_opened_by_what_its_tensors_tell(tmp_path: Path) -> None:
    path = with_shapes(tmp_path / "a.safetensors", checkpoint_shapes(CONFIG))
    sizes = {"image_size": 8, "frames": 4, "downsample_types": "all"}
    model = open_checkpoint(path, overrides={"model": sizes}).config.model
    assert checkpoint_shapes(CONFIG) == checkpoint_shapes(open_checkpoint(path, overrides={"model": sizes}).config)
    assert (model.image_size, model.frames, model.dim) == (8, 4, CONFIG.model.dim)
    with pytest.raises(CheckpointError, match=r"model\.downsample_types .*; model\.image_size .*; model\.frames"):
        open_checkpoint(path)

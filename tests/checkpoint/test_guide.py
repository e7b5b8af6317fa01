"""Which checkpoint can guide another."""

import dataclasses
from pathlib import Path

import pytest

from mpvideo.checkpoint import open_checkpoint
from mpvideo.checkpoint.guide import check_guide
from mpvideo.config import CheckpointConfig
from mpvideo.errors import UsageError
from tests.checkpoints import save_tiny, tiny_config


def check(about: CheckpointConfig, guide: CheckpointConfig, folder: Path) -> None:
    check_guide(about, open_checkpoint(save_tiny(folder / "weak.safetensors", guide)))


def test_what_may_differ(tmp_path: Path) -> None:
    about = tiny_config()
    smaller = tiny_config(dim=4, dim_max=4, num_downsamples=0, attn_res=(), self_condition=True)
    for number, guide in enumerate((about, smaller, dataclasses.replace(about, classes=None))):
        (folder := tmp_path / str(number)).mkdir()
        check(about, guide, folder)


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (tiny_config("gray"), "video.codec of the checkpoint, rgb; weak.safetensors has gray"),
        (tiny_config(frames=2), "model.frames of the checkpoint, 4; weak.safetensors has 2"),
        (tiny_config(image_size=16), "model.image_size of the checkpoint, 8; weak.safetensors has 16"),
        (tiny_config(num_classes=5), "model.num_classes of the checkpoint, 3; weak.safetensors has 5"),
        (tiny_config(num_classes=None), "model.num_classes of the checkpoint, 3; weak.safetensors has None"),
        (
            dataclasses.replace(tiny_config(), classes=("red cat", "blue dog", "blue cat")),
            "classes of the checkpoint; 1 is 'red dog' there and 'blue dog' in weak.safetensors",
        ),
    ],
)
def test_what_must_be_the_same(guide: CheckpointConfig, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        check(tiny_config(), guide, tmp_path)
    assert caught.value.message == f"--guide must have the {message}"

"""What a run was begun with, and how it is told that a later call differs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mpvideo import files
from mpvideo.errors import UsageError
from mpvideo.files import atomic_path
from mpvideo.training.recipe import PRESETS, PresetName, Recipe, TrainedCodec, codec_config
from mpvideo.training.record import alone_in, check_record


def begun(
    preset: PresetName = "tiny",
    *,
    data: str = "clips",
    fingerprint: str = "a",
    size: int | None = None,
    frames: int | None = None,
    codec: TrainedCodec = "latent",
    self_condition: bool = False,
    **recipe: Any,
) -> dict[str, Any]:
    """What `mpvideo.training.plan.Plan.begun_with` gives for these options."""
    chosen = PRESETS[preset]
    size, frames = size or chosen.size, frames or chosen.frames
    video = codec_config(codec, 12.0)
    model = chosen.model(video, size=size, frames=frames, num_classes=2, self_condition=self_condition)
    source = {"data": data, "videos": 40, "size": size, "frames": frames, "stride": 1}
    source["fingerprint"] = f"{fingerprint}-{size}-{frames}-{codec}"
    if codec != "latent":
        recipe["autoencoder_steps"] = 0
    record = {"source": source, "video": asdict(video), "model": asdict(model)}
    record["recipe"] = asdict(Recipe(**{**chosen.recipe, **recipe}))
    return json.loads(json.dumps(record))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ({"size": 32}, {}, "--size is 64, was 32"),
        ({"size": 32, "frames": 8}, {"frames": 16}, "--size is 64, was 32; --frames is 16, was 8"),
        ({"peak_rate": 0.5}, {}, "--rate is 0.01, was 0.5"),
        ({"clip_frames": 8}, {}, "--clip-frames is not given, was 8"),
        ({"codec": "rgb", "size": 16}, {"size": 16}, "--codec is latent, was rgb"),
        ({"preset": "small"}, {}, "--preset was small"),
        ({"preset": "small", "size": 32, "warmup_steps": 7}, {}, "--preset was small; --size is 64, was 32; "
                                                                 "--warmup is 50, was 7"),
        ({"data": "others", "fingerprint": "b"}, {}, "DATA is clips, was others"),
        ({"fingerprint": "b"}, {}, "DATA has other videos or classes than then"),
        ({"self_condition": True}, {}, "--self-condition is False, was True"),
    ],
)  # fmt: skip
def test_what_differs_is_told_in_options(
    tmp_path: Path, before: dict[str, Any], now: dict[str, Any], words: str
) -> None:
    check_record(tmp_path, begun(**before))
    check_record(tmp_path, begun(**before))
    with pytest.raises(UsageError) as caught:
        check_record(tmp_path, begun(**now))
    assert caught.value.message == f"{tmp_path} was begun with other settings: {words}"


def test_what_no_option_names_is_told_all_the_same(tmp_path: Path) -> None:
    check_record(tmp_path, begun())
    other = begun()
    other["model"]["channels"] = 5
    with pytest.raises(UsageError, match=r"settings: model\.channels is 5, was 16"):
        check_record(tmp_path, other)


def test_what_is_left_is_cleared_away_unless_someone_writes(tmp_path: Path) -> None:
    """Whatever writes there: `sample`, `convert`, `tune` or `eval` no less than `ema`."""
    left = [tmp_path / ".mpvideo-1.part", tmp_path / "ema" / ".mpvideo-2.part"]
    (tmp_path / "ema").mkdir()
    for path in left:
        path.touch()
    with atomic_path(tmp_path / "a.mp4") as aside:
        aside.write_bytes(b"half")
        with alone_in(tmp_path, "ema"):
            assert [path.exists() for path in (*left, aside)] == [True, False, True]
    assert (tmp_path / "a.mp4").read_bytes() == b"half"
    with alone_in(tmp_path, "ema"), atomic_path(tmp_path / "b.mp4"):  # while a training is at work
        assert not any(path.exists() for path in left)


def test_without_locks_everything_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows who writes there, as on some network drives."""
    (tmp_path / ".mpvideo-1.part").touch()
    monkeypatch.setattr(files, "fcntl", None)
    with alone_in(tmp_path), atomic_path(tmp_path / "a.mp4"):
        assert (tmp_path / ".mpvideo-1.part").exists()

"""The judge that comes with the package, on renderings that it has not seen."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from mpvideo import menagerie
from mpvideo.errors import CheckpointError
from mpvideo.evaluation.judge import JUDGE_PATH, NUM_FEATURES, Judge, Reading, judge_sha256, load_judge
from mpvideo.evaluation.train_judge import FIRST_SEED, save_judge, spoil, train_judge
from mpvideo.evaluation.world import FIRST_REAL_SEED
from mpvideo.video.codec import to_pixels, to_unit

UNSEEN = 2**50
"""Neither the judge nor any other network is trained on seeds from here on."""


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


@pytest.fixture(scope="module")
def classes() -> torch.Tensor:
    """400 different classes."""
    return torch.randperm(menagerie.NUM_CLASSES, generator=torch.Generator().manual_seed(0))[:400]


def seeds(count: int) -> torch.Tensor:
    return torch.arange(UNSEEN, UNSEEN + count)


def test_it_reads_real_renderings(judge: Judge, classes: torch.Tensor) -> None:
    parts = zip(classes.split(40), seeds(400).split(40), strict=True)
    reading = Reading.cat(judge.read(menagerie.render(*part)) for part in parts)
    truths = {"animal": classes // 100, "coat": classes // 10 % 10, "motion": classes % 10}
    for name, truth in truths.items():
        assert (getattr(reading, name) == truth).float().mean() >= 0.99, name
    assert (reading.classes == classes).float().mean() >= 0.985
    assert reading.features.shape == (400, NUM_FEATURES)


def test_it_reads_imperfect_ones_sensibly(judge: Judge, classes: torch.Tensor) -> None:
    some = classes[:32]
    videos = spoil(to_unit(menagerie.render(some, seeds(32))), torch.Generator().manual_seed(0))
    assert (judge.read(to_pixels(videos)).classes == some).float().mean() >= 0.9


def test_it_sees_motion_in_the_order_of_frames_alone(judge: Judge) -> None:
    """Played backwards, right is left and clockwise is anticlockwise; animal and coat stay what they are."""
    some = torch.tensor([201, 311, 725, 436, 945, 106])
    forwards = menagerie.render(some, seeds(6))
    backwards = judge.read(forwards.flip(1))
    assert backwards.motion.tolist() == [2, 2, 6, 5, 6, 5]
    assert backwards.animal.tolist() == (some // 100).tolist()
    assert backwards.coat.tolist() == (some // 10 % 10).tolist()


def test_the_features_do_not_depend_on_company(judge: Judge, classes: torch.Tensor) -> None:
    frames = menagerie.render(classes[:6], seeds(6))
    together = judge.read(frames, videos_at_once=6)
    alone = judge.read(frames, videos_at_once=1)
    torch.testing.assert_close(together.features, alone.features, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(together.rows(slice(4, None)).features, judge.read(frames[4:]).features)


def test_the_answers_are_linear_in_the_features(judge: Judge, classes: torch.Tensor) -> None:
    """So a distance in the features sees all that the answers depend on."""
    frames = menagerie.render(classes[:4], seeds(4))
    animal, coat, motion, features = judge(to_unit(frames))
    torch.testing.assert_close(judge.animal(features[:, :64]), animal)
    torch.testing.assert_close(judge.coat(features[:, :64]), coat)
    torch.testing.assert_close(judge.motion(features[:, 64:]), motion)


def test_the_file(judge: Judge) -> None:
    assert JUDGE_PATH.stat().st_size <= 1_500_000
    assert judge_sha256() == hashlib.sha256(JUDGE_PATH.read_bytes()).hexdigest()
    with safe_open(JUDGE_PATH, "pt") as file:  # type: ignore[no-untyped-call]
        about = json.loads(file.metadata()["mpvideo_judge"])
        assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {"torch.float16"}  # noqa: SIM118
    assert about["data"] == "mpvideo.menagerie"
    # No step has more than 128 videos: it cannot have seen what others learn from or are measured on.
    assert 2**40 < about["first_seed"] == FIRST_SEED
    assert FIRST_SEED + 128 * about["steps"] < FIRST_REAL_SEED < UNSEEN
    assert not judge.training


def test_refusals(judge: Judge, tmp_path: Path) -> None:
    good = torch.zeros(1, 32, 64, 64, 3, dtype=torch.uint8)
    for bad in (good[0], good[:, :31], good.float(), good[:0]):
        with pytest.raises(ValueError, match="frames must"):
            judge.read(bad)
    with pytest.raises(CheckpointError, match="cannot be read: no such file"):
        load_judge(tmp_path / "none.safetensors")
    path = tmp_path / "judge.safetensors"
    for data in (b"hello", save({"x": torch.zeros(1)})):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="is no judge"):
            load_judge(path)


def test_training_writes_a_judge(tmp_path: Path) -> None:
    """Two steps, one of each kind: what comes out can be loaded, in float16."""
    path = tmp_path / "judge.safetensors"
    trained = train_judge(2, batch=2)
    save_judge(path, trained, {"steps": 2})
    loaded = load_judge(path)
    for name, value in loaded.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, trained.state_dict()[name].half().float(), rtol=0, atol=0)
    assert set(load(path.read_bytes())) < set(trained.state_dict())


def test_spoiling() -> None:
    """About half stay as they are, nothing leaves the range, and whole videos are spoilt, not frames."""
    videos = to_unit(menagerie.render(torch.zeros(64, dtype=torch.int64), seeds(64), frame_indices=torch.arange(2)))
    before = videos.clone()
    after = spoil(videos, torch.Generator().manual_seed(1))
    changed = (after != before).flatten(2).any(2)
    assert (changed[:, 0] == changed[:, 1]).all()
    assert 0.25 < changed[:, 0].float().mean() < 0.7  # half, less the sixteenth of them to which nothing happens
    assert after.abs().max() <= 1

"""Clips of a folder: which, from where, in what order, and what is said of the rest."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpvideo.errors import ExitCode, UsageError
from mpvideo.training import cache
from mpvideo.training.folder import UNKNOWN_FPS, ClipFormat, FolderData, open_folder
from tests.videos import counting, make_video, save_gif, save_pngs

CLIP = ClipFormat(size=8, frames=3, stride=2)


def opened(data: Path, clip: ClipFormat = CLIP, *, seed: int = 0, lines: list[str] | None = None) -> FolderData:
    """The cache lies beside the folder."""
    return open_folder(data, data.parent / "cache", clip, seed=seed, say=[].append if lines is None else lines.append)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Five videos of two classes; every frame has a red of its own, from 0, 20, 40, 60 and 80."""
    data = tmp_path / "clips"
    save_gif(data / "dogs" / "1.gif", counting(5, start=0))
    save_gif(data / "dogs" / "2.gif", counting(7, start=20))
    save_pngs(data / "cats" / "a", counting(9, start=40))
    save_gif(data / "cats" / "b.gif", counting(12, start=60))
    save_gif(data / "cats" / "c.gif", counting(5, start=80))
    return data


def firsts(frames: torch.Tensor) -> list[int]:
    """The red of each sample's first frame, which tells what video it is of and where it begins."""
    return [int(sample[0, 0, 0, 0]) for sample in frames]


def test_samples(classes: Path) -> None:
    data = opened(classes)
    frames, labels = data.batch(range(40))
    assert frames.shape == (40, 3, 8, 8, 3) and frames.dtype == torch.uint8
    assert labels.shape == (40,) and labels.dtype == torch.int64
    assert data.classes == ("cats", "dogs") and data.factors is None and len(data) == 5
    reds = frames[..., 0].int()
    assert (reds == reds[:, :, :1, :1]).all() and (reds.diff(dim=1) == 2).all()  # flat, and two frames on
    assert labels.tolist() == [0 if red >= 40 else 1 for red in firsts(frames)]


def test_the_fingerprint_is_of_what_samples_are_cut_from(classes: Path) -> None:
    before = opened(classes).fingerprint
    assert opened(classes, seed=1).fingerprint == before
    save_gif(classes / "dogs" / "3.gif", counting(5, start=100))
    assert opened(classes).fingerprint != before
    (classes / "dogs" / "3.gif").unlink()
    assert opened(classes).fingerprint == before
    save_gif(classes / "cats" / "b.gif", counting(12, start=61))
    other = opened(classes)
    assert other.fingerprint != before, "as long as before, with other frames"
    shutil.rmtree(classes.parent / "cache")
    assert opened(classes).fingerprint == other.fingerprint
    assert opened(classes).arrangement != other.arrangement
    (classes / "dogs" / "2.gif").rename(classes / "cats" / "d.gif")
    assert opened(classes).fingerprint != before


def test_every_epoch_has_every_video_once_in_an_order_of_its_own(classes: Path) -> None:
    frames, _ = opened(classes).batch(range(5 * 200))
    epochs = [tuple(red // 20 for red in firsts(frames)[5 * epoch : 5 * epoch + 5]) for epoch in range(200)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len(set(epochs)) > 80  # of 120 orders; 97.5 are expected of 200 draws
    leaders = Counter(epoch[0] for epoch in epochs)
    assert all(20 < leaders[video] < 60 for video in range(5))


def test_starts_are_uniform_within_what_the_stride_leaves(classes: Path) -> None:
    """A clip reaches over 5 frames, so that videos of 5, 7, 9, 12 and 5 leave 1, 3, 5, 8 and 1 starts."""
    frames, _ = opened(classes).batch(range(5 * 800))
    counts = Counter(firsts(frames))
    rooms = {0: 1, 20: 3, 40: 5, 60: 8, 80: 1}
    assert set(counts) == {first + start for first, room in rooms.items() for start in range(room)}
    for first, room in rooms.items():
        mean = 800 / room
        assert all(abs(counts[first + start] - mean) <= 4.5 * (mean * (1 - 1 / room)) ** 0.5 for start in range(room))


def test_a_sample_depends_on_its_number_alone(classes: Path) -> None:
    data = opened(classes)
    numbers = [7, 3, 2**40 + 1, -4, 3, 11, 0]
    frames, labels = data.batch(numbers)
    data.batch(range(100))
    for index in (3, 6, 0, 5, 2, 1, 4):
        alone, label = opened(classes).batch([numbers[index]])
        assert torch.equal(alone[0], frames[index]) and label[0] == labels[index]
        again, _ = data.batch(torch.tensor([numbers[index]]))
        assert torch.equal(again[0], frames[index])
    assert torch.equal(frames[1], frames[4])


def test_another_process_has_the_same_samples(classes: Path) -> None:
    script = """
import sys
from pathlib import Path
from mpvideo.training.folder import ClipFormat, open_folder
data = Path(sys.argv[1])
clip = ClipFormat(size=8, frames=3, stride=2)
frames, labels = open_folder(data, data.parent / "cache", clip, seed=0, say=print).batch(range(1, 60, 2))
print([int(sample[0, 0, 0, 0]) for sample in frames], labels.tolist(), sep="|")
"""
    frames, labels = opened(classes).batch(range(60))
    done = subprocess.run([sys.executable, "-c", script, classes], capture_output=True, text=True, check=True)
    told, result = done.stdout.splitlines()
    assert told == "5 videos: 5 from the cache, 0 decoded, 0 skipped"
    assert result == f"{firsts(frames)[1::2]}|{labels.tolist()[1::2]}"


def test_the_seed_decides_order_and_starts(classes: Path) -> None:
    one, same, other = (firsts(opened(classes, seed=seed).batch(range(50))[0]) for seed in (1, 1, 2))
    assert one == same != other
    assert [red // 20 for red in one] != [red // 20 for red in other]


def test_shorter_clips(classes: Path) -> None:
    """Two frames reach over 3: videos of 5, 7, 9, 12 and 5 leave 3, 5, 7, 10 and 3 starts."""
    data = opened(classes)
    frames, _ = data.batch(range(2000), 2)
    assert frames.shape == (2000, 2, 8, 8, 3)
    reds = firsts(frames)
    assert len(set(reds)) == 3 + 5 + 7 + 10 + 3 and max(red for red in reds if red < 20) == 2
    assert data.batch([1, 2], 1)[0].shape == (2, 1, 8, 8, 3)
    assert data.batch([])[0].shape == (0, 3, 8, 8, 3) and data.batch([], 1)[0].shape == (0, 1, 8, 8, 3)
    for count in (0, 4):
        with pytest.raises(ValueError, match="frames must be at "):
            data.batch([0], count)


def test_batches_are_copies(classes: Path) -> None:
    data = opened(classes)
    data.batch([0])[0].fill_(255)
    assert firsts(data.batch([0])[0]) != [255]


def test_stride_and_length_share_a_cache(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(classes)

    def fail(*_: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "FrameStream", fail)
    frames, _ = opened(classes, ClipFormat(size=8, frames=5, stride=1)).batch([0])
    assert frames.shape[1] == 5


def test_without_classes(tmp_path: Path) -> None:
    save_pngs(tmp_path / "clips" / "one", counting(5))
    save_pngs(tmp_path / "clips" / "two", counting(6, start=20))
    data = opened(tmp_path / "clips")
    assert data.classes is None and data.batch(range(10))[1].tolist() == [0] * 10
    assert data.description == "clips: 2 videos" and data.fps == UNKNOWN_FPS


def test_gray(classes: Path) -> None:
    frames, _ = opened(classes, ClipFormat(size=4, frames=3, channels=1)).batch(range(10))
    assert frames.shape == (10, 3, 4, 4, 1)
    assert max(firsts(frames)) <= round(0.299 * 85)


@pytest.mark.parametrize(("stride", "fps"), [(1, 10.0), (2, 5.0)])
def test_fps_is_the_median_over_the_stride(tmp_path: Path, stride: int, fps: float) -> None:
    data = tmp_path / "clips"
    for name, delay in (("a", 20), ("b", 100), ("c", 200)):
        save_gif(data / f"{name}.gif", counting(9), delay=delay)
    save_pngs(data / "d", counting(9))
    assert opened(data, ClipFormat(size=8, frames=3, stride=stride)).fps == fps


def test_fps_stays_within_what_a_checkpoint_may_say(tmp_path: Path) -> None:
    make_video(tmp_path / "clips.mkv", "color=s=32x32:r=1000:d=0.01", "-c:v", "ffv1")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips.mkv").rename(tmp_path / "clips" / "a.mkv")
    assert opened(tmp_path / "clips").fps == 240.0


def test_all_that_is_skipped_is_told(classes: Path) -> None:
    save_gif(classes / "dogs" / "short.gif", counting(4))
    (classes / "dogs" / "broken.mp4").write_bytes(b"nothing of the kind")
    (classes / "birds").mkdir()
    (classes / "birds" / "tweet.gif").write_bytes(b"GIF")
    (classes / "notes.txt").write_text("remember")
    (classes / "dogs" / "still.jpg").write_bytes(b"")
    lines: list[str] = []
    data = opened(classes, lines=lines)
    assert lines == [
        "skipped 2 other than videos: dogs/still.jpg, notes.txt",
        "8 videos: 0 from the cache, 6 decoded, 2 skipped",
        "skipped birds/tweet.gif: it does not begin like a GIF file",
        lines[3],
        "skipped 1 video shorter than 5 frames: dogs/short.gif (4)",
        "left out 1 of the classes, which have no video that can be used: birds",
    ]
    assert lines[3].startswith("skipped dogs/broken.mp4: ffmpeg ended with exit code ")
    assert data.classes == ("cats", "dogs") and data.description == "clips: 5 videos in 2 classes"
    frames, labels = data.batch(range(20))
    assert labels.tolist() == [0 if red >= 40 else 1 for red in firsts(frames)]
    again: list[str] = []
    opened(classes, lines=again)
    assert [line for line in again if "from the cache" not in line] == [
        line for line in lines if "from the cache" not in line
    ]


def test_folders_are_told_by_what_they_hold(classes: Path) -> None:
    (classes / "empty").mkdir()
    (classes / "notes" / "old").mkdir(parents=True)
    (classes / "notes" / "old" / "1.txt").write_text("remember")
    (classes / "hidden" / ".old").mkdir(parents=True)
    save_gif(classes / "hidden" / ".old" / "1.gif", counting(5))
    save_gif(classes / "deep" / "more" / "1.gif", counting(5))
    save_pngs(classes / "dogs" / "takes" / "1" / "frames", counting(5))
    (classes / "again").symlink_to(classes)
    (classes / "linked").symlink_to(save_gif(classes.parent / "far" / "more" / "1.gif", counting(5)).parents[1])
    lines: list[str] = []
    opened(classes, lines=lines)
    assert [line for line in lines if line.startswith("skipped")] == [
        "skipped 1 other than videos: again/",
        "skipped 3 folders without videos: empty/, hidden/, notes/",
        "skipped 3 folders whose videos lie too deep: deep/, dogs/takes/, linked/",
    ]


def test_many_that_are_broken_are_all_told(tmp_path: Path) -> None:
    data = tmp_path / "clips"
    save_gif(data / "good.gif", counting(5))
    for number in range(13):
        (data / f"{number}.gif").write_bytes(b"")
    lines: list[str] = []
    opened(data, lines=lines)
    assert len([line for line in lines if line.endswith("it does not begin like a GIF file")]) == 10
    assert lines[-1] == "skipped 3 more that cannot be read: 10.gif, 11.gif, 12.gif"


def refused(data: Path, clip: ClipFormat = CLIP) -> UsageError:
    with pytest.raises(UsageError) as caught:
        opened(data, clip)
    assert caught.value.exit_code == ExitCode.USAGE and caught.value.hint
    return caught.value


def test_nothing_to_train_on(tmp_path: Path) -> None:
    data = tmp_path / "clips"
    data.mkdir()
    assert refused(data).message == f"there must be videos in {data}, got none"
    (data / "a.mp4").write_bytes(b"")
    assert refused(data).message == f"there must be videos in {data} that can be read, got none of 1"
    save_gif(data / "b.gif", counting(4))
    assert refused(data).message == (
        f"a clip of 3 frames with stride 2 needs a video of 5 frames, and the longest in {data} has 4"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"stride": 1.5}, "stride must be a whole number, got 1.5"),
        ({"channels": 4}, "channels must be 1 or 3, got 4"),
    ],
)
def test_formats_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipFormat(**{"size": 8, "frames": 3, **change})


def test_pixels_of_a_clip_are_those_of_the_video(tmp_path: Path) -> None:
    """The whole way of a lossless video with a picture of its own in each frame."""
    data = tmp_path / "clips"
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    save_pngs(tmp_path / "source", pictures)
    data.mkdir()
    loop = "movie=" + str(tmp_path / "source" / "%d.png").replace(":", "\\:") + ":f=image2"
    make_video(data / "a.mkv", loop, "-fps_mode", "passthrough", "-c:v", "libx264rgb", "-crf", "0")
    frames, _ = opened(data, ClipFormat(size=8, frames=6)).batch([0])
    assert np.array_equal(frames[0].numpy(), pictures)

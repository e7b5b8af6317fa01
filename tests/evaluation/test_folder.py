"""Videos in folders."""

from pathlib import Path

import numpy as np
import pytest

from mpvideo.errors import UsageError
from mpvideo.evaluation.folder import real_clips, sampled_videos, video_files
from mpvideo.video import Encoding, VideoWriter
from mpvideo.video.decode import UnreadableVideo


def write(path: Path, frames: np.ndarray) -> Path:
    _, height, width, channels = frames.shape
    writer = VideoWriter(
        path, width=width, height=height, channels=channels, encoding=Encoding(8, 1), record={}, overwrite=False
    )
    with writer:
        writer.write(frames)
    return path


def blocks(frames: int, height: int, width: int) -> np.ndarray:
    """Large even areas, which no encoder spoils."""
    video = np.zeros((frames, height, width, 3), np.uint8)
    video[:, :, width // 2 :] = 200
    return video


def test_files_are_found_in_order(tmp_path: Path) -> None:
    for name in ("b/2.mp4", "a.GIF", "b/1.gif", ".hidden.mp4", ".thumbs/x.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in video_files(tmp_path, "--data")]
    assert found == ["a.GIF", "b/1.gif", "b/2.mp4"]


def test_a_hidden_folder_that_is_asked_for_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / ".videos").mkdir()
    (tmp_path / ".videos" / "a.mp4").touch()
    assert [path.name for path in video_files(tmp_path / ".videos", "--data")] == ["a.mp4"]


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--data must have \.mp4, .*, \.apng files, found none in"):
        video_files(tmp_path, "--data")
    with pytest.raises(UsageError, match=r"^--data must be a folder of videos, got"):
        video_files(tmp_path / "none", "--data")


def test_real_clips(tmp_path: Path) -> None:
    long, short = write(tmp_path / "long.gif", blocks(6, 32, 48)), write(tmp_path / "short.gif", blocks(3, 32, 48))
    damaged = tmp_path / "damaged.gif"
    damaged.write_bytes(b"GIF89a")
    clip, missing, unread = real_clips((long, short, damaged), frames=4, size=16, channels=3)
    assert missing is None
    assert isinstance(unread, UnreadableVideo)
    assert isinstance(clip, np.ndarray)
    assert clip.shape == (4, 16, 16, 3)
    assert np.abs(clip[:, :, :7].astype(int)).max() <= 8  # the left half of the middle square, away from the border
    assert np.abs(clip[:, :, 9:].astype(int) - 200).max() <= 8
    (gray,) = real_clips((long,), frames=4, size=16, channels=1)
    assert isinstance(gray, np.ndarray)
    assert gray.shape == (4, 16, 16, 1)


def test_enlarged_pixels_shrink_again(tmp_path: Path) -> None:
    small = blocks(3, 16, 16)
    path = write(tmp_path / "a.mp4", small.repeat(4, 1).repeat(4, 2))
    (video,) = sampled_videos((path,), size=16)
    assert np.abs(video.astype(int) - small).max() <= 8
    (whole,) = sampled_videos((path,), size=None)
    assert whole.shape == (3, 64, 64, 3)
    with pytest.raises(UsageError, match="must be 48x48 pixels or a whole multiple, got 64x64"):
        next(sampled_videos((path,), size=48))

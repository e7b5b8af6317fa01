"""Which videos a folder holds: the two layouts, what is between them, and what is neither."""

import os
from pathlib import Path

import pytest

from mpvideo.errors import ExitCode, UsageError
from mpvideo.training.layout import find_videos


def tree(root: Path, *names: str) -> Path:
    """Empty files; a name that ends in a slash is a folder."""
    root.mkdir(exist_ok=True)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    return root


def refused(root: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        find_videos(root)
    assert caught.value.exit_code == ExitCode.USAGE == 2
    return caught.value


def test_classes(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "d", "dogs/2.mp4", "dogs/10.WEBM", "cats/a/1.png", "cats/a/2.png", "cats/b.gif", "ants/x.mkv"
    )
    layout = find_videos(root)
    assert layout.classes == ("ants", "cats", "dogs")
    assert list(layout.videos) == ["ants/x.mkv", "cats/a", "cats/b.gif", "dogs/2.mp4", "dogs/10.WEBM"]
    assert [layout.labels[name] for name in layout.videos] == [0, 1, 1, 2, 2]
    assert all(path == root / name for name, path in layout.videos.items())
    assert layout.others == ()


def test_classes_that_are_numbers_have_these_indices(tmp_path: Path) -> None:
    layout = find_videos(tree(tmp_path / "d", *(f"{number}/a.mp4" for number in range(12))))
    assert layout.classes == tuple(str(number) for number in range(12))
    assert all(layout.labels[f"{number}/a.mp4"] == number for number in range(12))


def test_flat(tmp_path: Path) -> None:
    layout = find_videos(tree(tmp_path / "d", "b.mov", "a.avi", "c/01.png", "c/02.png"))
    assert (layout.classes, list(layout.videos)) == (None, ["a.avi", "b.mov", "c"])
    assert set(layout.labels.values()) == {0}


def test_folders_of_frames_alone_are_videos_and_no_classes(tmp_path: Path) -> None:
    layout = find_videos(tree(tmp_path / "d", "one/1.png", "two/1.png", "two/2.png"))
    assert (layout.classes, list(layout.videos)) == (None, ["one", "two"])


def test_folders_of_folders_of_frames_are_classes(tmp_path: Path) -> None:
    layout = find_videos(tree(tmp_path / "d", "cats/one/1.png", "dogs/two/1.png"))
    assert (layout.classes, list(layout.videos)) == (("cats", "dogs"), ["cats/one", "dogs/two"])


def test_both_at_once(tmp_path: Path) -> None:
    """A folder of frames beside classes is a video by itself, too."""
    root = tree(tmp_path / "d", "a.mp4", "frames/1.png", "cats/1.mp4", "dogs/1.mp4", "dogs/2.mp4")
    assert refused(root).message == (
        f"{root} must have its videos in folders of their classes or all by themselves, got "
        "2 videos by themselves (a.mp4, frames) and 2 folders with videos (cats, dogs)"
    )


def test_all_that_is_no_video_is_named_unless_hidden(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "d",
        *("readme.txt", "cover.png", "empty/", "far/away/deep/1.mp4", ".git/a.mp4", ".DS_Store", "cats/.x.mp4"),
        *("cats/1.mp4", "cats/still.png", "cats/1.srt", "cats/takes/a.mp4", "cats/takes/1.png", "cats/nothing/"),
        *("cats/frames/1.png", "cats/frames/times.csv", "cats/frames/more/1.png"),
    )
    layout = find_videos(root)
    assert list(layout.videos) == ["cats/1.mp4", "cats/frames"]
    assert set(layout.others) == {
        *("readme.txt", "cover.png", "empty/", "far/", "cats/still.png", "cats/1.srt", "cats/takes/", "cats/nothing/"),
        *("cats/frames/times.csv", "cats/frames/more/"),
    }


def test_links(tmp_path: Path) -> None:
    real = tree(tmp_path / "real", "a.mp4", "frames/1.png")
    root = tree(tmp_path / "d", "cats/1.mp4")
    (root / "cats" / "linked.mp4").symlink_to(real / "a.mp4")
    (root / "cats" / "frames").symlink_to(real / "frames")
    (root / "cats" / "up").symlink_to(root)
    (root / "again").symlink_to(root)
    (root / "lost.mp4").symlink_to(real / "gone.mp4")
    (root / "self.mp4").symlink_to(root / "self.mp4")
    layout = find_videos(root)
    assert list(layout.videos) == ["cats/1.mp4", "cats/frames", "cats/linked.mp4"]
    assert layout.others == ("again/", "cats/up/", "lost.mp4", "self.mp4")


def test_a_link_to_the_folder_itself_is_no_class(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "a.mp4")
    (root / "again").symlink_to(root)
    layout = find_videos(root)
    assert (list(layout.videos), layout.classes, layout.others) == (["a.mp4"], None, ("again/",))


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "a.mp4")
    os.mkfifo(root / "b.mp4")
    assert (list(find_videos(root).videos), find_videos(root).others) == (["a.mp4"], ("b.mp4",))


@pytest.mark.parametrize("name", ["cats, dogs", " ", "bell\a"])
def test_names_that_no_class_can_have(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path / "d", f"{name}/1.mp4")
    error = refused(root)
    assert error.message.startswith("a class must have a name of plain characters without commas, got the folder ")
    assert str(root) in error.message and error.message.isprintable()


def test_such_names_are_fine_for_videos(tmp_path: Path) -> None:
    assert list(find_videos(tree(tmp_path / "d", "cats, dogs/1.png")).videos) == ["cats, dogs"]


def test_what_is_no_folder(tmp_path: Path) -> None:
    tree(tmp_path, "a.mp4")
    assert refused(tmp_path / "a.mp4").message.endswith("cannot be read as a folder of videos: not a directory")
    assert "no such file or directory" in refused(tmp_path / "b").message


def test_an_empty_folder(tmp_path: Path) -> None:
    layout = find_videos(tmp_path)
    assert (layout.videos, layout.classes, layout.others) == ({}, None, ())

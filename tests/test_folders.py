"""A folder is there whole or not at all, and nobody's files are lost for it."""

import os
from pathlib import Path

import pytest

from mpvideo.errors import OutputError
from mpvideo.files import remove_abandoned
from mpvideo.folders import PendingFolder


def pending(path: Path, *, overwrite: bool = False) -> PendingFolder:
    return PendingFolder(path, overwrite=overwrite, is_ours=lambda name: name.endswith(".png"))


def write(path: Path, *names: str, overwrite: bool = False) -> None:
    folder = pending(path, overwrite=overwrite)
    try:
        folder.create()
        for name in names:
            (folder.aside / name).write_text(f"new {name}")
        folder.commit()
    finally:
        folder.discard()


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_nothing_shows_until_it_is_whole(tmp_path: Path) -> None:
    folder = pending(tmp_path / "a")
    folder.create()
    (folder.aside / "1.png").write_text("half")
    assert not (tmp_path / "a").exists()
    assert folder.aside.name.startswith(".")
    folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_it_takes_its_name(tmp_path: Path) -> None:
    write(tmp_path / "a", "1.png", "2.png")
    assert contents(tmp_path) == {"a/1.png": "new 1.png", "a/2.png": "new 2.png"}


def test_an_existing_one_is_kept_unless_it_may_go(tmp_path: Path) -> None:
    write(tmp_path / "a", "1.png", "2.png")
    with pytest.raises(OutputError, match="exists already"):
        write(tmp_path / "a", "3.png")
    assert sorted(contents(tmp_path)) == ["a/1.png", "a/2.png"]
    write(tmp_path / "a", "3.png", overwrite=True)
    assert contents(tmp_path) == {"a/3.png": "new 3.png"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("strange", ["thesis.tex", ".bashrc", "more/1.png"])
def test_other_files_are_never_lost(tmp_path: Path, strange: str) -> None:
    path = tmp_path / "home" / strange
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    (tmp_path / "home" / "1.png").write_text("old")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="must hold frames and nothing else to be replaced, got"):
        write(tmp_path / "home", "1.png", overwrite=True)
    assert contents(tmp_path) == before


def test_a_file_put_there_meanwhile_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "a", "1.png")
    folder = pending(tmp_path / "a", overwrite=True)
    folder.create()
    (folder.aside / "2.png").write_text("new")
    (tmp_path / "a" / "notes.txt").write_text("precious")
    with pytest.raises(OutputError, match=r"nothing else to be replaced, got notes\.txt"):
        folder.commit()
    folder.discard()
    assert contents(tmp_path) == {"a/1.png": "new 1.png", "a/notes.txt": "precious"}


def test_a_swap_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", "1.png")
    folder = pending(tmp_path / "a", overwrite=True)
    folder.create()
    (folder.aside / "2.png").write_text("new")
    rename, calls = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 3:  # onto the full folder, that one aside, and now the new one in its place
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="input/output error"):
        folder.commit()
    folder.discard()
    assert contents(tmp_path) == {"a/1.png": "new 1.png"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="must be a folder, but is a file"):
            write(tmp_path / "a", "1.png", overwrite=overwrite)
    assert contents(tmp_path) == {"a": "precious"}


def test_a_missing_folder_above(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .*/no does not exist"):
        write(tmp_path / "no" / "a", "1.png")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real", "1.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", "2.png", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert list((tmp_path / "real").iterdir()) == [tmp_path / "real" / "2.png"]


def test_while_one_is_made_nothing_beside_it_is_taken_for_abandoned(tmp_path: Path) -> None:
    (tmp_path / ".mpvideo-1.part").touch()
    folder = pending(tmp_path / "frames")
    folder.create()
    remove_abandoned(tmp_path)
    assert (tmp_path / ".mpvideo-1.part").exists()
    folder.discard()
    remove_abandoned(tmp_path)
    assert not (tmp_path / ".mpvideo-1.part").exists()


def test_a_lock_that_another_program_holds_is_not_waited_for(tmp_path: Path) -> None:
    """As of `flock FOLDER mpvideo ...`, which ends after us."""
    fcntl = pytest.importorskip("fcntl", reason="locks of folders are POSIX")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        write(tmp_path / "a", "1.png")
    finally:
        os.close(descriptor)
    assert contents(tmp_path) == {"a/1.png": "new 1.png"}

import os
from pathlib import Path

import pytest

from mpvideo.errors import ExitCode, OutputError
from mpvideo.files import atomic_path


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with atomic_path(target) as aside:
        aside.write_bytes(b"new")
        assert not target.exists() and aside.parent == tmp_path and aside.suffix == ".mp4"
    assert target.read_bytes() == b"new" and names(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_any_failure_leaves_the_target_alone(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(error), atomic_path(target, overwrite=True) as aside:
        aside.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"old" and names(tmp_path) == ["out"]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_failing_system_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="Input/output error") as caught, atomic_path(target, overwrite=True):
        pass
    assert caught.value.exit_code == ExitCode.OUTPUT
    assert target.read_bytes() == b"old" and names(tmp_path) == ["out"]


def test_an_existing_file_is_kept_even_one_that_appears_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(OutputError, match="exists already") as caught, atomic_path(target) as aside:
        aside.write_bytes(b"mine")
        target.write_bytes(b"theirs")
    assert "-y" in (caught.value.hint or "")
    with pytest.raises(OutputError, match="exists already"), atomic_path(target):
        raise AssertionError("the block must not run")
    assert target.read_bytes() == b"theirs" and names(tmp_path) == ["out"]


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", fail)
    with atomic_path(tmp_path / "out") as aside:
        aside.write_bytes(b"new")
    assert (tmp_path / "out").read_bytes() == b"new" and names(tmp_path) == ["out"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    for target, words in (
        (tmp_path / "none" / "out", "its folder does not exist"),
        (tmp_path, "it is a folder"),
        (Path("/dev/null"), "not a regular file"),
        (tmp_path / "a\0b", "cannot be written"),
        (tmp_path / ("n" * 300), "File name too long"),
    ):
        with pytest.raises(OutputError, match=words), atomic_path(target, overwrite=True):
            raise AssertionError("the block must not run")
    assert names(tmp_path) == []


def test_longest_names_are_fine(tmp_path: Path) -> None:
    with atomic_path(tmp_path / ("n" * 255)) as aside:
        aside.write_bytes(b"x")
    assert names(tmp_path) == ["n" * 255]

"""What is looked at before a training begins to decode, which may take hours."""

import os
from pathlib import Path

import pytest

from mpvideo.cli.training_plan import MENAGERIE, check_out
from mpvideo.errors import OutputError, UsageError
from mpvideo.training.record import alone_in


def test_a_folder_that_another_call_is_at_work_in(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(UsageError, match="is being trained in by another process"):
        check_out(tmp_path, MENAGERIE)
    check_out(tmp_path, MENAGERIE)


@pytest.mark.parametrize("name", ["run.json", "snapshot.pt", "model.safetensors", "log.jsonl", "loss.png", ".lock"])
def test_what_is_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "run.json").touch()
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match="must be a regular file, but is a folder") as caught:
        check_out(tmp_path, MENAGERIE)
    assert caught.value.message.startswith(str(tmp_path / name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(UsageError, match=r"log\.jsonl must be a regular file, but is a pipe, socket or device"):
        check_out(tmp_path, MENAGERIE)


@pytest.mark.parametrize("name", ["ema", "sheets"])
def test_what_is_no_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=f"{name} must be a folder, but is a file"):
        check_out(tmp_path, MENAGERIE)


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made yet: it is tried in the first folder above it."""
    tried: list[Path] = []

    def refuse(path: Path, *, overwrite: bool) -> None:
        tried.append(path.parent)
        raise OutputError("no")

    monkeypatch.setattr("mpvideo.cli.training_plan.check_writable", refuse)
    with pytest.raises(OutputError, match="no"):
        check_out(tmp_path / "a" / "b", MENAGERIE)
    assert tried == [tmp_path] and not list(tmp_path.iterdir())

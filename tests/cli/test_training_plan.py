"""What is looked at before a training begins to decode, which may take hours."""

import os
import threading
from pathlib import Path

import pytest

from mpvideo.cli.training_plan import MENAGERIE, check_out, check_place
from mpvideo.errors import OutputError, UsageError
from mpvideo.training.record import alone_in


def test_a_folder_that_another_call_is_at_work_in(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(UsageError, match="is being trained in by another process"):
        check_place(tmp_path)
    check_place(tmp_path)


def test_several_may_look_at_once_and_nobody_is_kept_out_by_a_look(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock = tmp_path / ".lock"
    lock.touch()
    with lock.open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        check_place(tmp_path)
        threading.Timer(0.1, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with alone_in(tmp_path):
            pass


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


def test_latents_that_are_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    (tmp_path / "latents-1-2.npy").mkdir()
    with pytest.raises(UsageError, match=r"latents-1-2\.npy must be a regular file, but is a folder"):
        check_out(tmp_path, MENAGERIE)


@pytest.mark.parametrize(("out", "tried"), [(".", "run.json"), ("new", "new"), ("a/b/c", "a")])
def test_a_folder_that_cannot_be_written_to_or_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, tried: str
) -> None:
    """It is tried without making anything: by the name of the first that is missing."""
    seen: list[Path] = []
    (tmp_path / "other").mkdir()

    def refuse(path: Path, *, overwrite: bool) -> None:
        assert not overwrite
        seen.append(path)
        raise OutputError("no")

    monkeypatch.setattr("mpvideo.cli.training_plan.check_writable", refuse)
    with pytest.raises(OutputError, match="no"):
        check_place(tmp_path / out)
    assert seen == [tmp_path / tried] and [path.name for path in tmp_path.iterdir()] == ["other"]


def test_looking_leaves_nothing(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "a" / "b"):
        check_place(out)
    assert not list(tmp_path.iterdir())

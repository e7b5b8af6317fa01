"""The journal of a batch."""

import errno
import json
import os
from io import FileIO
from pathlib import Path

import pytest

from mpvideo.batch.journal import Journal, journal_of, journals_of, read_journal
from mpvideo.batch.share import Share
from mpvideo.errors import DeviceError, ExitCode, MPVideoError, OutputError, UsageError


def write(path: Path, *lines: tuple[str, dict[str, object]]) -> None:
    with Journal(path) as journal:
        for state, about in lines:
            journal.write(state, **about)


def test_the_last_run_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, ("begin", {"share": "1/1", "planned": 9, "found": 0}), ("failed", {"path": "old.mp4", "error": "x"}))
    write(
        path,
        ("begin", {"share": "2/3", "planned": 6, "found": 1}),
        ("made", {"path": "a.mp4", "seconds": 1.5}),
        ("made", {"path": "b.mp4", "seconds": 2.5}),
        ("failed", {"path": "c.mp4", "error": "no room", "code": 5}),
        ("stopped", {"left": 2}),
    )
    run = read_journal(path)
    assert (run.share, run.planned, run.found, run.made, run.left) == ("2/3", 6, 1, 2, 2)
    assert run.failed == {"c.mp4": "no room"}
    assert (run.ended, run.seconds) == ("stopped", 4.0)
    assert run.began <= run.latest


def test_half_a_line_of_a_killed_process_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, ("begin", {"planned": 2, "found": 0}), ("made", {"path": "a"}))
    path.write_text(path.read_text() + '{"time": "2026", "state": "ma')
    assert read_journal(path).ended is None
    write(path, ("made", {"path": "b"}), ("end", {}))
    lines = path.read_text().splitlines()
    assert len(lines) == 5
    assert json.loads(lines[-2])["path"] == "b"
    run = read_journal(path)
    assert (run.made, run.left, run.ended) == (2, 0, "end")


def test_every_line_is_on_the_disk_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sizes = tmp_path / "j", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    with Journal(path) as journal:
        journal.write("begin")
        journal.write("end")
        assert sizes.pop(0) == tmp_path.stat().st_size, "the folder, which has a new name in it"
        assert sizes == [len(path.read_text().splitlines(keepends=True)[0]), path.stat().st_size]


def test_what_a_full_disk_left_of_a_line_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j"

    def half(file: FileIO, data: bytes) -> None:
        file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(path) as journal:
        journal.write("begin", planned=3, found=0)
        for name in ("a", "b"):
            with monkeypatch.context() as patch, pytest.raises(OutputError, match="the disk is full"):
                patch.setattr("mpvideo.batch.journal.write_all", half)
                journal.write("made", path=name)
        journal.write("made", path="c")
        journal.write("end")
    run = read_journal(path)
    assert (run.made, run.left, run.ended, run.error) == (1, 2, "end", None)


@pytest.mark.parametrize(("error", "words"), [(DeviceError("no CUDA"), "no CUDA"), (SystemExit(130), None)])
def test_a_run_that_fails_says_so(tmp_path: Path, error: BaseException, words: str | None) -> None:
    path = tmp_path / "j"
    with pytest.raises(type(error)), Journal(path) as journal:
        journal.write("begin", planned=3, found=0)
        raise error
    run = read_journal(path)
    assert (run.ended, run.error, run.left) == ("stopped", words, 3)
    with pytest.raises(type(error)), Journal(path) as journal:
        journal.write("begin", planned=3, found=0)
        journal.write("end")
        raise error
    assert read_journal(path).ended == "end"


def test_no_journal_writes_nothing() -> None:
    with Journal(None) as journal:
        journal.write("begin")


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(MPVideoError, match="tells of no run"):
        (tmp_path / "empty").touch()
        read_journal(tmp_path / "empty")
    with pytest.raises(MPVideoError, match=r"the journal .* cannot be read: no such file"):
        read_journal(tmp_path / "missing")
    with pytest.raises(MPVideoError, match="could not be written") as caught, Journal(tmp_path / "no" / "j"):
        pass
    assert caught.value.exit_code == ExitCode.OUTPUT


@pytest.mark.timeout(10)
def test_what_is_no_journal_is_not_appended_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "jobs.jsonl").write_text('{"seed": 3}\n')
    (tmp_path / "video.mp4").write_bytes(bytes(100))
    for path, words in (
        (Path("-"), "--journal must be a file, got -"),
        (Path("/dev/null"), "--journal /dev/null must be a regular file, but is a pipe, socket or device"),
        (tmp_path / "pipe", "must be a regular file, but is a pipe, socket or device"),
        (tmp_path / "folder", "must be a regular file, but is a folder"),
        (tmp_path / "jobs.jsonl", "is no journal: nothing is appended to it"),
        (tmp_path / "video.mp4", "is no journal: nothing is appended to it"),
    ):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(UsageError, match=words), Journal(path):
            pass
        assert (path.read_bytes() if path.is_file() else b"") == before
    for start in ("", "\n", '{"ti', '\n{"time": "2026", "sta'):
        (tmp_path / "j").write_text(start)
        write(tmp_path / "j", ("begin", {"planned": 1}))
        assert read_journal(tmp_path / "j").planned == 1


@pytest.mark.timeout(10)
def test_a_forged_journal_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    forged: list[dict[str, object]] = [{"planned": -3, "found": 10**400}, {"planned": 2, "found": -1}, {"planned": "2"}]
    for about in forged:
        write(path, ("begin", {"share": ["\x1b[2J"], **about}))
        for seconds in (10**400, -1, "x", float("inf"), float("nan"), 1):
            write(path, ("made", {"path": "a", "seconds": seconds}))
        write(path, ("failed", {"path": [], "error": {}}))
        run = read_journal(path)
        assert (run.share, run.found, run.made, run.seconds, run.failed) == ("", 0, 6, 1.0, {"": ""})
        assert run.left == (0 if run.planned == 2 else None)
    with pytest.raises(UsageError, match="must be a regular file"):
        read_journal(Path("/dev/zero"))


def test_shares_have_journals_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl.journal"
    assert journal_of(path, Share()) == path
    assert journal_of(path, Share(3, 16)).name == "jobs.jsonl.3-of-16.journal"
    for share in (Share(), Share(1, 2), Share(2, 2)):
        journal_of(path, share).touch()
    (tmp_path / "jobs.jsonl.other.journal").touch()
    assert len(journals_of(path)) == 3
    for folder in (Path(), Path("/")):
        assert journal_of(folder, Share(1, 2)) == folder

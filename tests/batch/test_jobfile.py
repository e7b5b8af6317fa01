"""Jobs as files and pipes have them."""

import contextlib
import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpvideo.batch.jobfile import Entry, read_jobs, stream_jobs
from mpvideo.errors import MPVideoError, UsageError


def read(folder: Path, name: str, text: str) -> list[Entry]:
    (folder / name).write_text(text)
    return [*read_jobs(folder / name)]


LONG_CELL = '"' + "x\n" * 70_000


def refuse(name: str) -> None:
    if name == "sead":
        raise UsageError("there is no sead")


def values(entries: list[Entry]) -> list[Any]:
    return [entry.values for entry in entries]


def test_json_lines(tmp_path: Path) -> None:
    entries = read(tmp_path, "a.jsonl", '{"seed": 3, "class": "red cat"}\n\n[1]\n{"seed":\n{"seed": NaN}\n{}')
    assert [entry.where for entry in entries] == [f"a.jsonl, line {number}" for number in (1, 3, 4, 5, 6)]
    assert values(entries) == [{"seed": 3, "class": "red cat"}, {}, {}, {}, {}]
    errors = [entry.error for entry in entries]
    assert errors[0] is None and errors[4] is None
    assert str(errors[1]) == "a job must be a JSON object, got [1]"
    assert all("a job must be a JSON object on one line" in str(error) for error in errors[2:4])


def test_csv(tmp_path: Path) -> None:
    entries = read(tmp_path, "a.csv", '\ufeffseed,class, out\n1,"red cat, walks",a.mp4\n2,,b.mp4\n3\n4,5,6,7\n')
    assert values(entries) == [
        {"seed": "1", "class": "red cat, walks", "out": "a.mp4"}, {"seed": "2", "out": "b.mp4"}, {"seed": "3"}, {},
    ]  # fmt: skip
    assert [entry.error is None for entry in entries] == [True, True, True, False]
    assert entries[3].where == "a.csv, line 5"


def test_toml(tmp_path: Path) -> None:
    entries = read(tmp_path, "a.toml", '[[job]]\nseed = "0-3"\nclamp = true\n[[job]]\nguidance = [1, 1.5]\n')
    assert values(entries) == [{"seed": "0-3", "clamp": True}, {"guidance": [1, 1.5]}]
    assert entries[1].where == "a.toml, job 2"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "a file of jobs must end in .jsonl, .ndjson, .csv, .toml, got 'a.txt'"),
        ("a.toml", "seed = 3", "must consist of [[job]] tables"),
        ("a.toml", "[[job]\n", "a.toml is not TOML"),
        ("a.toml", f"[[job]]\nseed = {'1' * 5000}", "a.toml is not TOML: "),
        ("a.toml", f"job={'[' * 20_000}", "a.toml is not TOML of this kind: it is nested too deeply"),
        ("a.csv", 'seed\n"1\n', "a.csv is not CSV: the row that begins in line 2: "),
        ("a.csv", "seed\n1\n" + LONG_CELL, "a.csv is not CSV: the row that begins in line 3: field larger"),
        ("a.csv", "seed,out, seed\n1,a.gif,2\n", "a.csv, line 1: two columns have the name seed"),
        ("a.csv", "\nseed;out\n1;a.gif\n", "a.csv, line 2: commas must separate the names of options, got 'seed;out'"),
        ("a.csv", "seed,sead\n1,2\n", "a.csv, line 1: there is no sead"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        (tmp_path / name).write_text(text)
        [*read_jobs(tmp_path / name, refuse)]
    assert words in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MPVideoError, match=r"missing\.jsonl cannot be read: no such file"):
        [*read_jobs(tmp_path / "missing.jsonl")]
    for name, data in (("a.csv", b"seed,\xff\n"), ("a.toml", b"[[job]]\n\xff")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=r"must be text in UTF-8, got the byte 0xff") as caught:
            [*read_jobs(tmp_path / name)]
        assert f"line {data.count(10)}" in caught.value.message.replace("line 2", "line 1")


def test_a_row_that_is_no_text_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'seed,out\n1,\xff.gif\n"2\n",b.gif\n3,c.gif\n')
    entries = [*read_jobs(tmp_path / "a.csv")]
    assert [entry.where for entry in entries] == ["a.csv, line 2", "a.csv, line 3", "a.csv, line 5"]
    assert values(entries) == [{}, {"seed": "2\n", "out": "b.gif"}, {"seed": "3", "out": "c.gif"}]
    assert str(entries[0].error) == "a job must be text in UTF-8, got the byte 0xff"


@pytest.mark.timeout(10)
def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "a.csv").mkdir()
    for name, kind in (("a.jsonl", "a pipe, socket or device"), ("a.csv", "a folder")):
        with pytest.raises(UsageError, match=rf"{name} must be a regular file, .*, but is {kind}") as caught:
            [*read_jobs(tmp_path / name)]
        assert "give - in its place" in (caught.value.hint or "")


def test_lines_are_taken_from_a_pipe_as_they_come() -> None:
    ours, theirs = os.pipe()
    jobs = stream_jobs(ours, lambda: False)
    os.write(theirs, b'{"seed": 1}\n{"se')
    assert next(entry for entry in jobs if entry is not None).values == {"seed": 1}
    assert next(jobs) is None, "there is only half a line"
    os.write(theirs, b'ed": 2}\n\n{"seed": 3}')
    os.close(theirs)
    assert [entry.values["seed"] for entry in jobs if entry is not None] == [2, 3]
    os.close(ours)


def broken_reads(monkeypatch: pytest.MonkeyPatch, *pieces: bytes) -> None:
    """Reading gives these, and then fails."""
    left = [*pieces]

    def read(*arguments: object) -> bytes:
        if not left:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return left.pop(0)

    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(Path, "open", lambda *arguments, **options: contextlib.nullcontext(SimpleNamespace(read=read)))


@pytest.mark.parametrize("of_pipe", [False, True])
def test_a_line_that_is_too_long_costs_itself_alone(tmp_path: Path, of_pipe: bool) -> None:
    path = tmp_path / "a.jsonl"
    longest = b'{"seed": 1}'.ljust(1 << 20)
    path.write_bytes(longest + b'\n{"note": "' + b"x" * (3 << 20) + b'"}\n\xff\n\xef\xbb\xbf{"seed": 4}\n{"seed": 5}')
    with path.open("rb") as file:
        stream = stream_jobs(file.fileno(), lambda: False) if of_pipe else read_jobs(path)
        entries = [entry for entry in stream if entry is not None]
    where = "line {} of standard input" if of_pipe else "a.jsonl, line {}"
    assert [entry.where for entry in entries] == [where.format(number) for number in range(1, 6)]
    assert values(entries) == [{"seed": 1}, {}, {}, {"seed": 4}, {"seed": 5}]
    assert str(entries[1].error) == "a line must have at most 1,048,576 bytes"
    assert "a job must be text in UTF-8" in str(entries[2].error)


@pytest.mark.parametrize("of_pipe", [False, True])
def test_a_read_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_pipe: bool) -> None:
    broken_reads(monkeypatch, b'{"seed": 1}\n{"se')
    stream = stream_jobs(0, lambda: False) if of_pipe else read_jobs(tmp_path / "a.jsonl")
    first, last = [entry for entry in stream if entry is not None]
    assert first.values == {"seed": 1}
    assert "line 2" in last.where
    assert str(last.error) == "the jobs cannot be read from here on: input/output error"


def test_a_silent_pipe_does_not_hold_up_the_end() -> None:
    ours, theirs = os.pipe()
    stop = threading.Event()
    jobs = stream_jobs(ours, stop.is_set)
    assert next(jobs) is None
    stop.set()
    assert [*jobs] == []
    os.close(theirs)

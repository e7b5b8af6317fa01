"""Jobs as files and pipes have them."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from mpvideo.batch.jobfile import Entry, read_jobs, stream_jobs
from mpvideo.errors import MPVideoError, UsageError


def read(folder: Path, name: str, text: str) -> list[Entry]:
    (folder / name).write_text(text)
    return [*read_jobs(folder / name)]


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
        ("a.csv", 'seed\n"1\n', "a.csv is not CSV"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, name, text)
    assert words in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MPVideoError, match=r"missing\.jsonl cannot be read: no such file"):
        [*read_jobs(tmp_path / "missing.jsonl")]
    (tmp_path / "a.csv").write_bytes(b"seed\n\xff\xfe\n")
    with pytest.raises(UsageError, match="must be text in UTF-8"):
        [*read_jobs(tmp_path / "a.csv")]


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


def test_a_silent_pipe_does_not_hold_up_the_end() -> None:
    ours, theirs = os.pipe()
    stop = threading.Event()
    jobs = stream_jobs(ours, stop.is_set)
    assert next(jobs) is None
    stop.set()
    assert [*jobs] == []
    os.close(theirs)

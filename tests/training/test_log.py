import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mpvideo.errors import MPVideoError, OutputError
from mpvideo.training.log import LogRecord, append_record, read_log, truncate_log

RECORD = LogRecord(
    step=10,
    samples=320,
    loss=0.75,
    loss_by_sigma={"<0.1": 0.9, ">=0.1": None},
    learning_rate=0.01,
    samples_per_second=32.5,
    seconds=9.8,
    nonfinite_gradients=0,
)


def log_of(path: Path, *steps: int) -> Path:
    for step in steps:
        append_record(path, replace(RECORD, step=step))
    return path


def steps_of(path: Path) -> list[int]:
    return [record["step"] for record in read_log(path)]


def test_records_come_back(tmp_path: Path) -> None:
    path = log_of(tmp_path / "log.jsonl", 10, 20)
    assert read_log(path) == [asdict(RECORD), asdict(replace(RECORD, step=20))]
    assert path.read_text().count("\n") == 2
    assert path.read_text().endswith("}\n")


def test_numbers_that_are_none_become_null() -> None:
    """Other programs read the log too, and NaN and Infinity are no JSON."""
    levels = {"<0.1": math.nan, ">=0.1": 0.5}
    line = replace(RECORD, loss=math.inf, learning_rate=-math.inf, loss_by_sigma=levels).to_json()
    record = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert record == {**asdict(RECORD), "loss": None, "learning_rate": None, "loss_by_sigma": {**levels, "<0.1": None}}
    assert "\n" not in line


def test_nothing_is_read_where_there_is_nothing(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none") == []
    (tmp_path / "empty").touch()
    assert read_log(tmp_path / "empty") == []
    truncate_log(tmp_path / "none", 5)
    assert not (tmp_path / "none").exists()


def test_cut_anywhere_the_whole_lines_are_read(tmp_path: Path) -> None:
    whole = log_of(tmp_path / "whole", 10, 20, 30).read_bytes()
    ends = [index for index, byte in enumerate(whole) if byte == ord("\n")]
    cut = tmp_path / "cut"
    for length in range(len(whole) + 1):
        cut.write_bytes(whole[:length])
        assert steps_of(cut) == [10, 20, 30][: sum(end <= length for end in ends)]


@pytest.mark.parametrize("length", [-1, -2, -40])
def test_record_after_a_cut_off_line_is_whole(tmp_path: Path, length: int) -> None:
    path = log_of(tmp_path / "log", 10, 20)
    path.write_bytes(path.read_bytes()[:length])
    log_of(path, 30, 40)
    assert steps_of(path) == ([10, 20, 30, 40] if length == -1 else [10, 30, 40])


def test_lines_that_are_no_records_are_left_out(tmp_path: Path) -> None:
    path = log_of(tmp_path / "log", 10)
    strange = [
        "",
        "null",
        "[1]",
        "{}",
        '{"step": "20"}',
        '{"step": true}',
        '{"step": 1.5}',
        "[" * 100_000,
        "\x00",
        "ü\\",
    ]
    with path.open("ab") as file:
        file.write("\n".join([*strange, ""]).encode() + b"\xff\xfe\n")
    log_of(path, 30)
    assert steps_of(path) == [10, 30]


@pytest.mark.parametrize(
    ("step", "kept"), [(0, []), (9, []), (10, [10]), (25, [10, 20]), (30, [10, 20, 30]), (99, [10, 20, 30])]
)
def test_truncated_after_a_step(tmp_path: Path, step: int, kept: list[int]) -> None:
    path = log_of(tmp_path / "log", 10, 20, 30)
    lines = path.read_text().splitlines(keepends=True)
    with path.open("a") as file:
        file.write('{"step": 5, "lo')
    truncate_log(path, step)
    assert path.read_text() == "".join(lines[: len(kept)])
    log_of(path, 100)
    assert steps_of(path) == [*kept, 100]
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_truncated_lines_stay_to_the_letter(tmp_path: Path) -> None:
    path = tmp_path / "log"
    line = '{"step":  7, "loss": 0.10000000000000000001, "more": "\u2028ü"}\n'
    path.write_text(line, "utf-8")
    truncate_log(path, 7)
    assert path.read_text("utf-8") == line


def test_failed_truncation_leaves_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log_of(tmp_path / "log", 10, 20)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="the disk is full"):
        truncate_log(path, 10)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"could not be written: is a directory"):
        append_record(tmp_path, RECORD)
    with pytest.raises(MPVideoError, match=r"cannot be read: is a directory"):
        read_log(tmp_path)

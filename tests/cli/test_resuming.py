"""Resuming `sample` and `batch`: what is there, what is in the way, what changes meanwhile."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from mpvideo.video import read_frames
from tests.cli.batches import PLAIN, files, jobs, journal
from tests.cli.conftest import Program


def test_what_is_there_is_not_made_again(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs({"ckpt": str(ckpt), "seed": "0-4", "class": 1, "out": "{seed}.gif", "steps": 2})
    assert program("batch", "jobs.jsonl").code == 0
    made = {name: Path(name).read_bytes() for name in files()}
    Path("2.gif").unlink()
    again = program("batch", "jobs.jsonl", "--json")
    assert again.code == 0 and "done in" in again.stderr and ": 1 made, 4 there already" in again.stderr
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert sorted((line["path"], line["seed"], line["width"]) for line in lines) == [
        (f"{seed}.gif", seed, 256) for seed in range(5)
    ]
    assert {name: Path(name).read_bytes() for name in files()} == made

    def load(*arguments: object) -> None:
        raise AssertionError("there is nothing to make")

    monkeypatch.setattr("mpvideo.batch.sources.Sources.load", load)
    assert ": 5 there already" in program("batch", "jobs.jsonl", "-y").stderr
    jobs({"ckpt": str(ckpt), "seed": "0-4", "class": 1, "out": "{seed}.gif", "steps": 3})
    refused = program("batch", "jobs.jsonl")
    assert refused.code == 5
    assert "error: 0.gif exists already, made with other settings: sampling.steps 2 instead of 3" in refused.stderr
    assert "5 videos of 5 could not be made" in refused.stderr
    assert {name: Path(name).read_bytes() for name in files()} == made


def test_other_videos_in_the_way_are_replaced_only_with_y(program: Program, ckpt: Path) -> None:
    options = ("sample", "--ckpt", ckpt, "--class", 1, "--out", "{seed}.gif", *PLAIN)
    assert program(*options, "--seed", "0,1").code == 0
    before = Path("1.gif").read_bytes()
    Path("0.gif").write_text("mine")
    refused = program(*options, "--seed", "0-2")
    assert refused.code == 5
    assert "0.gif exists already, and cannot be read as a video" in refused.stderr
    assert (Path("0.gif").read_text(), files()) == ("mine", ["0.gif", "1.gif", "2.gif"])
    moment = Path("1.gif").stat().st_mtime_ns
    assert program(*options, "--seed", "0-2", "-y").code == 0
    assert Path("0.gif").stat().st_size > 100
    assert (Path("1.gif").read_bytes(), Path("1.gif").stat().st_mtime_ns) == (before, moment)


def test_a_grid_shows_what_was_there_too(program: Program, ckpt: Path) -> None:
    options = ("sample", "--ckpt", ckpt, "--class", 1, "--out", "{seed}.mkv", *PLAIN)
    grid = ("--seed", "0-3", "--grid", "grid.mkv", "--sheet", "sheet.png")
    assert program(*options, *grid).code == 0
    whole, _ = read_frames(Path("grid.mkv"))
    assert program(*options, *grid).stdout.split()[-2:] == ["grid.mkv", "sheet.png"], "all is there"
    for name in ("grid.mkv", "sheet.png", "2.mkv"):
        Path(name).unlink()
    assert program(*options, *grid).code == 0
    assert (read_frames(Path("grid.mkv"))[0] == whole).all()
    assert Path("sheet.png").exists()


def test_what_a_run_needs_is_never_replaced(program: Program, ckpt: Path) -> None:
    Path("m.safetensors").write_bytes(ckpt.read_bytes())
    plain = ("sample", "--ckpt", "m.safetensors", *PLAIN)
    assert program(*plain, "--out", "a.mkv").code == 0
    for path in ("m.safetensors", "a.mkv"):
        Path(f"link-{path}").symlink_to(path)
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    for options, name, option in (
        (("--out", "{ckpt}.safetensors"), "m.safetensors", "--out must not be the file of --ckpt"),
        (("--out", "link-m.safetensors"), "link-m.safetensors", "--out must not be the file of --ckpt"),
        (("--like", "a.mkv", "--seed", 5, "--out", "link-a.mkv"), "link-a.mkv", "--out must not be the file of --like"),
        (("--like", "a.mkv", "--out", "b.mkv", "--grid", "a.mkv"), "a.mkv", "--grid must not be the file of --like"),
        (("--out", "b.mkv", "--journal", "./b.mkv"), "b.mkv", "--out must not be the file of --journal"),
    ):
        done = program(*plain, "-y", *options)
        assert (done.code, done.stdout) == (2, "")
        assert f"{option}, got {name}\nhint: Choose another name: that file is never replaced.\n" in done.stderr
        assert {path.name: path.read_bytes() for path in Path().iterdir() if path.name != "b.mkv"} == before
    assert program(*plain, "-y", "--like", "a.mkv", "--out", "a.mkv").code == 0, "the same video is there"
    Path("guide.safetensors").write_bytes(ckpt.read_bytes())
    job = {"ckpt": "m.safetensors", "class": 0, "steps": 1}
    jobs({**job, "out": "guide.safetensors"}, {**job, "out": "c.gif", "guide": "guide.safetensors", "guidance": 2})
    done = program("batch", "jobs.jsonl", "-y")
    assert (done.code, done.stdout) == (2, "c.gif\n")
    assert "--out must not be the file of --guide, got guide.safetensors" in done.stderr
    assert Path("guide.safetensors").read_bytes() == ckpt.read_bytes()


def test_a_forged_command_is_not_passed_on(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpvideo.record import Recorder

    options = ("sample", "--ckpt", ckpt, "--class", 1, "--out", "a.gif", *PLAIN)
    command = Recorder.command
    monkeypatch.setattr(Recorder, "command", lambda *arguments, **options: "rm -rf ~")
    assert program(*options).code == 0
    monkeypatch.setattr(Recorder, "command", command)
    (line,) = map(json.loads, program(*options, "--json").stdout.splitlines())
    assert line["command"].startswith("mpvideo sample ")


def test_a_file_that_changes_while_it_is_gone_through(program: Program, ckpt: Path) -> None:
    """What was looked at is what is made: a job that asks for others by then is refused."""
    import typer.main

    from mpvideo.batch.plan import Unusable
    from mpvideo.cli.app import app
    from mpvideo.cli.jobs import JobFile, JobReader

    job = {"ckpt": str(ckpt), "steps": 1}
    path = jobs({**job, "seed": "0-1", "out": "{seed}.gif"}, {**job, "seed": 5, "out": "5.gif"})
    sample = typer.main.get_command(app).commands["sample"]  # type: ignore[attr-defined]
    source = JobFile(path, JobReader(sample, None))
    assert [planned.index for planned in source] == [0, 1, 2]
    jobs({**job, "seed": "0-3", "out": "{seed}.gif"}, {**job, "seed": 5, "out": "5.gif"})
    again = [*source]
    assert [planned.index for planned in again] == [0, 1, 2]
    jobs({**job, "seed": 0, "out": "0.gif"}, {**job, "seed": 5, "out": "5.gif"})
    again = [*source]
    assert [planned.index for planned in again] == [0, 1, 2]
    assert isinstance(again[1], Unusable) and "asks for other videos than before" in again[1].error.message
    jobs({**job, "seed": "2-3", "out": "{seed}.gif"}, {**job, "seed": 5, "out": "5.gif"})
    again = [*source]
    assert [isinstance(planned, Unusable) for planned in again] == [True, True, False]
    assert [planned.where for planned in again] == ["number 0", "number 1", "jobs.jsonl, line 2"], "each has its own"


def test_a_job_that_turns_out_to_be_several(program: Program, ckpt: Path) -> None:
    """What could not be read at the first look counts as one: several by then are no less refused."""
    import typer.main

    from mpvideo.batch.plan import Unusable
    from mpvideo.cli.app import app
    from mpvideo.cli.jobs import JobFile, JobReader

    late = Path("late.safetensors")
    path = jobs({"ckpt": str(late), "seed": "0-3", "out": "{seed}.gif"}, {"ckpt": str(ckpt), "out": "5.gif"})
    source = JobFile(path, JobReader(typer.main.get_command(app).commands["sample"], None))  # type: ignore[attr-defined]
    assert [isinstance(planned, Unusable) for planned in source] == [True, False]
    late.write_bytes(ckpt.read_bytes())
    first, second = source
    assert isinstance(first, Unusable) and "asks for other videos than before" in first.error.message
    assert (second.index, second.where) == (1, "jobs.jsonl, line 2")


@pytest.mark.parametrize("there", [False, True])
def test_a_file_that_is_cut_while_it_is_worked_on(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    from mpvideo.batch.plan import Plan

    lines = [{"ckpt": str(ckpt), "steps": 1, "class": 0, "seed": seed, "out": f"{seed}.gif"} for seed in range(3)]
    jobs(*lines)
    if there:
        assert program("batch", "jobs.jsonl").code == 0
    to_make = Plan.to_make

    def cut(*arguments: Any) -> Any:
        jobs(lines[0])
        return to_make(*arguments)

    monkeypatch.setattr(Plan, "to_make", cut)
    done = program("batch", "jobs.jsonl")
    assert (done.code, done.stdout) == (2, "0.gif\n")
    assert "error: number 2: the jobs have changed: there are fewer than at the first look\n" in done.stderr
    assert done.stderr.endswith("error: 2 videos of 3 could not be made\n")
    assert program("batch", "jobs.jsonl", "--status").stdout.endswith(
        "failed: number 1: the jobs have changed: there are fewer than at the first look\n"
        "failed: number 2: the jobs have changed: there are fewer than at the first look\n"
    )


def test_what_could_not_be_made_at_the_first_look_is_not_lost(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is to be made, so nothing is loaded; by the second look the name is free."""
    from mpvideo.batch.plan import Plan

    Path("0.gif").write_text("mine")
    to_make = Plan.to_make

    def free(*arguments: Any) -> Any:
        Path("0.gif").unlink()
        return to_make(*arguments)

    monkeypatch.setattr(Plan, "to_make", free)
    done = program("sample", "--ckpt", ckpt, "--out", "0.gif", "--steps", 1)
    assert (done.code, done.stdout) == (1, "")
    assert "could not be made at the first look, but could be now\nhint: The same command makes it.\n" in done.stderr


def test_what_is_there_is_never_left(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if its turn has not come when the run is stopped; and what another process made meanwhile is found."""
    from mpvideo.cli.stopping import Stopping

    options = ("sample", "--ckpt", ckpt, "--class", 1, "--dtype", "float32", "--steps", 1, "--out", "{seed}.gif")
    assert program(*options, "--seed", "2-5").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "__bool__", lambda wish: bool(wish.signals))
        patch.setattr(Stopping, "__enter__", lambda wish: wish.signals.append(signal.SIGINT) or wish)
        done = program(*options, "--seed", "0-5", "--journal", "j", "--batch-size", 1)
    assert done.code == 130 and ", 2 videos left; the same command makes what is missing" in done.stderr
    assert journal("j")[-1]["left"] == 2
    assert program(*options, "--seed", "0-5", "--journal", "j").code == 0
    assert journal("j")[-1]["found"] == 4

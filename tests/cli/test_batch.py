"""`mpvideo batch`, and what `sample` has in common with it: resuming, journals, signals, failures."""

import dataclasses
import datetime
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mpvideo.cli.jobs import _settings
from mpvideo.cli.options import parse_settings
from mpvideo.errors import DeviceError, OutOfMemoryError, UsageError
from mpvideo.generation import Job
from mpvideo.video import read_frames
from mpvideo.video.metadata import read_record
from tests.cli.conftest import Program

PLAIN = ("--steps", 2, "--sampler", "euler", "--dtype", "float32", "--quiet")


def jobs(*lines: Any, name: str = "jobs.jsonl") -> Path:
    path = Path(name)
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def files(folder: Path | None = None) -> list[str]:
    """Videos, and what is left of unfinished ones."""
    return sorted(path.name for path in (folder or Path()).iterdir() if path.suffix in (".gif", ".mp4", ".part"))


def journal(path: Path | str = "jobs.jsonl.journal") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def start(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mpvideo", *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def finished(process: "subprocess.Popen[str]") -> int:
    process.communicate(timeout=100)
    return process.returncode


def wait_for(condition: Any, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def test_jobs_of_every_kind(program: Program, ckpt: Path) -> None:
    common = {"ckpt": str(ckpt), "steps": 2, "sampler": "euler"}
    jobs(
        {**common, "seed": "0-1", "class": [0, 2], "out": "{class}-{seed}.gif"},
        {**common, "seed": 7, "class": "red dog", "guidance": 1.5, "out": "{class_name}.gif", "lossless": False},
        {**common, "seed": 8, "set": {"video.fps": 4, "edm.clamp": True}, "no_metadata": True, "out": "x.gif"},
    )
    done = program("batch", "jobs.jsonl")
    assert done.code == 0, done.stderr
    assert done.stdout.split() == ["0-0.gif", "0-1.gif", "2-0.gif", "2-1.gif", "red-dog.gif", "x.gif"]
    assert "done in" in done.stderr and ": 6 made" in done.stderr
    record = read_record(Path("red-dog.gif"))
    assert record is not None
    assert (record["seed"], record["class"], record["sampling"]["guidance"]) == (7, 1, 1.5)
    assert record["command"].startswith("mpvideo sample --ckpt tiny.safetensors --class 1 --seed 7 ")
    assert (read_record(Path("x.gif")), read_frames(Path("x.gif"))[1]) == (None, 4)
    alone = program("sample", "--ckpt", ckpt, "--seed", 1, "--class", 2, *PLAIN[:4], "--out", "alone.gif")
    assert alone.code == 0
    assert (read_frames(Path("alone.gif"))[0] == read_frames(Path("2-1.gif"))[0]).all()


def test_set_in_a_job_has_the_types_of_json() -> None:
    given = {"edm.clamp": True, "a.b": None, "model.attn_res": [8, 16], "title": "1", "video": {"fps": 12.5}, "n": 1}
    expected = {**given, "edm": {"clamp": True}, "a": {"b": None}, "model": {"attn_res": [8, 16]}}
    for key in ("edm.clamp", "a.b", "model.attn_res"):
        del expected[key]
    assert parse_settings(_settings("set", given)) == expected
    assert _settings("set", ["edm.clamp=true", "title=1"]) == ["edm.clamp=true", "title=1"]
    with pytest.raises(UsageError, match="set must have values as JSON has them"):
        _settings("set", {"title": datetime.date(2026, 1, 1)})


def test_csv_and_toml_and_one_out_for_all(program: Program, ckpt: Path) -> None:
    Path("jobs.csv").write_text(f"ckpt,seed,class,steps,clamp\n{ckpt},3,red cat,2,no\n{ckpt},4,,2,\n")
    assert program("batch", "jobs.csv", "--out", "csv-{index}.gif").stdout.split() == ["csv-0.gif", "csv-1.gif"]
    Path("jobs.toml").write_text(f'[[job]]\nckpt = "{ckpt}"\nseed = 3\nclass = 0\nsteps = 2\nclamp = false\n')
    assert program("batch", "jobs.toml", "--out", "toml.gif").code == 0
    assert Path("toml.gif").read_bytes() == Path("csv-0.gif").read_bytes()


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


def test_one_bad_job_among_good_ones(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpvideo import generation

    common = {"ckpt": str(ckpt), "steps": 1, "class": 0}
    Path("taken.gif").mkdir()
    jobs(
        {**common, "seed": 0, "out": "0.gif"},
        {**common, "seed": 1, "class": "zebra", "out": "1.gif"},
        "{not json",
        {**common, "seed": 3, "out": "missing/3.gif"},
        {**common, "sead": 4, "out": "4.gif"},
        {**common, "seed": 5, "frames": "many", "out": "5.gif"},
        {**common, "seed": 6, "out": "taken.gif"},
        {**common, "seed": 7, "ckpt": "missing.safetensors", "out": "7.gif"},
        {**common, "seed": 8, "device": "cpu", "out": "8.gif"},
        {**common, "seed": 9},
        {**common, "seed": 10, "out": "10.gif"},
        {**common, "out": "11.txt"},
        {**common, "out": ["a.gif", "b.gif"]},
        {**common, "out": "a\0.gif"},
        {**common, "seed": 666, "out": "666.gif"},
        {**common, "seed": 12, "out": "12.gif"},
    )
    sample = generation._sample

    def out_of_memory(model: Any, batch: list[Job], on_evaluation: Any) -> Any:
        if any(job.seed == 666 for job in batch):
            raise OutOfMemoryError("not enough memory for one video")
        return sample(model, batch, on_evaluation)

    monkeypatch.setattr(generation, "_sample", out_of_memory)
    done = program("batch", "jobs.jsonl")
    assert done.code == 1
    assert done.stdout.split() == ["0.gif", "10.gif", "12.gif"]
    for words in (
        "jobs.jsonl, line 2: --class fits none of the 3 classes, got 'zebra'",
        "jobs.jsonl, line 3: a job must be a JSON object on one line",
        "missing/3.gif: the folder ",
        "jobs.jsonl, line 5: a job has options of `mpvideo sample`, got 'sead'\nhint: Did you mean seed?\n",
        "jobs.jsonl, line 6: --frames must be a whole number, got 'many'",
        "taken.gif exists already",
        "jobs.jsonl, line 8: --ckpt missing.safetensors does not exist",
        "jobs.jsonl, line 9: device is for the whole batch",
        "jobs.jsonl, line 10: a job must have out, the name of its file",
        "error: jobs.jsonl, line 12: a video's name must end in .mp4, .webm, .gif",
        "error: jobs.jsonl, line 13: out must be one path, got a list of 2\n",
        "error: jobs.jsonl, line 14: --out must be a path, which has no NUL characters, got a\\x00.gif\n",
        "666.gif: not enough memory for one video",
        "13 videos of 16 could not be made",
    ):
        assert words in done.stderr, words
    assert "Traceback" not in done.stderr
    told = journal()
    assert [line["state"] for line in told].count("failed") == 13
    assert {line["code"] for line in told if line["state"] == "failed"} == {2, 3, 4, 5}
    status = program("batch", "jobs.jsonl", "--status").stdout
    assert status.startswith("16 videos: 3 made, 13 failed\n")
    assert "failed: 666.gif: not enough memory for one video\n" in status
    (line,) = program("batch", "jobs.jsonl", "--status", "--json").stdout.splitlines()
    assert (json.loads(line)["made"], json.loads(line)["left"], json.loads(line)["ended"]) == (3, 0, "end")


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


def test_a_column_that_no_job_can_have_is_told_once(program: Program, ckpt: Path) -> None:
    for column, words in (
        ("sead", "a job has options of `mpvideo sample`, got 'sead'"),
        ("grid", "a job has no grid: `mpvideo sample` alone makes one video of many"),
        ("batch_size", "batch_size is for the whole batch: give it as an option, not in a job"),
    ):
        Path("jobs.csv").write_text(f"out,{column}\n1.gif,1\n2.gif,1\n")
        done = program("batch", "jobs.csv")
        assert (done.code, done.stderr.count("error:")) == (2, 1)
        assert f"error: jobs.csv, line 1: {words}\n" in done.stderr


def test_two_jobs_of_one_name_are_refused_before_any_work(program: Program, ckpt: Path) -> None:
    job = {"ckpt": str(ckpt), "steps": 1}
    jobs({**job, "seed": "0-2", "out": "{seed}.gif"}, {**job, "seed": 9, "out": "./1.gif"})
    refused = program("batch", "jobs.jsonl")
    assert (refused.code, files()) == (2, [])
    assert "jobs.jsonl, line 1 (seed 1) and jobs.jsonl, line 2 (seed 9) both give '1.gif'" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jobs.txt"], "a file of jobs must end in .jsonl, .ndjson, .csv, .toml"),
        (["."], "a file of jobs must end in .jsonl, .ndjson, .csv, .toml, got '.'"),
        (["/"], "a file of jobs must end in .jsonl, .ndjson, .csv, .toml, got '/'"),
        ([".", "--status"], "there is no journal ..journal"),
        (["jobs.jsonl", "--journal", ".", "--shard", "1/2"], "--journal . must be a regular file, but is a folder"),
        (["missing.jsonl"], "missing.jsonl cannot be read: no such file"),
        (["jobs.jsonl", "--shard", "3"], "--shard: the shard must be a number of how many, such as 3/16, got '3'"),
        (["jobs.jsonl", "--shard", "3/2"], "--shard: the shard must be at most 2, got 3"),
        (["jobs.jsonl", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["-", "--dry-run"], "--dry-run must have a file of jobs"),
        (["jobs.jsonl", "--status"], "there is no journal jobs.jsonl.journal"),
        (["jobs.jsonl", "--journal", "jobs.jsonl"], "--journal jobs.jsonl is there, and is no journal"),
        (["jobs.jsonl", "--status", "--journal", "/dev/zero"], "/dev/zero must be a regular file"),
        (["jobs.jsonl", "--journal", "no/journal"], "no/journal could not be written"),
    ],
)
def test_what_is_refused(program: Program, arguments: list[str], words: str) -> None:
    jobs({"seed": 0, "out": "a.gif"})
    refused = program("batch", *arguments)
    assert refused.code != 0 and words in refused.stderr
    assert "Traceback" not in refused.stderr and files() == []
    assert [path.name for path in Path().iterdir()] == ["jobs.jsonl"] and not Path("/.journal").exists()


def test_a_dry_run_makes_nothing(program: Program, ckpt: Path) -> None:
    options = ("sample", "--ckpt", ckpt, "--class", "0,2", "--out", "{class_name}/{seed}.gif", "--steps", 3)
    assert program(*options, "--seed", 0).code == 0
    rehearsed = program(*options, "--seed", "0-3", "--dry-run")
    assert rehearsed.code == 0
    lines = rehearsed.stdout.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("red-cat/0.gif: there already, class 0, seed 0, guidance 1.0, sampler ")
    assert lines[5].startswith("blue-cat/1.gif: to make, class 2, seed 1")
    assert "6 videos to make, " in rehearsed.stderr and "expected: " in rehearsed.stderr
    assert "measured just now in batches of 4" in rehearsed.stderr
    assert sorted(path.name for path in Path().rglob("*.gif")) == ["0.gif", "0.gif"]
    jobs({"ckpt": str(ckpt), "steps": 3, "seed": "0-9", "out": "new-{seed}.gif"})
    *plan, expected = map(json.loads, program("batch", "jobs.jsonl", "--dry-run", "--json").stdout.splitlines())
    assert [line["state"] for line in plan] == ["to make"] * 10
    assert expected["videos"] == 10 and expected["seconds"] > 0
    assert not Path("jobs.jsonl.journal").exists()


def test_a_dry_run_measures_what_would_be_made(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many at once as there are, to standard output as well; what it warns of is told, unless it is to be quiet."""
    from mpvideo.batch import estimate
    from mpvideo.device import choose_placement

    sizes, generate = [], estimate.generate

    def note(model: Any, jobs: list[Job], **options: Any) -> Any:
        sizes.append((len(jobs), options["batch_size"]))
        return generate(model, jobs, **options)

    def warning(*arguments: Any, **options: Any) -> Any:
        return dataclasses.replace(choose_placement(*arguments, **options), warnings=("no GPU",))

    monkeypatch.setattr(estimate, "generate", note)
    monkeypatch.setattr("mpvideo.device.choose_placement", warning)
    options = ("sample", "--ckpt", ckpt, "--steps", 2, "--dtype", "float32", "--dry-run")
    done = program(*options, "--out", "-", "--format", "mp4")
    assert (done.code, sizes) == (0, [(1, 1)]), done.stderr
    assert "warning: no GPU\n" in done.stderr and "measured just now in batches of 1: " in done.stderr
    quiet = program(*options, "--seed", "0-2", "--out", "{seed}", "--format", "png", "--quiet")
    assert (quiet.code, quiet.stderr, sizes[1:]) == (0, "", [(3, 3)])
    assert len(quiet.stdout.splitlines()) == 3 and list(Path().iterdir()) == []


def test_a_dry_run_of_what_cannot_be_measured(program: Program, ckpt: Path) -> None:
    """It goes on, as the run would."""
    weights = load_file(ckpt)
    first = next(iter(weights))
    weights[first] = torch.full_like(weights[first], torch.nan)
    with safe_open(ckpt, "pt") as file:
        save_file(weights, "broken.safetensors", file.metadata())
    job = {"steps": 1, "class": 0}
    jobs(
        {**job, "ckpt": "broken.safetensors", "seed": "0-1", "out": "{seed}.gif"},
        {**job, "ckpt": str(ckpt), "seed": 2, "out": "2.gif"},
    )
    done = program("batch", "jobs.jsonl", "--dry-run", "--dtype", "float32")
    assert done.code == 1
    assert "error: broken.safetensors could not be measured: " in done.stderr and "expected: " in done.stderr
    assert "error: 2 videos of 3 could not be made" in done.stderr


def test_a_forged_journal_cannot_write_to_the_terminal(program: Program) -> None:
    line = {"time": "\x1b[2J", "state": "begin", "share": "\x1b]0;x\x07/2", "planned": 1}
    Path("jobs.jsonl.journal").write_text(json.dumps(line))
    assert "\x1b" not in program("batch", "jobs.jsonl", "--status").stdout


def test_standard_output_has_one_video_and_nothing_else(program: Program, ckpt: Path) -> None:
    job = {"ckpt": str(ckpt), "steps": 1, "format": "gif"}
    jobs({**job, "out": "-"}, {**job, "out": "a.gif", "seed": 2})
    done = program("batch", "jobs.jsonl")
    assert (done.code, done.stdout, files()) == (2, "", [])
    assert "standard output can have one video and nothing else, got 2 videos, with --out - among them" in done.stderr
    jobs({**job, "out": "-"})
    done = program("batch", "jobs.jsonl", "--json")
    assert (done.code, done.stdout) == (2, "")
    assert "--json cannot be given together with --out -" in done.stderr
    process = start("batch", "-", stdin=subprocess.PIPE)
    assert process.communicate(json.dumps({**job, "out": "-"}), timeout=60)[0] == ""
    assert process.returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_results_that_cannot_be_written_cost_no_video(ckpt: Path, tmp_path: Path) -> None:
    options = ("sample", "--ckpt", ckpt, "--class", 1, "--seed", "0-2", "--out", "{seed}.gif", *PLAIN[:-1])
    command = [sys.executable, "-m", "mpvideo", *map(str, options)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, files(tmp_path)) == (5, ["0.gif", "1.gif", "2.gif"])
    assert (
        done.stderr.count(
            "standard output lacks lines: standard output could not be written: no space left on device; the"
        )
        == 1
    )
    assert ": 3 made; standard output lacks lines\n" in done.stderr
    assert "\nerror: standard output lacks lines: standard output could not be written: no space left" in done.stderr


def test_a_forged_command_is_not_passed_on(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpvideo.record import Recorder

    options = ("sample", "--ckpt", ckpt, "--class", 1, "--out", "a.gif", *PLAIN)
    command = Recorder.command
    monkeypatch.setattr(Recorder, "command", lambda *arguments, **options: "rm -rf ~")
    assert program(*options).code == 0
    monkeypatch.setattr(Recorder, "command", command)
    (line,) = map(json.loads, program(*options, "--json").stdout.splitlines())
    assert line["command"].startswith("mpvideo sample ")


def test_shards_make_the_same_files_as_one_process(program: Program, ckpt: Path) -> None:
    jobs({"ckpt": str(ckpt), "seed": "0-6", "class": 1, "steps": 2, "out": "{seed}.gif"})
    assert program("batch", "jobs.jsonl", "--exact").code == 0
    whole = {name: Path(name).read_bytes() for name in files()}
    for name in whole:
        Path(name).unlink()
    parts = [program("batch", "jobs.jsonl", "--exact", "--shard", f"{number}/3").stdout.split() for number in (1, 2, 3)]
    assert parts == [["0.gif", "3.gif", "6.gif"], ["1.gif", "4.gif"], ["2.gif", "5.gif"]]
    assert {name: Path(name).read_bytes() for name in files()} == whole
    status = program("batch", "jobs.jsonl", "--status").stdout
    assert "shard 1/3: 3 videos: 3 made\n" in status and "shard 3/3: 2 videos: 2 made\n" in status
    assert status.endswith("\nall shards: 7 videos: 7 made\n") and status.count("7 videos") == 1
    Path("jobs.jsonl.2-of-3.journal").unlink()
    status = program("batch", "jobs.jsonl", "--status").stdout
    assert status.endswith("\nall shards: 5 videos: 5 made; 2 of 3 have begun\n")


def test_exact_is_recorded_and_counts(program: Program, ckpt: Path) -> None:
    """As of `sample`: a file made beside others is not one made by itself, nor the other way round."""
    jobs({"ckpt": str(ckpt), "seed": "0-1", "class": 1, "steps": 2, "out": "{seed}.gif"})
    assert program("batch", "jobs.jsonl", "--exact", "--dtype", "float32").code == 0
    record = read_record(Path("1.gif"))
    assert record is not None
    assert record["exact"] is True and " --exact " in record["command"]
    assert ": 2 there already" in program("batch", "jobs.jsonl", "--exact").stderr
    refused = program("batch", "jobs.jsonl")
    assert refused.code == 5 and "made with other settings: exact True instead of False" in refused.stderr
    assert program("batch", "jobs.jsonl", "-y", "--dtype", "float32").code == 0
    assert "exact False instead of True" in program("batch", "jobs.jsonl", "--exact").stderr


def test_jobs_come_in_through_a_pipe(ckpt: Path, tmp_path: Path) -> None:
    """A producer that sends a job only when it has seen the path of the last one."""
    arguments = ("batch", "-", "--quiet", "--journal", "j")
    process = start(*arguments, cwd=tmp_path, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    for seed in range(3):
        job = {"ckpt": str(ckpt), "seed": seed, "steps": 1, "out": f"{seed}.gif"}
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{seed}.gif\n"
    process.stdin.write('{"ckpt": 3}\n{"seed": 2, "out": "2.gif"}\n')
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, "")
    assert "line 4 of standard input: a job must have out" in stderr
    assert "2.gif is the file of an earlier job already" in stderr
    assert files(tmp_path) == ["0.gif", "1.gif", "2.gif"]
    assert [line["state"] for line in journal(tmp_path / "j")] == ["begin", *["made"] * 3, "failed", "failed", "end"]


def test_no_jobs_at_all(program: Program, tmp_path: Path) -> None:
    for name, text in (("a.jsonl", "\n"), ("a.csv", "seed,out\n"), ("a.csv", ""), ("a.toml", "job = []")):
        Path(name).write_text(text)
        done = program("batch", name)
        assert (done.code, done.stdout) == (0, "")
        assert "warning: the file has no jobs\n" in done.stderr
    process = start("batch", "-", cwd=tmp_path, stdin=subprocess.DEVNULL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0 and "warning: no jobs came in\n" in stderr


def test_a_standard_input_that_is_closed(tmp_path: Path) -> None:
    process = start("batch", "-", cwd=tmp_path, preexec_fn=lambda: os.close(0))
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (2, "error: standard input, which is to have the jobs, is closed\n")


def test_a_pipe_that_is_silent_can_be_interrupted(tmp_path: Path) -> None:
    process = start("batch", "-", cwd=tmp_path, stdin=subprocess.PIPE)
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    # Python ends by the signal itself, a shell's 130 too, if that came while it made code from text, as dataclasses do.
    assert process.returncode in (130, -signal.SIGINT), stderr
    assert "Traceback" not in stderr and "Fatal" not in stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_says_what_is_left(ckpt: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    options = ("sample", "--ckpt", ckpt, "--class", 1, "--steps", 40, "--batch-size", 1, "--journal", "j")
    options += ("--seed", "0-399", "--out", "{seed}.gif", "--dtype", "float32")
    process = start(*options, cwd=tmp_path)
    wait_for(lambda: len(files(tmp_path)) > 3, process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    left = files(tmp_path)
    assert all(name.endswith(".gif") and not name.startswith(".") for name in left)
    assert sorted(stdout.split()) == left
    assert "stopping after this step; once more ends at once\n" in stderr
    assert f": {len(left)} made, {400 - len(left)} videos left; the same command makes what is missing\n" in stderr
    assert stderr.endswith("error: interrupted; nothing was left half written\n")
    assert journal(tmp_path / "j")[-1]["left"] == 400 - len(left)
    for name in left:
        assert read_frames(tmp_path / name)[0].shape[0] == 4


def test_the_second_signal_ends_at_once(ckpt: Path, tmp_path: Path) -> None:
    """Even in a step that never ends: the first waits for the evaluation of the network, the second for nothing."""
    script = """
        import sys, time
        from mpvideo.diffusion import EDMDenoiser
        def slow(*arguments):
            print("evaluating", file=sys.stderr, flush=True)
            time.sleep(60)
        EDMDenoiser.__call__ = slow
        from mpvideo.cli import main
        main(sys.argv[1:])
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), "sample", "--ckpt", str(ckpt), "--out", "a.gif"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    while "evaluating" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "stopping after this step" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.endswith("error: interrupted; nothing was left half written\n")
    assert files(tmp_path) == []


def test_killed_at_any_time(ckpt: Path, tmp_path: Path) -> None:
    """`kill -9`, again and again: what has a name is whole, and in the end all is as if nothing had happened."""
    options = (
        "sample",
        "--ckpt",
        ckpt,
        "--class",
        1,
        "--steps",
        30,
        "--seed",
        "0-19",
        "--out",
        "{seed}.mp4",
        "--exact",
    )
    options += ("--dtype", "float32", "--quiet", "--journal", "j")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    assert finished(start(*options, cwd=undisturbed)) == 0
    wanted = {name: (undisturbed / name).read_bytes() for name in files(undisturbed)}
    assert len(wanted) == 20
    for more in (1, 4, 3):
        there = len([name for name in files(killed) if name in wanted])
        process = start(*options, cwd=killed)
        wait_for(lambda enough=there + more: len([name for name in files(killed) if name in wanted]) >= enough, process)
        process.kill()
        assert finished(process) == -signal.SIGKILL
        for name in files(killed):
            assert name.startswith(".") or (killed / name).read_bytes() == wanted[name]
    assert finished(start(*options, cwd=killed)) == 0
    assert {name: (killed / name).read_bytes() for name in wanted} == wanted
    last = [line for line in journal(killed / "j") if line["state"] == "begin"][-1]
    assert last["planned"] == 20 and last["found"] >= 8


def test_a_full_disk(ckpt: Path, tmp_path: Path) -> None:
    """No file may grow beyond 6 kB: the small ones are made, the large one fails, and nothing is left of it."""
    lines = [{"ckpt": str(ckpt), "seed": seed, "steps": 1, "scale": 1, "out": f"{seed}.gif"} for seed in range(3)]
    lines[1] |= {"scale": 64, "out": "large.gif"}
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    process = start(
        "batch", "jobs.jsonl", "--quiet", "--dtype", "float32", cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000)),
    )  # fmt: skip
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 5, stderr
    assert stdout.split() == ["0.gif", "2.gif"]
    assert "error: large.gif could not be written" in stderr and "1 video of 3 could not be made" in stderr
    assert files(tmp_path) == ["0.gif", "2.gif"]
    done = start("batch", "jobs.jsonl", "--quiet", "--dtype", "float32", cwd=tmp_path)
    stdout, stderr = done.communicate(timeout=60)
    assert (done.returncode, stdout.split()) == (0, ["0.gif", "2.gif", "large.gif"]), stderr
    assert files(tmp_path) == ["0.gif", "2.gif", "large.gif"]


def test_a_journal_that_cannot_be_written(program: Program, ckpt: Path) -> None:
    """No file may grow beyond 6 kB, which the journal does: the videos are made and told of all the same."""
    jobs({"ckpt": str(ckpt), "steps": 1, "scale": 1, "class": 1, "seed": "0-3", "out": "{seed}.gif"})
    Path("j").write_text('{"time": "' + "x" * 5_740 + "\n")
    run = ("batch", "jobs.jsonl", "--journal", "j", "--dtype", "float32")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, limits[1]))
    try:
        done = program(*run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (done.code, done.stdout.split()) == (5, ["0.gif", "1.gif", "2.gif", "3.gif"]), done.stderr
    assert done.stderr.count("error: the journal lacks lines: j could not be written: file too large; the videos ") == 1
    assert ": 4 made; the journal lacks lines\nerror: the journal lacks lines: j could not be written" in done.stderr
    assert program(*run, "--status").stdout.startswith("4 videos: 1 made, 3 left\n")
    again = program(*run)
    assert (again.code, again.stdout.count(".gif")) == (0, 4)
    assert program(*run, "--status").stdout.startswith("4 videos: 4 there already\n")


def test_the_status_of_runs_that_failed_and_of_shards_that_have_not_begun(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs({"ckpt": str(ckpt), "steps": 1, "seed": "0-2", "out": "{seed}.gif"})

    def no_device(*arguments: object, **options: object) -> None:
        raise DeviceError("there is no CUDA here")

    with monkeypatch.context() as patch:
        patch.setattr("mpvideo.device.choose_placement", no_device)
        assert program("batch", "jobs.jsonl", "--shard", "1/2").code == 4
    Path("jobs.jsonl.2-of-2.journal").touch()
    status = program("batch", "jobs.jsonl", "--status")
    first, second = status.stdout.splitlines()
    assert first == "shard 1/2: 2 videos: 2 left"
    assert ", was stopped " in second and second.endswith(": there is no CUDA here")
    assert status.stderr == "warning: jobs.jsonl.2-of-2.journal tells of no run\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to any folder")
def test_a_folder_that_is_read_only(program: Program, ckpt: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    job = {"ckpt": str(ckpt), "steps": 1}
    jobs({**job, "seed": 0, "out": "locked/0.gif"}, {**job, "seed": 1, "out": "1.gif"})
    done = program("batch", "jobs.jsonl")
    assert (done.code, done.stdout) == (5, "1.gif\n")
    assert "locked/0.gif could not be written: permission denied" in done.stderr


@pytest.mark.parametrize("out", ["/proc/0.gif", f"{'x' * 300}/{{seed}}.gif"])
def test_a_folder_that_cannot_be_written_to(program: Program, ckpt: Path, out: str) -> None:
    """As above, for any user: a folder in /proc takes no files, and one of such a name cannot be made."""
    job = {"ckpt": str(ckpt), "steps": 1}
    jobs({**job, "seed": 0, "out": out}, {**job, "seed": 1, "out": "1.gif"})
    done = program("batch", "jobs.jsonl")
    assert (done.code, done.stdout) == (5, "1.gif\n")
    assert "could not be written" in done.stderr


def test_a_dead_encoder(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ffmpeg dies over every second file: the others are whole, and the next run makes the rest."""
    from mpvideo.video.ffmpeg import ffmpeg_program

    script = Path("ffmpeg").resolve()
    script.write_text(
        f"#!/bin/sh\nn=$(cat count 2>/dev/null || echo 0); echo $((n + 1)) > count\n"
        f'[ $((n % 2)) = 1 ] && kill -9 $$\nexec {ffmpeg_program()} "$@"\n'
    )
    script.chmod(0o755)
    jobs({"ckpt": str(ckpt), "seed": "0-3", "steps": 1, "out": "{seed}.gif"})
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
    done = program("batch", "jobs.jsonl")
    assert (done.code, files()) == (5, ["0.gif", "2.gif"])
    assert "1.gif could not be written: ffmpeg was killed by signal 9 (SIGKILL)" in done.stderr
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE")
    assert program("batch", "jobs.jsonl").code == 0
    assert files() == ["0.gif", "1.gif", "2.gif", "3.gif"]


def test_a_checkpoint_is_loaded_once_for_all_its_jobs(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpvideo import model

    def models() -> set[int]:
        return {id(each) for each in gc.get_objects() if type(each) is model.Model}

    gc.collect()
    others = models()  # which other tests keep
    loads, load_tensors = [], model.load_tensors

    def load(header: Any) -> Any:
        assert models() <= others, "one at a time is in memory"
        loads.append(header.path)
        return load_tensors(header)

    monkeypatch.setattr(model, "load_tensors", load)
    those = [ckpt, Path("second.safetensors"), Path("third.safetensors")]
    for other in those[1:]:
        other.write_bytes(ckpt.read_bytes())
    common = {"steps": 1, "class": 0}
    jobs(*({**common, "ckpt": str(those[seed % 3]), "seed": seed, "out": f"{seed}.gif"} for seed in range(18)))
    done = program("batch", "jobs.jsonl", "--batch-size", 1, "--dtype", "float32", "--quiet")
    assert done.code == 0, done.stderr
    assert loads == those
    assert done.stdout.split() == [f"{seed}.gif" for first in range(3) for seed in range(first, 18, 3)]
    loads.clear()
    # The same file by other ways: a link to its folder, videos that were made of it, settings of the sampler.
    Path("link").symlink_to(ckpt.parent)
    jobs(
        {**common, "ckpt": str(ckpt), "seed": 30, "out": "30.gif"},
        {"like": "0.gif", "ckpt": str(ckpt), "seed": 31, "out": "31.gif"},
        {"like": "3.gif", "ckpt": f"link/{ckpt.name}", "seed": 32, "out": "32.gif"},
        {**common, "ckpt": str(ckpt), "set": {"sampling.rho": 5}, "seed": 33, "out": "33.gif"},
    )
    done = program("batch", "jobs.jsonl", "--dtype", "float32", "--json")
    assert done.code == 0, done.stderr
    assert loads == [ckpt]
    again = [json.loads(line)["command"] for line in done.stdout.splitlines()]
    assert ["--ckpt link/tiny.safetensors" in command for command in again] == [False, False, True, False]
    rhos = {name: (read_record(Path(name)) or {})["sampling"]["rho"] for name in ("30.gif", "33.gif")}
    assert rhos["33.gif"] == 5 != rhos["30.gif"], "one model, not one way to sample"


def test_what_sources_have_in_common_is_no_way_to_sample(program: Program, ckpt: Path) -> None:
    """One checkpoint, three ways to sample it by default: one model does for all, and each job has its own."""
    import typer.main

    from mpvideo.batch.request import Request
    from mpvideo.cli.app import app
    from mpvideo.cli.jobs import JobFile, JobReader

    wanted = [5.0, 6.0, 5.0, 7.0]
    path = jobs(
        *(
            {"ckpt": str(ckpt), "set": {"sampling.rho": rho}, "seed": seed, "out": f"{seed}.gif"}
            for seed, rho in enumerate(wanted)
        )
    )
    sample = typer.main.get_command(app).commands["sample"]  # type: ignore[attr-defined]
    made = [each for each in JobFile(path, JobReader(sample, None)) if isinstance(each, Request)]
    assert [each.sampling.rho for each in made] == wanted
    assert len({each.sources for each in made}) == 1


def test_weights_are_hashed_once_however_many_there_are(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three checkpoints, of which two stay open, and whose videos are there already."""
    from mpvideo.checkpoint import load

    hashes, hash_tensors = [], load.hash_tensors
    monkeypatch.setattr(load, "hash_tensors", lambda header: hashes.append(header.path) or hash_tensors(header))
    monkeypatch.setattr("mpvideo.cli.jobs._OPEN", 2)
    those = [Path(f"{number}.safetensors") for number in range(3)]
    for each in those:
        each.write_bytes(ckpt.read_bytes())
    jobs(*({"ckpt": str(those[seed % 3]), "seed": seed, "steps": 1, "out": f"{seed}.gif"} for seed in range(9)))
    assert program("batch", "jobs.jsonl", "--dtype", "float32", "--quiet").code == 0
    assert hashes == [], "there is nothing to compare with"
    assert ": 9 there already" in program("batch", "jobs.jsonl").stderr
    assert hashes == those


def test_a_job_like_a_video_makes_it_again(program: Program, ckpt: Path) -> None:
    """Also in its dtype and by itself; where the run computes in another dtype, it says so."""
    options = ("--ckpt", ckpt, "--steps", 2, "--class", 1, "--dtype", "float32", "--exact")
    assert program("sample", *options, "--seed", "0-1", "--out", "{seed}.gif").code == 0
    jobs(*({"like": f"{seed}.gif", "ckpt": str(ckpt), "out": f"again-{seed}.gif"} for seed in (0, 1)))
    assert program("batch", "jobs.jsonl", "--dtype", "float32").code == 0
    for seed in (0, 1):
        assert Path(f"{seed}.gif").read_bytes() == Path(f"again-{seed}.gif").read_bytes()
        Path(f"again-{seed}.gif").unlink()
    assert program("batch", "jobs.jsonl", "--dtype", "float16").code == 0, "what is given overrides"
    record = read_record(Path("again-1.gif"))
    assert record is not None and (record["dtype"], record["exact"]) == ("float16", True)
    Path("jobs.jsonl").write_text(json.dumps({"like": "again-1.gif", "ckpt": str(ckpt), "out": "auto.gif"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mpvideo.device._dtype", lambda device, dtype: (torch.float32, ""))
        refused = program("batch", "jobs.jsonl")
    assert (refused.code, Path("auto.gif").exists()) == (2, False)
    assert "again-1.gif was made in float16, which is not what is computed in here: float32" in refused.stderr
    assert "hint: Give --dtype float16 to make it again, or --dtype float32 to make it in that." in refused.stderr


def test_what_jobs_have_in_common_is_found_out_once(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer.main

    from mpvideo.batch.request import Request
    from mpvideo.cli import requests
    from mpvideo.cli.app import app
    from mpvideo.cli.jobs import JobFile, JobReader

    asked: list[Any] = []
    settings = requests.sampling_settings
    monkeypatch.setattr(requests, "sampling_settings", lambda *a, **b: asked.append(b["steps"]) or settings(*a, **b))
    steps = [1, 2, 1, 2, 1]
    path = jobs(*({"ckpt": str(ckpt), "steps": each, "out": f"{index}.gif"} for index, each in enumerate(steps)))
    sample = typer.main.get_command(app).commands["sample"]  # type: ignore[attr-defined]
    made = [each for each in JobFile(path, JobReader(sample, None)) if isinstance(each, Request)]
    assert [request.sampling.steps for request in made] == steps and asked == [1, 2]
    assert [request.path for request in made] == [Path(f"{index}.gif") for index in range(5)]
    assert len({request.sources for request in made}) == 1


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

"""`mpvideo batch`: jobs from files and pipes, their names, dry runs and shards."""

import dataclasses
import datetime
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.cli.jobs import _settings
from mpvideo.cli.options import parse_settings
from mpvideo.errors import UsageError
from mpvideo.generation import Job
from mpvideo.video import read_frames
from mpvideo.video.metadata import read_record
from tests.checkpoints import random_tensors, tiny_config
from tests.cli.batches import PLAIN, files, jobs, journal, start
from tests.cli.conftest import Program


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
    assert "6 videos to make, 30 passes of the network\n" in rehearsed.stderr and "expected: " in rehearsed.stderr
    assert "measured just now in batches of 4" in rehearsed.stderr
    assert sorted(path.name for path in Path().rglob("*.gif")) == ["0.gif", "0.gif"]
    jobs({"ckpt": str(ckpt), "steps": 3, "seed": "0-9", "out": "new-{seed}.gif"})
    *plan, expected = map(json.loads, program("batch", "jobs.jsonl", "--dry-run", "--json").stdout.splitlines())
    assert [line["state"] for line in plan] == ["to make"] * 10
    assert (expected["videos"], expected["passes"]) == (10, 50) and expected["seconds"] > 0
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
    assert done.code == 3
    assert "error: broken.safetensors could not be measured: " in done.stderr and "expected: " in done.stderr
    assert "error: 2 videos of 3 could not be made" in done.stderr
    assert program("batch", "jobs.jsonl", "--dtype", "float32").code == 3


def test_a_dry_run_ends_as_the_run_would(program: Program, ckpt: Path) -> None:
    """With the code that all failures share, or else 1."""
    good = {"ckpt": str(ckpt), "steps": 1, "out": "{seed}.gif"}
    bad = ({**good, "class": "zebra"}, {**good, "ckpt": "missing.safetensors"}, {**good, "out": "missing/1.gif"})
    for failing, code in ((bad[:1], 2), (bad[1:2], 3), (bad[2:], 5), ((bad[1], bad[1]), 3), (bad[:2], 1)):
        for others in ((), (good,)):
            jobs(*others, *failing)
            run = ("batch", "jobs.jsonl", "--dtype", "float32")
            assert (program(*run, "--dry-run").code, program(*run).code) == (code, code), failing


def test_the_last_line_names_the_only_failure(program: Program, ckpt: Path) -> None:
    """Its error may be far above. Of several, the lines above name each."""
    good = {"ckpt": str(ckpt), "steps": 1, "seed": "0-1", "out": "{seed}.gif"}
    bad, worse = {**good, "seed": 3, "out": "missing/3.gif"}, {**good, "class": "zebra", "out": "4.gif"}
    for failing, words in (
        ((bad,), "1 video of 3 could not be made: missing/3.gif"),
        ((worse,), "1 video of 3 could not be made: jobs.jsonl, line 2"),
        ((bad, worse), "2 videos of 4 could not be made"),
    ):
        jobs(good, *failing)
        run = ("batch", "jobs.jsonl", "--dtype", "float32")
        for done in (program(*run, "--dry-run"), program(*run)):
            assert done.stderr.endswith(f"\nerror: {words}\n"), done.stderr


def test_levels_that_collide_cost_their_own_job(program: Program, ckpt: Path) -> None:
    job = {"ckpt": str(ckpt), "sampler": "unipc", "steps": 3}
    near = {"sigma-min": 79.99999999999999}
    bad = [near, {"rho": 1e-300}, {"steps": None, "sigmas": "80,79.99999999999999,1"}]
    jobs(*({**job, **more, "out": "bad.gif"} for more in bad), {**job, "out": "a.gif"})
    rehearsed = program("batch", "jobs.jsonl", "--dry-run", "--dtype", "float32")
    assert (rehearsed.code, "error: 3 videos of 4 could not be made" in rehearsed.stderr) == (2, True)
    done = program("batch", "jobs.jsonl", "--dtype", "float32")
    assert (done.code, files(), done.stderr.count("1e-06")) == (2, ["a.gif"], 3), done.stderr
    alone = program("sample", "--ckpt", ckpt, "--sigma-min", near["sigma-min"], "--out", "b.gif")
    assert (alone.code, alone.stderr.count("\n")) == (2, 1)
    assert alone.stderr.startswith("error: --steps, --sigma-min, --sigma-max and --rho must make noise levels at least")


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


def test_what_is_replaced_between_the_jobs_of_a_pipe(tmp_path: Path) -> None:
    """Weights, as by a training now and then, and a video to be like: a job gets what is there when it comes in."""
    process = start("batch", "-", "--quiet", cwd=tmp_path, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    records = {}
    config = tiny_config()
    tensors = random_tensors(config)
    for turn in range(3):
        tensors["input_block.weight"] += 1
        save_checkpoint(tmp_path / "w.safetensors", tensors, config, overwrite=True)
        for name, job in (("new", {"seed": turn}), ("like", {"like": "a.gif"})):
            out = f"{name}-{turn}.gif"
            process.stdin.write(json.dumps({**job, "ckpt": "w.safetensors", "steps": 1, "out": out}) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{out}\n"
            records[name, turn] = read_record(tmp_path / out)
            (tmp_path / out).replace(tmp_path / "a.gif")
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    for name in ("new", "like"):
        assert [records[name, turn]["seed"] for turn in range(3)] == [0, 1, 2]
        assert len({records[name, turn]["checkpoint"]["sha256"] for turn in range(3)}) == 3


def test_a_share_of_what_comes_in_through_a_pipe(ckpt: Path, tmp_path: Path) -> None:
    """The other process has the failure to tell of; this one has nothing to do, and no reason to wonder."""
    process = start("batch", "-", "--shard", "2/2", cwd=tmp_path, stdin=subprocess.PIPE)
    stdout, stderr = process.communicate('{"seed": -1, "out": "a.gif"}\n', timeout=60)
    assert (process.returncode, stdout) == (0, ""), stderr
    assert "no jobs came in" not in stderr and ": none made\n" in stderr


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

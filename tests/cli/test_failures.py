"""What fails costs itself alone, and is told of."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mpvideo.errors import OutOfMemoryError
from mpvideo.generation import Job
from tests.cli.batches import PLAIN, files, jobs, journal, start
from tests.cli.conftest import Program


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


@pytest.mark.parametrize(
    ("job", "code", "words"),
    [
        ({"steps": 0, "out": "a.gif"}, 2, "one.jsonl, line 1: --steps must be at least 1, got 0"),
        ({"ckpt": "no.safetensors", "out": "a.gif"}, 3, "one.jsonl, line 1: --ckpt no.safetensors does not exist"),
        ({"out": "a.txt"}, 2, "one.jsonl, line 1: a video's name must end in .mp4, "),
        ({"out": "there.gif"}, 5, "there.gif exists already, and "),
        ({"out": "a.gif"}, 4, "a.gif: not enough memory for one video"),
    ],
)
def test_the_place_of_the_only_job(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch, job: dict[str, Any], code: int, words: str
) -> None:
    """As of one among several. An only video of `sample` is told of without: there is no other that it could be."""
    from mpvideo import generation

    def out_of_memory(*rest: Any) -> Any:
        raise OutOfMemoryError("not enough memory for one video")

    monkeypatch.setattr(generation, "_sample", out_of_memory)
    Path("there.gif").mkdir()
    jobs({"ckpt": str(ckpt), **job}, name="one.jsonl")
    done = program("batch", "one.jsonl", "--quiet")
    assert (done.code, done.stderr.startswith(f"error: {words}")) == (code, True), done.stderr
    assert done.stderr.count("error: ") == 1
    told = [line for line in journal("one.jsonl.journal") if line["state"] == "failed"]
    assert len(told) == 1 and "one.jsonl, line 1" not in told[0]["error"]
    alone = program("sample", "--ckpt", ckpt, "--class", 0, "--out", "b.gif", "--quiet")
    assert (alone.code, alone.stderr.splitlines()[0]) == (4, "error: not enough memory for one video")


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

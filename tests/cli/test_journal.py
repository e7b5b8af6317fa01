"""The journal of a run, and `batch --status`."""

import json
import resource
from pathlib import Path

import pytest

from mpvideo.errors import DeviceError
from tests.cli.batches import jobs
from tests.cli.conftest import Program


def test_a_forged_journal_cannot_write_to_the_terminal(program: Program) -> None:
    line = {"time": "\x1b[2J", "state": "begin", "share": "\x1b]0;x\x07/2", "planned": 1}
    Path("jobs.jsonl.journal").write_text(json.dumps(line))
    assert "\x1b" not in program("batch", "jobs.jsonl", "--status").stdout


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

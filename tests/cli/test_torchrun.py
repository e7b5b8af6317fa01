"""`sample` and `batch` in two processes that torchrun starts: the same files as one process makes, told of once."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Program

ROOT = Path(__file__).parents[2]


def torchrun(
    *arguments: object,
    cwd: Path,
    program: tuple[str, ...] = ("-m", "mpvideo"),
    stop: Callable[[], bool] | None = None,
) -> tuple[int, str, str]:
    """Runs it in two processes, and stops them when `stop` says so; returns exit code and both outputs."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [sys.executable, *launch, *program, *map(str, arguments)],
        cwd=cwd, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,  # so that none of them outlives a failure
    )  # fmt: skip
    try:
        while stop is not None and process.poll() is None:
            if stop():
                process.send_signal(signal.SIGTERM)
                break
            time.sleep(0.01)
        stdout, stderr = process.communicate(timeout=110)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode, stdout, stderr


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".gif"}


def test_two_processes_make_what_one_makes(
    program: Program, ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("sample", "--ckpt", ckpt, "--class", "0,1", "--seed", "0-4", "--steps", 2, "--dtype", "float32")
    options += ("--exact", "--out", "{class}-{seed}.gif")
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    monkeypatch.chdir(alone)
    assert program(*options, "--quiet").code == 0
    code, stdout, stderr = torchrun(*options, "--journal", "j", cwd=together)
    assert code == 0, stderr
    assert files(together) == files(alone)
    assert sorted(stdout.split()) == sorted(files(alone))
    assert stderr.count(" on CPU, 1 thread, in float32\n") == 1
    assert stderr.count("done in ") == 1 and ": 10 made\n" in stderr
    assert "sampling: 30/30 passes" in stderr, "of both together"
    begun = [json.loads((together / f"j.{number}-of-2").read_text().splitlines()[0]) for number in (1, 2)]
    assert [(line["share"], line["planned"]) for line in begun] == [("1/2", 5), ("2/2", 5)]
    (together / "1-2.gif").unlink()
    code, stdout, stderr = torchrun(*options, cwd=together)
    assert code == 0 and ": 1 made, 9 there already\n" in stderr
    assert files(together) == files(alone)


def test_one_bad_job_is_told_by_the_exit_code_of_all(ckpt: Path, tmp_path: Path) -> None:
    lines = [{"ckpt": str(ckpt), "seed": seed, "steps": 1, "out": f"{seed}.gif"} for seed in range(6)]
    lines[3]["class"] = "zebra"
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    code, _, stderr = torchrun("batch", "jobs.jsonl", cwd=tmp_path)
    assert code != 0
    assert stderr.count("error: jobs.jsonl, line 4: --class fits none of the 3 classes, got 'zebra'\n") == 1
    assert stderr.count("error: 1 video of 6 could not be made\n") == 1
    assert ": 5 made, 1 failed\n" in stderr
    assert sorted(files(tmp_path)) == [f"{seed}.gif" for seed in (0, 1, 2, 4, 5)]


def test_a_process_that_dies_leaves_its_jobs_to_the_next_run(program: Program, ckpt: Path, tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(
        "import os, sys\n"
        "from mpvideo.batch import runner\n"
        "from mpvideo.cli import main\n"
        "write, written = runner._Files._write, []\n"
        "def die(files, video, record):\n"
        "    if os.environ['RANK'] == '1' and written:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    written.append(video)\n"
        "    return write(files, video, record)\n"
        "runner._Files._write = die\n"
        "main(sys.argv[1:])\n"
    )
    options = ("sample", "--ckpt", ckpt, "--seed", "0-11", "--class", 1, "--steps", 100, "--batch-size", 1)
    options += ("--dtype", "float32", "--out", "{seed}.gif")
    code, _, _ = torchrun(*options, cwd=tmp_path, program=("dying.py",))
    assert code != 0
    made = files(tmp_path)
    assert "1.gif" in made and not {"3.gif", "5.gif"} & made.keys()
    assert all(data[-1:] == b";" for data in made.values()), "each is whole"
    done = program(*options)
    assert done.code == 0
    assert f"{len(made)} there already" in done.stderr
    assert len(files(tmp_path)) == 12


def test_what_cannot_be_divided(ckpt: Path, tmp_path: Path) -> None:
    code, _, stderr = torchrun("sample", "--ckpt", ckpt, "--out", "a.gif", "--grid", "g.gif", cwd=tmp_path)
    assert code != 0
    assert stderr.count("error: --grid and --sheet show all videos, and cannot be divided among processes\n") == 1
    assert stderr.count("hint: ") == 1


def test_a_signal_stops_all_shards_of_a_shard(ckpt: Path, tmp_path: Path) -> None:
    options = ("sample", "--ckpt", ckpt, "--class", 1, "--seed", "0-399", "--steps", 40, "--batch-size", 1)
    options += ("--dtype", "float32", "--shard", "2/2", "--journal", "j", "--out", "{seed}.gif")
    code, stdout, stderr = torchrun(*options, cwd=tmp_path, stop=lambda: len(files(tmp_path)) > 3)
    made = files(tmp_path)
    assert code != 0 and all(int(name[:-4]) % 2 for name in made), stderr
    assert sorted(stdout.split()) == sorted(made), "each is told of, and whole"
    assert all(data[-1:] == b";" for data in made.values())
    assert stderr.count("stopping after this step; once more ends at once\n") == 1
    assert stderr.count(f": {len(made)} made, {200 - len(made)} videos left; the same command makes ") == 1
    assert not list(tmp_path.glob(".*"))
    for number in (2, 4):
        begun, *middle, stopped = map(json.loads, (tmp_path / f"j.{number}-of-4").read_text().splitlines())
        assert (begun["share"], begun["planned"], stopped["state"]) == (f"{number}/4", 100, "stopped")
        assert stopped["left"] == 100 - len(middle), "of its own"


def test_a_dry_run_is_told_of_once(ckpt: Path, tmp_path: Path) -> None:
    options = ("sample", "--ckpt", ckpt, "--seed", "0-2", "--steps", 1, "--dtype", "float32", "--out", "{seed}.gif")
    code, stdout, stderr = torchrun(*options, "--dry-run", cwd=tmp_path)
    assert code == 0, stderr
    assert [line.partition(":")[0] for line in stdout.splitlines()] == ["0.gif", "1.gif", "2.gif"]
    assert stderr.count("3 videos to make, ") == 1 and "in batches of 2: " in stderr
    assert stderr.count(", divided by 2 processes\n") == 1

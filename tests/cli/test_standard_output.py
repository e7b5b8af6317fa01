"""`sample --out -`: the bytes of the file, once it is whole, or none."""

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mpvideo.formats import FORMATS
from tests.cli.conftest import Program


def start(*arguments: object, cwd: Path, **options: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "mpvideo", "sample", "--class", "0", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("name", ["mp4", "av1", "gif", "safetensors"])
def test_it_is_the_file(tmp_path: Path, ckpt: Path, name: str) -> None:
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    for out in (path, "-"):
        process = start("--ckpt", ckpt, "--format", name, "--out", out, cwd=tmp_path, stdout=subprocess.PIPE)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr.decode()
    assert stdout == path.read_bytes()
    assert b"4 frames" in stderr
    again = stderr.decode().split("command: ")[1].splitlines()[0].replace("mpvideo", f"{sys.executable} -m mpvideo", 1)
    assert subprocess.run(again, shell=True, cwd=tmp_path, capture_output=True, check=True).stdout == stdout
    assert list(tmp_path.iterdir()) == [path]


def test_it_has_nothing_else(tmp_path: Path, ckpt: Path) -> None:
    process = start(
        "--ckpt", ckpt, "--format", "npy", "--out", "-", "--grid", "g.gif", "--sheet", "s.png", cwd=tmp_path,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr.decode()
    assert stdout.startswith(b"\x93NUMPY") and stdout.endswith(b"}"), "the record is the last of it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.gif", "s.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--format must say what goes to standard output"),
        (["--format", "png"], "--format png makes a folder of PNG frames, which cannot go to standard output"),
        (["--format", "mp4", "--json"], "--json cannot be given together with --out -"),
        (["--format", "mp4", "--seed", "0,1"], "--out must contain {seed} or {index} for several --seed"),
        (["--format", "avi"], "--format must be one of mp4, webm"),
    ],
)
def test_what_is_refused(program: Program, ckpt: Path, arguments: list[str], message: str) -> None:
    done = program("sample", "--ckpt", ckpt, "--out", "-", *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_terminal_is_refused(tmp_path: Path, ckpt: Path) -> None:
    ours, theirs = pty.openpty()
    process = start("--ckpt", ckpt, "--format", "mp4", "--out", "-", cwd=tmp_path, stdout=theirs)
    _, stderr = process.communicate(timeout=60)
    os.close(theirs)
    os.close(ours)
    assert process.returncode == 2
    assert b"a video cannot go to a terminal" in stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk(tmp_path: Path, ckpt: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start("--ckpt", ckpt, "--format", "npy", "--out", "-", cwd=tmp_path, stdout=full)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 5
    assert b"the disk is full: standard output could not be written" in stderr


def test_a_reader_that_went_away(tmp_path: Path, ckpt: Path) -> None:
    process = start("--ckpt", ckpt, "--format", "npy", "--out", "-", cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    stderr = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=60) == 5, stderr
    assert "standard output could not be written: broken pipe" in stderr
    assert "Traceback" not in stderr


def test_it_is_closed(ckpt: Path, tmp_path: Path) -> None:
    words = ["sample", "--ckpt", str(ckpt), "--out", "-", "--format", "npy", "--quiet"]
    line = shlex.join([sys.executable, "-m", "mpvideo", *words])
    done = subprocess.run(f"{line} >&-", shell=True, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith(b"error: standard output, which is to have the video, is closed\n")

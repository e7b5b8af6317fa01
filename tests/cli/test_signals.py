"""Signals and kill -9, in a process of its own: nothing is half written, and what is left is said."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mpvideo.cli import main
from mpvideo.errors import MPVideoError
from mpvideo.video import read_frames
from tests.cli.batches import files, finished, journal, start, wait_for
from tests.cli.conftest import Program


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


@pytest.mark.parametrize(
    ("module", "number", "code"),
    [
        ("torch", signal.SIGINT, 130),
        ("torch", signal.SIGTERM, 143),
        ("torch", signal.SIGHUP, 143),
        ("mpvideo.cli.app", signal.SIGINT, 130),
    ],
)
def test_a_signal_while_a_class_is_made(
    ckpt: Path, tmp_path: Path, module: str, number: signal.Signals, code: int
) -> None:
    """Of which Python 3.11 makes a RuntimeError: while torch is imported, and while the program itself is."""
    script = f"""
        import signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever is ignored where the tests are run
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        class Field:
            def __set_name__(self, owner, name):
                signal.raise_signal({int(number)})
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    type("Made", (), {{"field": Field()}})
        sys.meta_path.insert(0, Finder())
        sys.argv[0] = "mpvideo"
        from mpvideo.__main__ import run
        run()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), "sample", "--ckpt", str(ckpt), "--out", "a.gif", "--quiet"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, text=True, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    said = "" if module == "mpvideo.cli.app" else "error: interrupted; nothing was left half written\n"
    assert (done.returncode, done.stderr) == (code, said)
    assert files(tmp_path) == []


@pytest.mark.parametrize("module", ["numpy.linalg", "torch._utils"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_whose_exception_a_library_drops(
    ckpt: Path, tmp_path: Path, module: str, number: signal.Signals, code: int
) -> None:
    """As numpy and torch do in C while they are imported."""
    script = f"""
        import os, signal, sys, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever is ignored where the tests are run
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    try:
                        os.kill(os.getpid(), {int(number)})
                        time.sleep(0.01)
                    except BaseException:
                        pass
        sys.meta_path.insert(0, Finder())
        sys.argv[0] = "mpvideo"
        from mpvideo.__main__ import run
        run()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), "inspect", "--time", str(ckpt), "--json"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, text=True, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "error: interrupted; nothing was left half written\n")
    assert done.stdout == ""


@pytest.mark.parametrize("kind", [MPVideoError, RuntimeError])
def test_what_comes_of_a_signal_is_told_as_one(
    program: Program, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """As where a library that is imported wraps it, and we take that for a library that is missing."""

    def app(**_: object) -> None:
        error = RuntimeError("Error calling __set_name__")
        error.__cause__ = KeyboardInterrupt()
        raise kind("there is no ffmpeg") from error

    monkeypatch.setattr("mpvideo.cli.app.app", app)
    outcome = program()
    assert (outcome.code, outcome.stderr) == (130, "error: interrupted; nothing was left half written\n")


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


def test_once_it_has_failed_signals_change_nothing() -> None:
    """Neither the exit code nor what is said, down to the end of Python."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        with pytest.raises(SystemExit):
            main(["sample", "--ckpt", "nowhere", "--out", "a.mp4"])
        assert all(signal.getsignal(number) == signal.SIG_IGN for number in numbers)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

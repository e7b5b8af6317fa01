"""Every write, fsync, rename and encoder call of a run fails in turn: files are whole or absent, and what is missing is
made again as it would have been.
"""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mpvideo.batch.journal import read_journal
from tests.cli.conftest import Program
from tests.faults import Faults, contents

SEEDS = (3, 4)

FILES = {"open", "write", "fsync"}
ENCODED = {*FILES, "link", "mkdir", "encoder start", "encoder feed", "encoder finish"}


@pytest.mark.parametrize(
    ("suffix", "number", "kinds", "more"),
    [
        ("gif", errno.EIO, ENCODED, ()),
        ("mp4", errno.ENOSPC, ENCODED, ()),
        (
            "npy", errno.ENOSPC, {*FILES, "rename"}, ("-y", "--journal", "j", "--grid", "g.npy", "--sheet", "s.png")
        ),
    ],
)  # fmt: skip
def test_a_run_is_undisturbed_or_taken_up_again(
    program: Program,
    ckpt: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    number: int,
    kinds: set[str],
    more: tuple[str, ...],
) -> None:
    options = ("sample", "--ckpt", ckpt, "--steps", 1, "--frames", 2, "--exact", "--class", 1, "--scale", 2)
    options += ("--dtype", "float32", "--quiet", "--out", f"{{seed}}.{suffix}", *more)

    def made(folder: str) -> dict[str, bytes]:
        return {name: data for name, data in contents(Path(folder)).items() if name != "j"}

    def run(faults: Faults, folder: str, *what: object) -> tuple[int, str]:
        Path(folder).mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        with faults:
            done = program(*options, *what)
        monkeypatch.chdir("..")
        return done.code, done.stderr

    everything = ("--seed", ",".join(map(str, SEEDS)))
    assert run(Faults(), "warm", *everything)[0] == 0, "what is only done once in a process is done"
    counted = Faults()
    assert run(counted, "undisturbed", *everything)[0] == 0
    wanted = made("undisturbed")
    assert list(wanted) == [*(f"{seed}.{suffix}" for seed in SEEDS), *more[4::2]]
    assert kinds <= set(counted.calls)
    for at in range(len(counted.calls)):
        faults, folder = Faults(at, number), str(at)
        code, said = run(faults, folder, *everything)
        left = made(folder)
        context = (at, faults.kind, said)
        assert left.items() <= wanted.items(), context
        assert (code == 0 or "error: the journal lacks lines" in said) == (left == wanted), context
        if code:
            assert code in (1, 5) and said.startswith("error: ") and "unexpected" not in said, context
        assert run(Faults(), folder, *everything)[0] == 0
        assert made(folder) == wanted, context
        assert "--journal" not in more or read_journal(Path(folder, "j")).left == 0, context


def test_a_killed_run_is_taken_up_again(ckpt: Path, tmp_path: Path) -> None:
    """`kill -9` as the last file is encoded, and as it gets its name: named files are whole, others are made again."""
    script = """
        import sys
        from mpvideo.cli import main
        from tests.faults import Faults
        at = None if sys.argv[1] == "none" else int(sys.argv[1])
        with Faults(at, kill=True) as faults:
            try:
                main(sys.argv[2:])
            finally:
                print(*faults.calls, sep="|")
    """
    options = ("sample", "--ckpt", ckpt, "--steps", 1, "--frames", 2, "--exact", "--class", 1, "--scale", 2, "--quiet")

    def run(at: int | str, folder: Path, *what: object) -> subprocess.CompletedProcess[str]:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", textwrap.dedent(script), at, *options, "--dtype", "float32", *what]
        return subprocess.run(
            [*map(str, command), "--out", "{seed}.mp4"],
            cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    everything = ("--seed", ",".join(map(str, SEEDS)))
    done = run("none", tmp_path / "undisturbed", *everything)
    assert done.returncode == 0, done.stderr
    wanted, calls = contents(tmp_path / "undisturbed"), done.stdout.splitlines()[-1].split("|")
    for kind in ("encoder finish", "link"):
        folder = tmp_path / kind
        assert run(len(calls) - 1 - calls[::-1].index(kind), folder, *everything).returncode == -signal.SIGKILL
        left = {name: data for name, data in contents(folder).items() if not name.startswith(".")}
        assert left.items() < wanted.items(), kind
        assert run("none", folder, *everything).returncode == 0
        assert wanted.items() <= contents(folder).items(), kind

"""Every write, fsync, rename and encoder call of a run fails in turn: files are whole or absent, and what is missing is
made again as it would have been.
"""

import errno
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.faults import Faults, contents

SEEDS = (3, 4)


@pytest.mark.parametrize(("suffix", "number"), [("gif", errno.EIO), ("mp4", errno.ENOSPC)])
def test_a_run_is_undisturbed_or_taken_up_again(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, number: int
) -> None:
    options = ("sample", "--ckpt", ckpt, "--steps", 1, "--frames", 2, "--exact", "--class", 1, "--scale", 2)
    options += ("--dtype", "float32", "--quiet", "--out", f"{{seed}}.{suffix}")

    def run(faults: Faults, folder: str, *what: object) -> tuple[int, str]:
        Path(folder).mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        with faults:
            done = program(*options, *what)
        monkeypatch.chdir("..")
        return done.code, done.stderr

    everything = ("--seed", SEEDS[0], "--num", len(SEEDS))
    assert run(Faults(), "warm", *everything)[0] == 0, "what is only done once in a process is done"
    counted = Faults()
    assert run(counted, "undisturbed", *everything)[0] == 0
    wanted = contents(Path("undisturbed"))
    assert list(wanted) == [f"{seed}.{suffix}" for seed in SEEDS]
    assert {"open", "write", "fsync", "link", "mkdir", "encoder start", "encoder feed", "encoder finish"} <= set(
        counted.calls
    )
    for at in range(len(counted.calls)):
        faults, folder = Faults(at, number), str(at)
        code, said = run(faults, folder, *everything)
        left = contents(Path(folder))
        context = (at, faults.kind, said)
        assert left.items() <= wanted.items(), context
        assert (code == 0) == (left == wanted), context
        if code:
            assert code in (1, 5) and said.startswith("error: ") and "unexpected" not in said, context
        for seed in SEEDS:
            if f"{seed}.{suffix}" not in left:
                assert run(Faults(), folder, "--seed", seed)[0] == 0
        assert contents(Path(folder)) == wanted, context

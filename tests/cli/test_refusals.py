"""What the library that takes the command line apart refuses is told in this program's words."""

import pytest

from tests.cli.conftest import Program

EMPTY = "must be a path, got ''\nhint: Is a variable in the command line empty?"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--fps", "abc"], "--fps must be a number, got 'abc'"),
        (["sample", "--batch-size", "1e3"], "--batch-size must be a whole number, got '1e3'"),
        (["sample", "--batch-size", "0", "--out", "a.gif"], "--batch-size must be at least 1, got 0"),
        (["tune", "--nfe", "\x1b"], r"--nfe must be a whole number, got '\\x1b'"),
        (["sample", "--filter", "x"], "--filter must be one of nearest, lanczos; got 'x'"),
        (["eval", "--device", "tpu"], "--device must be one of auto, cpu, cuda, mps; got 'tpu'"),
        (["sample"], "--out must be given\nhint: See `mpvideo sample --help`."),
        (["train", "--out", "run"], "DATA must be given\nhint: See `mpvideo train --help`."),
        (["sample", "--out"], "--out must be followed by FILE"),
        (["inspect", "--diff", "a"], "--diff must be followed by A B"),
        (["sample", "--quiet=3"], "--quiet takes no value"),
        (["eval", "--stesp", "3"], "mpvideo eval has no option --stesp\nhint: Did you mean --steps?"),
        (["eval", "--nope"], "mpvideo eval has no option --nope\nhint: `mpvideo eval --help` lists them."),
        (["--nope"], "mpvideo has no option --nope\nhint: `mpvideo --help` lists them."),
        (["sampel"], "mpvideo has no command 'sampel'\nhint: Did you mean sample?"),
        (["zzz"], "mpvideo has no command 'zzz'\nhint: `mpvideo --help` lists them."),
        (
            ["sample", "--out", "a.gif", "--class", "golden", "dog"],
            "mpvideo sample cannot do anything with 'dog'\nhint: A value with spaces in it goes in quotes.",
        ),
        (["sample", "--ckpt", "", "--out", "a.gif"], f"--ckpt {EMPTY}"),
        (["sample", "--out", ""], f"--out {EMPTY}"),
        (["sample", "--like", "", "--out", "a.gif"], f"--like {EMPTY}"),
        (["inspect", ""], f"FILE {EMPTY}"),
        (["inspect", "--diff", "a", ""], f"--diff {EMPTY}"),
        (["train", "", "--out", "run"], f"DATA {EMPTY}"),
        (["ema", "run", "--std", "0.1", "--out", ""], f"--out {EMPTY}"),
    ],
)
def test_what_is_refused(program: Program, arguments: list[str], message: str) -> None:
    done = program(*arguments)
    assert (done.code, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


def test_no_word_at_all_shows_the_help(program: Program) -> None:
    done = program()
    assert done.code == 2 and done.stderr.startswith("Usage: mpvideo [OPTIONS] COMMAND")

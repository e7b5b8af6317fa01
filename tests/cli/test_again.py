import shutil
import subprocess

import pytest
import typer.main

from mpvideo.cli.again import NOT_ABOUT_THE_VIDEO, shell_join
from mpvideo.cli.app import app

WORDS = ["plain", "two words", "it's", "$HOME `x` \\ !", "", "grün", "a\nb\t\x1b[2J'\\1", "\u202ex", "\udcff7.gif"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_reads_the_same_words() -> None:
    line = shell_join(["printf", "%s\\0", *WORDS])
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=True)
    assert done.stdout.decode(errors="surrogateescape").split("\0")[:-1] == WORDS


def test_what_is_left_out_exists() -> None:
    parameters = typer.main.get_command(app).commands["sample"].params  # type: ignore[attr-defined]
    assert {parameter.name for parameter in parameters} > NOT_ABOUT_THE_VIDEO

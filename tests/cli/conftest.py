"""The program in this process, and a checkpoint that it samples in a blink."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mpvideo.cli import main
from tests.checkpoints import save_tiny, tiny_config


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str


Program = Callable[..., Outcome]


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("ckpt") / "tiny.safetensors", tiny_config())


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Runs `mpvideo` in an empty folder and in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        for number, handler in before.items():  # the program is over, this process is not
            signal.signal(number, handler)
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return run

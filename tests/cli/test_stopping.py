"""Signals as a wish to end."""

import os
import signal
from collections.abc import Iterator

import pytest

from mpvideo.cli import stopping
from mpvideo.cli.stopping import Stopping

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What this process does at each; a stray one must not end the tests."""
    before = {number: signal.signal(number, lambda *arguments: None) for number, _ in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_first_is_noted_and_the_second_ends(number: int, code: int) -> None:
    said: list[str] = []
    before = signal.getsignal(number)
    with Stopping(lambda: said.append("stopping")) as wish:
        assert not wish
        send(number)
        assert wish and said == ["stopping"]
        with pytest.raises(SystemExit) as ended:
            send(signal.SIGTERM)
    assert (ended.value.code, said) == (code, ["stopping"])
    assert signal.getsignal(number) is before


def test_under_torchrun_one_key_is_one_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal tells every process of a Ctrl-C, and torchrun does so again; one that comes later is another."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with Stopping(lambda: None) as wish:
        send(signal.SIGINT)
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert wish
        monkeypatch.setattr(stopping.time, "monotonic", lambda: wish._first_came + stopping._SAME_KEY + 0.1)
        with pytest.raises(SystemExit) as ended:
            send(signal.SIGINT)
    assert ended.value.code == 130


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    """Under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Stopping(lambda: None) as wish:
        send(signal.SIGHUP)
        assert not wish


def test_a_terminal_that_went_away_is_no_error() -> None:
    def say() -> None:
        raise BrokenPipeError

    with Stopping(say) as wish:
        send(signal.SIGHUP)
        assert wish

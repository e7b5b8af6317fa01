"""Which exceptions come of a signal."""

import pytest

import mpvideo.cli.app
from mpvideo.errors import ExitCode, MPVideoError, interruption


def chained(error: BaseException, *, cause: BaseException | None = None, context: BaseException | None = None):
    error.__cause__, error.__context__ = cause, context
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (chained(RuntimeError(), cause=KeyboardInterrupt()), ExitCode.INTERRUPTED),
        (chained(ImportError(), cause=chained(RuntimeError(), cause=KeyboardInterrupt())), ExitCode.INTERRUPTED),
        (chained(KeyError(), context=SystemExit(ExitCode.TERMINATED)), None),
        (chained(RuntimeError(), cause=SystemExit(ExitCode.TERMINATED)), ExitCode.TERMINATED),
        (chained(RuntimeError(), cause=SystemExit(1)), None),
        (chained(RuntimeError(), context=ValueError()), None),
        (None, None),
    ],
)
def test_what_comes_of_a_signal(error: BaseException | None, code: ExitCode | None) -> None:
    assert interruption(error) == code


@pytest.mark.parametrize("kind", [MPVideoError, RuntimeError])
def test_the_program_takes_what_comes_of_a_signal_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[Exception]
) -> None:
    """As where a library that is imported wraps it, and we take that for a library that is missing."""

    def app(**_: object) -> None:
        raise kind("there is no ffmpeg") from chained(RuntimeError(), cause=KeyboardInterrupt())

    monkeypatch.setattr(mpvideo.cli.app, "app", app)
    monkeypatch.setattr(mpvideo.cli.app, "_clean_up_on_signals", lambda: None)
    with pytest.raises(SystemExit) as ended:
        mpvideo.cli.app.main([])
    assert ended.value.code == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "error: interrupted; nothing was left half written\n"


def test_a_chain_without_an_end() -> None:
    error = ValueError()
    error.__cause__ = RuntimeError()
    error.__cause__.__cause__ = error
    assert interruption(error) is None

"""Which exceptions come of a signal."""

import pytest

from mpvideo.errors import ExitCode, interruption


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


def test_a_chain_without_an_end() -> None:
    error = ValueError()
    error.__cause__ = RuntimeError()
    error.__cause__.__cause__ = error
    assert interruption(error) is None

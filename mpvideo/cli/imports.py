"""Signals while large libraries are imported.

numpy, ssl and torch drop, in code that is not Python, exceptions that signals become: the program would go on as if
nobody had told it to end, with half-imported modules.
"""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_LIBRARIES = ("numpy", "ssl", "torch")
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def hold_signals_while_importing() -> None:
    """Has signals wait, from now on, while one of those libraries is imported: torch takes a second.

    Other threads that are there by then would still take signals; those that the libraries start do not.
    """
    if hasattr(signal, "pthread_sigmask") and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds those libraries where the others do, and holds signals while their code is run."""

    def __init__(self) -> None:
        self._looking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if fullname not in _LIBRARIES or self._looking:
            return None
        self._looking = True
        try:
            spec = find_spec(fullname)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_undisturbed(module: ModuleType) -> None:
                with _signals_held():
                    run(module)

            spec.loader.exec_module = run_undisturbed  # type: ignore[method-assign]
        return spec


@contextmanager
def _signals_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # one that came meanwhile raises here

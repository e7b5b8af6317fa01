"""What of a batch is to be done: everything is looked at once before any work, and again as it is made."""

import os
import secrets
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from mpvideo.batch.names import Taken, same_file
from mpvideo.batch.request import Request
from mpvideo.batch.resume import Finished
from mpvideo.batch.share import Share
from mpvideo.errors import MPVideoError, OutputError, UsageError
from mpvideo.files import file_key, spelling
from mpvideo.formats import STANDARD_OUTPUT, enlargement
from mpvideo.text import printable


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """A job that asks for something that cannot be.

    Attributes:
        index: its number in the batch.
        where: where it is written, for messages.
        error: why it cannot be.
    """

    index: int
    where: str
    error: MPVideoError


Planned = Request | Unusable
"""What a source of a batch gives: requests, and in their places what is wrong."""


class Fate(IntEnum):
    """What becomes of a request."""

    MAKE = 0
    FOUND = 1
    REFUSED = 2
    ELSEWHERE = 3
    UNNAMED = 4  # it cannot be read, and so its file is not known


class Checker:
    """Looks at requests one by one: may their files be written, and are they there already?

    Args:
        share: which of them fall to this process.
        finished: recognises those that are there.
        overwrite: whether files that are something else may be replaced.
        journal: of the run, if it keeps one.
    """

    def __init__(self, *, share: Share, finished: Finished, overwrite: bool, journal: Path | None = None) -> None:
        self.share, self._finished, self._overwrite = share, finished, overwrite
        self._kept: dict[int, str] = {}
        self._kept_names: set[str] = set()
        if journal is not None:
            self._keep("--journal", journal)
        self._inputs: tuple[tuple[str, Path], ...] = ()
        self.taken = Taken()
        self._good_folders: set[int] = set()

    def fate(self, request: Request) -> Fate:
        """Whether a request is to be made or its file is there; its name is not looked at.

        Raises:
            MPVideoError: it cannot be made, and why.
        """
        if request.inputs is not self._inputs:
            for option, path in request.inputs:
                self._keep(option, path)
            self._inputs = request.inputs
        if request.index not in self.share:
            return Fate.ELSEWHERE
        about = request.sources.checkpoint.config
        enlargement(request.path, width=about.pixel_size, height=about.pixel_size, encoding=request.encoding)
        in_the_way = None
        try:
            if request in self._finished:
                return Fate.FOUND
        except OutputError as error:
            in_the_way = error
        self.check_kept("--out", request.path)
        if in_the_way is not None and not self._overwrite:
            raise in_the_way
        self._check_place(request)
        return Fate.MAKE

    def check_kept(self, name: str, path: Path) -> None:
        """Makes sure that a file is not one that the run needs: as far as it is known, what videos are made from.

        Args:
            name: what gives the path of a file to write.
            path: the file.

        Raises:
            UsageError: it is.
        """
        named_so = spelling(path.name) in self._kept_names
        if not named_so and not os.path.islink(path):  # noqa: PTH114 - is_symlink() may raise
            return  # no other can lead there, and to follow it would take long for a million
        if (option := self._kept.get(hash(file_key(path)))) is not None:
            raise UsageError(
                f"{name} must not be the file of {option}, got {printable(path)}",
                hint="Choose another name: that file is never replaced.",
            )

    def _keep(self, option: str, path: Path) -> None:
        file = file_key(path)
        self._kept[hash(file)] = option
        self._kept_names.add(Path(file).name)

    def _check_place(self, request: Request) -> None:
        """Makes sure that the file can be written: of those that are not there, once for each good folder."""
        if os.path.lexists(request.path):
            if (error := _place_error(request)) is not None:
                raise error
            return
        key = hash((request.path.parent, request.path.suffix, request.encoding.format, request.makes_folders))
        if key not in self._good_folders:
            if (error := _place_error(request)) is not None:
                raise error
            self._good_folders.add(key)


def _place_error(request: Request) -> MPVideoError | None:
    from mpvideo.video import check_destination  # noqa: PLC0415 - numpy, which the command line does without at first

    path = request.path
    # Not Path.exists, which raises where a folder may not be searched or has too long a name.
    if request.makes_folders and path != STANDARD_OUTPUT and not os.path.exists(path.parent):  # noqa: PTH110
        path = next(folder for folder in path.parents if os.path.exists(folder)) / path.name  # noqa: PTH110
        if os.path.lexists(path):  # what has the name there is in nobody's way
            path = path.with_name(f"{secrets.token_hex(6)}{path.suffix}")
    try:
        check_destination(path, overwrite=True, format_name=request.encoding.format)
    except MPVideoError as error:
        return error
    return None


@runtime_checkable
class Selective(Protocol):
    """A source that need not be gone through as a whole to get some of its requests."""

    def select(self, wanted: Callable[[range], bool]) -> Iterator[Planned]:
        """As going through it, but requests that come together are passed over if none of their indices is wanted."""
        ...


class PlanWatcher(Protocol):
    """Is told what of a batch is not to be made."""

    def found(self, request: Request) -> None:
        """Its file is there already, made with these settings."""
        ...

    def refused(self, planned: Planned, error: MPVideoError) -> None:
        """It cannot be made, and why."""
        ...


@dataclass
class Plan:
    """What was found at the first look.

    Attributes:
        source: the requests; it can be gone through again and again, and gives the same every time.
        fates: what becomes of each, a byte for each.
        turns: at which turn it becomes that: every checkpoint has one, and what is not to be made comes in the first;
            -1 for what another process makes.
        checker: what looked.
        streamed: whether the video goes to standard output; then it is the only one.
    """

    source: Iterable[Planned]
    fates: bytearray
    turns: "array[int]"
    checker: Checker
    streamed: bool = False

    def count(self, fate: Fate) -> int:
        """How many have this fate."""
        return self.fates.count(int(fate))

    @property
    def mine(self) -> int:
        """How many fall to this process."""
        return len(self.fates) - self.count(Fate.ELSEWHERE)

    def to_make(self, watcher: PlanWatcher) -> Iterator[Request]:
        """The requests that are to be made, checkpoint after checkpoint, so that none has to be loaded twice.

        Of others that fall to this process, the watcher is told in their turn. Those that the source does not give any
        more, because it has become shorter meanwhile, are refused.
        """
        for turn in range(max(self.turns, default=0) + 1):
            given = self._of_turn(turn)
            for index, own in enumerate(self.turns):
                if own == turn:
                    planned = next(given, None) or Unusable(index=index, where=f"number {index}", error=_fewer())
                    yield from _to_make(planned, self.checker, watcher, Fate(self.fates[index]))

    def _of_turn(self, turn: int) -> Iterator[Planned]:
        def wanted(indices: range) -> bool:
            return turn in self.turns[indices.start : indices.stop]

        source = self.source.select(wanted) if isinstance(self.source, Selective) else self.source
        for planned in source:
            if planned.index < len(self.turns) and self.turns[planned.index] == turn:
                yield planned


def make_plan(
    source: Iterable[Planned], checker: Checker, *, on_look: Callable[[Planned, Fate], None] | None = None
) -> Plan:
    """Looks at everything once.

    Args:
        source: the requests, numbered from 0; it has to give the same whenever it is gone through.
        checker: what looks.
        on_look: told of each that falls to this process.

    Raises:
        UsageError: two requests have one file, or one among others goes to standard output.
    """
    streamed = False
    fates, turns, checkpoints = bytearray(), array("i"), dict[bytes, int]()
    for planned in source:
        if isinstance(planned, Unusable):
            fate = Fate.UNNAMED if planned.index in checker.share else Fate.ELSEWHERE
        else:
            streamed = streamed or planned.path == STANDARD_OUTPUT
            if planned.path != STANDARD_OUTPUT and not checker.taken.take(planned.path):
                raise _same_file(source, planned)
            try:
                fate = checker.fate(planned)
            except MPVideoError:
                fate = Fate.REFUSED
        fates.append(fate)
        turn = 0
        if fate == Fate.MAKE and isinstance(planned, Request):
            turn = checkpoints.setdefault(planned.sources.key, len(checkpoints))
        turns.append(-1 if fate == Fate.ELSEWHERE else turn)
        if on_look is not None and fate != Fate.ELSEWHERE:
            on_look(planned, fate)
    if streamed and len(fates) > 1:
        raise UsageError(
            f"standard output can have one video and nothing else, got {len(fates):,} videos, with --out - among them",
            hint="Give each the name of a file.",
        )
    return Plan(source, fates, turns, checker, streamed)


def stream_to_make(
    source: Iterable[Planned | None], checker: Checker, watcher: PlanWatcher
) -> Iterator[Request | None]:
    """The requests that are to be made of those that come as they come, without a look at all of them first.

    Of those that fall to other processes, the watcher is told nothing.

    Args:
        source: the requests; None where for now there is no other.
        checker: what looks at each.
        watcher: is told of those that are not to be made.
    """
    for planned in source:
        if planned is None:
            yield None
        else:
            yield from _to_make(planned, checker, watcher, None)


def _to_make(planned: Planned, checker: Checker, watcher: PlanWatcher, fate: Fate | None) -> Iterator[Request]:
    """The request, if it is to be made; `fate` is what it was at the first look, None if there was none."""
    mine = planned.index in checker.share  # of what others make, only the files count: none may be made twice
    if isinstance(planned, Unusable):
        if mine:
            watcher.refused(planned, planned.error)
        return
    new = fate in (None, Fate.UNNAMED)
    try:
        if new and planned.path == STANDARD_OUTPUT:
            raise UsageError("a job of a pipe must have a file's name as out, got -: standard output has the paths")
        if new and not checker.taken.take(planned.path):
            raise UsageError(f"{printable(planned.path)} is the file of an earlier job already")
        if new or fate == Fate.REFUSED:  # what was wrong may have been put right meanwhile
            fate = checker.fate(planned)
        elif fate == Fate.MAKE:  # by now the files of all requests are known
            checker.check_kept("--out", planned.path)
    except MPVideoError as error:
        if mine:
            watcher.refused(planned, error)
        return
    if fate == Fate.FOUND:
        watcher.found(planned)
    elif fate == Fate.MAKE:
        yield planned


def _fewer() -> UsageError:
    return UsageError("the jobs have changed: there are fewer than at the first look")


def _same_file(source: Iterable[Planned], second: Request) -> UsageError:
    return same_file((planned for planned in source if isinstance(planned, Request)), second)

"""From a job as a file has it to the options of `sample`, read and checked as on the command line."""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mpvideo.batch.jobfile import Entry, read_jobs, stream_jobs
from mpvideo.batch.plan import Planned, Unusable
from mpvideo.cli.hub import is_on_hub
from mpvideo.cli.like import Original
from mpvideo.cli.options import OUTPUT_PANEL
from mpvideo.cli.overviews import OVERVIEW_PANEL
from mpvideo.cli.refusals import check_paths, is_path, misfit
from mpvideo.cli.requests import Openings, requests_of
from mpvideo.cli.sampling_options import COMPUTE_PANEL
from mpvideo.cli.writing import RUN_PANEL
from mpvideo.config import DtypeName
from mpvideo.errors import MPVideoError, UsageError
from mpvideo.text import nearest, printable

_OF_THE_RUN = (COMPUTE_PANEL, OUTPUT_PANEL, OVERVIEW_PANEL, RUN_PANEL)
"""Options of these panels are about the machine, or about all jobs: a job has none of them."""

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

_OPEN = 64
"""Checkpoints that stay open, their headers and not their weights, and records of videos."""

_SAMPLINGS = 16
"""Jobs whose settings of the sampler are kept, for others that ask for the same: each may have thousands."""


class JobReader:
    """Reads jobs: what each may ask for is what `sample` takes.

    Args:
        sample: the command, whose parameters say what there is.
        out: --out for jobs that have none of their own.
        dtype, exact: --dtype and --exact, which are for all of them.
        anew: whether files that jobs name are read for each job anew, as whoever sends them one by one expects. Not
            where jobs are gone through twice: they would change underway.
    """

    def __init__(
        self, sample: Any, out: Path | None, *, dtype: DtypeName = "auto", exact: bool = False, anew: bool = False
    ) -> None:
        self._context = sample.make_context("sample", ["--out", "-"], resilient_parsing=False)
        self._of_all = {"out": out, "dtype": dtype, "exact": exact}
        # Help is a parameter of the command, too, and no option of its own.
        self._parameters = {parameter.opts[0].lstrip("-"): parameter for parameter in sample.params}
        kinds = get_type_hints(sample.callback)
        self._paths = {name for name, kind in kinds.items() if Path in (kind, *get_args(kind))}
        self._kept = Openings(_OPEN, _SAMPLINGS)
        self._anew = Openings(0, 0) if anew else self._kept
        self._original = lru_cache(maxsize=0 if anew else _OPEN)(Original)

    def requests(self, entry: Entry, first: int) -> Iterator[Planned]:
        """The requests of a job, from the index `first` on; if it is unusable, that."""
        index = first
        try:
            if entry.error is not None:
                raise entry.error
            options, given = self._options(entry.values)
            # The hub would be asked for each job, which takes long where it is out of reach.
            on_hub = any(path is not None and is_on_hub(path) for path in (options["ckpt"], options["guide"]))
            openings = self._kept if on_hub else self._anew
            for request in requests_of(options, given=given, first=first, where=entry.where, openings=openings):
                index = request.index + 1
                yield request
        except MPVideoError as error:
            yield Unusable(index=index, where=entry.where, error=error)

    def check(self, key: str) -> None:
        """Makes sure that a job can have an option.

        Raises:
            UsageError: `sample` has none of that name, or it is for the whole batch.
        """
        name = key.strip().replace("_", "-")
        parameter = self._parameters.get(name)
        if parameter is None:
            near = nearest(name, [*self._parameters])
            raise UsageError(
                f"a job has options of `mpvideo sample`, got {printable(key)!r}",
                hint=f"Did you mean {near}?" if near else "`mpvideo sample --help` lists them.",
            )
        if parameter.rich_help_panel == OVERVIEW_PANEL:
            raise UsageError(f"a job has no {printable(key)}: `mpvideo sample` alone makes one video of many")
        if parameter.rich_help_panel in _OF_THE_RUN or name == "overwrite":
            raise UsageError(f"{printable(key)} is for the whole batch: give it as an option, not in a job")

    def _options(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
        """The parameters of `sample` for one job, and which of them it gives itself."""
        given: dict[str, Any] = {}
        for key, value in values.items():
            name = key.strip().replace("_", "-")
            self.check(key)
            if name in given:
                raise UsageError(f"a job has {name} twice")
            if value is not None:
                given[name] = value
        options = {**self._context.params, **self._of_all}
        own = frozenset(self._parameters[name].name for name in given)
        if (like := given.pop("like", None)) is not None:
            check_paths(self._context.command, {"like": like})
            options["like"] = self._original(Path(_word("like", like)))
            recorded = options["like"].options()
            if options["dtype"] == "auto":
                options["dtype"] = recorded["dtype"]
            options["exact"] = options["exact"] or recorded["exact"]
            given = {name: item for name, item in recorded.items() if name not in ("dtype", "exact")} | given
        if "out" not in given and self._of_all["out"] is None:
            raise UsageError("a job must have out, the name of its file", hint="Or give --out for all of them.")
        for name, value in given.items():
            parameter = self._parameters[name]
            options[parameter.name] = self._value(parameter, name, value)
        return options, own

    def _value(self, parameter: Any, name: str, value: Any) -> Any:
        """A value as the command line would have it."""
        flag = bool(parameter.is_bool_flag)
        if flag:
            found = value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())
            if found is None:
                raise UsageError(f"{name} must be true or false, got {printable(value)!r}")
            return found
        if parameter.multiple:
            return _settings(name, value)
        if isinstance(value, list) and is_path(self._context.command, parameter):
            raise UsageError(f"{name} must be one path, got a list of {len(value)}")
        text = ",".join(_word(name, item) for item in value) if isinstance(value, list) else _word(name, value)
        if not text or "\0" in text:
            check_paths(self._context.command, {parameter.name: text})
        if parameter.name in self._paths:  # as below, where it takes as long as all the rest of a job
            return Path(text)
        try:
            return parameter.process_value(self._context, text)
        except Exception as error:
            if not hasattr(error, "format_message"):  # as the errors of the library have that Typer brings along
                raise
            raise misfit(self._context.command, parameter, text) from None


def _word(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{name} must be text or a number, got {printable(value)!r}")
    return str(value)


def _settings(name: str, value: Any) -> list[str]:
    """--set: an object of keys with dots, whose values are of the types they have, a list of KEY=VALUE, or one."""
    if isinstance(value, Mapping):
        try:
            return [f"{key}={json.dumps(item)}" for key, item in value.items()]
        except TypeError:  # TOML has dates
            raise UsageError(f"{name} must have values as JSON has them, got {printable(value)}") from None
    return [_word(name, item) for item in (value if isinstance(value, list) else [value])]


class JobFile:
    """The requests of a file of jobs, the same every time they are gone through: `mpvideo.batch.plan.Selective`.

    Args:
        path: the file.
        reader: reads its jobs.
    """

    def __init__(self, path: Path, reader: JobReader) -> None:
        self._path, self._reader = path, reader
        self._seen: tuple[array[int], array[int]] | None = None

    def __iter__(self) -> Iterator[Planned]:
        return self.select(lambda indices: True)

    def select(self, wanted: Callable[[range], bool]) -> Iterator[Planned]:
        """The requests of the jobs of which one is wanted; at the first look, before it is known how many, of all."""
        counts, hashes, index = array("Q"), array("q"), 0
        for number, entry in enumerate(read_jobs(self._path, self._reader.check)):
            hashes.append(hash(repr(entry.values)))
            before, same = self._known(number, hashes[number])
            first = index
            if self._seen is not None and before is None:
                break  # what has been added since then is not for this run
            if before is not None and not wanted(range(first, first + before)):
                index += before
                continue
            given = self._reader.requests(entry, first) if same else ()
            for planned, following in pairwise(chain(given, (None,))):
                # Numbers that have changed since the first look would lead to other videos.
                if planned is None or (before is not None and following and planned.index >= first + before - 1):
                    break
                yield planned
                index += 1
            while before is not None and index < first + before:
                words = f"{entry.where} asks for other videos than before: it, or a checkpoint, has changed"
                yield Unusable(index=index, where=f"number {index}", error=entry.error or UsageError(words))
                index += 1
            counts.append(index - first)
        self._seen = self._seen or (counts, hashes)

    def _known(self, number: int, found: int) -> tuple[int | None, bool]:
        """How many videos a job asked for at the first look, if there was one, and whether it is the same job still."""
        if self._seen is None or number >= len(self._seen[0]):
            return None, True
        counts, hashes = self._seen
        return counts[number], hashes[number] == found


def requests_from(descriptor: int, reader: JobReader) -> Callable[[Callable[[], bool]], Iterator[Planned | None]]:
    """What `mpvideo.cli.making.make_stream` takes, of the jobs that come in through a pipe."""

    def source(stopping: Callable[[], bool]) -> Iterator[Planned | None]:
        index = 0
        for entry in stream_jobs(descriptor, stopping):
            if entry is None:
                yield None
                continue
            for planned in reader.requests(entry, index):
                yield planned
                index = planned.index + 1

    return source

"""Makes the videos of a stream of requests: the next ones are sampled while those before are decoded and written."""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from operator import attrgetter
from types import TracebackType
from typing import Protocol, Self, TypeVar

from mpvideo.batch.request import Request
from mpvideo.batch.sources import Sources
from mpvideo.device import memory_errors
from mpvideo.errors import MPVideoError, OutputError
from mpvideo.files import make_folder
from mpvideo.generation import Video, generate, shared_settings
from mpvideo.model import Model
from mpvideo.record import Record
from mpvideo.video import VideoWriter

Key = TypeVar("Key")

_LOOK_AHEAD = 16
"""Batches within which requests are looked for that fit together."""


class Watcher(Protocol):
    """Is told how the work goes, always in the thread that called `make_videos`."""

    def evaluated(self, samples: int) -> None:
        """So many passes of the network were made; see `mpvideo.generation.OnEvaluation`."""
        ...

    def smaller_batch(self, tried: int, size: int) -> None:
        """Memory did not suffice for `tried` videos at once; from now on it is `size` with this checkpoint."""
        ...

    def warn(self, words: str) -> None:
        """Something that the user should know, once for all requests."""
        ...

    def made(self, video: Video[Request], record: Record, size: tuple[int, int]) -> None:
        """A video's file is complete; `size` is the width and height of its pictures."""
        ...

    def found(self, request: Request) -> None:
        """Another process has made the very same meanwhile."""
        ...

    def failed(self, request: Request, error: MPVideoError) -> None:
        """A request could not be done, and nothing is left of it."""
        ...

    def stopping(self) -> bool:
        """Whether to stop: what is sampled by then is written, what is not is dropped."""
        ...


class _Stopped(Exception):
    """Leaves the sampling of a batch."""


def make_videos(
    requests: Iterable[Request | None],
    *,
    load: Callable[[Sources], Model],
    batch_size: int,
    overwrite: bool,
    watcher: Watcher,
    is_there: Callable[[Request], bool] = lambda request: False,
    keep_frames: bool = False,
) -> None:
    """Makes videos and writes their files; what goes wrong with one does not touch the others.

    Args:
        requests: what to make; None among them as for `mpvideo.generation.generate`.
        load: gives the model of a checkpoint; called whenever it is another one than before, and when nothing here
            holds the one before any more.
        batch_size: how many are sampled at once, of those that need not be by themselves.
        overwrite: whether existing files may be replaced.
        watcher: is told what became of every request.
        is_there: whether a request is the very video that is there; asked when a name is taken meanwhile, as by another
            process that does the same.
        keep_frames: whether it looks at `Video.frames` of what is made: they are then decoded as a whole, and once.
    """
    files = _Files(watcher, limit=2 * batch_size, overwrite=overwrite, is_there=is_there, keep_frames=keep_frames)
    with files, suppress(_Stopped):

        def without_debts() -> Iterator[Request | None]:
            for request in requests:
                yield request
                if request is None:  # whoever sends the next one may wait for the files of those before
                    files.report_all()

        maker = _Maker(files, load, batch_size, watcher)
        for sources, group in _runs(_together(without_debts(), window=_LOOK_AHEAD * batch_size), attrgetter("sources")):
            files.report_all()  # those that wait to be written hold their model
            maker.make(sources, group)


class _Maker:
    """Samples requests, one checkpoint after the other; see `make_videos`."""

    def __init__(self, files: "_Files", load: Callable[[Sources], Model], batch_size: int, watcher: Watcher) -> None:
        self._files, self._load, self._batch_size, self._watcher = files, load, batch_size, watcher
        self._smaller: dict[bytes, int] = {}

    def make(self, sources: Sources, group: Iterable[Request | None]) -> None:
        """Makes requests of one checkpoint."""
        try:
            model = self._load(sources)
        except MPVideoError as error:
            for request in group:
                if request is not None:
                    self._fail(request, error)
            return

        def smaller(tried: int, size: int) -> None:
            self._smaller[sources.key] = size
            self._watcher.smaller_batch(tried, size)

        for exact, alike in _runs(self._meant(group, model), attrgetter("exact")):
            videos = generate(
                model,
                alike,
                batch_size=1 if exact else self._smaller.get(sources.key, self._batch_size),
                on_evaluation=self._evaluated,
                on_smaller_batch=smaller,
                on_failure=self._fail,
            )
            for video in videos:
                self._files.add(video)

    def _meant(self, group: Iterable[Request | None], model: Model) -> Iterator[Request | None]:
        """The requests that mean just this model; of presets that do not, it is warned."""
        for request in group:
            if request is not None and request.check_model is not None:
                try:
                    request.check_model(model)
                except MPVideoError as error:
                    self._fail(request, error)
                    continue
            if request is not None and request.preset is not None:
                name, has_guide = model.name or model.checkpoint.name, model.guide is not None
                for words in request.preset.warnings(request.sampling, name, model.sha256, has_guide=has_guide):
                    self._watcher.warn(words)
            yield request

    def _fail(self, request: Request, error: Exception) -> None:
        self._watcher.failed(request, error if isinstance(error, MPVideoError) else MPVideoError(str(error)))

    def _evaluated(self, samples: int) -> None:
        self._watcher.evaluated(samples)
        self._files.report()
        if self._watcher.stopping():
            raise _Stopped


def _together(requests: Iterable[Request | None], window: int) -> Iterator[Request | None]:
    """Brings requests together that fit one batch, as far as they are at most `window` apart; a pause ends a window.

    In a window those of one checkpoint follow one another, first those of the checkpoint that was the last before.
    """
    waiting: dict[Sources, dict[object, list[Request]]] = {}
    count, last = 0, None
    for request in itertools.chain(requests, (None,)):
        if request is not None:
            fitting = request.exact, shared_settings(request, request.sources.checkpoint.config)
            waiting.setdefault(request.sources, {}).setdefault(fitting, []).append(request)
            count += 1
        if request is None or count == window:
            for sources in sorted(waiting, key=lambda sources: sources != last):
                yield from itertools.chain.from_iterable(waiting[sources].values())
                last = sources
            waiting, count = {}, 0
        if request is None:
            yield None


def _runs(
    requests: Iterable[Request | None], key: Callable[[Request], Key]
) -> Iterator[tuple[Key, Iterator[Request | None]]]:
    """Runs of requests that have a key in common; a pause belongs to the run before it."""
    current: Key | None = None

    def own(request: Request | None) -> Key | None:
        nonlocal current
        current = current if request is None else key(request)
        return current

    for common, run in itertools.groupby(requests, own):
        if common is not None:
            yield common, run


class _Files:
    """Files in the making, in a thread of its own, as a context: one after the other, in the order they come in.

    Leaving it waits for all of them; leaving it with an exception gives up those that are not finished.

    Args:
        watcher: is told what became of them.
        limit: how many videos may wait here: so many are in memory, whatever the length of the batch.
        overwrite: whether existing files may be replaced.
        is_there, keep_frames: see `make_videos`.
    """

    def __init__(
        self,
        watcher: Watcher,
        *,
        limit: int,
        overwrite: bool,
        is_there: Callable[[Request], bool],
        keep_frames: bool,
    ) -> None:
        self._watcher, self._limit, self._overwrite, self._keep_frames = watcher, limit, overwrite, keep_frames
        self._is_there = is_there
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mpvideo-writer")
        self._pending: deque[tuple[Video[Request], Record, Future[tuple[int, int]]]] = deque()
        self._given_up = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.report_all()
        finally:
            self._given_up.set()
            self._thread.shutdown(cancel_futures=True)
            for video, record, future in self._pending:
                # Whole files are told of, whatever ended the work: they will not be made again.
                if not future.cancelled() and future.exception() is None:
                    with suppress(MPVideoError):  # the first error is the one to tell of
                        self._watcher.made(video, record, future.result())

    def add(self, video: Video[Request]) -> None:
        """Has a video written, once there is room for it."""
        while len(self._pending) >= self._limit:
            self._report_first()
        job = video.job
        try:
            record = video.record(frames=job.frames, encoding=job.encoding, exact=job.exact)
        except ValueError as error:  # which does not touch the others
            self._watcher.failed(job, MPVideoError(f"how it was made cannot be recorded: {error}"))
            return
        self._pending.append((video, record, self._thread.submit(self._write, video, record)))

    def report(self) -> None:
        """Reports what is finished; waits for nothing."""
        while self._pending and self._pending[0][2].done():
            self._report_first()

    def report_all(self) -> None:
        """Reports all when they are finished."""
        while self._pending:
            self._report_first()

    def _report_first(self) -> None:
        video, record, future = self._pending[0]
        error = future.exception()  # waits
        self._pending.popleft()
        if error is None:
            self._watcher.made(video, record, future.result())
        elif isinstance(error, OutputError) and self._found(video.job):
            self._watcher.found(video.job)
        elif isinstance(error, MPVideoError):
            self._watcher.failed(video.job, error)
        else:
            raise error

    def _found(self, request: Request) -> bool:
        with suppress(MPVideoError):  # something else is
            return self._is_there(request)
        return False

    def _write(self, video: Video[Request], record: Record) -> tuple[int, int]:
        """Decodes and writes one video, some frames at a time."""
        request, about = video.job, video.model.config
        writer = VideoWriter(
            request.path,
            width=about.pixel_size,
            height=about.pixel_size,
            channels=about.video.pixel_channels,
            encoding=request.encoding,
            record=record.to_dict() if request.metadata else None,
            overwrite=self._overwrite,
        )
        left = request.frames
        if request.makes_folders:
            make_folder(request.path.parent)
        with memory_errors("writing one video", "Close other programs, or write with a smaller --scale."), writer:
            for frames in (video.frames,) if self._keep_frames else video.chunks():
                if self._given_up.is_set():
                    raise MPVideoError("interrupted")
                writer.write(frames[:left])
                left -= len(frames[:left])
                if not left:
                    break
        return writer.size

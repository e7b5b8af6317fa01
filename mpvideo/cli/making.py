"""Makes what `sample` and `batch` were asked for, and tells of it."""

import json
import sys
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mpvideo.batch.names import check_distinct, literal
from mpvideo.batch.request import Request
from mpvideo.checks import check_int
from mpvideo.cli.options import usage_errors
from mpvideo.cli.overviews import Overviews, Shown
from mpvideo.cli.progress import Ticker, progress, smaller_batch_warning
from mpvideo.cli.requests import Requests
from mpvideo.cli.streams import tell, write_result
from mpvideo.config import DeviceName, DtypeName, SamplingConfig
from mpvideo.errors import ExitCode, MPVideoError
from mpvideo.formats import STANDARD_OUTPUT, enlargement, warnings_about
from mpvideo.text import counted, printable

if TYPE_CHECKING:
    from mpvideo.generation import Video
    from mpvideo.model import Model
    from mpvideo.record import Record


def make(
    requests: Requests,
    overviews: Overviews,
    *,
    device: DeviceName,
    dtype: DtypeName,
    compiled: bool,
    batch_size: int,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Makes all videos that are asked for.

    Raises:
        MPVideoError: something does not fit, which is found before any work; or some could not be made.
    """
    began = time.monotonic()
    with usage_errors("batch_size"):
        check_int("batch_size", batch_size, 1, 65536)
    for warning in dict.fromkeys(_check(requests, overviews, overwrite=overwrite)):
        tell(f"warning: {warning}", quiet=quiet)

    # The options are known to be right before torch, which takes a second, is imported.
    from mpvideo.batch.runner import make_videos
    from mpvideo.device import choose_placement
    from mpvideo.generation import count_evaluations

    placement = choose_placement(device, dtype, compiled=compiled)
    for warning in placement.warnings:
        tell(f"warning: {warning}", quiet=quiet)
    model = requests.sources.load(placement)
    tell(f"{printable(requests.sources.checkpoint.name)} on {placement}", quiet=quiet)
    _warn_unlabelled(model, requests.samplings, quiet=quiet)

    total = sum(count_evaluations(request.sampling) for request in requests)
    with (
        overviews.writing(as_json=as_json) as shown,
        progress("sampling", total, "evaluations", quiet=quiet) as ticker,
    ):
        reporter = Reporter(ticker, shown, device, len(requests), quiet=quiet, as_json=as_json)
        make_videos(requests, load=lambda request: model, batch_size=batch_size, overwrite=overwrite, watcher=reporter)
    reporter.end()
    tell(f"done in {time.monotonic() - began:.1f} s", quiet=quiet)


def _check(requests: Requests, overviews: Overviews, *, overwrite: bool) -> Iterable[str]:
    """Makes sure that all files can be written; returns warnings about what they will not show."""
    from mpvideo.video import check_destination

    check_distinct(requests)
    about, encoding = requests.sources.checkpoint.config, requests.encoding
    for request in requests:
        path = request.path
        if requests.names.makes_folders and not path.parent.exists():
            path = next(folder for folder in path.parents if folder.exists()) / path.name
        check_destination(path, overwrite=overwrite, format_name=encoding.format)
        enlargement(path, width=about.pixel_size, height=about.pixel_size, encoding=encoding)
    yield from overviews.check(requests, side=about.pixel_size)
    yield from warnings_about(next(iter(requests)).path, channels=about.video.pixel_channels, encoding=encoding)
    if requests.sources.guide is not None and all(sampling.guidance == 1 for sampling in requests.samplings):
        yield "--guide has no effect at --guidance 1"


def _warn_unlabelled(model: "Model", samplings: Iterable[SamplingConfig], *, quiet: bool) -> None:
    """Warns before guidance of a network that does not know what no class is."""
    from mpvideo.unlabelled import unlabelled_warning

    guided = any(sampling.guidance != 1 for sampling in samplings)
    if guided and model.guide is None and (words := unlabelled_warning(model)) is not None:
        tell(f"warning: {words}", quiet=quiet)


class Reporter:
    """Tells of every video: a `mpvideo.batch.runner.Watcher` for people and programs.

    Args:
        ticker: the progress that is shown.
        shown: the overviews in the making.
        device: the device that was asked for.
        total: how many videos are to be made.
        quiet: tell of errors only.
        as_json: one object a line on standard output.
    """

    def __init__(
        self, ticker: Ticker, shown: Shown, device: DeviceName, total: int, *, quiet: bool, as_json: bool
    ) -> None:
        self._ticker, self._shown, self._total, self._quiet, self._as_json = ticker, shown, total, quiet, as_json
        self._device_words = [] if device == "auto" else ["--device", device]
        self.evaluated = ticker.advance
        self.smaller_batch = smaller_batch_warning(ticker)
        self._failures: list[MPVideoError] = []

    def made(self, video: "Video[Request]", record: "Record", size: tuple[int, int]) -> None:
        """Says that a file is there: its path or record to programs, and a summary to people."""
        request, (width, height) = video.job, size
        path, rate = request.path, Fraction(request.encoding.rate)
        # Unlike the one in the file, this command names folders, and the device and the format if they were asked for.
        format_words = ["--format", str(request.encoding.format)] if path == STANDARD_OUTPUT else []
        again = video.model.recorder.command(
            record,
            ckpt=request.sources.ckpt,
            guide=request.sources.guide_ckpt,
            extra=[*self._device_words, *format_words, "--out", literal(path)],
        )
        name = f"{printable(record.class_name)}, " if record.class_name else ""
        self._shown.add(video, record)
        with self._ticker.paused():
            if path == STANDARD_OUTPUT:
                pass  # that has the video
            elif self._as_json:
                about = {"path": str(path), "width": width, "height": height, "fps": float(rate)}
                write_result(json.dumps({**about, **record.to_dict(), "command": again}) + "\n")
            else:
                write_path(path)
            tell(
                f"{printable(path)}: {name}{counted(request.frames, 'frame')} of {width}x{height}, "
                f"{float(request.frames / rate):.1f} s\nagain (with -y or another --out): {again}",
                quiet=self._quiet,
            )

    def failed(self, request: Request, error: MPVideoError) -> None:
        """Says what could not be made, and why; of a single video the end of the program says it."""
        self._failures.append(error)
        if self._total > 1:
            with self._ticker.paused():
                name, words = printable(request.path), printable(error.message, 5000)
                tell(f"error: {words if name in words else f'{name}: {words}'}")
                if error.hint:
                    tell(f"hint: {printable(error.hint, 5000)}")

    def stopping(self) -> bool:
        """Never yet."""
        return False

    def end(self) -> None:
        """Raises what the program ends with, if not all went well."""
        if not self._failures:
            return
        if self._total == 1:
            raise self._failures[0]
        raise some_failed(self._failures, self._total)


def write_path(path: Path) -> None:
    """Writes the path of a finished file to standard output."""
    # A terminal gets no control characters, a program the name as it is.
    write_result(f"{printable(path, 10_000) if sys.stdout.isatty() else path}\n")


def some_failed(failures: list[MPVideoError], total: int) -> MPVideoError:
    """The error for videos that could not be made, with the exit code that all failures share, or else 1."""
    error = MPVideoError(f"{counted(len(failures), 'video')} of {total:,} could not be made")
    codes = {failure.exit_code for failure in failures}
    error.exit_code = codes.pop() if len(codes) == 1 else ExitCode.FAILED
    return error

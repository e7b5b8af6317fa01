"""Which outputs are finished already, by what their files say of how they were made."""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpvideo.batch.request import Request
from mpvideo.batch.sources import Sources
from mpvideo.blend import Blend, to_json
from mpvideo.config import SamplingConfig
from mpvideo.errors import MPVideoError, OutputError
from mpvideo.formats import STANDARD_OUTPUT, Encoding
from mpvideo.text import first_ten, printable

if TYPE_CHECKING:
    from mpvideo.record import Record, Recorder, Weights

_SHOWN, _BEFORE = 24, 4
"""Characters of a value that is not as it should be, in messages; and of what precedes the difference."""

_KEPT = 64
"""Settings, and checkpoints, of which it is kept what their files say."""


class Finished:
    """Recognises finished outputs.

    Args:
        dtype: what the network is to compute in; None if any will do.

    Attributes:
        dtype: that.
    """

    def __init__(self, dtype: str | None) -> None:
        self.dtype = dtype
        self._weights: dict[bytes, tuple[Weights, Weights | None]] = {}
        self._recorder = lru_cache(maxsize=_KEPT)(self._recorder_of)
        self._wanted = lru_cache(maxsize=_KEPT)(self._wanted_of)

    def __contains__(self, request: Request) -> bool:
        """Whether the file that is asked for is there: the same settings with the same weights.

        Raises:
            OutputError: something else is in its place, and what.
            MPVideoError: the weights cannot be read.
        """
        if request.path == STANDARD_OUTPUT or not os.path.exists(request.path):  # noqa: PTH110 - never raises
            return False
        if not request.metadata:
            raise in_the_way(request.path, "and what was made with --no-metadata cannot be recognised")
        from mpvideo.record import settings_in  # noqa: PLC0415 - not before there is something to read
        from mpvideo.video import read_record  # noqa: PLC0415
        from mpvideo.video.folder import png_frames  # noqa: PLC0415

        try:
            data = read_record(request.path)
        except MPVideoError:
            raise in_the_way(request.path, "and cannot be read as a video") from None
        if data is None or "mpvideo" not in data:  # a grid has a record of another kind
            raise in_the_way(request.path, "and does not say how it was made")
        if not self._is_wanted(settings_in(data), request):
            self._check_differences(request)
        if request.path.is_dir() and (there := len(png_frames(request.path))) != request.frames:
            raise in_the_way(request.path, f"with {there} frames of {request.frames}")
        return True

    def _is_wanted(self, found: dict[str, Any], request: Request) -> bool:
        # Most requests differ in seed and class alone: what the others have in common is written once.
        shared = self._wanted(
            request.sources, request.sampling, request.clamp, request.frames, request.encoding, request.exact
        )
        wanted = {**shared, "seed": to_json(request.seed), "class": to_json(request.class_index)}
        if self.dtype is None:
            wanted["dtype"] = found.get("dtype")
        return found == wanted

    def _wanted_of(
        self, sources: Sources, sampling: SamplingConfig, clamp: bool, frames: int, encoding: Encoding, exact: bool
    ) -> dict[str, Any]:
        """What the file of a request says of its settings, whatever seed and class it has."""
        from mpvideo.record import settings_in  # noqa: PLC0415

        record = self._recorder(sources).record(
            seed=0,
            class_index=None if sources.checkpoint.config.model.num_classes is None else 0,
            frames=frames,
            sampling=sampling,
            clamp=clamp,
            encoding=encoding,
            exact=exact,
        )
        # By way of JSON, as the found ones: it has no tuples.
        settings: dict[str, Any] = json.loads(json.dumps(settings_in(record.to_dict())))
        return settings

    def _recorder_of(self, sources: Sources) -> "Recorder":
        from mpvideo.record import Recorder  # noqa: PLC0415

        # The weights are read once, however often their checkpoint is opened. Device and version are no settings.
        if sources.key not in self._weights:
            self._weights[sources.key] = sources.weights()
        own, guide = self._weights[sources.key]
        dtype = self.dtype or "float32"
        return Recorder(sources.checkpoint, sha256=own.sha256, dtype=dtype, device="cpu", torch="0", guide=guide)

    def record(self, request: Request) -> "Record":
        """What the file of a request says of how it was made; of the dtype, only if that was asked for."""
        return self._recorder(request.sources).record(
            seed=request.seed,
            class_index=request.class_index,
            frames=request.frames,
            sampling=request.sampling,
            clamp=request.clamp,
            encoding=request.encoding,
            exact=request.exact,
        )

    def _check_differences(self, request: Request) -> None:
        """Compares strictly and slowly: a record of an older version may lack what has a default since."""
        from mpvideo.record import load_record  # noqa: PLC0415

        try:
            found = load_record(request.path)
        except MPVideoError as error:
            raise in_the_way(request.path, f"and {error.message}") from None
        differences = found.differences(self.record(request))
        if self.dtype is None:
            differences.pop("dtype", None)
        words = [_difference(key, theirs, ours) for key, (theirs, ours) in differences.items()]
        if words:
            raise in_the_way(request.path, f"made with other settings: {first_ten(words)}")


def _difference(key: str, theirs: object, ours: object) -> str:
    """Two values of a setting in words; long ones from where they differ."""
    if key in ("class", "seed"):
        theirs, ours = (Blend.from_list(each) if isinstance(each, list) else each for each in (theirs, ours))
    words = [str(theirs), str(ours)]
    differing = next((i for i, (a, b) in enumerate(zip(*words, strict=False)) if a != b), min(map(len, words)))
    if max(map(len, words)) > _SHOWN and differing > _BEFORE:
        words = [f"...{each[differing - _BEFORE :]}" for each in words]
    return f"{key} {printable(words[0], _SHOWN)} instead of {printable(words[1], _SHOWN)}"


def in_the_way(path: Path, words: str) -> OutputError:
    """The error for a file that is not what is asked for, and why, and not to be replaced."""
    return OutputError(
        f"{printable(path)} exists already, {words}", hint="Choose another name, or give -y to replace it."
    )

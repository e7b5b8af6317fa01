"""`sample --like VIDEO`: what is not given on the command line is as in a video that is there already."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpvideo.checkpoint import bundled_checkpoint, find_problems, read_header
from mpvideo.checkpoint.merging import config_over
from mpvideo.cli.hub import is_on_hub
from mpvideo.cli.sampling_options import VIDEO_PANEL
from mpvideo.command import options_of, shell_join
from mpvideo.config import DtypeName
from mpvideo.errors import UsageError, naming
from mpvideo.formats import STANDARD_OUTPUT, Encoding, format_of
from mpvideo.hub import find_reference
from mpvideo.text import printable

if TYPE_CHECKING:
    from mpvideo.model import Model


class Original:
    """A video that another one shall be like.

    Args:
        path: a file that `mpvideo` made.

    Attributes:
        path: that file.

    Raises:
        MPVideoError: it cannot be read, or does not say how it was made.
    """

    def __init__(self, path: Path) -> None:
        from mpvideo.record import load_record

        self.path = path
        with naming("--like", path):
            self._record = load_record(path)

    @property
    def clamp(self) -> bool:
        """Whether its estimates were clamped."""
        return self._record.clamp

    def options(self) -> dict[str, str | bool]:
        """Its settings as options of `sample`, apart from `clamp` and those that `overrides` and `encoding` give."""
        return options_of(self._record)

    def checkpoint(self, given: Path | None) -> Path | None:
        """The checkpoint to take: the one given, or one with the recorded name, here or beside the video.

        Returns:
            Its path; None for the weights that come with mpvideo.

        Raises:
            UsageError: there is none of that name.
        """
        name = self._record.checkpoint.name
        return given if given is not None or name == bundled_checkpoint().name else self._found(name, "--ckpt")

    def guide(self, given: Path | None) -> Path | None:
        """The guide to take, found as the checkpoint is; None if it had none.

        Raises:
            UsageError: there is none of that name.
        """
        recorded = self._record.guide
        return given if given is not None or recorded is None else self._found(recorded.name, "--guide")

    def _found(self, name: str, flag: str) -> Path:
        on_hub = find_reference(name) is not None  # a video that somebody sent shall not start a download
        for path in () if on_hub else (Path(name), self.path.parent / name):
            if os.path.exists(path):  # noqa: PTH110 - never raises: a name from a record may be one of no file
                return path.absolute() if is_on_hub(path) else path  # of such a name, a file goes by its whole path
        word = "checkpoint" if flag == "--ckpt" else "guide"
        raise UsageError(
            f"{printable(self.path)} was made with the {word} {printable(name)}, which is "
            + ("on the hub: it is only fetched if asked for" if on_hub else "neither here nor beside it"),
            hint=f"Give it with {shell_join([flag, name] if on_hub else [flag])}.",
        )

    def overrides(self, ckpt: Path, config: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """What --set says, over what the record says of the checkpoint's config and of the sampler.

        Args:
            ckpt: the checkpoint.
            config: of --config, which takes the place of the record's.
            given: of --set.

        Raises:
            UsageError: the checkpoint's tensors are not of the kind that the video was made with.
        """
        data = self._record.to_dict()
        below: dict[str, Any] = {"sampling": data["sampling"]}
        if config is None:
            if problems := find_problems(read_header(ckpt), self._record.config):
                raise self._other_weights(ckpt.name, "; ".join(problems))
            below |= data["config"]
        return config_over(below, given)

    def encoding(self, out: Path, given: Encoding) -> Encoding:
        """The settings of a file's encoder, with the original's where none are given, if it is of the same format.

        Args:
            out: the file.
            given: the settings of the command line.
        """
        made = self._record.encoding
        if made is None:
            return given
        kind = made.format_for(self.path)
        name = given.format or (kind.name if out == STANDARD_OUTPUT else made.format)
        try:
            if format_of(out, name) != kind:
                return given
        except UsageError:  # a name that is of another kind, or of none, which will be told
            return given
        asked = given.crf is not None or given.lossless
        crf, lossless = (given.crf, given.lossless) if asked else (made.crf, made.lossless)
        loop = made.loop if given.loop is None else given.loop
        return dataclasses.replace(given, format=name, crf=crf, lossless=lossless, loop=loop)

    def check_model(self, dtype: DtypeName, model: "Model") -> None:
        """Makes sure that a model can make it again.

        Args:
            dtype: what it is to compute in; auto if any will do.
            model: has to have the weights that it was made with, and those of its guide, if it had one.

        Raises:
            UsageError: it cannot.
        """
        if dtype not in ("auto", here := model.placement.dtype_name):
            raise UsageError(
                f"{printable(self.path)} was made in {dtype}, which is not what is computed in here: {here}",
                hint=f"Give --dtype {dtype} to make it again, or --dtype {here} to make it in that.",
            )
        pairs = [(model.name or model.checkpoint.name, self._record.checkpoint, model.sha256)]
        if self._record.guide is not None and model.guide is not None:
            pairs.append((model.guide.name, self._record.guide, model.guide.sha256))
        for name, weights, sha256 in pairs:
            if weights.sha256 != sha256:
                raise self._other_weights(
                    name, f"its record has the sha256 {weights.sha256[:12]}..., they have {sha256[:12]}..."
                )

    def _other_weights(self, name: str, how: str) -> UsageError:
        return UsageError(
            f"{printable(self.path)} was not made with the weights of {printable(name)}: {how}",
            hint="Give the ones that it was made with by --ckpt or --guide. To sample others alike, give the settings "
            "as options; `mpvideo inspect` shows them.",
        )


def _take_options(context: typer.Context, path: Path | None) -> Original | None:
    """Has the options that are not given, which are read after this one, get their values from a video."""
    if path is None:
        return None
    original = Original(path)
    parameters = {flag.lstrip("-"): parameter for parameter in context.command.params for flag in parameter.opts}
    context.default_map = {str(parameters[option].name): value for option, value in original.options().items()}
    return original


Like = Annotated[  # what the command gets is the `Original`
    Path | None,
    typer.Option(
        "--like",
        metavar="VIDEO",
        help="Make this video again: what is not given comes from its record. The weights must be the same; they are "
        "looked for by name, here, beside the video and among those that come with mpvideo.",
        rich_help_panel=VIDEO_PANEL,
        is_eager=True,
        callback=_take_options,
    ),
]

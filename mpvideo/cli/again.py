"""The command that makes one video of a run again, as it is printed where the run was made."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mpvideo.cli.naming import literal

if TYPE_CHECKING:
    from mpvideo.record import Record, Recorder


def command_again(context: typer.Context, recorder: "Recorder", record: "Record", out: Path) -> str:
    """The command, for a POSIX shell, that makes one video alone: the same up to rounding.

    Unlike the one in the file it names folders, and the device if one was asked for.

    Args:
        context: of the run.
        recorder: of the checkpoint.
        record: of the video.
        out: its file.
    """
    ckpt, guide, device = (context.params[name] for name in ("ckpt", "guide", "device"))
    device_words = [] if device == "auto" else ["--device", device]
    return recorder.command(
        record,
        ckpt=None if ckpt is None else str(ckpt),
        guide=None if guide is None else str(guide),
        extra=[*device_words, "--out", literal(out)],
    )

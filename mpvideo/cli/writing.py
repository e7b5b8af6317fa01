"""Options of the commands that write videos: in which format, how large, and how good."""

from pathlib import Path
from typing import Annotated

import typer

from mpvideo.cli.options import usage_errors
from mpvideo.formats import FORMATS, Encoding, Filter

FILE_PANEL = "How to write the files"
RUN_PANEL = "Which part to make, and what to note"

FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help=f"{', '.join(FORMATS)}. By default what the name in --out ends in; png is a folder of frames, while a "
        "name in .png is an animated PNG, and av1 goes into a .webm as VP9 does.",
        rich_help_panel=FILE_PANEL,
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(
        "--fps", metavar="X", help="Frames a second; by default as the checkpoint says.", rich_help_panel=FILE_PANEL
    ),
]
Scale = Annotated[
    int | None,
    typer.Option(
        "--scale",
        metavar="N",
        help="Make videos N times as wide and high. By default small ones grow to 256 pixels in formats to look at: "
        f"{', '.join(kind.name for kind in FORMATS.values() if kind.to_look_at)}.",
        rich_help_panel=FILE_PANEL,
    ),
]
FilterName = Annotated[
    Filter,
    typer.Option(
        "--filter",
        help="How they get larger: nearest makes every pixel a block, lanczos smooths.",
        rich_help_panel=FILE_PANEL,
    ),
]
CrfValue = Annotated[
    int | None,
    typer.Option(
        "--crf",
        metavar="N",
        help="Quality: less is better and larger. "
        + "; ".join(
            f"{kind.name} {kind.crf.best} to {kind.crf.smallest}, {kind.crf.default} by default"
            for kind in FORMATS.values()
            if kind.crf
        )
        + ".",
        rich_help_panel=FILE_PANEL,
    ),
]
Lossless = Annotated[
    bool,
    typer.Option(
        "--lossless",
        help="Keep every pixel as it is, in mp4 and webm; not all players know these. Always so in mkv (FFV1), apng, "
        "png, npy and safetensors.",
        rich_help_panel=FILE_PANEL,
    ),
]
Loop = Annotated[
    int | None,
    typer.Option(
        "--loop",
        metavar="N",
        help="How often a GIF or APNG is played; for ever by default.",
        rich_help_panel=FILE_PANEL,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        "-y",
        help="Replace files that were not made with the same settings.",
        rich_help_panel=FILE_PANEL,
    ),
]

NoMetadata = Annotated[
    bool,
    typer.Option("--no-metadata", help="Keep no record of how it was made in the file.", rich_help_panel=FILE_PANEL),
]


Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="N/OF",
        help="Make every OF-th video only, as number N of OF processes that need not know of each other: 3/16.",
        rich_help_panel=RUN_PANEL,
    ),
]
JournalPath = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Append a JSON line to this file for every video that is made or fails.",
        rich_help_panel=RUN_PANEL,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Make nothing: print what would be made, how many, and how long it would take, measured on the spot.",
        rich_help_panel=RUN_PANEL,
    ),
]


def encoding_of(
    *,
    fps: float,
    format_name: str | None,
    scale: int | None,
    filter_name: Filter,
    crf: int | None,
    lossless: bool,
    loop: int | None,
) -> Encoding:
    """What these options ask for.

    Raises:
        UsageError: a value that no format has.
    """
    with usage_errors("fps", "scale", "crf", "format", "filter", "loop", "lossless"):
        return Encoding(fps, scale, crf, format_name, lossless, loop, filter_name)

"""`mpvideo ema`: averages of a finished training's weights, of any width."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvideo.checkpoint import open_checkpoint
from mpvideo.checkpoint.header import is_folder
from mpvideo.checks import check_float, check_int
from mpvideo.cli.options import AsJson, Quiet, usage_errors
from mpvideo.cli.progress import progress
from mpvideo.cli.streams import tell, write_result
from mpvideo.errors import UsageError, naming
from mpvideo.files import check_writable
from mpvideo.text import counted, printable
from mpvideo.training.recipe import NARROWEST_STD, WIDEST_STD
from mpvideo.training.record import belongs_to_run

if TYPE_CHECKING:
    from mpvideo.training.posthoc import EMASnapshot

CURVE_STDS = tuple(percent / 100 for percent in range(5, 21))
"""Widths that the table of errors shows."""

GOOD_ERROR = 0.01
"""Relative error of a profile up to which no warning is given."""

AVERAGE_PANEL = "Which average"
FILE_PANEL = "The files"


def ema(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a training run, finished or not.", show_default=False)
    ],
    std: Annotated[
        list[str] | None,
        typer.Option(
            "--std",
            metavar="X[,X...]",
            help="Relative width of the average: 0.10 averages over about the last tenth of the training. Several with "
            "commas, or with --std repeated. Without it, a table shows how exact each width would be.",
            rich_help_panel=AVERAGE_PANEL,
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            "--step",
            metavar="N",
            help="The average as of step N; by default of the last snapshot.",
            rich_help_panel=AVERAGE_PANEL,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The checkpoint to write, a .safetensors file; {std} stands for the width. By default "
            "RUN/ema-{std}.safetensors.",
            rich_help_panel=FILE_PANEL,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace existing files.", rich_help_panel=FILE_PANEL)
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make checkpoints with other averages of a run's weights.

    A run keeps averages of two widths and snapshots of both; any width from 0.05 to 0.20 can be made of them
    afterwards, others less exactly, with a warning. Which one samples best has to be tried. The paths of finished
    checkpoints go to standard output.

    \b
    mpvideo ema run
    mpvideo ema run --std 0.05,0.10,0.15
    mpvideo sample --ckpt run/ema-0.150.safetensors --out video.mp4
    """
    stds = _widths(std)
    if step is not None:
        with usage_errors("step"):
            check_int("step", step, 1)
    if not stds and out is not None:
        raise UsageError("--out needs --std, the width of the average to write", hint="For example --std 0.10.")
    if len(stds) > 1 and out is not None and "{std}" not in out:
        raise UsageError(
            f"--out must contain {{std}} for {len(stds)} widths, or the checkpoints would replace each other; "
            f"got {printable(out)!r}",
            hint="For example ema-{std}.safetensors.",
        )
    if out is not None:
        _check_suffix(Path(out))

    # The options are known to be right before torch, which takes a second, is imported.
    from mpvideo.training.posthoc import find_snapshots

    with usage_errors("step"):
        snapshots = find_snapshots(run, step)
    if stds:
        _write(run, snapshots, stds, out, overwrite=overwrite, quiet=quiet, as_json=as_json)
    else:
        _show_curve(snapshots, quiet=quiet, as_json=as_json)


def _widths(texts: Sequence[str] | None) -> list[float]:
    """The widths that --std gives, each once."""
    widths = []
    for text in ",".join(texts or []).split(",") if texts else []:
        try:
            width = float(text)
        except ValueError:
            raise UsageError(
                f"--std must be a number, or several with commas, got {printable(text)!r}",
                hint="For example --std 0.05,0.10,0.15.",
            ) from None
        with usage_errors("std"):
            check_float("std", width, NARROWEST_STD, WIDEST_STD, open_high=True)
        widths.append(width)
    return list(dict.fromkeys(widths))


def _check_suffix(out: Path) -> None:
    if out.suffix.lower() != ".safetensors":
        example = out / "ema-{std}.safetensors" if is_folder(out) else out.with_name(f"{out.name}.safetensors")
        raise UsageError(
            f"--out must end in .safetensors, got {printable(out)}", hint=f"For example {printable(example)}."
        )


def _write(
    run: Path,
    snapshots: "list[EMASnapshot]",
    stds: Sequence[float],
    out: str | None,
    *,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Writes a checkpoint for each width and says how exact it is."""
    from mpvideo.training.posthoc import save_average, std_word

    checkpoint = open_checkpoint(run)
    words = [std_word(width) for width in stds]
    paths = [Path(out.replace("{std}", word)) if out else run / f"ema-{word}.safetensors" for word in words]
    for path in paths:
        if belongs_to_run(path, run):
            raise UsageError(
                f"--out must not be a file of the run's own, got {printable(path)}",
                hint="Choose another name: that file is never replaced.",
            )
        with naming("--out", path):
            check_writable(path, overwrite=overwrite)
    tell(_of_what(snapshots), quiet=quiet)
    tensors = len(snapshots[-1].shapes) * len(stds)
    with progress("reconstructing", tensors, "tensors", quiet=quiet) as ticker:
        for width, path in zip(stds, paths, strict=True):
            error = _error(snapshots, width)
            save_average(path, checkpoint, snapshots, width, overwrite=overwrite, on_tensor=ticker.advance)
            with ticker.paused():
                about = {"path": str(path), "ema_std": width, "step": snapshots[-1].step, "profile_error": error}
                write_result(f"{json.dumps(about)}\n" if as_json else f"{path}\n")
                tell(f"{printable(path)}: width {std_word(width)}, error of the profile {error:.1e}", quiet=quiet)
                if error > GOOD_ERROR:
                    tell(
                        f"warning: the snapshots do not give the width {std_word(width)} to within {GOOD_ERROR:.0%}: "
                        f"it is off by {error:.1%}; `mpvideo ema {printable(run)}` shows what they give",
                        quiet=quiet,
                    )


def _show_curve(snapshots: "list[EMASnapshot]", *, quiet: bool, as_json: bool) -> None:
    """Prints how exact each width would be."""
    errors = {width: _error(snapshots, width) for width in CURVE_STDS}
    if as_json:
        curve = [{"ema_std": width, "profile_error": error} for width, error in errors.items()]
        about = {"step": snapshots[-1].step, "snapshots": len(snapshots), "curve": curve}
        write_result(f"{json.dumps(about)}\n")
        return
    tell(
        f"{_of_what(snapshots)}; the smaller the error, the nearer an average to its width: up to {GOOD_ERROR:.0e} is "
        "good, and --std writes it",
        quiet=quiet,
    )
    lines = [f"{width:.2f}  {error:.1e}" for width, error in errors.items()]
    write_result("\n".join(["std   error of the profile", *lines]) + "\n")


def _of_what(snapshots: "list[EMASnapshot]") -> str:
    return f"{counted(len(snapshots), 'snapshot')}, the last of step {snapshots[-1].step:,}"


def _error(snapshots: "list[EMASnapshot]", width: float) -> float:
    from mpvideo.training.ema import profile_error

    steps, stds = [snapshot.step for snapshot in snapshots], [snapshot.ema_std for snapshot in snapshots]
    return profile_error(steps, stds, steps[-1], width)

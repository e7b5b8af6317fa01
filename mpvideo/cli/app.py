"""The program: its commands, and the one place where exceptions become messages and exit codes."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mpvideo import __version__
from mpvideo.batch.crew import launched
from mpvideo.cli.batch import batch
from mpvideo.cli.commands import GroupedCommand, Program
from mpvideo.cli.convert import convert
from mpvideo.cli.doctor import doctor
from mpvideo.cli.ema import ema
from mpvideo.cli.evaluate import evaluate
from mpvideo.cli.imports import hold_signals_while_importing
from mpvideo.cli.inspect import inspect
from mpvideo.cli.sample import sample
from mpvideo.cli.streams import tell
from mpvideo.cli.train import train
from mpvideo.cli.tune import tune
from mpvideo.errors import ExitCode, MPVideoError, OutputError, interruption
from mpvideo.files import reason
from mpvideo.text import printable

_FIRST_SPEAKS = 5.0
"""Seconds that other processes wait before they say what is wrong with the options."""

_INTERRUPTED = "interrupted; nothing was left half written"

app = typer.Typer(
    name="mpvideo",
    cls=Program,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command(cls=GroupedCommand, options_metavar="--out FILE [OPTIONS]")(sample)
app.command(cls=GroupedCommand)(batch)
app.command(cls=GroupedCommand)(inspect)
app.command(cls=GroupedCommand)(convert)
app.command("eval", cls=GroupedCommand)(evaluate)
app.command(cls=GroupedCommand, options_metavar="--out RUN [OPTIONS]")(train)
app.command(cls=GroupedCommand)(ema)
app.command(cls=GroupedCommand)(tune)
app.command(cls=GroupedCommand)(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mpvideo {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with every error; works after a command too.")
    ] = False,
) -> None:
    """Turn KarrasUnet3D checkpoints into finished videos; train, convert, inspect and judge them.

    \b
    mpvideo sample --class 207 --frames 32 --out dog.mp4
    mpvideo sample --help
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the program and exits with one of `mpvideo.errors.ExitCode`.

    Args:
        arguments: what follows the program's name; None for those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _clean_up_on_signals()
    hold_signals_while_importing()
    _open_closed_streams()
    # Accepted behind the command too: whoever needs it appends it to the line that failed.
    debug = "--debug" in arguments
    try:
        _check_folder()
        app(args=[argument for argument in arguments if argument != "--debug"], prog_name="mpvideo")
    except MemoryError:
        if debug:
            traceback.print_exc()
        _fail("not enough memory", "Close other programs, or use a machine with more.", ExitCode.DEVICE)
    except MPVideoError as error:
        if debug:
            traceback.print_exc()
        _stop_if_interrupted(error)
        _fail(error.message, error.hint, error.exit_code)
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = "" if error.filename is None else f"{printable(error.filename)}: "
        _fail(f"input or output failed: {where}{reason(error)}", None, ExitCode.OUTPUT)
    except SystemExit as ended:
        # Typer turns Ctrl-C into this code without a word.
        if ended.code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
            _fail(_INTERRUPTED, None, ExitCode(ended.code))
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        _stop_if_interrupted(error)
        _fail(
            f"unexpected {type(error).__name__}: {printable(error, 1000)}",
            "This is a defect of mpvideo: report it with the traceback above."
            if debug
            else "This is a defect of mpvideo. Run the command again with --debug and report what it prints.",
            ExitCode.FAILED,
        )
    sys.exit(ExitCode.DONE)


def _stop_if_interrupted(error: Exception) -> None:
    """Ends the program as interrupted if that is what an error comes of, whatever was made of it on the way."""
    if (code := interruption(error)) is not None:
        _fail(_INTERRUPTED, None, code)


def _check_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        # Libraries would fail on this later, in words of their own.
        raise OutputError(
            f"the current folder cannot be used: {reason(error)}", hint="Change to another one."
        ) from None


def _open_closed_streams() -> None:
    """Gives a program started with closed streams (`>&-`) some that lead nowhere, as Python alone would not."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - for the life of the program


def _clean_up_on_signals() -> None:
    """Has temporary files removed when a scheduler stops the program, or its terminal goes away."""
    signal.signal(signal.SIGTERM, _terminate)
    # Under nohup a hang-up is ignored already, and has to stay so.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)


def _terminate(number: int, frame: object) -> NoReturn:
    sys.exit(ExitCode.TERMINATED)


def _fail(message: str, hint: str | None, code: ExitCode) -> NoReturn:
    # The end has begun: a second Ctrl-C would only turn it into a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if code == ExitCode.USAGE and launched()[0] > 0:
        # The first process says the same, whereupon torchrun ends this one; unless it is wrong here alone.
        time.sleep(_FIRST_SPEAKS)
    for name in ("SIGTERM", "SIGHUP"):  # they would change the exit code
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    tell(f"error: {printable(message, 5000)}" + (f"\nhint: {printable(hint, 5000)}" if hint else ""))
    sys.exit(code)

"""The program: its commands, and the one place where exceptions become messages and exit codes."""

import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from mpvideo import __version__
from mpvideo.cli.help import GroupedCommand
from mpvideo.cli.inspect import inspect
from mpvideo.cli.sample import sample
from mpvideo.cli.streams import tell
from mpvideo.errors import ExitCode, MPVideoError
from mpvideo.text import printable

app = typer.Typer(
    name="mpvideo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command(cls=GroupedCommand, options_metavar="--out FILE [OPTIONS]")(sample)
app.command(cls=GroupedCommand)(inspect)


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
    """Turn a KarrasUnet3D checkpoint into finished videos.

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
    # Accepted behind the command too: whoever needs it appends it to the line that failed.
    debug = "--debug" in arguments
    try:
        app(args=[argument for argument in arguments if argument != "--debug"], prog_name="mpvideo")
    except MPVideoError as error:
        if debug:
            traceback.print_exc()
        _fail(error.message, error.hint, error.exit_code)
    except SystemExit as ended:
        # Typer turns Ctrl-C into this code without a word.
        if ended.code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
            _fail("interrupted; nothing was left half written", None, ExitCode(ended.code))
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        _fail(
            f"unexpected {type(error).__name__}: {printable(error, 1000)}",
            "This is a defect of mpvideo: report it with the traceback above."
            if debug
            else "This is a defect of mpvideo. Run the command again with --debug and report what it prints.",
            ExitCode.FAILED,
        )
    sys.exit(ExitCode.DONE)


def _clean_up_on_signals() -> None:
    """Has temporary files removed when a scheduler stops the program, or its terminal goes away."""
    signal.signal(signal.SIGTERM, _terminate)
    # Under nohup a hang-up is ignored already, and has to stay so.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)


def _terminate(number: int, frame: object) -> NoReturn:
    sys.exit(ExitCode.TERMINATED)


def _fail(message: str, hint: str | None, code: ExitCode) -> NoReturn:
    tell(f"error: {message}")
    if hint:
        tell(f"hint: {hint}")
    sys.exit(code)

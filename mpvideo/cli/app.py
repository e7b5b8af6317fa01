"""The program: its commands, and the one place where exceptions become messages and exit codes."""

import os
import sys
from typing import Annotated, NoReturn

import typer

from mpvideo import __version__
from mpvideo.cli.inspect import inspect
from mpvideo.cli.sample import sample
from mpvideo.errors import ExitCode, MPVideoError

app = typer.Typer(
    name="mpvideo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(sample)
app.command()(inspect)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mpvideo {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with every error.")] = False,
) -> None:
    """Turn a KarrasUnet3D checkpoint into finished videos."""


def main() -> None:
    """Runs the program and exits with one of `mpvideo.errors.ExitCode`."""
    arguments = sys.argv[1:]
    # Accepted behind the command too: whoever needs it appends it to the line that failed.
    debug = "--debug" in arguments
    try:
        app(args=[argument for argument in arguments if argument != "--debug"], prog_name="mpvideo")
    except MPVideoError as error:
        if debug:
            raise
        _fail(error.message, error.hint, error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        _fail("interrupted; nothing was left half written", None, ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has had enough, as `head` does. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FAILED)
    except Exception as error:
        if debug:
            raise
        _fail(
            f"unexpected {type(error).__name__}: {error}",
            "This is a defect of mpvideo. Run the command again with --debug and report what it prints.",
            ExitCode.FAILED,
        )


def _fail(message: str, hint: str | None, code: ExitCode) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    sys.exit(code)

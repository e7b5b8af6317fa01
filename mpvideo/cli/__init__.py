"""The command line: one file per command. Typer and Rich live only here."""

from mpvideo.cli.app import main

__all__ = ["main"]

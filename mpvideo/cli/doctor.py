"""`mpvideo doctor`: what there is to make videos with here, and whether it works."""

import json
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from mpvideo.cli.options import AsJson
from mpvideo.cli.streams import write_result
from mpvideo.cli.tables import section, show_notes, table, write_screen
from mpvideo.errors import DeviceError
from mpvideo.text import amount, counted, printable

if TYPE_CHECKING:
    from mpvideo.doctor import Report


def doctor(as_json: AsJson = False) -> None:
    """Say what there is to make videos with here, and whether it works.

    Tries a small block of the network on every device and in every dtype, measures whether bfloat16 is faster, and asks
    ffmpeg for its encoders. Exit code 4 if no device computes well, 5 if video files cannot be written. The keys of
    --json stay; `python -m pydoc mpvideo.doctor` lists them.

    \b
    mpvideo doctor
    mpvideo doctor --json
    """
    try:
        from mpvideo.doctor import examine
    except (ImportError, OSError) as error:  # an OSError if a library that torch brings does not load
        raise DeviceError(
            f"torch cannot be loaded: {printable(error, 1000)}", hint="Install torch anew, as pytorch.org describes."
        ) from error
    report = examine()
    if as_json:
        write_result(json.dumps(report, indent=2, allow_nan=False) + "\n")
    else:
        write_screen(lambda console: show(report, console))
    if report["exit_code"]:
        raise typer.Exit(report["exit_code"])


def show(report: "Report", console: Console) -> None:
    """Prints a report for people."""
    from mpvideo.doctor import ENCODERS

    versions = report["versions"]
    console.print(Text(f"mpvideo {versions['mpvideo']}", style="bold"))
    section(console, "Versions", [(name, words or "none") for name, words in versions.items() if name != "mpvideo"])
    section(console, "Devices", [*_device_rows(report), *_disk_rows(report)])
    _show_checks(report, console)
    console.print(Text("\nEncoders of ffmpeg", style="bold"))
    grid = table("<encoder <there <for")
    for name, there in report["encoders"].items():
        grid.add_row("", name, "yes" if there else "no", ENCODERS[name])
    console.print(grid)
    chosen = report["sample"]
    section(console, "Sampling, by default", [("on", chosen["words"]), ("because", chosen["reason"])])
    for heading, entries in (
        ("Warnings", [{"message": message, "hint": None} for message in report["warnings"]]),
        ("Problems", report["problems"]),
    ):
        if entries:
            console.print(Text(f"\n{heading}", style="bold"))
            show_notes(console, entries)
    if not report["problems"]:
        console.print(Text("\nVideos can be made here.", style="bold"))


def _device_rows(report: "Report") -> list[tuple[str, str]]:
    rows = [(name, device["about"]) for name, device in report["devices"].items()]
    processors = report["processors"]
    words = counted(report["threads"], "thread") + (f" on {counted(processors, 'processor')}" if processors else "")
    return [*rows, ("threads", words)]


def _disk_rows(report: "Report") -> list[tuple[str, str]]:
    return [
        ("disk", f"{'unknown' if free is None else amount(free, 'B')} free for the {folder}")
        for folder, free in report["free_bytes"].items()
    ]


def _show_checks(report: "Report", console: Console) -> None:
    console.print(Text("\nA test block, against float64", style="bold"))
    grid = table("<device <dtype error limit <passes")
    for check in report["checks"]:
        error = "-" if check["error"] is None else f"{check['error']:.0e}"
        passes = "yes" if check["passes"] else f"no: {check['problem']}"
        grid.add_row("", check["device"], check["dtype"], error, f"{check['limit']:.0e}", Text(passes))
    console.print(grid)
    for device, speedup in report["speedups"].items():
        if speedup is not None:
            console.print(Text(f"  On {device}, bfloat16 is {speedup:.1f} times as fast as float32."))

"""What `mpvideo inspect` shows of what is no checkpoint: a video, a .pt file, how two checkpoints differ."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from mpvideo.checkpoint.report import Report
from mpvideo.cli.checkpoint_screen import few_rows, path_rows, show_inferred, show_open, show_parameters, show_tensors
from mpvideo.cli.record_screen import show_no_record, show_record
from mpvideo.cli.tables import section, show_notes, table
from mpvideo.text import amount, counted, first_ten, printable

if TYPE_CHECKING:
    from mpvideo.record import Record

_SHOWN_VALUES = 10


def show_video(report: Report, record: "Record | None", console: Console) -> None:
    """Prints what a video says of itself, and how it was made if it says so."""
    console.print(Text(printable(report["name"]), style="bold"))
    fps = f" at {report['fps']:.4g} a second" if report["fps"] else ""
    rows = [
        ("path", printable(report["path"], 1000)),
        ("size", f"{amount(report['bytes'], 'B')} ({report['bytes']:,} bytes)"),
        ("picture", f"{report['width']}x{report['height']} pixels, {counted(report['frames'], 'frame')}{fps}"),
    ]
    section(console, f"{report['container'].upper()} video", rows)
    if record is not None:
        show_record(record, console)
    else:
        show_no_record(report["problems"][0], console)


def show_torch_file(report: Report, console: Console, *, tensors: bool) -> None:
    """Prints what a .pt file holds."""
    console.print(Text(printable(report["name"]), style="bold"))
    dtypes = ", ".join(f"{count:,} {word}" for word, count in report["dtypes"].items())
    rows = [
        *path_rows(report),
        ("size", f"{amount(report['bytes'], 'B')} ({report['bytes']:,} bytes)"),
        ("tensors", dtypes or "none"),
    ]
    section(console, "PyTorch file, listed without running it", rows)
    parts = report["parameters"]["parts"]
    if len(parts) > _SHOWN_VALUES and not tensors:  # an optimiser numbers its tensors
        parts = dict(sorted(parts.items(), key=lambda item: -item[1])[:_SHOWN_VALUES])
    show_parameters(console, {**report["parameters"], "parts": parts})
    _show_networks(console, report)
    outer_first = sorted(report["values"].items(), key=lambda item: item[0].count("."))
    section(console, "Values", few_rows(dict(outer_first), shown=_SHOWN_VALUES))
    if tensors:
        show_tensors(console, report["tensors"])
    console.print(Text.assemble(("\nWould load: ", "bold"), ("no", "bold red")))
    show_notes(console, report["problems"])


def _show_networks(console: Console, report: Report) -> None:
    """Prints the networks that a file from a training holds, and of the one to be converted what shapes tell."""
    networks, convert = report["networks"], report["convert"] or {}
    rows, taken = [], None
    for network in networks[:_SHOWN_VALUES]:
        words = "average of the weights (EMA)" if network["average"] else "weights"
        if network["problem"]:
            words += f": {printable(network['problem'], 400)}"
        elif network["prefix"] == convert.get("prefix"):
            taken = network["inferred"]
            words += ", which convert takes" if len(networks) > 1 else ""
        rows.append((printable(network["prefix"] or "no prefix", 100), words))
    if len(networks) > _SHOWN_VALUES:
        rows.append(("...", f"{len(networks) - _SHOWN_VALUES:,} more: --json has them"))
    section(console, "Networks in it", rows)
    if taken:
        show_inferred(console, taken, "By the shapes")
    show_open(console, convert.get("open", ()))


def show_diff(report: Report, console: Console) -> None:
    """Prints how two checkpoints differ."""
    console.print(Text(f"A: {printable(report['a'], 1000)}\nB: {printable(report['b'], 1000)}", style="bold"))
    if not report["problems"]:  # what does not resolve has no fields to compare
        _show_fields(console, report["config"])
    section(console, "Tensors", _tensor_rows(report["tensors"]))
    if report["values"] is not None:
        _show_values(console, report["values"])
    if names := report["uncompared"]:
        rows = [("not compared", f"{len(names):,}, of dtypes that weights cannot have: {first_ten(names)}")]
        section(console, "Values left out", rows)
    if report["problems"]:
        console.print(Text("\nConfig not compared", style="bold"))
        show_notes(console, report["problems"])
    looked = (
        "config, tensors and values"
        if report["values"] is not None
        else "by config, names, dtypes and shapes; --check reads values"
    )
    console.print(Text.assemble(("\nThe same: ", "bold"), ("yes" if report["same"] else "no", "bold"), f" ({looked})"))


def _show_fields(console: Console, fields: list[dict[str, Any]]) -> None:
    if not fields:
        section(console, "Config", [("the same", "in every field")])
        return
    console.print(Text("\nConfig", style="bold"))
    rows = table("<field <A <B")
    for entry in fields:
        rows.add_row(
            "", *(Text(printable("-" if entry[key] is None else entry[key], 100)) for key in ("field", "a", "b"))
        )
    console.print(rows)


def _tensor_rows(tensors: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("shared", f"{counted(tensors['shared'], 'tensor')} of one name and shape")]
    for kind, words in (("missing", "only in A"), ("added", "only in B")):
        if names := tensors[kind]:
            rows.append((words, f"{len(names):,}: {first_ten(names)}"))
    for kind in ("reshaped", "retyped"):
        changes = [f"{entry['name']} {entry['a']} to {entry['b']}" for entry in tensors[kind]]
        if changes:
            rows.append((kind, f"{len(changes):,}: {first_ten(changes)}"))
    return rows


def _show_values(console: Console, values: dict[str, float | None]) -> None:
    apart = {name: value for name, value in values.items() if value != 0}
    same = len(values) - len(apart)
    if not apart:
        section(console, "Values", [("the same", f"in {counted(same, 'tensor')}")])
        return
    console.print(Text(f"\nValues: {counted(len(apart), 'tensor')} differ, {same:,} are the same", style="bold"))
    rows = table("<tensor difference")
    for name, value in list(apart.items())[:_SHOWN_VALUES]:
        rows.add_row("", Text(printable(name)), "NaN" if value is None else _percent(value))
    if len(apart) > _SHOWN_VALUES:
        rows.add_row("", f"{len(apart) - _SHOWN_VALUES:,} more", "less")
    console.print(rows)


def _percent(share: float) -> str:
    """A share with three digits, zeros at the end too: 2.60%."""
    return f"{100 * share:#.3g}".rstrip(".") + "%"

"""`mpvideo inspect`: what a checkpoint is and whether it would load."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from mpvideo.checkpoint import Header, bundled_checkpoint, read_header
from mpvideo.checkpoint.container import WEIGHT_DTYPES
from mpvideo.checkpoint.report import Report, describe, unreadable, with_problems
from mpvideo.cli.options import AsJson, ConfigFile, Settings, parse_settings
from mpvideo.cli.streams import write_result
from mpvideo.cli.tables import problem_list, rendered, section, table
from mpvideo.errors import CheckpointError, ExitCode
from mpvideo.text import amount, counted, first_ten, printable

SHOW_PANEL = "What to look at"


def inspect(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A safetensors file, or a folder with model.safetensors or its shards; "
            "without it, the weights that come with mpvideo.",
            show_default=False,
        ),
    ] = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.", rich_help_panel=SHOW_PANEL)] = False,
    classes: Annotated[bool, typer.Option("--classes", help="List every class.", rich_help_panel=SHOW_PANEL)] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Read the weights too, which takes time: are they finite, are any all zero?",
            rich_help_panel=SHOW_PANEL,
        ),
    ] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint is and whether it would load.

    Reads the header alone unless told to --check, so the size of the file does not matter. Exit code 3 if the
    checkpoint would not load. The keys of --json stay; `python -m pydoc mpvideo.checkpoint.report` lists them.

    \b
    mpvideo inspect
    mpvideo inspect mine.safetensors --tensors --check
    """
    overrides = parse_settings(settings)
    path = bundled_checkpoint() if path is None else path
    try:
        header = read_header(path, strict=False)
    except CheckpointError as error:
        if not as_json:
            raise
        report = unreadable(path, error)
    else:
        report = describe(header, config_file=config, overrides=overrides)
        if check:
            report = _checked(report, header)
    if as_json:
        if not tensors:
            report["tensors"] = None
        if not classes and report["classes"]:
            report["classes"]["names"] = None
        write_result(json.dumps(report, indent=2) + "\n")
    else:
        write_result(rendered(lambda console: show(report, console, tensors=tensors, classes=classes)))
    if not report["loads"]:
        raise typer.Exit(int(ExitCode.CHECKPOINT))


def _checked(report: Report, header: Header) -> Report:
    """Adds what only the weights tell."""
    if header.damage:
        return report
    from mpvideo.checkpoint.load import read_tensors, value_range

    nonfinite, zero = [], []
    known = {name: info for name, info in header.tensors.items() if info.dtype in WEIGHT_DTYPES}
    try:
        for info, tensor in read_tensors(dataclasses.replace(header, tensors=known)):
            low, high = value_range(tensor)
            if not -float("inf") < low <= high < float("inf"):
                nonfinite.append(info.name)
            elif low == high == 0 and info.count:
                zero.append(info.name)
    except CheckpointError as error:
        return with_problems(report, [error])
    report = {**report, "check": {"nonfinite": nonfinite, "zero": zero}}
    if nonfinite:
        words = f"{counted(len(nonfinite), 'tensor')} with NaN or infinity: {first_ten(nonfinite)}"
        report = with_problems(report, [CheckpointError(words)])
    return report


def show(report: Report, console: Console, *, tensors: bool, classes: bool) -> None:
    """Prints a report for people; one that is not of an unreadable file."""
    title = (report["config"] or {}).get("title")
    console.print(Text(printable(report["name"]) + (f": {printable(title)}" if title else ""), style="bold"))
    section(console, "File", _file_rows(report))
    if report["config"]:
        section(console, "Video", _video_rows(report))
        section(console, "Network", _network_rows(report["config"]))
        _show_levels(console, report["levels"])
    _show_parameters(console, report["parameters"])
    if report["config"]:
        section(console, "Sampling", _sampling_rows(report))
        _show_classes(console, report["classes"], everything=classes)
        training = report["config"]["training"]
        section(console, "Training", [(printable(key, 30), _words(value)) for key, value in training.items()])
    if tensors:
        _show_tensors(console, report)
    _show_verdict(console, report)


def _file_rows(report: Report) -> list[tuple[str, str]]:
    files = report["files"]
    size = f"{amount(report['bytes'], 'B')} ({report['bytes']:,} bytes)"
    dtypes = report["dtypes"]
    words = ", ".join(dtypes) if len(dtypes) < 2 else ", ".join(f"{count:,} {word}" for word, count in dtypes.items())
    rows = [
        ("path", printable(report["path"], 1000)),
        ("size", size if len(files) == 1 else f"{size} in {len(files)} files"),
        ("tensors", f"{sum(dtypes.values()):,}, {words}" if dtypes else "none"),
    ]
    if license_name := (report["config"] or {}).get("license"):
        rows.append(("license", printable(license_name)))
    return rows


def _video_rows(report: Report) -> list[tuple[str, str]]:
    video, config = report["video"], report["config"]
    codec = video["codec"]
    if codec == "latent":
        size, factor = config["model"]["image_size"], video["width"] // config["model"]["image_size"]
        codec += f": {size}x{size}x{config['model']['channels']} a frame, decoded to {factor} times the size"
    return [
        ("codec", codec),
        ("picture", f"{video['width']}x{video['height']} pixels, {counted(video['channels'], 'channel')}"),
        ("length", f"{video['frames']} frames at {video['fps']:g} a second: {video['seconds']:.4g} s"),
    ]


def _network_rows(config: dict[str, Any]) -> list[tuple[str, str]]:
    model, edm = config["model"], config["edm"]
    options = [f"sigma_data {edm['sigma_data']:g}"]
    flags = {
        "clamped to [-1, 1]": edm["clamp"],
        "fan-in of before 28 February 2024": edm["legacy_fan_in"],
        "self-conditioned": model["self_condition"],
        "resampling blocks attend to space, then time": model["factorize_space_time_attn"],
    }
    options += [words for words, on in flags.items() if on]
    size = model["image_size"]
    return [
        ("input", f"{model['frames']}x{size}x{size} (TxHxW), {counted(model['channels'], 'channel')}"),
        ("options", "; ".join(options)),
    ]


def _show_levels(console: Console, levels: list[dict[str, int]]) -> None:
    grid = table("level <TxHxW width down middle up <attention")
    for index, level in enumerate(levels):
        size = level["image_size"]
        attention = f"{counted(level['attention'], 'block')} of {level['heads']} heads" if level["attention"] else "-"
        grid.add_row(
            "",
            str(index),
            f"{level['frames']}x{size}x{size}",
            str(level["width"]),
            *(str(level[part] or "-") for part in ("down", "middle", "up")),
            attention,
        )
    console.print()
    console.print(grid)


def _show_parameters(console: Console, parameters: dict[str, Any]) -> None:
    total = parameters["total"]
    console.print(Text(f"\nParameters: {amount(total, '')}", style="bold"))
    grid = table("<part parameters share")
    for part, count in parameters["parts"].items():
        grid.add_row("", part, f"{count:,}", f"{100 * count / total:.1f}%")
    if total:
        console.print(grid)


def _sampling_rows(report: Report) -> list[tuple[str, str]]:
    sampling, cost = report["config"]["sampling"], report["cost"]
    guidance = "none" if sampling["guidance"] == 1 else f"{sampling['guidance']:g}"
    schedule = f"sigma {sampling['sigma_max']:g} to {sampling['sigma_min']:g}, rho {sampling['rho']:g}"
    evaluations = counted(cost["evaluations"], "evaluation") + (" of 2 passes" if cost["passes"] == 2 else "")
    rows = [
        ("default", f"{sampling['sampler']}, {counted(sampling['steps'], 'step')}, {schedule}, guidance {guidance}"),
        (
            "compute",
            f"{amount(cost['flops_per_evaluation'], 'FLOP')} a pass of the network, {evaluations}: "
            f"{amount(cost['flops_per_video'], 'FLOP')} a video",
        ),
    ]
    if sampling["s_churn"]:
        rows.insert(1, ("churn", f"{sampling['s_churn']:g}, noise {sampling['s_noise']:g}"))
    for dtype, memory in cost["memory"].items():
        parts = f"{amount(memory['weights'], 'B')} weights + {amount(memory['activations'], 'B')} activations"
        rows.append((f"in {dtype}", f"about {amount(sum(memory.values()), 'B')} of memory beside torch's own: {parts}"))
    return rows


def _show_classes(console: Console, classes: dict[str, Any], *, everything: bool) -> None:
    count, names = classes["count"], classes["names"] or []
    if count is None:
        section(console, "Classes", [("none", "the network is unconditional")])
        return
    shown = names if everything else names[:3]
    rows = [(str(index), printable(name)) for index, name in enumerate(shown)]
    if names and len(shown) < len(names):
        rows.append(("...", f"{len(names) - len(shown):,} more: --classes lists them"))
    if not names:
        rows = [("names", f"none given; classes are numbers from 0 to {count - 1}")]
    section(console, f"Classes: {count:,}", rows)


def _words(value: Any) -> str:
    """A value of the free training record."""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 400)


def _show_tensors(console: Console, report: Report) -> None:
    console.print(Text("\nTensors", style="bold"))
    grid = table("<name <dtype <shape")
    for tensor in report["tensors"]:
        shape = "x".join(map(str, tensor["shape"])) or "scalar"
        grid.add_row("", Text(printable(tensor["name"])), tensor["dtype"], shape)
    console.print(grid)


def _show_verdict(console: Console, report: Report) -> None:
    check = report["check"]
    if check is not None and check["zero"]:
        console.print(Text(f"\n{counted(len(check['zero']), 'tensor')} all zero: {first_ten(check['zero'])}"))
        if "output_block.1.gain" in check["zero"]:
            console.print(Text(f"{' ' * 2}With output_block.1.gain at zero the network says nothing: it is untrained."))
    if report["loads"]:
        how = "header and weights checked" if check is not None else "by its header; --check reads the weights too"
        console.print(Text.assemble(("\nWould load: ", "bold"), ("yes", "bold green"), f" ({how})"))
        return
    console.print(Text.assemble(("\nWould load: ", "bold"), ("no", "bold red")))
    problem_list(console, [(problem["message"], problem["hint"]) for problem in report["problems"]])

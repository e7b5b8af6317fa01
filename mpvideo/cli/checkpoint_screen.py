"""What `mpvideo inspect` shows of a checkpoint."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from mpvideo.checkpoint.report import Report
from mpvideo.cli.record_screen import guidance_words
from mpvideo.cli.tables import section, show_notes, table
from mpvideo.config import SamplingConfig
from mpvideo.text import amount, counted, printable


def show_checkpoint(report: Report, console: Console, *, tensors: bool, classes: bool) -> None:
    """Prints a report for people, also one on a file of which nothing can be said but why."""
    title = (report["config"] or {}).get("title")
    console.print(Text(printable(report["name"]) + (f": {printable(title)}" if title else ""), style="bold"))
    if report["files"]:
        section(console, "File", _file_rows(report))
    if report["run"]:
        section(console, "Run", _run_rows(report["run"]))
    section(console, "Metadata", few_rows(report["metadata"] or {}))
    if report["config"]:
        section(console, "Video", _video_rows(report))
        section(console, "Network", _network_rows(report["config"]))
        _show_levels(console, report["levels"])
    elif report["inferred"]:
        show_inferred(console, report["inferred"], "Network, by the shapes")
        show_open(console, report["open"])
    if report["parameters"]:
        show_parameters(console, report["parameters"])
    if report["config"]:
        section(console, "Where the config comes from", _source_rows(report))
        section(console, "Sampling", _sampling_rows(report))
        _show_classes(console, report["classes"], everything=classes)
        section(console, "Training", few_rows(report["config"]["training"]))
    if tensors and report["tensors"]:
        show_tensors(console, report["tensors"])
    _show_verdict(console, report)


def few_rows(record: Mapping[str, Any], shown: int = 40) -> list[tuple[str, str]]:
    """Rows of a free record, which may be of any size: its first entries, each cut to a few lines."""
    rows = [(printable(key, 25), _words(value)) for key, value in list(record.items())[:shown]]
    if len(record) > shown:
        rows.append(("...", f"{len(record) - shown:,} more: --json has them"))
    return rows


def path_rows(report: Report) -> list[tuple[str, str]]:
    """Where a file is, and if that is on the hub, where its copy is."""
    rows = [("path", printable(report["path"], 1000))]
    return rows + ([("cached at", printable(report["cached"], 1000))] if report["cached"] else [])


def _file_rows(report: Report) -> list[tuple[str, str]]:
    files = report["files"]
    size = f"{amount(report['bytes'], 'B')} ({report['bytes']:,} bytes)"
    dtypes = report["dtypes"]
    words = ", ".join(dtypes) if len(dtypes) < 2 else ", ".join(f"{count:,} {word}" for word, count in dtypes.items())
    rows = [
        *path_rows(report),
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
    rows = table("level <TxHxW width down middle up <attention parameters")
    for index, level in enumerate(levels):
        size = level["image_size"]
        attention = f"{counted(level['attention'], 'block')} of {level['heads']} heads" if level["attention"] else "-"
        rows.add_row(
            "",
            str(index),
            f"{level['frames']}x{size}x{size}",
            str(level["width"]),
            *(str(level[part] or "-") for part in ("down", "middle", "up")),
            attention,
            f"{level['parameters']:,}",
        )
    console.print()
    console.print(rows)


def show_inferred(console: Console, inferred: dict[str, Any], heading: str) -> None:
    """Prints what shapes alone tell of a network."""
    fields = dict(inferred["fields"])
    blocks = fields.pop("num_blocks_per_stage")
    fields.pop("num_downsamples")
    section(console, heading, [(name, _words(value)) for name, value in fields.items()])
    rows = table("level width blocks <attention")
    widths, attention = inferred["widths"], inferred["attention"]
    each = [blocks] * len(widths) if isinstance(blocks, int) else blocks
    for index, (width, count, attends) in enumerate(zip(widths, each, attention, strict=True)):
        rows.add_row("", str(index), str(width), str(count), "yes" if attends else "-")
    console.print()
    console.print(rows)


def show_open(console: Console, questions: Iterable[dict[str, Any]]) -> None:
    """Prints the fields that have to be given, and what fits."""
    rows = [(question["field"], question["candidates"]) for question in questions]
    section(console, "Not told by the tensors, so to be given with --set or --config", rows)


def show_parameters(console: Console, parameters: dict[str, Any]) -> None:
    """Prints how many numbers there are in which part."""
    total = parameters["total"]
    console.print(Text(f"\nParameters: {amount(total, '')}", style="bold"))
    if not total:
        return
    rows = table("<part parameters share")
    for part, count in parameters["parts"].items():
        rows.add_row("", printable(part, 40), f"{count:,}", f"{100 * count / total:.1f}%")
    console.print(rows)


def _sampling_rows(report: Report) -> list[tuple[str, str]]:
    sampling, cost = report["config"]["sampling"], report["cost"]
    guidance = ", ".join(guidance_words(SamplingConfig(**sampling)))
    schedule = f"sigma {sampling['sigma_max']:g} to {sampling['sigma_min']:g}, {_spacing(sampling)}"
    rows = [
        ("default", f"{_sampler(sampling)}, {counted(sampling['steps'], 'step')}, {schedule}, {guidance}"),
        ("compute", _compute(report)),
    ]
    if sampling["s_churn"]:
        rows.insert(1, ("churn", f"{sampling['s_churn']:g}, noise {sampling['s_noise']:g}"))
    if sampling["restarts"]:
        again = f"from {sampling['restart_min']:g} to {sampling['restart_max']:g}"
        steps = counted(sampling["restart_steps"], "step")
        rows.insert(1, ("restarts", f"{sampling['restarts']}, {again}, {steps} each"))
    for dtype, memory in cost["memory"].items():
        parts = f"{amount(memory['weights'], 'B')} weights, {amount(memory['activations'], 'B')} activations"
        if memory["most"] > memory["weights"] + memory["activations"]:
            parts += ", and more than both while the file is read"
        fits = _fits(memory["most"], cost["free_memory"])
        rows.append((f"in {dtype}", f"about {amount(memory['most'], 'B')} of memory beside torch's own: {parts}{fits}"))
    rows.append(("time", _time(report["time"])))
    return rows


def _compute(report: Report) -> str:
    """What a video takes; of guidance in an interval the most that it can, until torch, for --time, has counted it."""
    cost, time, most = report["cost"], report["time"], ""
    evaluations = counted(cost["evaluations"], "evaluation")
    if cost["passes"] == 2 and "guidance_interval" in report["config"]["sampling"] and time is None:
        evaluations, most = f"{evaluations} of at most 2 passes", "at most "
    elif cost["passes"] == 2 and time is not None and time["evaluations"] < 2 * cost["evaluations"]:
        evaluations += f" of 1 or 2 passes, {time['evaluations']:,} in all"
    elif cost["passes"] == 2:
        evaluations += " of 2 passes"
    flops = f"{amount(cost['flops_per_evaluation'], 'FLOP')} a pass of the network"
    return f"{flops}, {evaluations}: {most}{amount(cost['flops_per_video'], 'FLOP')} a video"


def _sampler(sampling: dict[str, Any]) -> str:
    name, solver = sampling["sampler"], SamplingConfig(**sampling).solver
    return str(name) if name == solver else f"{name} ({solver})"


def _spacing(sampling: dict[str, Any]) -> str:
    if "sigmas" in sampling:
        return "listed"
    return f"rho {sampling['rho']:g}" if sampling["schedule"] == "karras" else str(sampling["schedule"])


def _time(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return "not known without running it: --time measures it"
    total = measured["start"] + measured["video"]
    return (
        f"about {total:.3g} s for one video on {measured['on']}: {measured['start']:.2g} s to start, "
        f"{counted(measured['evaluations'], 'pass')} of {1000 * measured['evaluation']:.3g} ms, "
        f"{1000 * measured['decode']:.3g} ms to decode; each further one {measured['video']:.3g} s or less"
    )


def _fits(wanted: int, free: int | None) -> str:
    """What to say of memory: nothing where there is plenty."""
    return "" if free is None or wanted <= free else f"; more than the {amount(free, 'B')} that are free here"


def _source_rows(report: Report) -> list[tuple[str, str]]:
    """The config's fields by where they come from; those that were inferred with their values."""
    groups: dict[str, dict[str, list[str]]] = {}  # by source, then by group
    for path, source in report["sources"].items():
        group, _, field = path.rpartition(".")
        shown = f"{field}={_words(_field(report['config'], path))}" if source == "inferred" else field
        groups.setdefault(source, {}).setdefault(group, []).append(shown)
    rows = []
    for source in ("flag", "config file", "header", "inferred", "default"):
        parts = [
            group
            if len(fields) > 1
            and source != "inferred"
            and not any(group in others for name, others in groups.items() if name != source)
            else f"{group}: {', '.join(fields)}"
            for group, fields in groups.get(source, {}).items()
        ]
        if parts:
            rows.append((source, "; ".join(parts)))
    return rows


def _field(config: dict[str, Any], path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = value[name]
    return value


def _run_rows(run: dict[str, Any]) -> list[tuple[str, str]]:
    source = run["source"] if isinstance(run["source"], dict) else {}
    rows = [
        ("trained on", printable(source.get("data", "not said"), 400)),
        ("begun with", f"mpvideo {printable(run['version'])}"),
    ]
    if run["step"] is None:
        rows.append(("steps", "none logged yet"))
        return rows
    rows.append(("steps", f"{run['step']:,}" + (f", {run['samples']:,} videos" if run["samples"] else "")))
    if run["loss"] is not None:
        rows.append(("loss", f"{run['loss']:.4f} over the last tenth (untrained: 1)"))
    if by_sigma := run["loss_by_sigma"]:
        parts = [f"{printable(key, 20)} {loss:.3f}" for key, loss in list(by_sigma.items())[:20] if loss is not None]
        rows.append(("by sigma", ", ".join(parts)))
    if run["seconds"]:
        rate = run["samples_per_second"]
        rows.append(
            ("time", f"{run['seconds'] / 60:,.1f} minutes" + (f", now {rate:.3g} videos a second" if rate else ""))
        )
    if run["nonfinite_gradients"]:
        rows.append(("gradients", f"{run['nonfinite_gradients']:,} were no numbers and were replaced"))
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
    """A value of a free record, cut to a few lines: fields as 'steps 100, rate 0.01', those of fields in brackets."""
    return printable(_fields(value) if isinstance(value, dict) and value else _plain(value), 400)


def _fields(record: dict[str, Any], deeper: int = 2) -> str:
    """Records in records to a depth of `deeper`: others' may lie in each other without end."""
    return ", ".join(
        f"{name} ({_fields(value, deeper - 1)})"
        if isinstance(value, dict) and value and deeper
        else f"{name} {_plain(value)}"
        for name, value in record.items()
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def show_tensors(console: Console, tensors: list[dict[str, Any]]) -> None:
    """Prints every tensor."""
    console.print(Text("\nTensors", style="bold"))
    rows = table("<name <dtype <shape")
    for tensor in tensors:
        shape = "x".join(map(str, tensor["shape"])) or "scalar"
        rows.add_row("", Text(printable(tensor["name"])), tensor["dtype"], shape)
    console.print(rows)


def _show_verdict(console: Console, report: Report) -> None:
    if report["warnings"]:
        console.print(Text("\nWarnings", style="bold"))
        show_notes(console, report["warnings"])
    if report["loads"]:
        how = (
            "header and weights checked"
            if report["check"] is not None
            else "by its header; --check reads the weights too"
        )
        console.print(Text.assemble(("\nWould load: ", "bold"), ("yes", "bold green"), f" ({how})"))
        return
    console.print(Text.assemble(("\nWould load: ", "bold"), ("no", "bold red")))
    show_notes(console, report["problems"])

"""`mpvideo inspect`: what a file is, and of a checkpoint whether it would load."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from mpvideo.checkpoint import Header, bundled_checkpoint, open_checkpoint, read_header
from mpvideo.checkpoint.compare import compare, with_values
from mpvideo.checkpoint.foreign import SNIFFED
from mpvideo.checkpoint.header import is_folder
from mpvideo.checkpoint.reading import exists, open_regular, read_start
from mpvideo.checkpoint.report import Report, describe, unreadable, with_problems, with_warnings
from mpvideo.checkpoint.torch_file import is_torch_file, read_torch_file
from mpvideo.checkpoint.torch_report import describe_torch_file
from mpvideo.cli.checkpoint_screen import show_checkpoint
from mpvideo.cli.file_screens import show_diff, show_torch_file, show_video
from mpvideo.cli.hub import located
from mpvideo.cli.options import AsJson, ConfigFile, Settings, parse_settings
from mpvideo.cli.streams import tell, write_result
from mpvideo.cli.tables import write_screen
from mpvideo.config import CheckpointConfig
from mpvideo.errors import CheckpointError, ExitCode, MPVideoError, UsageError
from mpvideo.formats import FIRST_FRAME, SUFFIXES
from mpvideo.job import check_guidance
from mpvideo.presets import find_preset
from mpvideo.text import printable

SHOW_PANEL = "What to look at"

_VIDEO_HEADER = 1_000_000  # bytes; a longer one is not read for this
_VIDEO_SUFFIXES = frozenset(SUFFIXES) - {".safetensors"}  # which are checkpoints as a rule


def inspect(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A safetensors file, a folder with model.safetensors or its shards, the folder of a training run, "
            "hf:owner/repo[/file][@revision] on the Hugging Face hub, a PyTorch .pt file, or a video made by mpvideo; "
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
            help="Read the weights too, which takes time: are they finite, are any all zero or of an odd norm? With "
            "--diff: how far are they apart?",
            rich_help_panel=SHOW_PANEL,
        ),
    ] = False,
    timed: Annotated[
        bool,
        typer.Option(
            "--time",
            help="Measure how long sampling one video takes here, by a few steps of it with the weights themselves.",
            rich_help_panel=SHOW_PANEL,
        ),
    ] = False,
    diff: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--diff", metavar="A B", help="Compare two checkpoints.", rich_help_panel=SHOW_PANEL),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Say what a file holds, and whether it would load.

    Of a checkpoint, what it makes and whether `sample` would take it; of a video, how it was made. Reads headers alone
    unless told to --check or --time, so the size of a checkpoint does not matter. No file's code is run. Exit code 3 if
    a checkpoint would not load. The keys of --json stay; weights.md says where each is described.

    \b
    mpvideo inspect
    mpvideo inspect mine.safetensors --tensors --check
    mpvideo inspect --diff before.safetensors after.safetensors
    """
    overrides = parse_settings(settings)
    if diff is not None:
        _check_alone(path=path, tensors=tensors, classes=classes, time=timed, config=config, settings=settings)
        _write_diff(*diff, check=check, as_json=as_json)
        return
    given = path
    path = bundled_checkpoint() if given is None else located(given)
    start = b"" if is_folder(path) else _start(path)
    if _is_video(path, start):
        _warn_of_skipped(tensors=tensors, classes=classes, check=check, time=timed, config=config, settings=settings)
        _write_video(path, given, as_json=as_json)
        return
    if is_torch_file(start):
        _warn_of_skipped(classes=classes, check=check, time=timed, config=config, settings=settings)
        _write_torch_file(path, given, tensors=tensors, as_json=as_json)
        raise typer.Exit(int(ExitCode.CHECKPOINT))
    if path.suffix.lower() == ".json":
        _check_no_preset(path)
    report = _checkpoint_report(path, config, overrides, check=check, as_json=as_json)
    if timed and report["loads"]:
        report = _timed(report, path, config, overrides)
    report = _as_given(report, given, path)
    if as_json:
        if not tensors:
            report["tensors"] = None
        if not classes and report["classes"]:
            report["classes"]["names"] = None
        _write_json(report)
    else:
        write_screen(lambda console: show_checkpoint(report, console, tensors=tensors, classes=classes))
    if not report["loads"]:
        raise typer.Exit(int(ExitCode.CHECKPOINT))


def _is_video(path: Path, start: bytes) -> bool:
    """Whether a path is a video that mpvideo could have made, and no checkpoint."""
    suffix = path.suffix.lower()
    if suffix == ".safetensors" and start and int.from_bytes(start[:8], "little") < _VIDEO_HEADER:
        with suppress(CheckpointError):  # what is wrong with it is told by what reads it as a checkpoint
            tensors = read_header(path, strict=False).tensors
            return list(tensors) == ["frames"] and tensors["frames"].dtype == "U8"
    return exists(path / FIRST_FRAME) if is_folder(path) else suffix in _VIDEO_SUFFIXES


def _start(path: Path) -> bytes:
    """The first bytes of a file; none if it cannot be read, which reading it as a checkpoint will put into words."""
    try:
        with open_regular(path) as file:
            return read_start(file, SNIFFED, path)
    except CheckpointError:
        return b""


def _check_no_preset(path: Path) -> None:
    """Makes sure that a JSON file, which may be the index of shards, is no preset.

    Raises:
        CheckpointError: it is one.
    """
    try:
        made_for = find_preset(str(path)).tuned.get("checkpoint")
    except MPVideoError:
        return
    by = f" of `mpvideo tune` for {printable(made_for.get('name'))}" if isinstance(made_for, dict) else ""
    raise CheckpointError(
        f"{printable(path)} must be a checkpoint or a video, but is a preset{by}",
        hint=f"`mpvideo sample --preset {printable(path)}` samples with it.",
    )


def _checkpoint_report(
    path: Path, config: Path | None, overrides: dict[str, Any], *, check: bool, as_json: bool
) -> Report:
    """What can be said of a checkpoint, and of the run that made it if its folder was given."""
    from mpvideo.training.summary import is_run, summarize_run

    run = summarize_run(path) if is_folder(path) and is_run(path) else None
    try:
        header = read_header(path, strict=False)
    except CheckpointError as error:
        if run is None and not as_json:
            raise
        report = unreadable(path, error)
    else:
        report = describe(header, config_file=config, overrides=overrides)
        if check:
            report = _checked(report, header)
    return {**report, "run": run}


def _checked(report: Report, header: Header) -> Report:
    """Adds what only the weights tell."""
    if header.damage:
        return report
    from mpvideo.checkpoint.health import check_weights, problems_of, warnings_of

    try:
        found = check_weights(header)
    except CheckpointError as error:
        return with_problems(report, [error])
    return with_warnings(with_problems({**report, "check": found}, problems_of(found)), warnings_of(found))


def _as_given(report: Report, given: Path | None, path: Path) -> Report:
    """The report with the path that the user gave; one on the hub has its copy in the cache beside it."""
    elsewhere = given is not None and given != path
    return {**report, "path": str(given if elsewhere else path), "cached": str(path) if elsewhere else None}


def _timed(report: Report, path: Path, config: Path | None, overrides: dict[str, Any]) -> Report:
    """Adds what sampling takes here, measured; why it could not be is a warning."""
    began = time.perf_counter()
    try:
        checkpoint = open_checkpoint(path, config_file=config, overrides=overrides)
        _check_own_guidance(checkpoint.config)
        from mpvideo.device import choose_placement
        from mpvideo.timing import measure_sampling

        placement = choose_placement()
        ready = time.perf_counter()
        taken = measure_sampling(checkpoint, placement)
    except MPVideoError as error:
        reason = CheckpointError(f"the time could not be measured: {error.message}", hint=error.hint)
        return with_warnings(report, [reason])
    measured = {
        "on": taken.placement.words,
        "device": taken.placement.device_name,
        "dtype": taken.placement.dtype_name,
        "start": ready - began + taken.loading,
        "evaluation": taken.evaluation,
        "evaluations": taken.evaluations,
        "decode": taken.decoding,
        "video": taken.video,
    }
    cost = {**report["cost"], "flops_per_video": report["cost"]["flops_per_evaluation"] * taken.evaluations}
    return {**report, "cost": cost, "time": measured}


def _check_own_guidance(config: CheckpointConfig) -> None:
    """Makes sure that a checkpoint can be sampled with the guidance that it says itself.

    Raises:
        UsageError: it has nothing to guide away from.
    """
    try:
        check_guidance(config, config.sampling, guided=False)
    except ValueError as error:
        raise UsageError(f"sampling.{error}", hint="Give --set sampling.guidance=1.") from None


def _write_video(path: Path, given: Path | None, *, as_json: bool) -> None:
    from mpvideo.record import load_record
    from mpvideo.video.summary import summarize_video

    report: Report = _as_given({**summarize_video(path), "record": None, "problems": []}, given, path)
    record = None
    try:
        record = load_record(path)
        report["record"] = record.to_dict()
    except MPVideoError as error:
        report["problems"] = [{"message": error.message, "hint": error.hint}]
    if as_json:
        _write_json(report)
    else:
        write_screen(lambda console: show_video(report, record, console))


def _write_torch_file(path: Path, given: Path | None, *, tensors: bool, as_json: bool) -> None:
    report = _as_given(describe_torch_file(read_torch_file(path), given), given, path)
    if as_json:
        _write_json(report if tensors else {**report, "tensors": None})
    else:
        write_screen(lambda console: show_torch_file(report, console, tensors=tensors))


def _write_diff(a: Path, b: Path, *, check: bool, as_json: bool) -> None:
    before, after = read_header(located(a), strict=check), read_header(located(b), strict=check)
    report = {**compare(before, after), "a": str(a), "b": str(b)}
    if check:
        from mpvideo.checkpoint.health import relative_differences

        report = with_values(report, *relative_differences(before, after))
    if as_json:
        _write_json(report)
    else:
        write_screen(lambda console: show_diff(report, console))


def _write_json(report: Report) -> None:
    write_result(json.dumps(report, indent=2, allow_nan=False) + "\n")


def _check_alone(**others: object) -> None:
    given = [name for name, value in others.items() if value]
    if given:
        name = "FILE" if given[0] == "path" else _flag(given[0])
        raise UsageError(f"--diff takes two checkpoints and cannot be given together with {name}")


def _warn_of_skipped(**options: object) -> None:
    skipped = [_flag(name) for name, value in options.items() if value]
    if skipped:
        tell(f"warning: {printable(', '.join(skipped))}: only for checkpoints, without effect here")


def _flag(name: str) -> str:
    return {"settings": "--set"}.get(name, f"--{name}")

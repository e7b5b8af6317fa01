"""The report of `mpvideo eval` as a page for people."""

from collections.abc import Mapping
from typing import Any

from mpvideo.cli.record_screen import guidance_words
from mpvideo.config import SamplingConfig
from mpvideo.text import counted, printable

SHOWN_CONFUSIONS = 6
_COLUMNS = (("sampled", "sampled"), ("real", "real"), ("repainted", "real, through the autoencoder"))


def score_lines(report: Mapping[str, Any]) -> list[str]:
    """The lines of the page.

    Args:
        report: what `mpvideo eval --json` prints.
    """
    source = report.get("checkpoint", {}).get("name") or report["videos"]
    lines = [f"{counted(report['num'], 'video')} of {printable(source)}"]
    if (sampling := report.get("sampling")) and isinstance(sampling, Mapping):
        words = [sampling["sampler"], counted(sampling["steps"], "step"), *guidance_words(SamplingConfig(**sampling))]
        if (guide := report.get("guide")) is not None:
            words.append(f"guide {printable(guide['name'])}")
        lines[0] += f": {', '.join(words)}"
    if (world := report["menagerie"]) is not None:
        lines += ["", *_world_lines(world)]
    if (features := report["features"]) is not None:
        lines += ["", *_feature_lines(features)]
    return lines


def _world_lines(world: Mapping[str, Any]) -> list[str]:
    columns = [(title, world[name]) for name, title in _COLUMNS if world[name] is not None]
    head = ["", "sampled", "95% interval", *(title for title, _ in columns[1:])]
    rows = [head]
    for name, share in world["sampled"]["accuracy"].items():
        interval = f"{100 * share['low']:.1f} to {100 * share['high']:.1f} %"
        others = [_percent(column["accuracy"][name]["value"]) for _, column in columns[1:]]
        rows.append(
            [f"{name} right" if name != "all" else "all three right", _percent(share["value"]), interval, *others]
        )
    for name in ("precision", "recall"):
        rows.append(
            [name, _percent(world["sampled"][name]), "", *(_percent(column[name]) for _, column in columns[1:])]
        )
    distances = [f"{column['frechet']:.3g}" for _, column in columns]
    rows.append(["Fréchet distance", distances[0], "", *distances[1:]])
    nearest = world["nearest"]
    if nearest["ratio"] is not None:
        rows.append(["nearest training video", f"{nearest['sampled']:.1f} of 255", "", f"{nearest['real']:.1f} of 255"])
    meaning = "Fréchet distance: less is better; beside it what as many real videos have in their place"
    return [*_table(rows), "", meaning, *_nearest_lines(nearest), *_confusion_lines(world["confusions"])]


def _nearest_lines(nearest: Mapping[str, Any]) -> list[str]:
    """Which training videos were looked at, and what the distance to them says."""
    number = f"{nearest['of_training_samples']:,} videos"
    if nearest["of_its_run"]:
        among = f"the first {number} that the run of this checkpoint was shown"
    else:
        among = f"the first {number} of a run with seed 0 and without --init, as what was shown is not recorded"
    if nearest["ratio"] is None:
        return [f"nearest training video: none of these classes is among {among}"]
    return [
        f"nearest training video: of the same class, among {among};",
        "  videos that are much nearer to it than real ones are copies",
    ]


def _confusion_lines(confusions: list[Mapping[str, Any]]) -> list[str]:
    if not confusions:
        return []
    lines = ["", "most frequent mistakes, as the judge reads the videos:"]
    for entry in confusions[:SHOWN_CONFUSIONS]:
        asked = f"{entry['attribute']} {entry['value']}"
        of = f"{entry['hits']:,} of {counted(entry['total'], 'video')}"
        lines.append(f"  asked for {asked}, read as {entry['taken_for']}: {of}")
    return lines


def _feature_lines(features: Mapping[str, Any]) -> list[str]:
    network, size = features["network"], features["feature_size"]
    lines = [
        f"Fréchet distance {features['frechet']:.4g} in the features of {printable(network['name'])}",
        f"  {features['num_videos']} videos against {features['num_real']} real ones, {features['frames']} frames of "
        f"{features['width']}x{features['height']}, resized to {size}x{size} ({features['resizing']})",
        f"  network sha256 {network['sha256']}",
    ]
    for name, why in (("too_short", "too short"), ("unreadable", "cannot be read")):
        if features[name]:
            lines.append(f"  {counted(features[name], 'real video')} left out: {why}")
    return lines


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _table(rows: list[list[str]]) -> list[str]:
    """Rows in columns, the first to the left and the others to the right."""
    widths = [max(len(row[index]) for row in rows if index < len(row)) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            f"{cell:<{width}}" if index == 0 else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines

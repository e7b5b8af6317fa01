"""Where each field of a checkpoint's config comes from: declared by whom, inferred, or left at its default."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal

from mpvideo.checkpoint.header import Header
from mpvideo.checkpoint.reading import read_json
from mpvideo.config import AutoencoderConfig, CheckpointConfig, EDMConfig, ModelConfig, SamplingConfig, VideoConfig

Source = Literal["flag", "config file", "header", "inferred", "default"]

_GROUPS: dict[str, type] = {
    "model": ModelConfig,
    "video": VideoConfig,
    "video.autoencoder": AutoencoderConfig,
    "edm": EDMConfig,
    "sampling": SamplingConfig,
}


def field_sources(
    header: Header,
    config: CheckpointConfig,
    *,
    config_file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Source]:
    """Says for each field of model, video, edm and sampling, by its path as --set takes it, where its value comes from.

    A value that nobody declared is its default, or else it was inferred.

    Args:
        header, config_file, overrides: what `config` was resolved from.

    Raises:
        CheckpointError: a file changed in the meantime and cannot be read any more.
    """
    sidecar = config_file or header.sidecar
    layers: list[tuple[Source, Mapping[str, Any]]] = [
        ("flag", overrides or {}),
        ("config file", read_json(sidecar) if sidecar is not None else {}),
        ("header", header.config or {}),
    ]
    words = config.to_dict()
    found: dict[str, Source] = {}
    for group, kind in _GROUPS.items():
        values = _inside(words, group)
        for entry in fields(kind):
            path = f"{group}.{entry.name}"
            if entry.name not in values or path in _GROUPS:
                continue
            as_default = entry.default is not MISSING and values[entry.name] == entry.default
            undeclared: Source = "default" if as_default else "inferred"
            # The uppermost word counts; if it is a null, it took the words below away and gave none.
            words_for = ((source, _inside(layer, group)) for source, layer in layers)
            told = ((source, part[entry.name]) for source, part in words_for if entry.name in part)
            source, value = next(told, (undeclared, None))
            found[path] = undeclared if value is None else source
    return found


def _inside(layer: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """The object at a path of one or two names; an empty one if there is none."""
    value: Any = layer
    for name in group.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}

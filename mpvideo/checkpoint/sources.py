"""Where each field of a checkpoint's config comes from: declared by whom, inferred, or left at its default."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal

from mpvideo.checkpoint.merging import inside
from mpvideo.checkpoint.resolving import Resolution
from mpvideo.config import AutoencoderConfig, EDMConfig, ModelConfig, SamplingConfig, VideoConfig

Source = Literal["flag", "config file", "header", "inferred", "default"]

_GROUPS: dict[str, type] = {
    "model": ModelConfig,
    "video": VideoConfig,
    "video.autoencoder": AutoencoderConfig,
    "edm": EDMConfig,
    "sampling": SamplingConfig,
}


def field_sources(resolution: Resolution) -> dict[str, Source]:
    """Says for each field of model, video, edm and sampling, by its path as --set takes it, where its value comes from.

    A value that nobody declared and no tensor tells is its default, or else it follows from the others.
    """
    layers = [(layer.source, layer.content) for layer in reversed(resolution.layers)]
    words = resolution.config.to_dict()
    found: dict[str, Source] = {}
    for group, kind in _GROUPS.items():
        values = inside(words, group) or {}
        for entry in fields(kind):
            path = f"{group}.{entry.name}"
            if entry.name not in values or path in _GROUPS:
                continue
            as_default = entry.default is not MISSING and values[entry.name] == entry.default
            undeclared: Source = "default" if as_default and path not in resolution.inferred else "inferred"
            # The uppermost word counts; if it is a null, it took the words below away and gave none.
            source, value = next(_words(layers, group, entry.name), (undeclared, None))
            found[path] = undeclared if value is None else source
    return found


def _words(layers: list[tuple[Source, Mapping[str, Any]]], group: str, name: str) -> Iterator[tuple[Source, Any]]:
    """Who says what of a field, from the uppermost on: a null where something else than a group is in its place."""
    for source, layer in layers:
        part = inside(layer, group)
        if isinstance(part, Mapping):
            if name in part:
                yield source, part[name]
        elif part is not None:
            yield source, None

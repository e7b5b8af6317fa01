"""Configs as JSON has them, one over another."""

from collections.abc import Mapping
from typing import Any

from mpvideo.sampling_config import SPACING


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One object over another, field by field; a null takes the field away (RFC 7386)."""
    both = dict(below)
    for key, value in above.items():
        if value is None:
            both.pop(key, None)
        elif isinstance(value, Mapping):
            beneath = both.get(key)
            both[key] = merged(beneath if isinstance(beneath, Mapping) else {}, value)
        else:
            both[key] = value
    return both


def config_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One config over another, as `merged`; of noise levels and settings that space them, those above hold."""
    levels, says = inside(below, "sampling"), inside(above, "sampling")
    if isinstance(levels, Mapping) and isinstance(says, Mapping):
        spaced = any(says.get(name) is not None for name in SPACING)
        gone = SPACING if says.get("sigmas") is not None else ("sigmas",) if spaced else ()
        below = {**below, "sampling": {name: value for name, value in levels.items() if name not in gone}}
    return merged(below, above)


def inside(value: Any, path: str) -> Any:
    """What stands at a path such as 'video.codec'; None if nothing does."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value

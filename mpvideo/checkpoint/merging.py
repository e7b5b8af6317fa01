"""Configs as JSON has them, one over another."""

from collections.abc import Mapping
from typing import Any


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


def inside(value: Any, path: str) -> Any:
    """What stands at a path such as 'video.codec'; None if nothing does."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value

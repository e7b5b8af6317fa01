"""The record of how a video was made, kept inside it: one JSON object in the file's comment."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpvideo.video.containers import read_index
from mpvideo.video.index import MAX_VALUES, holds_too_many, unreadable


def record_text(record: Mapping[str, Any]) -> str:
    """The record as JSON in plain ASCII, the one alphabet that a GIF comment is specified for and no tool garbles.

    Keys that are no strings come back as strings, tuples as lists.

    Raises:
        TypeError, ValueError: something in it has no JSON form (an object, nan, a value that contains itself).
    """
    return json.dumps(dict(record), ensure_ascii=True, allow_nan=False)


def ffmetadata(comment: str | None) -> str:
    """A file in ffmpeg's metadata format with this comment, or with nothing."""
    head = ";FFMETADATA1\n"
    if comment is None:
        return head
    escaped = re.sub(r"([=;#\\\n])", r"\\\1", comment)
    return f"{head}comment={escaped}\n"


def read_record(path: str | Path) -> dict[str, Any] | None:
    """Reads back how a video was made.

    Args:
        path: a file whose name ends in one of `mpvideo.formats.SUFFIXES`, or a folder of PNG frames.

    Returns:
        The record it was written with; None if its comment is missing or not a JSON object (made by another program).

    Raises:
        UsageError: the name ends in anything else.
        MPVideoError: the file is missing, unreadable or damaged.
    """
    path = Path(path)
    comment = read_index(path).comment or ""
    if holds_too_many(comment):
        raise unreadable(path, ValueError(f"its record must hold at most {MAX_VALUES:,} values"))
    try:
        record = json.loads(comment, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("NaN and infinity are not JSON")
    return value

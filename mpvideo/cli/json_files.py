"""The JSON files that commands write: reports and presets."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from mpvideo.checkpoint.reading import exists, read_json
from mpvideo.cli.streams import tell
from mpvideo.errors import CheckpointError, OutputError, UsageError, naming
from mpvideo.files import atomic_path, check_writable
from mpvideo.formats import STANDARD_OUTPUT
from mpvideo.text import printable


def check_json_file(path: Path, what: str, keys: Collection[str], *, overwrite: bool) -> None:
    """Makes sure, before any work, that a JSON file can be written, and replaces at most one of its own kind.

    So nothing is lost that a command reads, or that was there for another reason.

    Args:
        path: of --out.
        what: the kind, for messages: "a report of `mpvideo eval`".
        keys: what files of this kind have, and those of no other.
        overwrite: whether an existing one may be replaced.

    Raises:
        UsageError: it would go to standard output.
        OutputError: it cannot be written there, or something else is there.
    """
    if path == STANDARD_OUTPUT:
        raise UsageError("--out must be the name of a file, got -: standard output has the results")
    with naming("--out", path):
        check_writable(path, overwrite=overwrite)
    if not exists(path):
        return
    try:
        there = read_json(path)
    except CheckpointError:  # it is no JSON object
        there = {}
    if not there.keys() >= {*keys}:
        raise OutputError(
            f"--out {printable(path)} exists already, and is not {what}",
            hint="Choose another name: only such a file is replaced.",
        )


def write_json_file(path: Path, content: Mapping[str, object], *, overwrite: bool) -> None:
    """Writes a JSON file; what cannot be written is told instead, as it may have taken hours.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with atomic_path(path, overwrite=overwrite) as aside:
            aside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    except OutputError:
        tell(f"what was to be written:\n{json.dumps(content, allow_nan=False)}")
        raise

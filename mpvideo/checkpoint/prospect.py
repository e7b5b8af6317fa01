"""What a conversion of a file would find and have to be told, for `mpvideo inspect`. No torch is imported.

The object that `prospect` returns:

    networks        [{prefix, average, inferred, problem}], the first 100 networks of this kind in the file: what
                    stands before their names, whether it is an average of the weights (EMA), what shapes tell (as
                    `inferred` in `mpvideo.checkpoint.report`), or why they tell nothing
    convert         {prefix, open, command, problem}: the network that `mpvideo convert` takes unless told otherwise,
                    what it would have to be told (as `open` there), the command, with values that fit in place of what
                    the network was trained with, and why there would be none
"""

import shlex
from pathlib import Path
from typing import Any

from mpvideo.checkpoint.completion import as_flags
from mpvideo.checkpoint.contents import Contents
from mpvideo.checkpoint.conversion import open_questions, source_in
from mpvideo.checkpoint.infer import described, infer_network
from mpvideo.errors import MPVideoError
from mpvideo.text import printable

_OUT = "model.safetensors"
_MOST = 100


def prospect(contents: Contents, path: Path | None = None) -> dict[str, Any]:
    """What `mpvideo convert` would do with a file.

    Args:
        contents: what the file holds.
        path: the file as the user gives it, where that is another one than `contents` has.
    """
    networks = []
    for network in contents.networks[:_MOST]:
        entry: dict[str, Any] = {"prefix": network.shown, "average": network.is_average, "inferred": None}
        try:
            entry |= {"inferred": described(infer_network(contents.shapes(network))), "problem": None}
        except MPVideoError as error:
            entry["problem"] = error.message
        networks.append(entry)
    return {"networks": networks, "convert": _conversion(contents, contents.path if path is None else path)}


def conversion_hint(found: dict[str, Any]) -> str | None:
    """How to convert the file, as a hint; None if that is not possible."""
    convert = found["convert"]
    if convert["command"] is None:
        return None
    trained = ", with what it was trained with in place of these values" if convert["open"] else ""
    return f"`{printable(convert['command'], 10_000)}` makes a checkpoint of it{trained}."


def _conversion(contents: Contents, path: Path) -> dict[str, Any]:
    nothing: dict[str, Any] = {"prefix": None, "open": [], "command": None, "problem": None}
    try:
        source = source_in(contents)
        questions = open_questions(source)
    except MPVideoError as error:
        return {**nothing, "problem": error.message}
    command = f"mpvideo convert {shlex.quote(str(path))} {_OUT} {as_flags(questions)}".rstrip()
    return {
        **nothing,
        "prefix": source.network.shown,
        "open": [question._asdict() for question in questions],
        "command": command,
    }

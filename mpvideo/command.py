"""The command line that makes one video again, written from the record of how it was made.

A video may come from a command, from a list of jobs or from Python, so its command is not what somebody typed but what
its `mpvideo.record.Record` says: the shortest that gives the same settings with the same checkpoint.
"""

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from mpvideo.config import CheckpointConfig
from mpvideo.formats import Encoding
from mpvideo.sampling_config import SPACING

if TYPE_CHECKING:
    from mpvideo.record import Record

CONFIG_PARTS = ("model", "video", "edm")
"""The parts of a checkpoint's config that a video depends on."""


def command_line(
    record: "Record",
    own: CheckpointConfig | None,
    *,
    ckpt: str | None = None,
    guide: str | None = None,
    extra: Sequence[str] = (),
) -> str:
    """The command, for a POSIX shell, that makes a video again.

    Args:
        record: how it was made.
        own: what the checkpoint says without any flags: that is left out. None if it says nothing.
        ckpt: where the checkpoint is; None for the weights that come with mpvideo, which need not be named.
        guide: where the guide is, if there is one; None for its name alone.
        extra: words to end with.
    """
    words = ["mpvideo", "sample"]
    own_fields = {} if own is None else _config_fields(own)
    for key, value in _settings(record):
        if key == "ckpt":
            words += [] if ckpt is None else ["--ckpt", ckpt]
        elif key == "guide":
            words += _words(key, value and (guide or value))
        elif _is_needed(key, value, own, own_fields):
            words += _words(key, value)
    return shell_join([*words, *extra])


def trusted_command(record: "Record") -> str:
    """The command that a record carries if its settings could have given it, or else one that they do give.

    What stands in a file may be anybody's, and commands are there to be pasted into a shell.
    """
    program = "mpvideo sample"
    rest = record.command.removeprefix(program) + " "
    for key, value in _settings(record) if record.command.startswith(program) else ():
        option = f" {shell_join(_words(key, value))} "
        if option.strip() and rest.startswith(option):
            rest = rest[len(option) - 1 :]
        if rest == " ":
            return record.command
    return command_line(record, None, ckpt=record.checkpoint.name)


def options_of(record: "Record") -> dict[str, str | bool]:
    """The options of `sample` that give a video's settings, but for what the kind of file and the checkpoint decide.

    Those are format, quality, loops; and config, sampler and clamp, whose defaults a checkpoint or a preset has.
    """
    options: dict[str, str | bool] = {}
    for key, value in _settings(record):
        group, _, name = key.rpartition(".")
        common = group == "" or (group == "encoding" and name in ("fps", "scale", "filter"))
        if common and key not in ("ckpt", "guide", "clamp") and value is not None:
            options[name.replace("_", "-")] = value if isinstance(value, bool) else str(value)
    return options


def _settings(record: "Record") -> Iterator[tuple[str, Any]]:
    """All that the video depends on, by dotted keys in the order of the help page."""
    yield "ckpt", record.checkpoint.name
    yield "guide", None if record.guide is None else record.guide.name
    yield "class", record.class_index
    yield "seed", record.seed
    yield "frames", record.frames
    for name, value in asdict(record.sampling).items():
        if record.sampling.sigmas is None or name not in SPACING:  # --sigmas says it all
            yield f"sampling.{name}", value
    yield "clamp", record.clamp
    if record.encoding is not None:
        for name, value in asdict(record.encoding).items():
            yield f"encoding.{name}", float(value) if name == "fps" else value
    yield "exact", record.exact
    yield "dtype", record.dtype
    for key, value in _config_fields(record.config).items():
        if key not in ("video.fps", "edm.clamp"):  # --fps and --clamp say it
            yield f"config.{key}", value


def _config_fields(config: CheckpointConfig) -> dict[str, Any]:
    """The fields of a config that a video depends on, by dotted keys; None where one is left out."""
    flat: dict[str, Any] = {}
    for part in CONFIG_PARTS:
        for name, value in asdict(getattr(config, part)).items():
            inner = value if isinstance(value, dict) else {}
            flat |= {f"{part}.{name}.{key}": item for key, item in inner.items()} or {f"{part}.{name}": value}
    return flat


def _is_needed(key: str, value: Any, own: CheckpointConfig | None, own_fields: dict[str, Any]) -> bool:
    """Whether a setting would be another one if the command did not give it; `own_fields` are `_config_fields(own)`."""
    group, _, name = key.partition(".")
    if group == "encoding" and name != "fps":
        return bool(value != _DEFAULTS[name])
    if key in ("class", "seed", "exact", "dtype"):
        return True
    if own is None:  # then --set gives whole objects; what is None there need not be said
        return value is not None
    if group == "sampling":
        if own.sampling.sigmas is not None and name in SPACING:
            return True  # it takes the place of the checkpoint's list
        return bool(value != getattr(own.sampling, name))
    if group == "config":
        return bool(value != own_fields.get(name))
    return bool(value != {"frames": own.model.frames, "clamp": own.edm.clamp, "encoding.fps": own.video.fps}[key])


_EITHER_WAY = ("sampling.guidance_hold", "clamp")
"""Settings that an option can switch off as well."""

_DEFAULTS = {field.name: field.default for field in fields(Encoding)}


def _words(key: str, value: Any) -> list[str]:
    """One setting as words of a command line."""
    group, _, name = key.rpartition(".")
    if group.startswith("config") or (group == "sampling" and value is None):
        return ["--set", f"{key.removeprefix('config.')}={json.dumps(value)}"]
    flag = f"--{name.replace('_', '-')}"
    if value is None or (value is False and key not in _EITHER_WAY):
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    return [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]


def shell_join(words: Sequence[str]) -> str:
    """One line that a shell takes apart into these words again, and a terminal can show."""
    return " ".join(map(_shell_word, words))


def _shell_word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # $'...' with octal escapes of bytes, as bash, zsh, ksh and POSIX 2024 read it. Quotes and backslashes are escaped
    # so too: a shell that does not know $'...' then sees a plain quoted word, and nothing that it could run.
    escaped = "".join(
        c if c.isprintable() and c not in "'\\" else "".join(f"\\{byte:03o}" for byte in os.fsencode(c)) for c in word
    )
    return f"$'{escaped}'"

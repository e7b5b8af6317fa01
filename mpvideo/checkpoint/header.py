"""A checkpoint's tensors and config without its weights: one file, a folder, or shards with an index.

Only the standard library is imported, and only headers are read, so the time is the same for 1 MB and for 50 GB.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mpvideo.checkpoint.container import Container, TensorInfo, read_container
from mpvideo.checkpoint.reading import Stamp, exists, parse_object, read_json, stamp_of
from mpvideo.errors import CheckpointError
from mpvideo.files import reason
from mpvideo.text import first_ten, printable

CONFIG_KEY = "mpvideo"
"""The metadata key that holds the config, one JSON string."""

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"
RUN_FILE = "run.json"
"""What the folder of a training run has from the beginning."""

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself without its weights being read.

    Attributes:
        path: the file or folder that was asked for.
        files: the safetensors files that hold its tensors.
        tensors: all tensors by name, in the order of their bytes.
        metadata: the free strings of its files (shards together, the first file's word first).
        file_size: bytes of its safetensors files.
        sidecar: the config.json beside the weights, or None. A file counts as having one only under the names that
            folders use (model.safetensors and its index): a config.json lying beside any other file may be anyone's.
        stamps: which files these were, to notice when others take their place before the weights are read.
        damage: files whose length contradicts their header; always empty in a header read strictly.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    file_size: int
    sidecar: Path | None = None
    damage: tuple[CheckpointError, ...] = ()
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the file or folder as it was given, without the folders above it, which no record needs to tell.

        A symbolic link keeps its own name: what it leads to may be called by a hash, as in Hugging Face's cache. The
        root, which has no name, goes by that of its file.
        """
        return Path(os.path.abspath(self.path)).name or self.files[0].name  # noqa: PTH100 - resolve() follows links

    def is_current(self) -> bool:
        """Whether its files are those that it was read from, as far as their stamps tell."""
        try:
            return all(stamp_of(path) == stamp for path, stamp in self.stamps.items())
        except OSError:  # such as one that is gone
            return False

    @property
    def config(self) -> dict[str, Any] | None:
        """The config object in the header, not yet checked beyond being one; None if there is none.

        Raises:
            CheckpointError: it is not a JSON object.
        """
        if CONFIG_KEY not in self.metadata:
            return None
        return parse_object(self.metadata[CONFIG_KEY], f"{printable(self.path)}: header key {CONFIG_KEY}")


def read_header(path: str | Path, *, strict: bool = True) -> Header:
    """Reads what a checkpoint says of itself.

    Args:
        path: a safetensors file; a folder with model.safetensors, or with model.safetensors.index.json and its
            shards; or such an index.
        strict: whether a file that is shorter or longer than its header says is refused. If not, it is described,
            and `damage` says so.

    Raises:
        CheckpointError: missing, unreadable, something else, or against a rule of the format.
    """
    path = Path(path)
    weights = _in_folder(path) if is_folder(path) else path
    if weights.name.endswith(".index.json"):
        header = _read_shards(path, weights)
    else:
        one = read_container(weights)
        damage = (one.damage,) if one.damage else ()
        header = Header(
            path, (weights,), one.tensors, one.metadata, one.stamp.size, _sidecar(weights), damage, {weights: one.stamp}
        )
    if strict and header.damage:
        raise header.damage[0]
    return header


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; not if it is none that the system could have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # too long a name, or a zero byte in it: opening it will say so
        return False


def _in_folder(folder: Path) -> Path:
    for name in (WEIGHTS_FILE, INDEX_FILE):
        if exists(folder / name):
            return folder / name
    try:
        others = sorted(entry.name for entry in folder.iterdir() if entry.suffix in _WEIGHT_SUFFIXES)
    except OSError as error:
        raise CheckpointError(f"{printable(folder)} cannot be read: {reason(error)}") from None
    if exists(folder / RUN_FILE):
        raise CheckpointError(
            f"the training run {printable(folder)} has no checkpoint yet: the first comes with its network's first "
            "snapshot",
            hint="`mpvideo train` with the same data, --out and other options goes on with it.",
        )
    raise CheckpointError(
        f"the folder {printable(folder)} must hold {WEIGHTS_FILE} or {INDEX_FILE}, it has neither",
        hint=f"Give one of its files instead: {first_ten(others)}." if others else "Give the file with the weights.",
    )


def _sidecar(weights: Path) -> Path | None:
    beside = weights.with_name(CONFIG_FILE)
    return beside if weights.name in (WEIGHTS_FILE, INDEX_FILE) and exists(beside) else None


def _read_shards(path: Path, index: Path) -> Header:
    where = printable(index)
    content = read_json(index)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{where}: weight_map must be an object that gives each tensor's file")
    for name in weight_map.values():
        if not is_bare_name(name):
            raise CheckpointError(
                f"{where}: shards must be names of files in the same folder, got {printable(repr(name), 80)}"
            )
    # In sorted order, so that nothing depends on the order of the index.
    shards = [read_container(index.with_name(name)) for name in sorted(set(weight_map.values()))]
    tensors = _join_shards(shards, weight_map, where)
    return Header(
        path,
        tuple(shard.path for shard in shards),
        tensors,
        _join_metadata(shards, content.get("metadata"), where),
        sum(shard.stamp.size for shard in shards),
        _sidecar(index),
        tuple(shard.damage for shard in shards if shard.damage),
        {shard.path: shard.stamp for shard in shards},
    )


def is_bare_name(name: object) -> bool:
    """Whether a name stays in its folder on every system; symbolic links inside the folder are the user's own."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and "\0" not in name
        and PurePosixPath(name).name == name
        and PureWindowsPath(name).name == name
    )


def _join_shards(shards: list[Container], weight_map: dict[str, str], where: str) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for shard in shards:
        strangers = [name for name in shard.tensors if weight_map.get(name) != shard.path.name]
        if strangers:
            raise CheckpointError(
                f"{where}: {printable(shard.path.name)} must hold only tensors that the index places there, "
                f"it also has {first_ten(strangers)}"
            )
        tensors |= shard.tensors
    absent = [f"{name} ({weight_map[name]})" for name in weight_map if name not in tensors]
    if absent:
        raise CheckpointError(f"{where} lists tensors that are not in their shards: {first_ten(absent)}")
    return tensors


def _join_metadata(shards: list[Container], own: object, where: str) -> dict[str, str]:
    """The index's own strings, then the shards'; two different configs are refused."""
    sources = [shard.metadata for shard in shards]
    if isinstance(own, dict):
        sources.insert(0, {key: value for key, value in own.items() if isinstance(value, str)})
    if len({source[CONFIG_KEY] for source in sources if CONFIG_KEY in source}) > 1:
        raise CheckpointError(f"{where}: its files must not carry different configs ({CONFIG_KEY})")
    return {key: value for source in reversed(sources) for key, value in source.items()}

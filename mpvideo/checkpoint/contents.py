"""What a file or folder from a training holds: which networks, under which prefixes.

No torch is imported and nothing is run. Read are safetensors files with or without a config, PyTorch's .pt files (plain
state dicts, trainers' files with an average beside the raw weights), and folders of either, as accelerate writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mpvideo.architecture import Shape
from mpvideo.checkpoint.container import FLOAT8_DTYPES, WEIGHT_DTYPES
from mpvideo.checkpoint.foreign import SNIFFED
from mpvideo.checkpoint.header import Header, is_bare_name, is_folder, read_header
from mpvideo.checkpoint.reading import exists, open_regular, read_json, read_start
from mpvideo.checkpoint.torch_file import Plain, TorchFile, TorchTensor, is_torch_file, read_torch_file
from mpvideo.errors import CheckpointError, UsageError
from mpvideo.text import first_ten, printable

PARTS: dict[str, str] = {
    "input_block": "input",
    "downs": "down",
    "mids": "middle",
    "ups": "up",
    "to_time_emb": "embedding",
    "to_class_emb": "embedding",
    "output_block": "output",
    "codec": "codec",
}
"""Which part a tensor belongs to, by the first word of its name."""

READABLE_DTYPES = frozenset((*WEIGHT_DTYPES.values(), *FLOAT8_DTYPES.values()))

_INPUT = "input_block.weight"
_WRAPPERS = frozenset(("module", "_orig_mod", "_checkpoint_wrapped_module"))
_TORCH_WEIGHTS, _TORCH_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


class SeveralNetworks(UsageError):
    """A file holds several of the networks that were asked for, and one must be chosen."""


@dataclass(frozen=True)
class Network:
    """One network in a file.

    Attributes:
        prefix: what stands before its names, with the dot at the end; '' for nothing.
        names: for each of its own names the name in the file.
    """

    prefix: str
    names: dict[str, str] = field(default_factory=dict)

    @property
    def is_average(self) -> bool:
        """Whether it is an average of the weights (EMA), by the words of its prefix."""
        words = self.prefix.split(".")
        return "online_model" not in words and any("ema" in word.lower().split("_") for word in words)

    @property
    def shown(self) -> str:
        """The prefix as a user gives it."""
        return self.prefix.removesuffix(".")


@dataclass(frozen=True)
class Contents:
    """What a file or folder holds.

    Attributes:
        path: as given.
        tensors: dtype in torch's words and shape, by name; what is nested is joined by dots.
        values: numbers and strings beside them.
        header: of safetensors; None for PyTorch's own files.
        files: PyTorch's files.
    """

    path: Path
    tensors: Mapping[str, TorchTensor]
    values: Mapping[str, Plain]
    header: Header | None = None
    files: tuple[Path, ...] = ()

    @cached_property
    def networks(self) -> list[Network]:
        """All networks of this kind, in the order of the file."""
        found: dict[str, Network] = {}
        for name in self.tensors:
            words = name.split(".")
            start = next((index for index, word in enumerate(words) if word in PARTS), None)
            if start is None:
                continue
            prefix = "".join(word + "." for word in words[:start])
            own = ".".join(word for word in words[start:] if word not in _WRAPPERS)
            found.setdefault(prefix, Network(prefix)).names[own] = name
        return [network for network in found.values() if _INPUT in network.names]

    def shapes(self, network: Network) -> dict[str, Shape]:
        """Shapes of a network's tensors by its own names."""
        return {own: self.tensors[name].shape for own, name in network.names.items()}

    def beside(self, network: Network) -> list[str]:
        """Names of the tensors that stand under a network's prefix and are none of it, such as a wrapper's buffers."""
        taken = {name for other in self.networks for name in other.names.values()}
        return [name for name in self.tensors if name.startswith(network.prefix) and name not in taken]


def read_contents(path: Path) -> Contents:
    """Lists what there is to convert.

    Args:
        path: a safetensors or PyTorch file, an index of shards, or a folder with model.safetensors or
            pytorch_model.bin or the shards of one.

    Raises:
        CheckpointError: it cannot be read, or holds anything but tensors and plain values, and what.
    """
    if (files := _torch_files(path)) is not None:
        return torch_contents(path, [read_torch_file(file) for file in files])
    return header_contents(read_header(path))


def torch_contents(path: Path, files: Sequence[TorchFile]) -> Contents:
    """What PyTorch's own files hold together.

    Raises:
        CheckpointError: one of them is damaged.
    """
    tensors: dict[str, TorchTensor] = {}
    values: dict[str, Plain] = {}
    for file in files:
        if file.damage:
            raise CheckpointError(f"{printable(file.path)}: {file.damage}", hint="Download or copy it again.")
        tensors |= file.tensors
        values |= file.values
    return Contents(path, tensors, values, files=tuple(file.path for file in files))


def header_contents(header: Header) -> Contents:
    """What safetensors hold."""
    words = {**WEIGHT_DTYPES, **FLOAT8_DTYPES}
    tensors = {
        name: TorchTensor(words.get(info.dtype, info.dtype), info.shape) for name, info in header.tensors.items()
    }
    return Contents(header.path, tensors, {}, header=header)


def _torch_files(path: Path) -> tuple[Path, ...] | None:
    """The PyTorch files that a path stands for; None where it stands for safetensors."""
    if is_folder(path):
        if any(exists(path / name) for name in ("model.safetensors", "model.safetensors.index.json")):
            return None
        names = [name for name in (_TORCH_WEIGHTS, _TORCH_INDEX) if exists(path / name)]
        if not names:
            return None  # read_header says what a folder must hold
        path = path / names[0]
    if path.name == _TORCH_INDEX:
        return _shards(path)
    with open_regular(path) as file:
        return (path,) if is_torch_file(read_start(file, SNIFFED, path)) else None


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map: Any = read_json(index).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) and _are_texts(weight_map.values()) else set()
    if not names or not all(map(is_bare_name, names)):
        raise CheckpointError(f"{printable(index)}: weight_map must give each tensor a file in the same folder")
    return tuple(index.with_name(name) for name in sorted(names))


def _are_texts(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def choose_network(contents: Contents, *, ema: bool | None = None, prefix: str | None = None) -> Network:
    """The network to convert: the average where there is one, unless told otherwise.

    Args:
        contents: the file.
        ema: True for the average, False for the raw weights, None for the average if there is one.
        prefix: what stands before the names of the one wanted, where the file holds several.

    Raises:
        CheckpointError: there is no network in it.
        SeveralNetworks: there are several that were asked for.
        UsageError: there is none.
    """
    networks, shown = contents.networks, printable(contents.path)
    if not networks:
        names = list(contents.tensors)
        raise CheckpointError(
            f"{shown} holds no KarrasUnet3D: no tensor is called {_INPUT}, with a prefix or without",
            hint=f"It has {first_ten(names)}." if names else "It has no tensors at all.",
        )
    if prefix is not None:
        networks = [network for network in networks if network.shown == prefix.removesuffix(".")]
        _demand(networks, f"{shown} holds no network under the prefix {printable(prefix)!r}", contents)
    averages = [network for network in networks if network.is_average]
    raw = [network for network in networks if not network.is_average]
    # A trainer keeps its raw weights, and beside the average a second time.
    raw = [network for network in raw if "online_model" not in network.prefix.split(".")] or raw
    if ema is not None:
        kind = "average of the weights (EMA)" if ema else "raw weights, only averages"
        _demand(averages if ema else raw, f"{shown} holds no {kind}", contents)
    chosen = averages or raw if ema is None else averages if ema else raw
    if len(chosen) > 1:
        raise SeveralNetworks(
            f"{shown} holds {len(chosen)} networks, --prefix must choose one",
            hint=f"Give --prefix with one of {_prefixes(chosen)}.",
        )
    return chosen[0]


def _demand(networks: list[Network], words: str, contents: Contents) -> None:
    if not networks:
        raise UsageError(words, hint=f"Its networks have the prefixes {_prefixes(contents.networks)}.")


def _prefixes(networks: list[Network]) -> str:
    return first_ten([repr(network.shown) for network in networks])

"""Which files of a folder hold a network: what accelerate's save_state and others leave there.

accelerate numbers the models of a training, model.safetensors, model_1.safetensors (or pytorch_model.bin and so on),
and keeps other objects, an average of the weights perhaps, in custom_checkpoint_0.pkl.
"""

import re
from pathlib import Path

from mpvideo.checkpoint.contents import Contents, Network, SeveralNetworks, choose_network, read_contents
from mpvideo.errors import CheckpointError, UsageError
from mpvideo.files import reason
from mpvideo.text import first_ten, printable

_SAFE = re.compile(r"model(_\d{1,4})?\.safetensors(\.index\.json)?", re.ASCII)
_TORCH = re.compile(r"pytorch_model(_\d{1,4})?\.bin(\.index\.json)?", re.ASCII)
_OTHER = re.compile(r"custom_checkpoint_\d{1,4}\.pkl", re.ASCII)
_MOST = 100


def has_one_model(files: list[Path]) -> bool:
    """Whether the files are just the one that stands for the folder, which `read_contents` takes by itself."""
    return not files or (len(files) == 1 and not re.search(r"_\d+\.", files[0].name, re.ASCII))


def state_files(folder: Path) -> list[Path]:
    """The files that may hold a network: safetensors where there are any, or else PyTorch's; and other objects' states.

    Raises:
        CheckpointError: the folder cannot be read, or has more of them than any training leaves.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{printable(folder)} cannot be read: {reason(error)}") from None
    # An index is of no interest beside the whole.
    names = [name for name in names if name.removesuffix(".index.json") == name or name[:-11] not in names]
    safe, torch, other = ([name for name in names if kind.fullmatch(name)] for kind in (_SAFE, _TORCH, _OTHER))
    found = (safe or torch) + other
    if len(found) > _MOST:
        raise CheckpointError(f"{printable(folder)} must hold at most {_MOST} files of weights, it has {len(found):,}")
    return [folder / name for name in found]


def contents_of_state(
    folder: Path, files: list[Path], *, ema: bool | None = None, prefix: str | None = None
) -> tuple[Contents, Network, list[str]]:
    """Chooses the one file that holds the network to convert, by the same rules as `choose_network` within a file.

    Args:
        folder: the folder.
        files: of `state_files`.
        ema, prefix: as for `choose_network`.

    Returns:
        What that file holds, the network, and what became of the other files, in words.

    Raises:
        CheckpointError: none holds one, or one of weights cannot be read.
        UsageError: none holds the one that was asked for, or several do.
    """
    holding: list[Contents] = []
    passed_over: list[str] = []
    for file in files:
        try:
            contents = read_contents(file)
        except CheckpointError as error:
            if not _OTHER.fullmatch(file.name):  # others are the states of objects of whatever class
                raise
            passed_over.append(error.message)
            continue
        if contents.networks:
            holding.append(contents)
        else:
            passed_over.append(f"{printable(file.name)} holds no network of this kind")
    if not holding:
        names = first_ten([file.name for file in files])
        raise CheckpointError(f"{printable(folder)} holds no KarrasUnet3D in {names}", hint="; ".join(passed_over[:10]))
    fitting = _fitting(holding, ema=ema, prefix=prefix)
    if len(fitting) > 1:
        raise UsageError(
            f"{printable(folder)} holds networks in {first_ten([each.path.name for each, _ in fitting])}, one of which "
            "must be chosen",
            hint=f"Give the file in place of the folder, for example {printable(fitting[0][0].path)}.",
        )
    chosen, network = fitting[0]
    passed_over += [f"{printable(each.path.name)} holds another network" for each in holding if each is not chosen]
    return chosen, network, passed_over


def _fitting(holding: list[Contents], *, ema: bool | None, prefix: str | None) -> list[tuple[Contents, Network]]:
    """The files that have what is wanted, averages before raw weights where it is left open; the reason if none has."""
    refusals: list[UsageError] = []
    for wanted in (True, False) if ema is None else (ema,):
        found = []
        for contents in holding:
            try:
                found.append((contents, choose_network(contents, ema=wanted, prefix=prefix)))
            except SeveralNetworks:  # it has what is wanted: raw weights of another file are no answer
                raise
            except UsageError as error:
                refusals.append(error)
        if found:
            return found
    raise refusals[0]

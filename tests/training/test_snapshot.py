import errno
import os
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from mpvideo.errors import CheckpointError, ExitCode, OutputError
from mpvideo.training.snapshot import load_snapshot, save_snapshot

STATE = {
    "step": 3,
    "settings": {"recipe": {"seed": 2**63 - 1, "rate": 0.1, "clip": None, "dtype": "float32"}, "sizes": (1, 2)},
    "weights": {"a": torch.arange(20_000.0), "b": torch.ones(3, dtype=torch.bfloat16)},
    "groups": [{"lr": 0.25, "betas": (0.9, 0.99), "fused": True}],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_snapshot(STATE, tmp_path / "snapshot.pt")
    return tmp_path / "snapshot.pt"


def refusal(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_snapshot(path)
    error = caught.value
    assert error.exit_code == ExitCode.CHECKPOINT
    assert error.message.startswith(f"{path} is not a snapshot")
    assert error.message.isprintable()
    assert "weights_only" not in error.message
    assert error.hint is not None
    assert error.hint.startswith("Put a copy of it in its place")
    return error


def test_a_state_comes_back_as_it_was(path: Path) -> None:
    loaded = load_snapshot(path)
    weights, wanted = loaded.pop("weights"), dict(STATE)
    for name, tensor in wanted.pop("weights").items():  # type: ignore[attr-defined]
        assert torch.equal(weights[name], tensor)
        assert weights[name].dtype == tensor.dtype
    assert loaded == wanted
    assert isinstance(loaded["settings"]["sizes"], tuple)


def test_damaged_files_are_told_and_left_alone(path: Path) -> None:
    whole = path.read_bytes()
    contents = [b"", b"PK\x03\x04 cut off", b"\x80\x02K\x01.", b"<html>", b"\0" * 1000]
    contents += [whole[:length] for length in (1, 100, len(whole) // 2, len(whole) - 1)]
    for content in contents:
        path.write_bytes(content)
        error = refusal(path)
        assert error.message == f"{path} is not a snapshot that can be read: it is damaged, or something else"
        assert path.read_bytes() == content


def test_nothing_but_the_message_comes_of_flipped_bits(path: Path) -> None:
    """In the pickled part, where torch stumbles in ways of its own: IndexError, TypeError, AssertionError..."""
    small = {"settings": {"sizes": (1, 2)}, "weights": {"a": torch.arange(4.0)}}
    save_snapshot(small, path)
    whole = path.read_bytes()
    generator, refused = torch.Generator().manual_seed(0), 0
    for _ in range(400):
        content = bytearray(whole)
        for position in torch.randint(len(whole), (3,), generator=generator).tolist():
            content[position] = int(torch.randint(256, (), generator=generator))
        path.write_bytes(content)
        try:
            load_snapshot(path)
        except CheckpointError:
            refused += 1
    assert refused > 100


class Bomb:
    """What a hostile file would have an unpickler do."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("wrapped", [True, False])
def test_nothing_of_a_file_is_executed(tmp_path: Path, wrapped: bool) -> None:
    path, target = tmp_path / "snapshot.pt", tmp_path / "executed"
    if wrapped:
        torch.save({"step": Bomb(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"step": Bomb(target)}))
    refusal(path)
    assert not target.exists()


def test_files_that_are_not_there_or_hold_something_else(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.pt").message.endswith("that can be read: no such file or directory")
    assert refusal(tmp_path).message.endswith("that can be read: is a directory")
    torch.save([1, 2], tmp_path / "list.pt")
    assert refusal(tmp_path / "list.pt").message.endswith("it holds list, not a state")


# Writing


def unharmed(path: Path) -> None:
    assert load_snapshot(path)["step"] == 3
    assert [file.name for file in path.parent.iterdir()] == ["snapshot.pt"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Lets no file grow beyond this many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 5_000, 50_000])
def test_a_file_that_may_not_grow_leaves_the_old_one(path: Path, size: int) -> None:
    with pytest.raises(OutputError) as caught, largest_file(size):
        save_snapshot({**STATE, "step": 4}, path)
    assert caught.value.message == f"{path} could not be written: file too large"
    unharmed(path)


@pytest.mark.parametrize("room", [0, 1_000, 70_000])
def test_a_full_disk_leaves_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    real = Path.open

    def narrow(self: Path, *args: Any, **kwargs: Any) -> BinaryIO:
        file = real(self, *args, **kwargs)
        write, left = file.write, room

        def limited(data: Any) -> int:
            nonlocal left
            left -= len(data)
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(data)

        return Wrapped(file, limited)  # type: ignore[return-value]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", narrow)
        with pytest.raises(OutputError) as caught:
            save_snapshot({**STATE, "step": 4}, path)
    assert caught.value.message == f"the disk is full: {path} could not be written"
    unharmed(path)


class Wrapped:
    """A file whose `write` is another one."""

    def __init__(self, file: BinaryIO, write: Any) -> None:
        self.file, self.write = file, write
        self.flush = file.flush

    def __enter__(self) -> "Wrapped":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def test_a_state_that_cannot_be_written_leaves_the_old_one(path: Path) -> None:
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        save_snapshot({"step": lambda: None}, path)
    unharmed(path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        save_snapshot(STATE, tmp_path / "none" / "snapshot.pt")

"""Every call by which a video comes to be fails in turn: nothing half done is left, and the next attempt is whole."""

import errno
import tempfile
from pathlib import Path

import pytest

from mpvideo.errors import MPVideoError
from tests.faults import Faults, contents
from tests.records import a_record
from tests.video.conftest import colourful, save

RECORD = a_record().to_dict()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_every_call_fails_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, number: int) -> None:
    scratch, name = tmp_path / "scratch", f"a{suffix}"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    frames = colourful(3, 16)
    with Faults() as counted:
        wanted = save(tmp_path / name, frames, record=RECORD).read_bytes()
    assert {"open", "fsync", "link", "encoder start", "encoder feed", "encoder finish"} <= set(counted.calls)
    for at in range(len(counted.calls)):
        folder = tmp_path / str(at)
        folder.mkdir()
        with Faults(at, number) as faults:
            try:
                save(folder / name, frames, record=RECORD)
            except MPVideoError as error:
                assert contents(folder) == {}, (at, faults.kind)
                assert error.message.isprintable() and "Error" not in error.message, error.message
            else:
                assert contents(folder) == {name: wanted}, (at, faults.kind)
        if not (folder / name).exists():
            save(folder / name, frames, record=RECORD)
        assert contents(folder) == {name: wanted}, (at, faults.kind)
        assert list(scratch.iterdir()) == [], (at, faults.kind)


def test_what_was_there_survives_every_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    with Faults() as counted:
        save(path, colourful(2, 16), record=RECORD, overwrite=True)
    wanted = path.read_bytes()
    assert "rename" in counted.calls
    for at in range(len(counted.calls)):
        path.write_bytes(b"precious")
        with Faults(at):
            try:
                save(path, colourful(2, 16), record=RECORD, overwrite=True)
            except MPVideoError:
                assert contents(tmp_path) == {"a.gif": b"precious"}, (at, counted.calls[at])
            else:
                assert contents(tmp_path) == {"a.gif": wanted}, (at, counted.calls[at])

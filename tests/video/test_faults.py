"""Every call by which a video comes to be fails in turn: nothing half done is left, and the next attempt is whole."""

import errno
import tempfile
from pathlib import Path

import pytest

from mpvideo.errors import MPVideoError
from mpvideo.formats import FORMATS, Encoding, Format
from mpvideo.video import VideoWriter
from tests.faults import Faults, contents
from tests.records import a_record
from tests.video.conftest import colourful, save

RECORD = a_record().to_dict()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_every_call_fails_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Format, number: int) -> None:
    scratch, name = tmp_path / "scratch", f"a{kind.suffixes[0] if kind.suffixes else ''}"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    frames = colourful(2, 16)

    def write(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        encoding = Encoding(8, 1, format=kind.name)
        with VideoWriter(folder / name, width=16, height=16, channels=3, encoding=encoding, record=RECORD) as writer:
            writer.write(frames)

    with Faults() as counted:
        write(tmp_path / "undisturbed")
    wanted = contents(tmp_path / "undisturbed")
    assert {"open", "fsync"} | ({"encoder feed"} if kind.needs_ffmpeg else set()) <= set(counted.calls)
    for at in range(len(counted.calls)):
        folder = tmp_path / str(at)
        folder.mkdir()
        with Faults(at, number) as faults:
            try:
                write(folder)
            except MPVideoError as error:
                assert contents(folder) == {}, (at, faults.kind)
                assert error.message.isprintable() and "Error" not in error.message, error.message
            else:
                assert contents(folder) == wanted, (at, faults.kind)
        if not contents(folder):
            write(folder)
        assert contents(folder) == wanted, (at, faults.kind)
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

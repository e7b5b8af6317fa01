"""JSON files that commands write at their end."""

import json
from pathlib import Path

import pytest

from mpvideo.cli.json_files import write_json_file
from mpvideo.errors import OutputError

CONTENT = {"sampling": {"sigmas": [9.0, 1.0]}, "clamp": False}


def test_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.json"
    write_json_file(path, CONTENT, overwrite=False)
    assert json.loads(path.read_text()) == CONTENT
    assert capsys.readouterr().err == ""


def test_what_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may have taken hours: a folder that went away, or a disk that got full, must not lose it."""
    with pytest.raises(OutputError, match="gone does not exist"):
        write_json_file(tmp_path / "gone" / "a.json", CONTENT, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    words, line = capsys.readouterr().err.splitlines()
    assert words == "what was to be written:"
    assert json.loads(line) == CONTENT

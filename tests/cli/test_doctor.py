"""`mpvideo doctor`, on this machine and on some that are made up."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

import mpvideo
from mpvideo.cli.doctor import doctor
from mpvideo.doctor import ENCODERS
from mpvideo.errors import DeviceError, ExitCode
from mpvideo.probe import ERROR_LIMITS, Check, check_block, measure_speedup

app = typer.Typer(rich_markup_mode=None)
app.command()(doctor)


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert result.stderr == ""
    return result.stdout


def as_json(code: int = 0) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(run("--json", code=code))
    assert report["exit_code"] == code
    assert (code == 0) == (not report["problems"])
    return report


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_this_machine() -> None:
    report = as_json()
    assert report["versions"]["mpvideo"] == mpvideo.__version__
    assert report["versions"]["torch"] == torch.__version__
    assert report["versions"]["ffmpeg"]
    assert report["threads"] == torch.get_num_threads()
    assert list(report["encoders"]) == list(ENCODERS)
    assert report["encoders"]["libx264"] is report["encoders"]["gif"] is True
    assert report["free_bytes"]["current folder"] > 0
    cpu = [check for check in report["checks"] if check["device"] == "cpu"]
    assert [check["dtype"] for check in cpu] == list(ERROR_LIMITS)
    for check in cpu:
        assert check["error"] == check_block("cpu", check["dtype"]).error
        assert check["limit"] == ERROR_LIMITS[check["dtype"]]
        assert check["passes"] == (check["problem"] is None)
    assert report["speedups"]["cpu"] == measure_speedup("cpu")
    assert report["sample"]["device"] in [name for name, device in report["devices"].items() if device["available"]]
    assert report["sample"]["dtype"] in report["sample"]["words"]


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Check]:
    """A machine with MPS and without a fast bfloat16; the checks that are put in here go wrong on it."""
    checks: dict[tuple[str, str], Check] = {}

    def check(device: str, dtype: str) -> Check:
        return checks.get((device, dtype), Check(device, dtype, 1e-7))

    for module in ("device", "doctor"):
        monkeypatch.setattr(f"mpvideo.{module}.check_block", check)
        monkeypatch.setattr(f"mpvideo.{module}.measure_speedup", lambda device: 0.514)
    monkeypatch.setattr("mpvideo.device.without_bfloat16", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    return checks


def test_for_people(wrong: dict[tuple[str, str], Check], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpvideo.doctor._processors", lambda: 8)
    wrong["mps", "float32"] = Check("mps", "float32", 0.31)
    wrong["cpu", "float16"] = Check("cpu", "float16", None, "not implemented for 'Half'")
    lines = run().splitlines()
    assert lines[0] == f"mpvideo {mpvideo.__version__}"
    for line in (
        "  threads     2 threads on 8 processors",
        "  device  dtype     error  limit  passes",
        "  cpu     float32   1e-07  1e-04  yes",
        "  cpu     float16       -  5e-03  no: fails on a test block: not implemented for 'Half'",
        "  mps     float32   3e-01  1e-04  no: is wrong on a test block: relative error 0.3, at most 0.0001 expected",
        "  On cpu, bfloat16 is 0.5 times as fast as float32.",
        "  libx264     yes    .mp4",
        "  apng        yes    .apng",
        "  on          CPU, 2 threads, in float32",
        "  because     bfloat16 is 0.51 times as fast on a test block, 1.1 is wanted",
        "- MPS is not used: float32 is wrong on a test block: relative error 0.3, at most 0.0001 expected",
    ):
        assert line in lines
    assert lines[-1] == "Videos can be made here."
    assert all(line == line.rstrip() for line in lines)


def test_on_a_terminal(wrong: dict[tuple[str, str], Check], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    wrong["mps", "float32"] = Check("mps", "float32", 0.31)
    plain = re.sub("\x1b\\[[0-9;]*m", "", run())
    assert max(map(len, plain.splitlines())) <= 80


def test_nothing_is_tried_on_mps_that_is_not_the_default(wrong: dict[tuple[str, str], Check]) -> None:
    report = as_json()
    assert [(check["device"], check["dtype"]) for check in report["checks"]][-1:] == [("mps", "float32")]
    assert list(report["speedups"]) == ["cpu"]
    assert report["sample"]["device"] == "mps"


def test_no_device_computes_well(wrong: dict[tuple[str, str], Check]) -> None:
    wrong["cpu", "float32"] = Check("cpu", "float32", 0.31)
    assert as_json()["sample"]["device"] == "mps"
    wrong["mps", "float32"] = Check("mps", "float32", None)
    report = as_json(ExitCode.DEVICE)
    assert report["problems"][0]["message"] == "no device computes well: see the checks"
    lines = run(code=ExitCode.DEVICE).splitlines()
    assert "- no device computes well: see the checks" in lines
    assert "Videos can be made here." not in lines


def test_an_ffmpeg_that_lacks_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "case $2 in -version) echo 'ffmpeg version 4.4-lean Copyright';; *) echo ' V..... ffv1   FFmpeg #1';; esac"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program(tmp_path / "ffmpeg", script)))
    report = as_json(ExitCode.OUTPUT)
    assert report["versions"]["ffmpeg"] == "4.4-lean"
    assert report["encoders"] == {name: name == "ffv1" for name in ENCODERS}
    assert [problem["message"] for problem in report["problems"]] == [
        "ffmpeg lacks encoders: libx264 for .mp4, gif for .gif"
    ]


@pytest.mark.parametrize(
    ("script", "message"),
    [(None, "IMAGEIO_FFMPEG_EXE must name a program, got "), ("exit 3", "ffmpeg does not run: ")],
)
def test_no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, message: str) -> None:
    path = tmp_path / "ffmpeg" if script is None else program(tmp_path / "ffmpeg", script)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
    report = as_json(ExitCode.OUTPUT)
    assert report["versions"]["ffmpeg"] is None
    assert not any(report["encoders"].values())
    (problem,) = report["problems"]
    assert problem["message"].startswith(message)
    assert problem["hint"]


def test_no_temporary_folder(wrong: dict[tuple[str, str], Check], monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    report = as_json(ExitCode.OUTPUT)
    assert report["problems"] == [
        {
            "message": "no temporary folder for ffmpeg: no usable temporary directory found in ['/tmp']",
            "hint": "Set TMPDIR to a folder you may write to.",
        }
    ]
    assert report["free_bytes"]["temporary folder"] is None
    assert "  disk        unknown free for the temporary folder" in run(code=ExitCode.OUTPUT).splitlines()


def test_a_torch_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpvideo.doctor", None)
    with pytest.raises(DeviceError, match=r"^torch cannot be loaded: ") as caught:
        doctor()
    assert caught.value.hint == "Install torch anew, as pytorch.org describes."

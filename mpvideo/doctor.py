"""What there is to compute and to write videos with, and whether it works: what `mpvideo doctor` reports."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from mpvideo import __version__
from mpvideo.config import DeviceName
from mpvideo.device import Placement, available_devices, choose_placement, cudnn_version
from mpvideo.errors import ExitCode, MPVideoError
from mpvideo.files import reason
from mpvideo.probe import ERROR_LIMITS, check_block, measure_speedup
from mpvideo.text import first_ten, printable
from mpvideo.video.ffmpeg import ffmpeg_abilities

Report = dict[str, Any]

ENCODERS = {
    "libx264": ".mp4",
    "gif": ".gif",
    "libx264rgb": ".mp4 --lossless",
    "libvpx-vp9": ".webm",
    "libsvtav1": "--format av1",
    "ffv1": ".mkv",
    "apng": ".apng",
}
"""Encoders that are looked for, and what `mpvideo sample` needs each for."""

_USUAL = ("libx264", "gif")
"""Those that no ffmpeg should lack; without another one its format alone cannot be written."""

_PACKAGES = ("numpy", "safetensors", "einops", "typer", "rich", "pillow", "imageio-ffmpeg")


def examine() -> Report:
    """Looks at everything, for a second or two; as JSON takes it.

    Returns:
        `exit_code`: 0 if videos can be made here, DEVICE if no device computes well, OUTPUT if none can be written.
        `problems`: what stands against it, each a `message` and a `hint` or None; `warnings`: what is merely a pity.
        `versions`: of mpvideo, Python, torch and others, None for what is not there.
        `devices`: cpu, cuda and mps, each with `available` and `about`.
        `threads`: how many torch computes with; `processors`: how many there are for this process.
        `checks`: of a small block in each dtype on each device (on MPS in float32 alone): `device`, `dtype`, `error`
        (relative; None if there is no result), `limit`, `passes` and `problem` (a clause, or None).
        `speedups`: by device, how many times as fast as float32 bfloat16 is; None where it fails. MPS is not asked.
        `encoders`: whether ffmpeg has each of `ENCODERS`.
        `free_bytes`: of the disks of the current folder and of the temporary one; None where unknown.
        `sample`: what `mpvideo sample` computes on by default: `device`, `dtype`, `words` and `reason`.
    """
    available = available_devices()
    ffmpeg, encoders, problems = _ffmpeg()
    temporary = _temporary_folder(problems)
    placement = choose_placement()
    # Metal ends the whole process over some operations that it lacks in a dtype: nothing but the default is tried.
    tried = [(name, ["float32"] if name == "mps" else list(ERROR_LIMITS)) for name in reversed(available)]
    checks = [_check(device, dtype) for device, dtypes in tried for dtype in dtypes]
    sound = [check["device"] for check in checks if check["dtype"] == "float32" and check["passes"]]
    exit_code = ExitCode.OUTPUT if problems else ExitCode.DONE
    if not sound:
        exit_code = ExitCode.DEVICE
        problems.insert(0, {"message": "no device computes well: see the checks", "hint": "Install torch anew."})
    return {
        "exit_code": int(exit_code),
        "problems": problems,
        "warnings": list(placement.warnings),
        "versions": _versions(ffmpeg),
        "devices": {name: {"available": name in available, "about": _about(name)} for name in ("cpu", "cuda", "mps")},
        "threads": torch.get_num_threads(),
        "processors": _processors(),
        "checks": checks,
        "speedups": {device: measure_speedup(device) for device, dtypes in tried if "bfloat16" in dtypes},
        "encoders": encoders,
        "free_bytes": {"current folder": _free(Path()), "temporary folder": _free(temporary)},
        "sample": _choice(placement),
    }


def _ffmpeg() -> tuple[str | None, dict[str, bool], list[dict[str, str | None]]]:
    """Its version, the encoders it has of those looked for, and what is wrong with it."""
    try:
        version, names = ffmpeg_abilities()
    except MPVideoError as error:
        return None, dict.fromkeys(ENCODERS, False), [{"message": error.message, "hint": error.hint}]
    encoders = {name: name in names for name in ENCODERS}
    lacking = [f"{name} for {ENCODERS[name]}" for name in _USUAL if not encoders[name]]
    if not lacking:
        return version, encoders, []
    hint = "Set IMAGEIO_FFMPEG_EXE to another ffmpeg, or unset it."
    return version, encoders, [{"message": f"ffmpeg lacks encoders: {first_ten(lacking)}", "hint": hint}]


def _temporary_folder(problems: list[dict[str, str | None]]) -> Path | None:
    """Where ffmpeg's notes and videos for standard output go; without one, that is a problem."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        message = f"no temporary folder for ffmpeg: {reason(error)}"
        problems.append({"message": message, "hint": "Set TMPDIR to a folder you may write to."})
        return None


def _versions(ffmpeg: str | None) -> dict[str, str | None]:
    return {
        "mpvideo": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": cudnn_version(),
        **{name: _version(name) for name in _PACKAGES},
        "ffmpeg": ffmpeg,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _about(device: DeviceName) -> str:
    """What a device is, or why it is not there."""
    if device == "cpu":
        return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    if device == "cuda":
        if torch.version.cuda is None:
            return "not in this build of torch"
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return first_ten(names) if torch.cuda.is_available() and names else "no GPU, or no driver for it"
    if not torch.backends.mps.is_built():
        return "not in this build of torch"
    return "Metal" if torch.backends.mps.is_available() else "no GPU, or a macOS that is too old"


def _processors() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _check(device: DeviceName, dtype: str) -> dict[str, Any]:
    check = check_block(device, dtype)
    problem = None if check.problem is None else printable(check.problem)
    return {
        "device": device, "dtype": dtype, "error": check.error, "limit": check.limit,
        "passes": problem is None, "problem": problem,
    }  # fmt: skip


def _free(folder: Path | None) -> int | None:
    try:
        return None if folder is None else shutil.disk_usage(folder).free
    except OSError:
        return None


def _choice(placement: Placement) -> dict[str, str]:
    return {
        "device": placement.device_name,
        "dtype": placement.dtype_name,
        "words": placement.words,
        "reason": placement.reason,
    }

"""Files of jobs and journals, and the program as a process of its own."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PLAIN = ("--steps", 2, "--sampler", "euler", "--dtype", "float32", "--quiet")


def jobs(*lines: Any, name: str = "jobs.jsonl") -> Path:
    path = Path(name)
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def files(folder: Path | None = None) -> list[str]:
    """Videos, and what is left of unfinished ones."""
    return sorted(path.name for path in (folder or Path()).iterdir() if path.suffix in (".gif", ".mp4", ".part"))


def journal(path: Path | str = "jobs.jsonl.journal") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def start(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mpvideo", *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def finished(process: "subprocess.Popen[str]") -> int:
    process.communicate(timeout=100)
    return process.returncode


def wait_for(condition: Any, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)

"""What `batch.py` starts as a process of its own: runs mpvideo, and says on standard error what memory it took at most.

    python benchmarks/peak.py run|plan|trace sample --seed 0-999 --out '{index}.mp4'

`plan` ends when a run has been planned; `trace` does so too, and says which lines hold the memory.
"""

import contextlib
import sys
import tracemalloc
from pathlib import Path
from typing import Any

from mpvideo.cli import making
from mpvideo.cli.app import main


def _end(*arguments: object, **options: object) -> None:
    sys.exit()


def peak_megabytes() -> float:
    """Peak resident memory of this process, in MiB. (getrusage would count the parent's from before exec.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    how, *words = sys.argv[1:]
    replaced: Any = making
    if how != "run":
        replaced.Run = _end
    if how == "trace":
        tracemalloc.start()
    with contextlib.suppress(SystemExit):
        main(words)
    if how == "trace":
        print(*tracemalloc.take_snapshot().statistics("lineno")[:8], sep="\n")
    print(peak_megabytes(), file=sys.stderr)

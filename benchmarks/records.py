"""How long it takes to read how 10,000 videos were made, in each format.

    python benchmarks/records.py

One video of the menagerie (64x64 pixels, 32 frames) is written in each format, its folder filled with names for the
same file, and the record read by each name: opened, parsed and checked, as `sample --like` does. The system's cache
holds the file, so the time is the processor's.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from mpvideo import menagerie
from mpvideo.checkpoint import bundled_checkpoint, open_checkpoint
from mpvideo.formats import FORMATS, Encoding, Format
from mpvideo.record import Recorder, load_record
from mpvideo.video import VideoWriter

_CLASS = 207


def write(path: Path, kind: Format) -> None:
    """Writes a video with a record as `sample` would."""
    checkpoint = open_checkpoint(bundled_checkpoint())
    recorder = Recorder(checkpoint, sha256="0" * 64, dtype="float32", device="cpu", torch="0")
    encoding = Encoding(menagerie.FPS, format=kind.name)
    record = recorder.record(
        seed=0,
        class_index=_CLASS,
        frames=menagerie.FRAMES,
        sampling=checkpoint.config.sampling,
        clamp=False,
        encoding=encoding,
    )
    frames = menagerie.render(torch.tensor([_CLASS]), torch.tensor([0]))[0].numpy()
    _, height, width, channels = frames.shape
    with VideoWriter(
        path, width=width, height=height, channels=channels, encoding=encoding, record=record.to_dict()
    ) as writer:
        writer.write(frames)


def seconds(folder: Path, kind: Format, count: int) -> float:
    """The time that reading the records of `count` files takes."""
    suffix = kind.suffixes[0] if kind.suffixes else ""
    first = folder / f"first{suffix}"
    write(first, kind)
    names = [folder / f"{index}{suffix}" for index in range(count)]
    for name in names:
        if suffix:
            os.link(first, name)
        else:
            name.symlink_to(first)
    load_record(first)
    began = time.perf_counter()
    for name in names:
        load_record(name)
    return time.perf_counter() - began


def main() -> None:
    """Prints a row for each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="number of files")
    count = parser.parse_args().count
    print(f"| format | seconds for {count:,} |\n| --- | --- |")
    for kind in FORMATS.values():
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {kind.name} | {seconds(Path(folder), kind, count):.1f} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

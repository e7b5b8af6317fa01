"""Batches: what a job costs beside its sampling, what a plan takes of memory, how fast finished jobs are recognised.

    python benchmarks/batch.py
    python benchmarks/batch.py --only overhead --jobs 16
    python benchmarks/batch.py --only finished --finished 1000 --formats mp4,gif,npy

Three figures, each with its goal, on the bundled model with the default settings:

- overhead: `mpvideo sample` of 64 videos, as MP4, in this process, against the sampling of the same videos in the same
  batches alone: half of it before, half of it after. Imports are done, and what is loaded and tried out at first is
  taken off. Files are written while the next videos are sampled, so on a machine with idle cores the wall time shows
  little of it; the processor time, with ffmpeg's, shows all. The parts are those of the threads that they ran in: where
  torch has several threads, decoding takes more than is shown. Shares are of the sampling alone.
- memory: the peak of a process that plans a run, or makes a dry run, of 8 to 10,000 videos.
- finished: the same command again, as a process of its own, over 10,000 videos that are there. All are copies of one
  video that carries its record, and the system's cache holds them.

Of what misses its goal, a profile follows. `--dtype` is that of `mpvideo sample`. Everything is in a temporary folder.
"""

import argparse
import contextlib
import cProfile
import inspect
import io
import json
import os
import pstats
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mpvideo.device
import mpvideo.unlabelled
from mpvideo.batch.journal import Journal
from mpvideo.batch.sources import Sources
from mpvideo.checkpoint import bundled_checkpoint, open_checkpoint
from mpvideo.checkpoint.load import hash_tensors
from mpvideo.cli import making
from mpvideo.cli.app import main as run_program
from mpvideo.cli.reporting import Reporter
from mpvideo.formats import FORMATS, Encoding
from mpvideo.generation import Video, generate
from mpvideo.job import Job
from mpvideo.model import load_model
from mpvideo.record import Recorder
from mpvideo.video import VideoWriter

OVERHEAD_GOAL = 0.03
"""Of the time that sampling takes."""

MEMORY_GOAL = 0.05
"""How much more the greatest plan may take than the smallest: what is called flat."""

FINISHED_GOAL = 20.0
"""Seconds for 10,000 jobs."""

PEAK = str(Path(__file__).with_name("peak.py"))

_CLASS = 207
_BATCH_SIZE = 4  # the default


@dataclass(frozen=True)
class Spent:
    """Time that went by.

    Attributes:
        wall: seconds.
        processor: seconds of this process, in all of its threads, and of the processes that it has waited for.
    """

    wall: float = 0.0
    processor: float = 0.0

    @classmethod
    def now(cls) -> "Spent":
        """Since some fixed moment."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.wall - other.wall, self.processor - other.processor)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.wall + other.wall, self.processor + other.processor)

    def over(self, other: "Spent") -> "Spent":
        """Shares of another."""
        return Spent(self.wall / other.wall, self.processor / other.processor)


def timed(work: Callable[[], object]) -> Spent:
    """What some work takes."""
    began = Spent.now()
    work()
    return Spent.now() - began


class Parts:
    """Times of the parts of a run, by their names: wall, and processor time of the thread that each ran in.

    A part inside another one counts for itself alone.
    """

    def __init__(self) -> None:
        self.wall: defaultdict[str, float] = defaultdict(float)
        self.processor: defaultdict[str, float] = defaultdict(float)
        self._inside: dict[int, list[list[float]]] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What happens inside belongs to this part."""
        stack = self._inside.setdefault(threading.get_ident(), [])
        stack.append([0.0, 0.0])
        wall, processor = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            wall, processor = time.perf_counter() - wall, time.thread_time() - processor
            inner_wall, inner_processor = stack.pop()
            self.wall[name] += wall - inner_wall
            self.processor[name] += processor - inner_processor
            if stack:
                stack[-1][0] += wall
                stack[-1][1] += processor

    def watch(self, owner: Any, attribute: str, name: str) -> None:
        """From now on, calls of a function, or the steps of a generator, belong to this part."""
        function = getattr(owner, attribute)

        def call(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*arguments, **options)

        def steps(*arguments: Any, **options: Any) -> Iterator[Any]:
            its, end = function(*arguments, **options), object()
            while True:
                with self.part(name):
                    item = next(its, end)
                if item is end:
                    return
                yield item

        setattr(owner, attribute, steps if inspect.isgeneratorfunction(function) else call)


def run_command(*words: object) -> None:
    """Runs mpvideo in this process, without a word."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            run_program([str(word) for word in words])
        except SystemExit as ended:
            if not ended.code:
                return
    raise RuntimeError(said.getvalue())


def sample_words(folder: Path, seeds: str, dtype: str) -> list[str]:
    """The command that samples these seeds."""
    out = str(folder / "{index}.mp4")
    return ["sample", "--seed", seeds, "--class", str(_CLASS), "--dtype", dtype, "--out", out]


STARTING = "starting"


def watched_parts() -> Parts:
    """Has the parts of runs in this process timed."""
    parts = Parts()
    parts.watch(mpvideo.device, "choose_placement", STARTING)
    parts.watch(mpvideo.unlabelled, "unlabelled_warning", STARTING)
    parts.watch(Sources, "load", STARTING)
    parts.watch(making, "make_plan", "planning and naming")
    parts.watch(Video, "record", "records")
    parts.watch(Reporter, "made", "telling of videos")
    parts.watch(Journal, "write", "journal")
    parts.watch(Video, "chunks", "decoding latents")
    for method in ("__init__", "__enter__", "write", "__exit__"):
        parts.watch(VideoWriter, method, "writing to ffmpeg, waiting for it")
    return parts


def measure_overhead(count: int, dtype: str) -> bool:
    """Prints what a job takes beside its sampling; returns whether that is little enough."""
    checkpoint = open_checkpoint(bundled_checkpoint())
    placement = mpvideo.device.choose_placement("auto", dtype)  # type: ignore[arg-type]
    model = load_model(checkpoint, placement)
    dtype = placement.dtype_name  # for what is tried out need not come out the same twice

    def sample(first: int, end: int) -> None:
        jobs = (Job(seed=seed, class_index=_CLASS) for seed in range(first, end))
        for _ in generate(model, jobs, batch_size=_BATCH_SIZE):
            pass

    half = count // (2 * _BATCH_SIZE) * _BATCH_SIZE
    with tempfile.TemporaryDirectory(prefix="mpvideo-") as name:
        folder = Path(name)
        (folder / "warm").mkdir()
        run_command(*sample_words(folder / "warm", f"0-{_BATCH_SIZE - 1}", dtype), "--steps", 2)
        parts = watched_parts()
        before = timed(lambda: sample(0, half))
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = [*sample_words(folder, f"0-{count - 1}", dtype), "--journal", str(folder / "journal")]
        whole = timed(lambda: run_command(*words))
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        alone = before + timed(lambda: sample(half, count))
    starting = Spent(parts.wall.pop(STARTING), parts.processor.pop(STARTING))
    share = (whole - starting - alone).over(alone)
    children = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    print(
        f"\n{count} videos on {placement}; {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads of "
        f"torch\n\n| | seconds a video, wall | processor | of the sampling |\n| --- | --- | --- | --- |"
    )

    def row(name: str, wall: float | None, processor: float) -> None:
        shown = "" if wall is None else f"{wall / count:.4f}"
        print(f"| {name} | {shown} | {processor / count:.4f} | {100 * processor / alone.processor:.2f} % |")

    row("sampling alone", alone.wall, alone.processor)
    row("the command, without its start", (whole - starting).wall, (whole - starting).processor)
    for part, wall in parts.wall.items():
        row(part, wall, parts.processor[part])
    row("ffmpeg", None, children)
    beside = sum(parts.processor[part] for part in ("planning and naming", "records", "telling of videos", "journal"))
    told = [
        ("more than sampling, wall", share.wall),
        ("more than sampling, processor", share.processor),
        ("of it planning, records, telling and journal, processor", beside / alone.processor),
    ]
    print(f"\n| overhead of {count} jobs | of the sampling | goal |\n| --- | --- | --- |")
    for words_, value in told:
        print(f"| {words_} | {100 * value:.1f} % | {100 * OVERHEAD_GOAL:.0f} % |", flush=True)
    return max(share.wall, share.processor) <= OVERHEAD_GOAL


def write_jobs(path: Path, count: int, out: str, **options: Any) -> None:
    """Writes a file of jobs, one a line."""
    with path.open("w") as file:
        for index in range(count):
            job = {"seed": index, "class": _CLASS, "out": out.replace("{index}", str(index)), **options}
            file.write(json.dumps(job) + "\n")


def peak_megabytes(words: Sequence[str], *, planning: bool) -> float:
    """Peak resident memory of a command in a process of its own; if `planning`, of its planning alone."""
    command = [sys.executable, PEAK, "plan" if planning else "run", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stderr.splitlines()[-1])


def measure_memory(counts: Sequence[int]) -> bool:
    """Prints the peaks of plans of different lengths; returns whether they are flat."""
    peaks: dict[tuple[str, bool], list[float]] = {}
    profile: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mpvideo-") as name:
        folder = Path(name)
        for count in counts:
            jobs = folder / f"{count}.jsonl"
            write_jobs(jobs, count, str(folder / "{index}.mp4"))
            commands = {
                "sample": sample_words(folder, f"0-{count - 1}", "float32"),
                "batch": ["batch", str(jobs), "--dtype", "float32"],
            }
            for command, words in commands.items():
                for planning in (True, False):
                    peak = peak_megabytes(words if planning else [*words, "--dry-run"], planning=planning)
                    peaks.setdefault((command, planning), []).append(peak)
        flat = all(max(its) <= (1 + MEMORY_GOAL) * its[0] for its in peaks.values())
        if not flat:
            traced = [sys.executable, PEAK, "trace", *words]
            profile = subprocess.run(traced, check=True, capture_output=True, text=True).stdout.splitlines()
    heads = "".join(f" {count:,} jobs |" for count in counts)
    print(f"\n| peak memory in MiB |{heads} more | goal |\n| --- |{' --- |' * (len(counts) + 2)}")
    for (command, planning), its in peaks.items():
        cells = "".join(f" {peak:.1f} |" for peak in its)
        more = 100 * (max(its) / its[0] - 1)
        words_ = "planning" if planning else "dry run"
        print(f"| {command}, {words_} |{cells} {more:.1f} % | {100 * MEMORY_GOAL:.0f} % |", flush=True)
    print("\n".join(["", *profile] if profile else []))
    return flat


def write_finished(folder: Path, count: int, format_name: str) -> str:
    """Fills a folder with finished videos of seed 0, {index} in their names; returns the template of these."""
    checkpoint = open_checkpoint(bundled_checkpoint())
    config, kind = checkpoint.config, FORMATS[format_name]
    recorder = Recorder(checkpoint, sha256=hash_tensors(checkpoint.header), dtype="float32", device="cpu", torch="0")
    record = recorder.record(
        seed=0,
        class_index=_CLASS,
        frames=config.model.frames,
        sampling=replace(config.sampling, sampler=config.sampling.solver),
        clamp=config.edm.clamp,
        encoding=Encoding(config.video.fps, format=format_name),
    )
    out = str(folder / f"{{index}}{kind.suffixes[0] if kind.suffixes else ''}")
    first = Path(out.replace("{index}", "0"))
    side, channels = config.pixel_size, config.video.pixel_channels
    with VideoWriter(
        first,
        width=side,
        height=side,
        channels=channels,
        encoding=Encoding(config.video.fps, format=format_name),
        record=record.to_dict(),
    ) as writer:
        writer.write(np.zeros((config.model.frames, side, side, channels), np.uint8))
    for index in range(1, count):
        copy = out.replace("{index}", str(index))
        if kind.is_folder:
            shutil.copytree(first, copy, copy_function=os.link)
        else:
            shutil.copyfile(first, copy)
    return out


def measure_finished(count: int, formats: Sequence[str]) -> bool:
    """Prints how long finished jobs take; returns whether that is short enough."""
    goal = FINISHED_GOAL * count / 10_000
    print(
        f"\n| {count:,} finished jobs | seconds, wall | processor | goal |\n| --- | --- | --- | --- |",
        flush=True,
    )
    missed: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="mpvideo-") as name:
        for format_name in formats:
            folder = Path(name) / format_name
            folder.mkdir()
            out = write_finished(folder, count, format_name)
            jobs = Path(name) / f"{format_name}.jsonl"
            write_jobs(jobs, count, out, seed=0, format=format_name)
            seeds = ",".join(["0"] * count)
            commands = {
                "sample": ["sample", "--seed", seeds, "--class", str(_CLASS), "--format", format_name, "--out", out],
                "batch": ["batch", str(jobs)],
            }
            for command, words in commands.items():
                began = Spent.now()
                said = subprocess.run(
                    [sys.executable, "-m", "mpvideo", *words], check=True, capture_output=True, text=True
                )
                taken = Spent.now() - began
                if f"{count:,} there already" not in said.stderr:
                    raise RuntimeError(said.stderr)
                print(f"| {command}, {format_name} | {taken.wall:.1f} | {taken.processor:.1f} | {goal:g} |", flush=True)
                if taken.wall > goal:
                    missed.append(words)
        for words in missed[:1]:
            profiler = cProfile.Profile()
            profiler.runcall(run_command, *words)
            print(f"\nwhere the time goes in {words[0]}:")
            pstats.Stats(profiler).sort_stats("tottime").print_stats(20)
    return not missed


def main() -> None:
    """Measures and prints tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    figures = ("overhead", "memory", "finished")
    parser.add_argument("--only", choices=figures, help="one of the figures")
    parser.add_argument("--jobs", type=int, default=64, help="number of videos that are sampled, a multiple of 8")
    parser.add_argument("--dtype", default="auto", help="of what is sampled")
    parser.add_argument("--planned", default="8,1000,10000", help="numbers of videos that are planned")
    parser.add_argument("--finished", type=int, default=10_000, help="number of videos that are there")
    parser.add_argument("--formats", default="mp4", help="formats of these")
    arguments = parser.parse_args()
    wanted = figures if arguments.only is None else (arguments.only,)
    reached = {}
    # Plain processes first: the one that samples grows.
    if "finished" in wanted:
        reached["finished"] = measure_finished(arguments.finished, arguments.formats.split(","))
    if "memory" in wanted:
        reached["memory"] = measure_memory([int(word) for word in arguments.planned.split(",")])
    if "overhead" in wanted:
        reached["overhead"] = measure_overhead(arguments.jobs, arguments.dtype)
    print("\n" + ", ".join(f"{name}: {'reached' if good else 'missed'}" for name, good in reached.items()))


if __name__ == "__main__":
    main()

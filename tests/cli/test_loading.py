"""Checkpoints of a batch: each is read, checked and hashed once."""

import gc
import json
from pathlib import Path
from typing import Any

import pytest

from mpvideo.video.metadata import read_record
from tests.cli.batches import jobs
from tests.cli.conftest import Program


def test_a_checkpoint_is_loaded_once_for_all_its_jobs(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpvideo import model

    def models() -> set[int]:
        return {id(each) for each in gc.get_objects() if type(each) is model.Model}

    gc.collect()
    others = models()  # which other tests keep
    loads, load_tensors = [], model.load_tensors

    def load(header: Any) -> Any:
        assert models() <= others, "one at a time is in memory"
        loads.append(header.path)
        return load_tensors(header)

    monkeypatch.setattr(model, "load_tensors", load)
    those = [ckpt, Path("second.safetensors"), Path("third.safetensors")]
    for other in those[1:]:
        other.write_bytes(ckpt.read_bytes())
    common = {"steps": 1, "class": 0}
    jobs(*({**common, "ckpt": str(those[seed % 3]), "seed": seed, "out": f"{seed}.gif"} for seed in range(18)))
    done = program("batch", "jobs.jsonl", "--batch-size", 1, "--dtype", "float32", "--quiet")
    assert done.code == 0, done.stderr
    assert loads == those
    assert done.stdout.split() == [f"{seed}.gif" for first in range(3) for seed in range(first, 18, 3)]
    loads.clear()
    # The same file by other ways: a link to its folder, videos that were made of it, settings of the sampler.
    Path("link").symlink_to(ckpt.parent)
    jobs(
        {**common, "ckpt": str(ckpt), "seed": 30, "out": "30.gif"},
        {"like": "0.gif", "ckpt": str(ckpt), "seed": 31, "out": "31.gif"},
        {"like": "3.gif", "ckpt": f"link/{ckpt.name}", "seed": 32, "out": "32.gif"},
        {**common, "ckpt": str(ckpt), "set": {"sampling.rho": 5}, "seed": 33, "out": "33.gif"},
    )
    done = program("batch", "jobs.jsonl", "--dtype", "float32", "--json")
    assert done.code == 0, done.stderr
    assert loads == [ckpt]
    again = [json.loads(line)["command"] for line in done.stdout.splitlines()]
    assert ["--ckpt link/tiny.safetensors" in command for command in again] == [False, False, True, False]
    rhos = {name: (read_record(Path(name)) or {})["sampling"]["rho"] for name in ("30.gif", "33.gif")}
    assert rhos["33.gif"] == 5 != rhos["30.gif"], "one model, not one way to sample"


def test_a_model_of_a_file_that_was_replaced_takes_no_others_place(ckpt: Path, tmp_path: Path) -> None:
    """Of jobs that come in through a pipe, where two stay loaded."""
    from mpvideo.batch.crew import Crew
    from mpvideo.batch.sources import Sources
    from mpvideo.checkpoint import open_checkpoint
    from mpvideo.cli.run import Options, Run
    from mpvideo.cli.survey import Survey
    from mpvideo.device import choose_placement

    def opened(path: Path) -> Sources:
        return Sources(checkpoint=open_checkpoint(path))

    options = Options(
        device="cpu",
        dtype="float32",
        compiled=False,
        batch_size=1,
        exact=False,
        overwrite=False,
        quiet=True,
        as_json=False,
    )
    run = Run(options, Crew(), Survey(), began=0.0, planned=None, missing=None, found=0)
    placement, trained = choose_placement("cpu", "float32"), tmp_path / "trained.safetensors"
    kept = run._load(opened(ckpt), placement)
    for _ in range(3):
        trained.unlink(missing_ok=True)
        trained.write_bytes(ckpt.read_bytes())
        run._load(opened(trained), placement)
        assert [*run._models] == [opened(ckpt), opened(trained)]
    assert run._models[opened(ckpt)] is kept


def test_what_sources_have_in_common_is_no_way_to_sample(program: Program, ckpt: Path) -> None:
    """One checkpoint, three ways to sample it by default: one model does for all, and each job has its own."""
    import typer.main

    from mpvideo.batch.request import Request
    from mpvideo.cli.app import app
    from mpvideo.cli.jobs import JobFile, JobReader

    wanted = [5.0, 6.0, 5.0, 7.0]
    path = jobs(
        *(
            {"ckpt": str(ckpt), "set": {"sampling.rho": rho}, "seed": seed, "out": f"{seed}.gif"}
            for seed, rho in enumerate(wanted)
        )
    )
    sample = typer.main.get_command(app).commands["sample"]  # type: ignore[attr-defined]
    made = [each for each in JobFile(path, JobReader(sample, None)) if isinstance(each, Request)]
    assert [each.sampling.rho for each in made] == wanted
    assert len({each.sources for each in made}) == 1


def test_weights_are_hashed_once_however_many_there_are(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three checkpoints, of which two stay open, and whose videos are there already."""
    from mpvideo.checkpoint import load

    hashes, hash_tensors = [], load.hash_tensors
    monkeypatch.setattr(load, "hash_tensors", lambda header: hashes.append(header.path) or hash_tensors(header))
    monkeypatch.setattr("mpvideo.cli.jobs._OPEN", 2)
    those = [Path(f"{number}.safetensors") for number in range(3)]
    for each in those:
        each.write_bytes(ckpt.read_bytes())
    jobs(*({"ckpt": str(those[seed % 3]), "seed": seed, "steps": 1, "out": f"{seed}.gif"} for seed in range(9)))
    assert program("batch", "jobs.jsonl", "--dtype", "float32", "--quiet").code == 0
    assert hashes == [], "there is nothing to compare with"
    assert ": 9 there already" in program("batch", "jobs.jsonl").stderr
    assert hashes == those


def test_what_jobs_have_in_common_is_found_out_once(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer.main

    from mpvideo.batch.request import Request
    from mpvideo.cli import requests
    from mpvideo.cli.app import app
    from mpvideo.cli.jobs import JobFile, JobReader

    asked: list[Any] = []
    settings = requests.sampling_settings
    monkeypatch.setattr(requests, "sampling_settings", lambda *a, **b: asked.append(b["steps"]) or settings(*a, **b))
    steps = [1, 2, 1, 2, 1]
    path = jobs(*({"ckpt": str(ckpt), "steps": each, "out": f"{index}.gif"} for index, each in enumerate(steps)))
    sample = typer.main.get_command(app).commands["sample"]  # type: ignore[attr-defined]
    made = [each for each in JobFile(path, JobReader(sample, None)) if isinstance(each, Request)]
    assert [request.sampling.steps for request in made] == steps and asked == [1, 2]
    assert [request.path for request in made] == [Path(f"{index}.gif") for index in range(5)]
    assert len({request.sources for request in made}) == 1


def test_files_of_settings_are_read_once_for_all_combinations(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer.main

    from mpvideo import presets
    from mpvideo.cli import requests, sampling_settings
    from mpvideo.cli.app import app
    from mpvideo.cli.jobs import JobFile, JobReader

    read: list[Any] = []
    read_json, parse = presets.read_json, sampling_settings.parse_sigmas
    monkeypatch.setattr(presets, "read_json", lambda path: read.append(path) or read_json(path))
    for module in (requests, sampling_settings):
        monkeypatch.setattr(module, "parse_sigmas", lambda text: read.append(text) or parse(text))
    Path("p.json").write_text(json.dumps({"format": 1, "sampling": {"sampler": "lms", "steps": 9}}))
    Path("levels.txt").write_text("9 1")
    sample = typer.main.get_command(app).commands["sample"]  # type: ignore[attr-defined]
    shared = {"ckpt": str(ckpt), "preset": "p.json"}
    path = jobs(
        {**shared, "steps": "1-30", "out": "{steps}.gif"},
        {
            **shared,
            "sigmas": "levels.txt",
            "sampler": "lms,euler",
            "guidance": "1,2,3",
            "out": "{sampler}-{guidance}.gif",
        },
    )
    made: list[Any] = [*JobFile(path, JobReader(sample, None))]
    assert [each.sampling.steps for each in made] == [*range(1, 31), *[2] * 6]
    assert {each.sampling.sampler for each in made} == {"lms", "euler"}
    assert read.count("levels.txt") == 1 and len(read) < 9

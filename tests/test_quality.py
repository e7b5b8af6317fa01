"""The parts of benchmarks/quality that a full run would take hours to try."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mpvideo.checkpoint import open_checkpoint
from mpvideo.config import SamplingConfig
from mpvideo.device import Placement
from mpvideo.job import Job
from mpvideo.menagerie import render
from mpvideo.model import load_model
from tests.checkpoints import save_tiny, tiny_config

FOLDER = Path(__file__).parents[1] / "benchmarks" / "quality"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not here")


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def row(name: str, evaluations: int, *, frechet: float = 100.0, right: float = 0.5, difference: float = 1.0) -> Any:
    shares = {"animal": 0.9, "coat": 1.0, "motion": 0.6, "all": right}
    numbers = {"evaluations": evaluations, "frechet": frechet, "difference": difference, "seconds": 0.1}
    return {"name": name, **numbers, **shares}


def test_which_are_as_good_as_many_evaluations(part: Any) -> None:
    rows = [
        row("lms", 12, difference=2.0),
        row("ipndm", 10, frechet=101.9, right=0.4901),
        row("deis", 12, frechet=102.1),
        row("euler", 12, right=0.48),
        row("unipc", 18),
        row("heun", 63),
    ]
    verdict = part("table").verdict
    assert verdict(rows) == "at most 12 evaluations and as good as heun with 63: ipndm 10, lms 12"
    assert verdict(rows[:-1]).endswith("there is nothing to compare with")


def test_table(part: Any) -> None:
    text = part("table").markdown([row("ipndm", 8)], {"animal": 1, "coat": 1, "motion": 1, "all": 1, "frechet": 4.5})
    assert "| ipndm | 8 | 90.0 % | 100.0 % | 60.0 % | 50.0 % | 100.0 | 1.00 | 100 |\n" in text
    assert text.endswith("| real renderings |  | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 4.5 |  |  |\n")


def test_chart(part: Any) -> None:
    names = ["euler", "heun", "dpmpp-2m", "dpmpp-3m", "dpmpp-2m-sde", "unipc", "deis", "ipndm", "lms", "fast"]
    rows = [row(name, n, difference=9 / n + i) for i, name in enumerate(names) for n in (5, 8, 63)]
    image = part("chart").chart([*rows, row("reference", 399, difference=0.0)])
    assert image.size == (1180, 480)
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 50


def test_a_cell_samples_the_videos_of_its_batch(part: Any, tmp_path: Path) -> None:
    cells = part("cells")
    path = save_tiny(tmp_path / "tiny.safetensors", tiny_config())
    model = load_model(open_checkpoint(path), Placement(torch.device("cpu"), torch.float32, "asked for"))
    protocol = cells.Protocol(
        sha256="x",
        videos=3,
        seed=5,
        guidance=1.0,
        guidance_interval=None,
        guidance_hold=False,
        dtype="float32",
        batch_size=2,
    )
    bench = cells.Bench(tmp_path / "bench", model, protocol, [2, 0, 1])
    cell = cells.Cell("unipc", SamplingConfig(sampler="unipc", steps=3))
    first, last = bench._sampled(cell, 0), bench._sampled(cell, 2)
    assert (first.shape, last.shape) == ((2, 4, 8, 8, 3), (1, 4, 8, 8, 3))
    assert np.array_equal(bench._reference(0, first), first)
    assert np.array_equal(bench._reference(0, None), first)
    other = cells.Cell("unipc", SamplingConfig(sampler="unipc", steps=3, sigma_min=0.1))
    assert other.key != cell.key
    with pytest.raises(SystemExit, match="another protocol"):
        cells.Bench(tmp_path / "bench", model, cells.Protocol(**{**vars(protocol), "videos": 4}), [2, 0, 1, 1])


def test_a_whole_run(part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Four videos, rendered and the darker the fewer the steps, in one cell, and on from there in two more."""
    spec = importlib.util.spec_from_file_location("quality", FOLDER / "__main__.py")
    assert spec is not None and spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    monkeypatch.setattr(program, "REFERENCE_EVALUATIONS", 7)
    ckpt = save_tiny(tmp_path / "tiny.safetensors", tiny_config(num_classes=1000))
    (tmp_path / "mine.json").write_text('{"format": 1, "sampling": {"sampler": "lms", "sigmas": [9.0, 1.0]}}')
    sampled: list[tuple[str, int, int]] = []

    def generate(model: Any, jobs: list[Job], *, batch_size: int) -> Any:
        for job in jobs:
            sampled.append((job.sampling.sampler, job.sampling.steps, job.seed))
            (frames,) = render(torch.tensor([job.class_index]), torch.tensor([job.seed])).numpy()
            yield SimpleNamespace(frames=frames // (5 - job.sampling.steps))

    monkeypatch.setattr(part("cells"), "generate", generate)

    def run(*more: str) -> Any:
        words = ("--folder", tmp_path / "bench", "--ckpt", ckpt, "--videos", 4, "--batch-size", 2, "--guidance", 1.5)
        monkeypatch.setattr(sys, "argv", ["quality", *map(str, words), "--dtype", "float32", *more])
        program.main()
        return json.loads((tmp_path / "bench" / "table.json").read_text())

    rows = run("--solvers", "euler", "--evaluations", "2")["rows"]
    assert sampled[:2] == [("euler", 1, 0), ("euler", 1, 1)], "to warm up"
    assert sampled[2:] == [(*way, seed) for way in (("heun", 4), ("euler", 2)) for seed in range(4)]
    assert [(row["name"], row["evaluations"]) for row in rows] == [("euler", 2), ("reference", 7)]
    assert rows[0]["difference"] > 10 and rows[1]["difference"] == 0
    assert rows[0]["all"] <= rows[1]["all"] == 1 and rows[1]["frechet"] < rows[0]["frechet"]
    assert all(row["seconds"] > 0 and row["sampling"]["guidance"] == 1.5 for row in rows)
    del sampled[:]
    whole = run("--solvers", "heun", "--evaluations", "1", "--presets", str(tmp_path / "mine.json"))
    names = [(row["name"], row["evaluations"]) for row in whole["rows"]]
    assert names == [("heun", 1), ("euler", 2), ("mine", 2), ("reference", 7)]
    assert [way[:2] for way in sampled] == [("euler", 1)] * 2 + [("heun", 1)] * 4 + [("lms", 2)] * 4
    assert whole["real"]["all"] > 0.7 and whole["protocol"]["guidance"] == 1.5
    text = (tmp_path / "bench" / "table.md").read_text()
    assert text.count("\n") == 7 and (tmp_path / "bench" / "quality.png").stat().st_size > 1000
    assert text in capsys.readouterr().out

"""Two processes that torchrun starts, against one alone. What they do is in `together`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from mpvideo.processes import ALONE, Processes, join_processes
from tests.training.together import RECIPES, train

ROOT = Path(__file__).parents[2]

Told = dict[str, Any]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Told]:
    """What the two processes tell; started once for all tests."""
    folder = tmp_path_factory.mktemp("pair")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tests.training.together"]
    # A group of their own, so that none of them outlives a failure.
    process = subprocess.Popen(
        [sys.executable, *launch, str(folder)],
        cwd=ROOT,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error::FutureWarning",  # as of what torch will not have any more
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=200)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, output
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> Told:
    """The same trainings in one process."""
    return {name: train(name, ALONE) for name in RECIPES}


@pytest.mark.parametrize("name", ["whole", "parts"])
def test_two_processes_train_as_one_does(pair: list[Told], alone: Told, name: str) -> None:
    """The same samples, and over all steps the same losses, to 1e-4."""
    steps, _ = RECIPES[name]
    for told in pair:
        assert told[name]["sigmas"] == alone[name]["sigmas"]
        assert told[name]["samples"] == alone[name]["samples"]
        assert len(told[name]["losses"]) == steps
        ours, theirs = ([fmean(losses) for losses in who[name]["losses"]] for who in (told, alone))
        assert ours == pytest.approx(theirs, abs=1e-4)
    losses = alone["whole"]["losses"]
    assert sum(map(sum, losses[-10:])) < 0.85 * sum(map(sum, losses[:10]))


@pytest.mark.parametrize("name", RECIPES)
def test_both_have_the_same_weights_in_the_end(pair: list[Told], name: str) -> None:
    first, second = pair
    assert first[name]["weights"] == second[name]["weights"]
    assert len(first[name]["weights"]) > 50
    assert first[name]["finite"]


def test_gradients_travel_once_a_step(pair: list[Told]) -> None:
    """Not with every micro-batch."""
    for told in pair:
        assert set(told["whole"]["journeys"]) == {1}
        assert set(told["parts"]["journeys"]) == {1}


def test_a_sample_that_is_no_number_is_dealt_with_in_both(pair: list[Told], alone: Told) -> None:
    first, second = pair
    assert first["damaged"]["nonfinite"] == second["damaged"]["nonfinite"] == alone["damaged"]["nonfinite"]
    before, at, after = first["damaged"]["nonfinite"]
    assert before == after == 0 < at


def test_what_processes_offer(pair: list[Told]) -> None:
    for rank, told in enumerate(pair):
        assert (told["rank"], told["local_rank"], told["count"]) == (rank, rank, 2)
        assert told["gathered"] == [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]
        assert told["agreed"] == told["alike"] == [True, False]
        assert told["order"] == "01"
    assert [told["share"] for told in pair] == [[10, 11, 12], [13, 14, 15]]


def test_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with join_processes() as processes:
        assert processes is ALONE
        assert not torch.distributed.is_initialized()
    assert Processes(rank=0, count=1) == ALONE
    assert ALONE.first
    assert not Processes(rank=1, count=2).first
    assert ALONE.share(range(3, 8)) == range(3, 8)
    values = torch.arange(3.0)
    assert torch.equal(ALONE.gather(values), values)
    assert [ALONE.agree(flag) for flag in (True, False)] == [True, False]
    assert ALONE.alike("itself")
    with ALONE.one_after_another():
        ALONE.wait()


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_shares_are_all_of_it_in_order(count: int) -> None:
    shares = [list(Processes(rank=rank, count=count).share(range(5, 17))) for rank in range(count)]
    assert [number for share in shares for number in share] == list(range(5, 17))
    assert {len(share) for share in shares} == {12 // count}

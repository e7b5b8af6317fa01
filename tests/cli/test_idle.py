"""Warnings about options that were given and change nothing."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mpvideo.cli.idle import idle_options
from mpvideo.config import SamplingConfig
from tests.checkpoints import save_tiny, tiny_config
from tests.cli.batches import jobs
from tests.cli.conftest import Program

PLAIN = SamplingConfig(sampler="heun", steps=4)


def idle(*given: str, **settings: object) -> list[str]:
    return [*idle_options(given, [SamplingConfig(**{"sampler": "heun", "steps": 4, **settings})])]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "words", "matters"),
    [
        ("guide", "--guide has no effect at --guidance 1", {"guidance": 2.0}),
        ("apg_eta", "--apg-eta has no effect at --guidance 1", {"guidance": 2.0}),
        ("apg_norm", "--apg-norm has no effect at --guidance 1", {"guidance": 0.0}),
        ("guidance_interval", "--guidance-interval has no effect at --guidance 1", {"guidance": 2.0}),
        ("s_tmin", "--s-tmin has no effect without --s-churn", {"s_churn": 4.0}),
        ("s_tmax", "--s-tmax has no effect without --s-churn", {"s_churn": 4.0}),
        ("s_noise", "--s-noise has no effect without --s-churn or --restarts", {"s_churn": 4.0}),
        ("eta", "--eta has no effect with another --sampler than dpmpp-2m-sde", {"sampler": "dpmpp-2m-sde"}),
        ("restart_steps", "--restart-steps has no effect without --restarts", {"restarts": 1}),
        ("restart_min", "--restart-min has no effect without --restarts", {"restarts": 1}),
        ("restart_max", "--restart-max has no effect without --restarts", {"restarts": 1}),
    ],
)
def test_when_options_matter(option: str, words: str, matters: dict[str, object]) -> None:
    assert idle(option) == [words]
    assert idle(option, **matters) == []
    assert idle(**matters) == idle() == []


def test_options_with_several_conditions() -> None:
    assert idle("rho", schedule="cosine") == ["--rho has no effect with another --schedule than karras"]
    assert idle("rho") == []
    assert idle("s_noise", sampler="dpmpp-2m-sde") == []
    assert idle("s_noise", restarts=1) == []
    assert idle("s_noise", sampler="dpmpp-2m-sde", eta=0.0) == [
        "--s-noise has no effect without --s-churn or --restarts"
    ]
    nowhere = "--guidance-interval leaves no guidance: the schedule has no noise level in it"
    assert idle("guidance_interval", guidance=2.0, guidance_interval=(81.0, 90.0)) == [nowhere]
    assert idle("guidance_interval", guidance=2.0, guidance_interval=(79.0, 90.0)) == []
    assert idle("guidance_interval", guidance=2.0, guidance_interval=(81.0, 90.0), guidance_hold=True) == [
        "--guidance-interval has no noise level of the schedule in it: guidance goes on as it is at the first"
    ]
    held = {"guidance": 2.0, "guidance_hold": True}
    assert idle("guidance_interval", guidance_interval=(79.0, 90.0), **held) == []
    assert idle("guidance_hold", **held) == ["--guidance-hold has no effect without --guidance-interval"]
    assert idle("guidance_hold", guidance_interval=(79.0, 90.0), **held) == []
    assert idle("guidance_hold", guidance_hold=True) == ["--guidance-hold has no effect at --guidance 1"]
    assert idle("guidance_hold", guidance=2.0) == idle("guidance_hold") == [], "--no-guidance-hold"
    assert idle("guidance_interval", guidance=1.0, guidance_interval=(81.0, 90.0)) == [
        "--guidance-interval has no effect at --guidance 1"
    ]
    no_churn = "leaves no churn: the schedule has no noise level from --s-tmin to --s-tmax"
    assert idle("s_tmin", s_churn=4.0, s_tmin=81.0) == [f"--s-tmin {no_churn}"]
    assert idle("s_tmin", s_churn=4.0, s_tmin=80.0) == []
    assert idle("s_tmax", s_churn=4.0, s_tmax=0.001) == [f"--s-tmax {no_churn}"], "the last step's end, 0, is none"
    assert idle("s_tmax", s_churn=4.0, s_tmax=0.002) == []
    assert idle("s_tmin", "s_tmax", s_tmin=81.0) == [
        "--s-tmin has no effect without --s-churn", "--s-tmax has no effect without --s-churn"
    ]  # fmt: skip


def test_one_entry_of_a_list_for_which_it_matters_will_do() -> None:
    both = [PLAIN, SamplingConfig(sampler="heun", steps=4, guidance=2.0)]
    assert [*idle_options(["apg_eta"], both)] == []
    assert len([*idle_options(["apg_eta"], both[:1])]) == 1


def test_what_is_given_is_warned_of_once_and_what_is_not_never(program: Program, ckpt: Path) -> None:
    own = SamplingConfig(sampler="euler", steps=2, s_noise=1.5, restart_steps=7, guidance_interval=(1.0, 2.0))
    churning = save_tiny(Path("churning.safetensors"), dataclasses.replace(tiny_config(), sampling=own))
    quiet = program("sample", "--ckpt", churning, "--dtype", "float32", "--seed", "0-1", "--out", "{seed}.gif")
    assert (quiet.code, "no effect" in quiet.stderr) == (0, False)
    plain = ("sample", "--ckpt", ckpt, "--steps", 2, "--dtype", "float32")
    given = program(*plain, "--rho", 5, "--schedule", "linear", "--seed", "0-1", "--out", "a{seed}.gif")
    assert given.stderr.count("has no effect") == 1
    assert "warning: --rho has no effect with another --schedule than karras\n" in given.stderr
    guided = program(*plain, "--guidance", 2, "--guide", ckpt, "--out", "b.gif")
    assert (guided.code, "no effect" in guided.stderr) == (0, False)
    again = program("sample", "--like", "b.gif", "--ckpt", ckpt, "--guide", ckpt, "--guidance", 1, "--out", "c.gif")
    assert "warning: --guide has no effect at --guidance 1\n" in again.stderr
    (Path("tiny.safetensors")).write_bytes(ckpt.read_bytes())
    again = program("sample", "--like", "b.gif", "--guidance", 1, "--out", "d.gif")
    assert (again.code, "no effect" in again.stderr) == (0, False)


def test_the_status_of_a_batch_makes_nothing(program: Program, ckpt: Path) -> None:
    path = jobs({"ckpt": str(ckpt), "steps": 1, "out": "a.gif"})
    assert program("batch", path, "--dtype", "float32", "--journal", "j").code == 0
    status = ("batch", path, "--journal", "j", "--status")
    idle = ("--dry-run", "--shard", "1/2", "-o", "b.gif", "--compile")
    plain, warned, quiet = program(*status), program(*status, *idle), program(*status, *idle, "--quiet")
    assert (plain.code, plain.stderr, quiet) == (0, "", plain)
    assert warned.stdout == plain.stdout
    assert warned.stderr.splitlines() == [
        f"warning: {flag} has no effect with --status" for flag in ("--out", "--shard", "--dry-run", "--compile")
    ]


def test_jobs_of_a_batch(program: Program, ckpt: Path, tmp_path: Path) -> None:
    job = {"ckpt": str(ckpt), "steps": 2, "guide": str(ckpt), "apg-eta": 0.5}
    path = jobs(
        {**job, "guidance": 2, "out": "a.gif"},
        {**job, "guidance": "1,2", "out": "{index}.gif"},
        *({**job, "guidance": 1, "out": f"{name}.gif"} for name in "bc"),
    )
    words = [f"warning: jobs.jsonl, line 3: {flag} has no effect at --guidance 1" for flag in ("--guide", "--apg-eta")]
    done = program("batch", path, "--dtype", "float32")
    assert [line for line in done.stderr.splitlines() if "no effect" in line] == words
    line = json.dumps({**job, "guidance": 1, "out": "d.gif"}) + "\n"
    command = [sys.executable, "-m", "mpvideo", "batch", "-", "--dtype", "float32"]
    piped = subprocess.run(command, input=line, text=True, capture_output=True, cwd=tmp_path, check=True)
    words = [each.replace("jobs.jsonl, line 3", "line 1 of standard input") for each in words]
    assert [line for line in piped.stderr.splitlines() if "no effect" in line] == words

"""The command written from a record: short, complete, and nothing that a stranger wrote."""

import dataclasses
import shlex
import shutil
import subprocess
from fractions import Fraction
from typing import Any

import pytest
import typer.main

from mpvideo.cli.app import app
from mpvideo.command import command_line, shell_join, trusted_command
from mpvideo.config import CheckpointConfig, EDMConfig, SamplingConfig
from mpvideo.formats import Encoding
from mpvideo.record import Weights
from tests.checkpoints import tiny_config
from tests.records import a_record

WORDS = ["plain", "two words", "it's", "$HOME `x` \\ !", "", "grün", "a\nb\t\x1b[2J'\\1", "\u202ex", "\udcff7.gif"]
TINY = tiny_config()

NOT_ABOUT_THE_VIDEO = {
    "like", "out", "grid", "sheet", "shard", "journal", "dry_run", "overwrite", "no_metadata", "batch_size",
    "device", "compiled", "config", "preset", "quiet", "as_json",
}  # fmt: skip
"""Options of `sample` that the command of one video has no use for. (What --config, --preset and --like say, others
repeat.)"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_reads_the_same_words() -> None:
    line = shell_join(["printf", "%s\\0", *WORDS])
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=True)
    assert done.stdout.decode(errors="surrogateescape").split("\0")[:-1] == WORDS


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_no_shell_runs_what_a_word_says(shell: str) -> None:
    """Not even one that does not know $'...'."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    for word in ("\x1b'; echo run; '", "\x1b\\'; echo run; \\'", "\x1b$(echo run)`echo run`"):
        line = shell_join(["printf", "%s", word])
        done = subprocess.run([shell, "-c", line], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.count("\n") == 0 and "echo run" in done.stdout


def test_what_the_checkpoint_says_itself_is_left_out() -> None:
    record = a_record()
    assert command_line(record, TINY) == "mpvideo sample --class 1 --seed 7 --dtype float32"
    assert command_line(record, TINY, ckpt="a b.safetensors", extra=["--out", "x.gif"]) == (
        "mpvideo sample --ckpt 'a b.safetensors' --class 1 --seed 7 --dtype float32 --out x.gif"
    )


def changed(record: Any, **parts: Any) -> Any:
    return dataclasses.replace(record, **parts)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"class_index": 0, "class_name": None}, "--class 0"),
        ({"seed": 0}, "--seed 0"),
        ({"frames": 2}, "--frames 2"),
        ({"sampling": SamplingConfig(sampler="heun", steps=9)}, "--steps 9"),
        ({"sampling": SamplingConfig(steps=3, sampler="euler", s_tmax=5.5)}, "--sampler euler --s-tmax 5.5"),
        ({"sampling": SamplingConfig(sampler="heun", steps=3, guidance=0.0)}, "--guidance 0.0"),
        (
            {"sampling": SamplingConfig(sampler="heun", steps=3, guidance_interval=(0.2, 3.0))},
            "--guidance-interval 0.2,3.0",
        ),
        (
            {"sampling": SamplingConfig(sampler="heun", steps=3, guidance_interval=(0.2, 3.0), guidance_hold=True)},
            "--guidance-interval 0.2,3.0 --guidance-hold",
        ),
        (
            {"sampling": SamplingConfig(sampler="heun", sigmas=(50, 2.5, 0.1), rho=3.0)},
            "--sigmas 50,2.5,0.1",
        ),
        ({"clamp": True}, "--clamp"),
        ({"exact": True}, "--exact"),
        ({"dtype": "bfloat16"}, "--dtype bfloat16"),
        ({"encoding": Encoding(8.0, 3, 20)}, "--scale 3 --crf 20"),
        ({"encoding": Encoding(Fraction(24000, 1001))}, "--fps 23.976023976023978"),
        ({"encoding": None}, ""),
        (
            {"config": dataclasses.replace(TINY, edm=EDMConfig(sigma_data=1.0))},
            "--set edm.sigma_data=1.0",
        ),
        ({"config": tiny_config("gray")}, "--set model.channels=1 --set 'video.codec=\"gray\"'"),
    ],
)
def test_what_differs_is_given(parts: dict[str, Any], words: str) -> None:
    line = command_line(changed(a_record(), **parts), TINY)
    given = shlex.split(line)
    assert [word for word in shlex.split(words) if word not in given] == []
    expected = {"mpvideo", "sample", "--class", "--seed", "--dtype"} | set(shlex.split(words))
    assert {word for word in given if word.startswith("--")} <= expected


def test_what_the_checkpoint_says_and_the_run_did_not_do_is_taken_back() -> None:
    own = dataclasses.replace(TINY, sampling=SamplingConfig(steps=3, s_tmax=5.0), edm=EDMConfig(clamp=True))
    line = command_line(a_record(), own)
    assert "--set sampling.s_tmax=null" in line and "--no-clamp" in line


def test_a_list_of_levels_in_the_checkpoint_gives_way() -> None:
    own = dataclasses.replace(TINY, sampling=SamplingConfig(sampler="heun", sigmas=(50, 2.5, 0.1)))
    words = shlex.split(command_line(a_record(), own))
    for flag in ("--steps", "--schedule", "--sigma-min", "--sigma-max", "--rho"):
        assert flag in words
    assert "--sigmas" not in shlex.split(command_line(changed(a_record(), sampling=own.sampling), own))


def test_a_checkpoint_that_says_nothing_is_told_everything() -> None:
    words = shlex.split(command_line(a_record(), None, ckpt="bare.safetensors"))
    for some in ("--steps", "--rho", "--no-clamp", "--frames", "model.image_size=8", "model.attn_res=[4]"):
        assert some in words


def test_every_option_of_sample_is_either_repeated_or_not_about_the_video() -> None:
    """A new option has to be claimed by one side or the other, or the command would make another video."""
    sample = typer.main.get_command(app).commands["sample"]  # type: ignore[attr-defined]
    options = {parameter.name: parameter.opts[0] for parameter in sample.params}
    assert set(options) >= NOT_ABOUT_THE_VIDEO
    everything = a_record(
        sampling=SamplingConfig(
            sampler="euler", steps=7, s_tmax=9.0, s_churn=1.0, s_tmin=0.5, s_noise=1.1, rho=5.0,
            guidance_interval=(0.5, 2.0), guidance_hold=True, apg_eta=0.5, apg_norm=3.0,
        ),
        clamp=True, exact=True, encoding=Encoding(9.0, 3, 20, "av1", loop=2, filter="lanczos"),
        guide=Weights(name="weak.safetensors", sha256="f" * 64),
    )  # fmt: skip
    listed = a_record(sampling=SamplingConfig(sigmas=(9, 2)), encoding=Encoding(9.0, lossless=True))
    lines = [command_line(record, None, ckpt="x.safetensors") for record in (everything, listed)]
    given = {word for line in lines for word in shlex.split(line)}
    forgotten = {name for name, flag in options.items() if flag not in given} - NOT_ABOUT_THE_VIDEO
    assert forgotten == set()
    known = {flag for parameter in sample.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in given if word.startswith("--")} <= known


def test_the_guide_is_named() -> None:
    record = a_record(guide=Weights(name="weak.safetensors", sha256="f" * 64), sampling=SamplingConfig(guidance=2.0))
    assert " --guide weak.safetensors " in command_line(record, TINY)
    assert " --guide /there/weak.safetensors " in command_line(record, TINY, guide="/there/weak.safetensors")
    assert trusted_command(changed(record, command=command_line(record, TINY))) == command_line(record, TINY)


@pytest.mark.parametrize("own", [TINY, None])
def test_a_command_of_ours_is_kept(own: CheckpointConfig | None) -> None:
    record = a_record(sampling=SamplingConfig(steps=5), encoding=Encoding(8.0, 2))
    line = command_line(record, own, ckpt="tiny.safetensors")
    assert trusted_command(changed(record, command=line)) == line


@pytest.mark.parametrize(
    "line",
    [
        "",
        "rm -rf ~",
        "mpvideo sample --seed 7; rm -rf ~",
        "mpvideo sample --seed 7 --out /home/x/.bashrc -y",
        "mpvideo sample --seed 8",
        "mpvideo sample --ckpt /tmp/evil.safetensors --seed 7",
        "mpvideo sample --seed 7 --set 'title=$(reboot)'",
        "mpvideo sample --seed 7\n--class 1",
        "mpvideo sample  --seed 7",
        "mpvideo samples --seed 7",
        "mpvideo sample --no-exact",
    ],
)
def test_a_command_of_anybody_else_is_replaced(line: str) -> None:
    record = a_record()
    assert trusted_command(changed(record, command=line)) == command_line(record, None, ckpt="tiny.safetensors")

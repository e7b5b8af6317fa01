"""`mpvideo train` as its users start it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mpvideo.checkpoint import open_checkpoint
from mpvideo.cli.training_plan import recipe_of
from mpvideo.device import choose_placement
from mpvideo.errors import ExitCode
from mpvideo.generation import generate
from mpvideo.job import Job
from mpvideo.model import load_model
from mpvideo.training.recipe import PRESETS
from mpvideo.training.record import alone_in

SMALL = ("--codec", "rgb", "--size", "8", "--frames", "4", "--batch-size", "4", "--dtype", "float32")


def clips(folder: Path) -> Path:
    """Two classes of four GIFs of six frames: red ones that brighten, blue ones that darken."""
    ramps = {"red": range(60, 240, 30), "blue": range(240, 60, -30)}
    for name, ramp in ramps.items():
        (folder / name).mkdir(parents=True)
        for clip in range(4):
            frames = []
            for level in ramp:
                pixels = np.full((16, 20, 3), 5 * clip, np.uint8)
                pixels[..., 0 if name == "red" else 2] = level
                frames.append(Image.fromarray(pixels))
            frames[0].save(folder / name / f"{clip}.gif", save_all=True, append_images=frames[1:], duration=100)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips(tmp_path_factory.mktemp("data"))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mpvideo", "train", *map(str, arguments)]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}


def run_code(tmp_path: Path, code: str) -> "subprocess.CompletedProcess[str]":
    """The program in a process that is made something special by some code."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment(tmp_path),
    )


def train(cache: Path, *arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=200, check=False, env=environment(cache)
    )
    assert done.returncode == code, done.stderr
    return done


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 24 steps without interruption."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(data, data, "--out", run, *SMALL, "--steps", 24, "--cache", data.parent / "cache")
    return run


def test_a_run_and_its_checkpoint(data: Path, whole: Path):
    """What stands in the folder, and that it samples."""
    names = {path.name for path in whole.iterdir()}
    assert names >= {"run.json", "snapshot.pt", "model.safetensors", "log.jsonl", "loss.png", "sheets", "ema"}
    about = open_checkpoint(whole).config
    assert about.classes == ("blue", "red")
    assert (about.model.frames, about.pixel_size, about.video.codec, about.video.fps) == (4, 8, "rgb", 10)
    assert about.training["steps"] == 24
    assert about.training["samples"] == 96
    assert str(data.parent) not in json.dumps(about.to_dict())
    model = load_model(open_checkpoint(whole), choose_placement("cpu"))
    (video,) = generate(model, [Job(seed=0, class_index=1)])
    assert video.frames.shape == (4, 8, 8, 3)
    records = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 24
    assert all(np.isfinite(record["loss"]) and record["nonfinite_gradients"] == 0 for record in records)
    assert sorted(path.name for path in (whole / "sheets").iterdir()) == ["step-00000024.png"]
    for picture in (whole / "loss.png", whole / "sheets" / "step-00000024.png"):
        with Image.open(picture) as image:
            assert image.width > 200


def test_calls_give_what_one_gives(data: Path, whole: Path, tmp_path: Path):
    """Two that their minutes cut off, before the first step and halfway, and one that goes on."""
    run = tmp_path / "run"
    options = (data, "--out", run, *SMALL, "--steps", 24, "--cache", data.parent / "cache")
    none = train(tmp_path, *options, "--minutes", 1e-6)
    assert f"{run} has no checkpoint yet; the same command goes on\n" in none.stderr
    assert none.stdout == ""
    assert not (run / "model.safetensors").exists()
    assert not list((run / "sheets").iterdir())
    # By a clock on which a second passes whenever it is looked at, twice in every step.
    code = (
        "import itertools, sys, types; from mpvideo.training import run; "
        "run.time = types.SimpleNamespace(monotonic=itertools.count().__next__); "
        f"sys.argv = ['mpvideo', 'train', *{list(map(str, options))!r}, '--minutes', '0.5']; "
        "from mpvideo.__main__ import run; run()"
    )
    some = run_code(tmp_path, code)
    assert some.returncode == 0, some.stderr
    taken = steps_taken(run)
    assert 10 < taken < 20
    assert f"\n{taken} of 24 steps are done; the same command goes on\n" in some.stderr
    last = train(tmp_path, *options)
    assert f"going on from step {taken} of 24\n" in last.stderr
    assert last.stdout == some.stdout == f"{run / 'model.safetensors'}\n"
    assert same(run, whole)


def test_steps_may_be_raised_later(data: Path, whole: Path, tmp_path: Path):
    """And what --json says of each call: of one without a step, one that is done, and one that trains on."""
    run = tmp_path / "run"
    options = (data, "--out", run, *SMALL, "--cache", data.parent / "cache", "--json", "-q")
    path = str(run / "model.safetensors")
    for more, said in (
        (("--steps", 10, "--minutes", 1e-6), {"path": None, "done": False}),
        (("--steps", 10), {"path": path, "done": True}),
        (("--steps", 24), {"path": path, "done": True}),
    ):
        assert json.loads(train(tmp_path, *options, *more).stdout) == said
    assert same(run, whole)


def test_killed_at_any_moment(data: Path, whole: Path, tmp_path: Path):
    """kill -9 again and again, a snapshot after every step: the same weights to the bit in the end."""
    run = tmp_path / "run"
    options = (data, "--out", run, *SMALL, "--steps", 24, "--cache", data.parent / "cache")
    for after in (3, 9, 16):
        kill_after(after, run, tmp_path, *options)
    train(tmp_path, *options)
    assert same(run, whole)
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def kill_after(steps: int, run: Path, cache: Path, *options: object) -> None:
    """Trains with a snapshot after every step, and kills the process at some moment after so many."""
    process = subprocess.Popen(
        command(*options, "-q", "--snapshot-minutes", 0), env=environment(cache), stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while steps_taken(run) < steps and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert steps <= steps_taken(run) < 24


def steps_taken(run: Path) -> int:
    path = run / "snapshot.pt"
    return int(torch.load(path, weights_only=True)["step"]) if path.exists() else 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)]
)
def test_signals_save_first(data: Path, whole: Path, tmp_path: Path, number: signal.Signals, code: ExitCode):
    run = tmp_path / "run"
    options = (data, "--out", run, *SMALL, "--steps", 24, "--cache", data.parent / "cache")
    process = subprocess.Popen(
        command(*options, "--snapshot-minutes", 0), env=environment(tmp_path), stderr=subprocess.PIPE, text=True
    )
    while steps_taken(run) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    process.send_signal(number)  # as from the terminal, and from torchrun
    _, errors = process.communicate(timeout=100)
    assert process.returncode == code, errors
    assert "saving" in errors
    assert "Traceback" not in errors
    assert 2 <= steps_taken(run) < 24
    train(tmp_path, *options)
    assert same(run, whole)


def test_the_disk_is_full(data: Path, whole: Path, tmp_path: Path):
    """Files may not grow beyond a limit: the last snapshot stays, and a later call goes on from it."""
    run = tmp_path / "run"
    options = (data, "--out", run, *SMALL, "--steps", 24, "--cache", data.parent / "cache")
    kill_after(5, run, tmp_path, *options)
    before = (run / "snapshot.pt").read_bytes()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2}, {len(before) // 2})); "
        f"sys.argv = ['mpvideo', 'train', *{list(map(str, options))!r}]; from mpvideo.__main__ import run; run()"
    )
    done = run_code(tmp_path, code)
    assert done.returncode == ExitCode.OUTPUT, done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert (run / "snapshot.pt").read_bytes() == before
    assert not list(run.rglob(".mpvideo-*"))
    train(tmp_path, *options)
    assert same(run, whole)


def test_another_recipe_is_refused(data: Path, whole: Path, tmp_path: Path):
    before = (whole / "snapshot.pt").read_bytes()
    cache = tmp_path / "cache"
    done = train(tmp_path, data, "--out", whole, *SMALL, "--rate", 0.5, "--cache", cache, code=ExitCode.USAGE)
    assert "was begun with other settings: --rate is 0.5, was 0.01\n" in done.stderr
    done = train(tmp_path, data, "--out", whole, *SMALL, "--dtype", "bfloat16", "--cache", cache, code=ExitCode.USAGE)
    assert "was begun with other settings: --dtype is bfloat16, was float32\n" in done.stderr
    assert not cache.exists()  # nothing was decoded for it
    assert (whole / "snapshot.pt").read_bytes() == before


def test_what_another_recipe_costs_is_told(data: Path, whole: Path, tmp_path: Path):
    """Whatever run is there, and whoever trains in it."""
    with alone_in(whole):
        done = train(tmp_path, data, "--out", whole, *SMALL, "--rate", 0.5, "--dry-run", "--json")
    assert json.loads(done.stdout)["networks"]


def test_other_videos_are_refused(data: Path, whole: Path, tmp_path: Path):
    """A run does not go on with other data unnoticed."""
    there = data
    data = clips(tmp_path / "data")
    (data / "red" / "more.gif").write_bytes((data / "red" / "0.gif").read_bytes())
    done = train(tmp_path, data, "--out", whole, *SMALL, "--steps", 30, code=ExitCode.USAGE)
    assert f"was begun with other settings: DATA is data, was {there.name}\n" in done.stderr


def test_weights_of_another_network_to_begin_with(data: Path, whole: Path, tmp_path: Path):
    """They are refused before anything is made."""
    run = tmp_path / "run"
    options = (data, "--out", run, "--codec", "rgb", "--size", "16", "--frames", "4", "--cache", data.parent / "cache")
    done = train(tmp_path, *options, "--init", whole, code=ExitCode.USAGE)
    assert "--init must be a checkpoint of the network to train, with image_size 16, but " in done.stderr
    assert "hint: Give the --preset, --size, --frames and --codec that it was trained with" in done.stderr
    assert not run.exists()


def test_weights_of_other_classes_to_begin_with(whole: Path, tmp_path: Path):
    data = clips(tmp_path / "data")
    (data / "red").rename(data / "rot")
    done = train(tmp_path, data, "--out", tmp_path / "run", *SMALL, "--steps", 1, "--init", whole)
    assert "warning: --init has other classes, and begins each with that in its place: rot with red\n" in done.stderr


def test_a_second_call_at_the_same_time_is_refused(data: Path, tmp_path: Path):
    run = tmp_path / "run"
    options = (data, "--out", run, *SMALL, "--steps", 10_000, "--cache", data.parent / "cache")
    process = subprocess.Popen(
        command(*options, "--snapshot-minutes", 0), env=environment(tmp_path), stderr=subprocess.PIPE
    )
    try:
        while steps_taken(run) < 1 and process.poll() is None:
            time.sleep(0.02)
        done = train(tmp_path, *options[:-1], tmp_path / "cache", code=ExitCode.USAGE)
        assert f"error: {run} is being trained in by another process" in done.stderr
        assert not (tmp_path / "cache").exists()  # nothing was decoded for it
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_dry_run_writes_nothing(data: Path, tmp_path: Path):
    done = train(tmp_path, data, "--out", tmp_path / "run", "--frames", 4, "--dry-run", "--json")
    assert "autoencoder: 1.4 M parameters, about " in done.stderr
    assert not (tmp_path / "run").exists()
    for name in ("tiny", "small", "base"):
        assert f"{name}: 4 frames of 64x64, " in done.stderr
    costs = json.loads(done.stdout)
    assert costs["data"] == f"{data.name}: 8 videos in 2 classes"
    assert costs["autoencoder"]["steps"] == 400
    assert [network["preset"] for network in costs["networks"]] == ["tiny", "small", "base"]
    assert costs["networks"][0]["seconds_per_step"] > 0


def test_the_menagerie_in_latents(tmp_path: Path):
    run = tmp_path / "run"
    options = ("menagerie", "--out", run, "--autoencoder-steps", 2, "--batch-size", 2, "--dtype", "float32")
    done = train(tmp_path, *options, "--minutes", 1e-6)
    assert "warning: --minutes 1e-06 may end this call before there is a checkpoint: " in done.stderr
    assert "has no checkpoint yet: 2 of the autoencoder's 2 steps are left; the same command goes on" in done.stderr
    assert done.stdout == ""
    train(tmp_path, *options, "--steps", 2, "-q")  # quiet: nothing is measured to be told
    sheets = run / "sheets"
    assert sorted(path.name for path in sheets.iterdir()) == ["autoencoder-00000002.png", "step-00000002.png"]
    with Image.open(sheets / "autoencoder-00000002.png") as sheet:
        assert sheet.height >= 2 * 128, "frames above what is made of them"
    about = open_checkpoint(run).config
    assert about.model.num_classes == 1000
    assert about.video.codec == "latent"
    assert about.classes is not None
    assert about.classes[207] == "golden dog trots"


@pytest.mark.parametrize(("given", "steps"), [(None, 0), (0, 0), (1, 1)])
def test_the_autoencoder_of_weights_to_begin_with_is_kept_unless_it_is_told_to_train(given: int | None, steps: int):
    recipe = recipe_of(PRESETS["small"], codec="latent", init=Path("model.safetensors"), autoencoder_steps=given)
    assert recipe.autoencoder_steps == steps


def test_the_menagerie_with_the_preset_of_shorter_videos(tmp_path: Path):
    run = tmp_path / "run"
    train(
        tmp_path, "menagerie", "--out", run, "--preset", "tiny", "--autoencoder-steps", 1, "--batch-size", 1,
        "--steps", 1, "--dtype", "float32", "-q",
    )  # fmt: skip
    model = open_checkpoint(run).config.model
    assert (model.frames, model.image_size, model.dim) == (32, 4, 32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere", "--out", "run"), "DATA must be a folder of videos or the word menagerie, got nowhere"),
        (("menagerie", "--out", "run", "--steps", "0"), "--steps must be at least 1, got 0"),
        (("menagerie", "--out", "run", "--rate", "nan"), "--rate must be a finite number, got nan"),
        (("menagerie", "--out", "run", "--minutes", "0"), "--minutes must be greater than 0, got 0"),
        (("menagerie", "--out", "run", "--codec", "gray"), "--codec must be rgb or latent"),
        (("menagerie", "--out", "run", "--size", "32"), "--size cannot be set for the menagerie"),
        (
            ("menagerie", "--out", "run", "--clip-frames", "5"),
            "--clip-frames must divide the length of a sample",
        ),
        (("menagerie", "--out", "run", "--autoencoder-steps", "0"), "--autoencoder-steps must be at least 1 without"),
        (("menagerie", "--out", "run", "--micro-batch", "0"), "--micro-batch must be at least 1, got 0"),
        ((".", "--out", "a/run"), "--out must not be in the folder of videos, got a/run, which is in ."),
        (("menagerie", "--out", __file__), f"--out must be a folder, got {__file__}, which is a file"),
    ],
)
def test_what_cannot_be(tmp_path: Path, arguments: tuple[str, ...], words: str):
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path,
        env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert f"error: {words}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_two_processes_train_as_one(data: Path, whole: Path, tmp_path: Path):
    """torchrun with two processes on gloo: the same weights up to rounding."""
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = (data, "--out", run, *SMALL, "--steps", 24, "--cache", data.parent / "cache")
    done = subprocess.run(
        [*torchrun, "-m", "mpvideo", "train", *map(str, options)],
        capture_output=True, text=True, timeout=200, check=False, env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model.safetensors") == 1
    one, two = weights(whole), weights(run)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name].float(), tensor.float(), atol=2e-3, rtol=2e-3)

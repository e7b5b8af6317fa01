"""`mpvideo sample`, in this process and as a program of its own."""

import dataclasses
import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from mpvideo.device import Placement
from mpvideo.diffusion import EDMDenoiser
from mpvideo.errors import ExitCode, OutputError
from mpvideo.video import VideoWriter, read_frames, read_record
from tests.checkpoints import save_tiny, tiny_config
from tests.cli.conftest import Program


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def again(stderr: str) -> list[str]:
    """Arguments of the command that makes a video again."""
    (line,) = (line for line in stderr.splitlines() if line.startswith("command: "))
    program, *words = shlex.split(line.removeprefix("command: "))
    assert program == "mpvideo"
    return words


def made_once_more(name: str, program: Program, words: list[str]) -> bytes:
    """What is in a file, which the command makes anew, the same to the byte, when it is gone."""
    made = Path(name).read_bytes()
    Path(name).unlink()
    assert program(*words).code == 0
    assert Path(name).read_bytes() == made
    return made


def start(*arguments: object, cwd: Path, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mpvideo", *map(str, arguments)]
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def test_a_video(program: Program, ckpt: Path) -> None:
    done = program("sample", "--ckpt", ckpt, "--class", "red dog", "--seed", 7, "--out", "dog.mp4")
    assert done.code == 0
    assert done.stdout == "dog.mp4\n"
    assert "dog.mp4: red dog, 4 frames of 256x256, 0.5 s\n" in done.stderr
    assert "sampling: 5/5 passes" in done.stderr
    frames, fps = read_frames(Path("dog.mp4"))
    assert frames.shape == (4, 256, 256, 3)
    assert fps == 8
    record = read_record(Path("dog.mp4"))
    assert record is not None
    assert (record["class"], record["class_name"], record["seed"]) == (1, "red dog", 7)
    assert record["checkpoint"]["name"] == "tiny.safetensors"
    assert len(record["checkpoint"]["sha256"]) == 64
    assert record["sampling"]["steps"] == 3
    assert record["dtype"] in ("float32", "bfloat16")
    assert record["command"] == f"mpvideo sample --ckpt tiny.safetensors --class 1 --seed 7 --dtype {record['dtype']}"
    assert files(Path()) == ["dog.mp4"]


def test_guidance_in_an_interval(program: Program, ckpt: Path) -> None:
    """Euler from 80 through 0.7 to 0.002: one of three steps has a second branch."""
    options = ("--ckpt", ckpt, "--sampler", "euler", "--guidance", 3)
    done = program("sample", *options, "--guidance-interval", "0.2,3", "--out", "a.mp4")
    assert "sampling: 4/4 passes" in done.stderr
    record = read_record(Path("a.mp4"))
    assert record is not None
    assert record["sampling"]["guidance_interval"] == [0.2, 3.0]
    assert "--guidance-interval 0.2,3.0 " in record["command"]
    assert "sampling: 6/6 passes" in program("sample", *options, "--out", "b.mp4").stderr
    assert "6/6" in program("sample", *options, "--guidance-interval", "all", "--out", "c.mp4").stderr
    assert Path("c.mp4").read_bytes() == Path("b.mp4").read_bytes()


def test_a_blend_and_what_its_record_says(program: Program, ckpt: Path) -> None:
    words = ("--ckpt", ckpt, "--class", "red cat:0.5,blue cat:1.5", "--seed", "3:1+8:3", "--exact")
    done = program("sample", *words, "--out", "a.gif")
    assert done.code == 0
    assert "a.gif: red cat:0.5+blue cat:1.5, 4 frames" in done.stderr
    record = read_record(Path("a.gif"))
    assert record is not None
    assert (record["class"], record["seed"]) == ([[0, 0.5], [2, 1.5]], [[3, 1.0], [8, 3.0]])
    assert " --class 0:0.5+2:1.5 --seed 3:1+8:3 " in record["command"]
    made = made_once_more("a.gif", program, again(done.stderr))
    assert Path("a.gif").read_bytes() == made
    assert program("sample", "--like", "a.gif", "--ckpt", ckpt, "--out", "b.gif").code == 0
    assert Path("b.gif").read_bytes() == made


def test_walks(program: Program, ckpt: Path) -> None:
    plain = ("--ckpt", ckpt, "--steps", 1, "--exact", "--out")
    done = program("sample", "--class", "0..2:3", "--seed", "3..8:2", *plain, "{class} {seed}.gif")
    ends = ("3-1+8-0", "3-0+8-1")
    assert done.stdout.splitlines() == [f"{each} {end}.gif" for each in ("0", "0-0.5+2-0.5", "2") for end in ends]
    assert program("sample", "--class", 2, "--seed", 8, *plain, "plain.gif").code == 0
    frames, _ = read_frames(Path("2 3-0+8-1.gif"))
    assert (frames == read_frames(Path("plain.gif"))[0]).all()
    rehearsed = program("sample", "--seed", "3..8:2", *plain, "new {seed}.gif", "--dry-run")
    assert "new 3-1+8-0.gif: to make, class " in rehearsed.stdout and ", seed 3:1+8:0, guidance" in rehearsed.stdout
    same = program("sample", "--class", "0:2+2:2", "--seed", "3:2+8:0", *plain, "0-0.5+2-0.5 3-1+8-0.gif")
    assert (same.code, "there already, made with these settings" in same.stderr) == (0, True), same.stderr
    other = program("sample", "--class", "0:2+2:2", "--seed", "3:1+8:2", *plain, "0-0.5+2-0.5 3-1+8-0.gif")
    assert "made with other settings: seed 3:1+8:0 instead of 3:1+8:2" in other.stderr
    refused = program("sample", "--class", "0..2:3", *plain, "x.gif")
    assert (refused.code, "--out must contain {class} or {index} for several --class" in refused.stderr) == (2, True)


def test_guidance_of_a_network_without_label_dropout(program: Program) -> None:
    config = dataclasses.replace(tiny_config(), training={"recipe": {"label_dropout": 0.0}})
    path = save_tiny(Path("x.safetensors"), config)
    words = "warning: this network shows no sign of having been trained without labels"
    assert words in program("sample", "--ckpt", path, "--guidance", 2, "--out", "a.gif").stderr
    assert words not in program("sample", "--ckpt", path, "--out", "b.gif").stderr
    assert words not in program("sample", "--ckpt", path, "--guidance", 2, "--guide", path, "--out", "c.gif").stderr


def test_a_guide(program: Program, ckpt: Path) -> None:
    weak = save_tiny(Path("weak.safetensors"), tiny_config(dim=12))
    done = program("sample", "--ckpt", ckpt, "--guide", weak, "--guidance", 2, "--out", "a.mp4")
    assert done.code == 0
    record = read_record(Path("a.mp4"))
    assert record is not None
    assert record["guide"]["name"] == "weak.safetensors"
    assert " --guide weak.safetensors " in record["command"]
    made = Path("a.mp4").read_bytes()
    assert program(*again(done.stderr), "-y").code == 0
    assert Path("a.mp4").read_bytes() == made
    assert program("sample", "--like", "a.mp4", "--ckpt", ckpt, "--out", "like.mp4").code == 0
    assert Path("like.mp4").read_bytes() == made
    assert " guide weak.safetensors " in " ".join(program("inspect", "a.mp4").stdout.split())
    wrong = program("sample", "--like", "a.mp4", "--ckpt", ckpt, "--guide", ckpt, "--out", "wrong.mp4")
    assert (wrong.code, "was not made with the weights of tiny.safetensors" in wrong.stderr) == (2, True)
    weak.rename("gone.safetensors")
    lost = program("sample", "--like", "a.mp4", "--ckpt", ckpt, "--out", "lost.mp4")
    assert "a.mp4 was made with the guide weak.safetensors, which is neither here nor beside it" in lost.stderr
    weak = Path("gone.safetensors")
    none = program("sample", "--ckpt", ckpt, "--guide", weak, "--out", "b.mp4")
    assert "warning: --guide has no effect at --guidance 1" in none.stderr
    record = read_record(Path("b.mp4"))
    assert record is not None
    assert record["guide"] is None
    other = save_tiny(Path("other.safetensors"), tiny_config(frames=2))
    refused = program("sample", "--ckpt", ckpt, "--guide", other, "--guidance", 2, "--out", "c.mp4")
    assert refused.code == 2
    assert "--guide must have the model.frames of the checkpoint, 4; other.safetensors has 2" in refused.stderr


def test_the_printed_command_makes_the_same_bytes(program: Program, ckpt: Path) -> None:
    first = program(
        "sample", "--ckpt", ckpt, "--seed", 3, "--steps", 2, "--s-churn", 1.5, "--guidance", 1.5, "--fps", 12.5,
        "--guidance-interval", "0.2,90", "--scale", 3, "--frames", 2, "--sampler", "euler", "--no-clamp", "--crf", 20,
        "--out", "a.mp4",
    )  # fmt: skip
    assert first.code == 0
    words = again(first.stderr)
    for some in ("--sampler euler", "--steps 2", "--guidance 1.5", "--frames 2", "--fps 12.5", "--scale 3", "--crf 20"):
        assert some in shlex.join(words)
    assert program(*words, "--device", "auto").stderr.startswith("a.mp4: there already, made with these settings\n")
    made_once_more("a.mp4", program, words)


def test_the_same_video_has_the_same_bytes_under_any_name(program: Program, ckpt: Path) -> None:
    for suffix in ("mp4", "gif"):
        for name in (f"a.{suffix}", f"b.{suffix}"):
            assert program("sample", "--ckpt", ckpt, "--class", 0, "--out", name).code == 0
        assert Path(f"a.{suffix}").read_bytes() == Path(f"b.{suffix}").read_bytes()


def test_the_printed_command_has_every_option_that_matters(program: Program, ckpt: Path) -> None:
    Path("a {b}").mkdir()
    first = program(
        "sample", "--ckpt", ckpt, "--device", "cpu", "--dtype", "float32", "--batch-size", 2, "--seed", 4,
        "--set", "video.fps=4", "--set", "title=new", "--steps", 1, "-y", "--class", 2, "--out", "a {{b}}/4.gif",
    )  # fmt: skip
    assert first.code == 0, first.stderr
    assert again(first.stderr)[3:] == [
        *("--class", "2", "--seed", "4", "--steps", "1", "--fps", "4.0", "--dtype", "float32"),
        *("--device", "cpu", "--out", "a {{b}}/4.gif"),
    ]
    record = read_record(Path("a {b}/4.gif"))
    assert record is not None and record["command"].endswith(" --dtype float32") and str(ckpt.parent) not in str(record)
    assert program(*again(first.stderr), "-y").code == 0
    assert files(Path()) == ["a {b}"] and files(Path("a {b}")) == ["4.gif"]


def test_several_videos(program: Program, ckpt: Path) -> None:
    done = program(
        "sample", "--ckpt", ckpt, "--class", 2, "--seed", "9-11", "--batch-size", 2, "--json", "--quiet",
        "--out", "{class}-{seed:03d}.gif",
    )  # fmt: skip
    assert (done.code, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines] == ["2-009.gif", "2-010.gif", "2-011.gif"]
    assert [line["seed"] for line in lines] == [9, 10, 11]
    for line in lines:
        frames, fps = read_frames(Path(line["path"]))
        assert frames.shape == (4, line["height"], line["width"], 3)
        assert (fps, line["fps"], line["class_name"]) == (8, 8.0, "blue cat")


def test_without_a_class_the_seed_chooses(program: Program, ckpt: Path) -> None:
    done = program("sample", "--ckpt", ckpt, "--seed", "0-7", "--out", "{class}-{seed}.gif", "-q")
    assert len({name.split("-")[0] for name in done.stdout.split()}) > 1


def test_unconditional(program: Program, tmp_path: Path) -> None:
    plain = save_tiny(tmp_path / "plain.safetensors", tiny_config(num_classes=None))
    assert program("sample", "--ckpt", plain, "--out", "a.gif").code == 0
    assert program("sample", "--ckpt", plain, "--out", "{{class}}.gif").stdout == "{class}.gif\n"
    refused = program("sample", "--ckpt", plain, "--out", "{class}.gif")
    assert (refused.code, "--out cannot contain {class}: the checkpoint has no classes" in refused.stderr) == (2, True)
    refused = program("sample", "--ckpt", plain, "--class", "cat", "--out", "b.gif")
    assert refused.code == 2
    assert "--class cannot be given: plain.safetensors has no classes, got 'cat'" in refused.stderr
    assert "--guidance must be 1" in program("sample", "--ckpt", plain, "--guidance", 2, "--out", "b.gif").stderr


def test_a_checkpoint_without_config(program: Program, ckpt: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(ckpt), "bare.safetensors")
    refused = program("sample", "--ckpt", "bare.safetensors", "--out", "a.gif")
    assert refused.code == 3
    assert "bare.safetensors does not tell 3 fields of its config, which must be given: " in refused.stderr
    Path("config.json").write_text(tiny_config().to_json())
    assert program("sample", "--ckpt", "bare.safetensors", "--config", "config.json", "--out", "a.gif").code == 0
    flags = [
        word for field in ("image_size=8", "frames=4", "downsample_types=all") for word in ("--set", f"model.{field}")
    ]
    done = program("sample", "--ckpt", "bare.safetensors", *flags, "--steps", 3, "--sampler", "heun", "--out", "b.gif")
    assert done.code == 0, done.stderr
    assert (read_frames(Path("a.gif"))[0] == read_frames(Path("b.gif"))[0]).all()
    assert program(*again(done.stderr), "-y").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--steps", "0"], 2, "--steps must be at least 1, got 0"),
        (["--rho", "nan"], 2, "--rho must be a finite number, got nan"),
        (["--sigma-max", "inf"], 2, "--sigma-max must be a finite number, got inf"),
        (["--sigma-min", "90"], 2, "--sigma-min must be less than --sigma-max, got 90.0 and 80.0"),
        (["--s-tmin", "2", "--s-tmax", "1"], 2, "--s-tmax must be at least --s-tmin, got 1.0 and 2.0"),
        (["--guidance", "-1"], 2, "--guidance must be at least 0, got -1.0"),
        (["--guidance-interval", "3"], 2, "--guidance-interval must be two noise levels or the word all, got '3'"),
        (["--guidance-interval", "3,1"], 2, "--guidance-interval must have its lowest noise level first, got 3 and 1"),
        (["--guidance-interval", "0,nan"], 2, "--guidance-interval must be a finite number, got nan"),
        (["--frames", "0"], 2, "--frames must be at least 1, got 0"),
        (["--frames", "5"], 2, "--frames must be at most 4, which is what this checkpoint makes, got 5"),
        (["--steps", "1-20000"], 2, "--steps must have at most 10,000 entries, got 20,000"),
        (["--seed", "0-1"], 2, "--out must contain {seed} or {index} for several --seed, or the videos would replace"),
        (["--class", "0,1"], 2, "--out must contain {class} or {index} for several --class"),
        (["--guidance", "1,2"], 2, "--out must contain {guidance} or {index} for several --guidance"),
        (["--guidance", "1,two"], 2, "--guidance must be numbers, got '1,two'"),
        (["--seed", "1-x"], 2, "--seed must be whole numbers or ranges such as 0-63,100, got '1-x'"),
        (["--seed", "0,,1"], 2, "--seed has an empty entry, got '0,,1'"),
        (["--seed", "9-3"], 2, "--seed must have ranges that go up, got 9-3"),
        (["--seed", "0-9999999", "--out", "{seed}.gif"], 2, "at most 1,000,000 videos, got 10,000,000"),
        (
            ["--seed", f"0-{2**63 - 1}", "--out", "{seed}.gif"],
            2,
            "at most 1,000,000 videos, got 9,223,372,036,854,775,808",
        ),
        (["--seed", "3,1-4", "--out", "{seed}.gif"], 2, "number 0 (seed 3) and number 3 (seed 3) both give '3.gif'"),
        (["--class", "0:1+x:1"], 2, "--class fits none of the 3 classes, got 'x'"),
        (["--class", "0:1,x"], 2, "got '0:1' beside 'x'"),
        (["--class", "0:1+0:1"], 2, "--class cannot be '0:1+0:1': a blend must have different parts"),
        (["--seed", "1:1+2:1+3:1"], 2, "--seed must be between two seeds, got '1:1+2:1+3:1'"),
        (["--seed", "x"], 2, "--seed must be whole numbers or ranges such as 0-63,100, got 'x'"),
        (["--seed", "-1"], 2, "--seed must be at least 0, got -1"),
        (["--seed", str(2**63)], 2, f"--seed must be at most {2**63 - 1}, got {2**63}"),
        (["--batch-size", "0"], 2, "--batch-size must be at least 1, got 0"),
        (["--fps", "0"], 2, "--fps must be from"),
        (["--scale", "0"], 2, "--scale must be at least 1, got 0"),
        (["--crf", "0"], 2, "--crf must be from 1 to 51 for mp4, got 0"),
        (["--class", "3"], 2, "--class must be from 0 to 2, got 3"),
        (["--class", "red"], 2, "--class 'red' fits 2 classes: red cat, red dog"),
        (["--class", "zebra"], 2, "--class fits none of the 3 classes, got 'zebra'"),
        (["--out", "a.avi"], 2, "must end in .mp4, .webm, .gif, .apng, .png, .mkv, .npy or .safetensors, got 'a.avi'"),
        (["--out", "{name}.mp4"], 2, "--out may have the fields {class}, {class_name}, {seed}"),
        (["--out", "{seed.real}.mp4"], 2, ", got {seed.real}"),
        (["--out", "{seed.mp4"], 2, "--out has a stray brace"),
        (["--out", "{seed:x^z}.mp4"], 2, "--out has a format that does not fit"),
        (["--out", "{seed:c}.gif", "--seed", "9999999"], 2, "--out has a format that does not fit"),
        (["--out", "x{seed:.0e}.gif", "--seed", "90-92"], 2, "(seed 90) and number 1 (seed 91) both give"),
        (["--set", "model"], 2, "--set must be KEY=VALUE, got 'model'"),
        (["--set", "model.dimm=3"], 3, "unknown fields: dimm"),
        (["--set", "model.dim=16"], 3, "misshapen"),
        (["--ckpt", "missing"], 3, "error: --ckpt missing does not exist\n"),
        (["--ckpt", "."], 3, "error: --ckpt: the folder . must hold model.safetensors or "),
        (["--guide", "missing"], 3, "error: --guide missing does not exist\n"),
        (["--config", "missing"], 3, "error: --config missing does not exist\n"),
        (["--preset", "/"], 3, "error: --preset / must be a regular file, but is a folder\n"),
        (
            ["--like", "missing.gif"],
            1,
            "--like missing.gif cannot be read as a video: no such file or directory\n",
        ),
        (["--journal", "/"], 2, "error: --journal / must be a regular file, but is a folder\n"),
        (["--out", "."], 2, ".npy or .safetensors, got '.'\nhint: For example video.mp4; or --format png for a folder"),
        (
            ["--sigmas", "9,x"],
            2,
            "with commas between them, or a file of them, got 'x'\nhint: For example",
        ),
        (["--out", "nowhere/a.mp4"], 5, "nowhere"),
        (["--device", "tpu"], 2, "tpu"),
        (["--sampler", "magic"], 2, "--sampler must be one of "),
    ],
)
def test_what_is_refused(program: Program, ckpt: Path, arguments: list[str], code: int, message: str) -> None:
    out = [] if "--out" in arguments else ["--out", "a.mp4"]
    refused = program("sample", "--ckpt", ckpt, *out, *arguments)
    assert refused.code == code
    assert message in refused.stderr
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr
    assert files(Path()) == []


def test_an_existing_file_is_kept(program: Program, ckpt: Path) -> None:
    Path("a.mp4").write_text("mine")
    refused = program("sample", "--ckpt", ckpt, "--out", "a.mp4")
    assert refused.code == 5
    assert "a.mp4" in refused.stderr
    assert "-y" in refused.stderr
    assert Path("a.mp4").read_text() == "mine"
    assert program("sample", "--ckpt", ckpt, "--out", "a.mp4", "-y").code == 0
    assert Path("a.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "a.mp4", "--steps", "0"], 2, "error: --steps must be at least 1, got 0\n"),
        (["--out", "nowhere/a.mp4"], 5, "/nowhere` first.\n"),
    ],
)
def test_debug_adds_the_traceback(program: Program, ckpt: Path, arguments: list[str], code: int, message: str) -> None:
    for line in (["--debug", "sample", "--ckpt", ckpt, *arguments], ["sample", "--ckpt", ckpt, *arguments, "--debug"]):
        refused = program(*line)
        assert refused.code == code
        assert refused.stderr.startswith("Traceback") and "sample.py" in refused.stderr
        assert refused.stderr.endswith(message)


def test_a_defect(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("surprise\x1b[2J")

    monkeypatch.setattr("mpvideo.cli.requests.open_checkpoint", fail)
    told = program("sample", "--ckpt", ckpt, "--out", "a.mp4")
    assert told.code == 1 and "Traceback" not in told.stderr
    assert told.stderr.startswith(
        "error: unexpected RuntimeError: surprise\\x1b[2J\nhint: This is a defect of mpvideo."
    )
    told = program("sample", "--ckpt", ckpt, "--out", "a.mp4", "--debug")
    assert told.code == 1 and "Traceback" in told.stderr and "hint: This is a defect of mpvideo: " in told.stderr


def test_wrong_options_are_told_without_torch(ckpt: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom mpvideo.cli import main\n"
        "try: main(sys.argv[1:])\nfinally: print([name for name in ('torch', 'safetensors') if name in sys.modules])"
    )
    sample = ["sample", "--ckpt", str(ckpt), "--out", "a.mp4"]
    wrong = (["--help"], ["--steps", "0"], ["--class", "zebra"], ["--frames", "77"], ["--seed", "0-1"])
    pages = ([], ["--help"], ["--version"], ["doctor", "--help"], ["doctor", "--color"])
    for arguments in (*pages, *(sample + words for words in wrong)):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.endswith("[]\n"), arguments


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(ckpt: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start("sample", "--ckpt", ckpt, "--steps", 20000, "--out", "a.mp4", cwd=tmp_path)
    assert process.stderr is not None
    process.stderr.readline()  # the weights are loaded
    time.sleep(0.5)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert "Traceback" not in stderr
    assert stderr.endswith("error: interrupted; nothing was left half written\n")
    assert files(tmp_path) == []


def test_interrupted_before_the_first_step(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mpvideo.device.choose_placement", interrupted)
    done = program("sample", "--ckpt", ckpt, "--seed", "0-2", "--out", "{seed}.gif")
    assert done.code == ExitCode.INTERRUPTED
    assert done.stderr.splitlines()[-2:] == [
        "stopped before the first step, 3 videos left; the same command makes what is missing",
        "error: interrupted; nothing was left half written",
    ]


def on_a_terminal(*arguments: object, cwd: Path, columns: int, stdout: bool) -> tuple[str, str]:
    """What a terminal shows of a run, escapes removed; and standard output, unless that is the terminal too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "mpvideo", *map(str, arguments)],
        cwd=cwd,
        stdout=theirs if stdout else subprocess.PIPE,
        stderr=theirs,
        env={**environment, "TERM": "xterm"},
    )
    with process, os.fdopen(ours, "rb", buffering=0) as terminal:
        os.close(theirs)
        screen = b""
        with suppress(OSError):  # the other side is closed
            while part := terminal.read(4096):
                screen += part
        results = process.stdout.read() if process.stdout is not None else b""
    assert process.returncode == 0, screen
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode()), results.decode()


def test_a_bar_on_a_terminal(ckpt: Path, tmp_path: Path) -> None:
    arguments = ("sample", "--ckpt", ckpt, "--steps", "40", "--out", "a.gif")
    text, results = on_a_terminal(*arguments, cwd=tmp_path, columns=100, stdout=False)
    assert results == "a.gif\n"
    assert "━" in text
    assert "/79 passes" in text
    assert "a.gif: " in text


@pytest.mark.parametrize("seeds", ["0", "0,1"])
def test_a_narrow_terminal_breaks_no_line_that_will_be_copied(ckpt: Path, tmp_path: Path, seeds: str) -> None:
    """Of one video, there is the command; of several, each has a line besides its path."""
    folder = tmp_path / ("long " * 20).strip()
    arguments = ("sample", "--ckpt", ckpt, "--steps", "20", "--seed", seeds, "--batch-size", "1", "--class", "1")
    arguments += ("--dtype", "float32")
    text, _ = on_a_terminal(*arguments, "--out", folder / "{seed}.gif", cwd=tmp_path, columns=60, stdout=True)
    assert "━" in text
    lines = re.split(r"[\r\n]+", text)
    words = ["mpvideo", "sample", "--ckpt", str(ckpt), "--class", "1", "--seed", "0", "--steps", "20"]
    words += ["--dtype", "float32", "--out", str(folder / "0.gif")]
    assert [line for line in lines if "command" in line] == ([f"command: {shlex.join(words)}"] if seeds == "0" else [])
    paths = [str(folder / f"{seed}.gif") for seed in seeds.split(",")]
    assert [line for line in lines if line.endswith(".gif")][: len(paths)] == paths
    assert lines.count("  red dog, 4 frames of 256x256, 0.5 s") == len(paths)
    assert files(folder) == [f"{seed}.gif" for seed in seeds.split(",")]


def test_names_that_standard_output_cannot_say(ckpt: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    arguments = ("sample", "--ckpt", ckpt, "--steps", "1", "--out", "grün.gif")
    process = start(*arguments, cwd=tmp_path, env=environment)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (0, "gr\\xfcn.gif\n"), stderr
    assert files(tmp_path) == ["grün.gif"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_that_cannot_be_written(ckpt: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mpvideo", "sample", "--ckpt", str(ckpt), "--steps", "1", "--out", "a.gif"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 5
    assert "error: standard output lacks lines: standard output could not be written: no space left" in done.stderr
    assert "Exception ignored" not in done.stderr
    assert files(tmp_path) == ["a.gif"]


def test_names_with_control_characters(program: Program, ckpt: Path) -> None:
    Path("a\x1b[2J.safetensors").write_bytes(ckpt.read_bytes())
    done = program("sample", "--ckpt", "a\x1b[2J.safetensors", "--steps", 1, "--out", "b\x1b[2J.gif")
    assert (done.code, done.stdout) == (0, "b\x1b[2J.gif\n")
    assert "\x1b" not in done.stderr
    assert "a\\x1b[2J.safetensors on CPU" in done.stderr
    assert "--ckpt $'a\\033[2J.safetensors'" in done.stderr


def test_what_was_chosen_is_told(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(device: str, dtype: str, *, compiled: bool) -> Placement:
        assert (device, dtype, compiled) == ("auto", "auto", False)
        return Placement(torch.device("cpu"), torch.bfloat16, "it is fast", ("CUDA is not used: it is wrong",))

    monkeypatch.setattr("mpvideo.device.choose_placement", choose)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    done = program("sample", "--ckpt", ckpt, "--steps", 1, "--sampler", "euler", "--out", "a.gif")
    assert done.code == 0
    assert done.stderr.startswith(
        "warning: CUDA is not used: it is wrong\ntiny.safetensors on CPU, 2 threads, in bfloat16: it is fast\n"
    )
    assert again(done.stderr)[-4:] == ["--dtype", "bfloat16", "--out", "a.gif"]
    record = read_record(Path("a.gif"))
    assert record is not None
    assert record["dtype"] == "bfloat16"
    assert program("sample", "--ckpt", ckpt, "--steps", 1, "--out", "b.gif", "--quiet").stderr == ""


def test_a_batch_that_does_not_fit(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out at the second evaluation of more than two videos."""

    def evaluate(denoiser: EDMDenoiser, x: torch.Tensor, sigma: float, state: object = None) -> object:
        if len(x) > 2 and sigma < 80:
            raise MemoryError
        return call(denoiser, x, sigma, state)  # type: ignore[arg-type]

    call = EDMDenoiser.__call__
    monkeypatch.setattr(EDMDenoiser, "__call__", evaluate)
    monkeypatch.setattr("mpvideo.cli.progress.LINE_INTERVAL", 0.0)
    done = program("sample", "--ckpt", ckpt, "--seed", "0-3", "--steps", 2, "--sampler", "euler", "--out", "{seed}.gif")
    assert done.code == 0
    told = [re.sub(r"\d+ s left", "", line) for line in done.stderr.splitlines() if line.startswith(("warn", "sampl"))]
    assert told == [
        "sampling: 4/8 passes, ",
        "warning: not enough memory for 4 videos at once; going on with 2",
        *(f"sampling: {number}/8 passes, " for number in (2, 4, 6, 8)),
    ]
    assert files(Path()) == ["0.gif", "1.gif", "2.gif", "3.gif"]


def test_version_and_help(program: Program) -> None:
    assert program("--version").stdout.startswith("mpvideo 0.")
    overview = program("--help").stdout
    assert "  sample   Sample videos from a checkpoint.\n" in overview
    assert "  inspect  Say what a file holds, and whether it would load.\n" in overview
    for command in ("sample", "inspect", "doctor"):
        page = program(command, "--help")
        assert page.code == 0
        assert page.stdout.startswith(f"Usage: mpvideo {command} ")
        headings = [line for line in page.stdout.splitlines() if line.endswith(":") and not line.startswith(" ")]
        assert headings[-2:] == ["What is printed:", "Other options:"]


def test_two_names_of_one_file_are_refused(program: Program, ckpt: Path) -> None:
    Path("1.gif").symlink_to("0.gif")
    refused = program("sample", "--ckpt", ckpt, "--seed", "0,1", "--out", "{seed}.gif", "-y")
    assert refused.code == 2
    assert "number 0 (seed 0) and number 1 (seed 1) both give '1.gif'" in refused.stderr
    assert files(Path()) == ["1.gif"]


@pytest.mark.parametrize(("closed", "stdout"), [(">&-", b""), ("2>&-", b"a.gif\n")])
def test_closed_streams(ckpt: Path, tmp_path: Path, closed: str, stdout: bytes) -> None:
    line = shlex.join([sys.executable, "-m", "mpvideo", "sample", "--ckpt", str(ckpt), "--out", "a.gif"])
    done = subprocess.run(f"{line} {closed}", shell=True, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, stdout)
    assert files(tmp_path) == ["a.gif"]


def test_a_reader_that_has_gone_loses_no_video(ckpt: Path, tmp_path: Path) -> None:
    process = start("sample", "--ckpt", ckpt, "--seed", "0-2", "--out", "{seed}.gif", "-q", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=60)
    assert process.returncode == 0
    assert files(tmp_path) == ["0.gif", "1.gif", "2.gif"]
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_folder_that_has_gone(ckpt: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f"cd gone && rmdir ../gone && {shlex.quote(sys.executable)} -m mpvideo inspect {shlex.quote(str(ckpt))}"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5
    assert "the current folder cannot be used" in done.stderr


def test_each_failure_is_told_with_its_reason(
    program: Program, ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(VideoWriter):
        def __init__(self, path: Path, **how: Any) -> None:
            if path.name != "1.npy":
                raise OutputError(f"{path} could not be written: no luck", hint="Try again.")
            super().__init__(path, **how)

    monkeypatch.setattr("mpvideo.batch.runner.VideoWriter", Failing)
    outcome = program("sample", "--ckpt", ckpt, "--steps", 1, "--seed", "0-2", "--out", "{seed}.npy", "--quiet")
    assert outcome.code == ExitCode.OUTPUT
    assert outcome.stdout == "1.npy\n"
    assert outcome.stderr.splitlines() == [
        "error: 0.npy could not be written: no luck",
        "hint: Try again.",
        "error: 2.npy could not be written: no luck",
        "error: 2 videos of 3 could not be made",
    ]
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".npy"] == ["1.npy"]

"""`sample --like`: the same video again, a variation of it, and what is refused."""

import dataclasses
import getpass
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from mpvideo.batch.jobfile import Entry
from mpvideo.batch.request import Request
from mpvideo.cli.app import app
from mpvideo.cli.jobs import JobReader
from mpvideo.config import EDMConfig
from mpvideo.formats import Encoding
from mpvideo.record import Record, load_record
from mpvideo.text import printable
from mpvideo.video import read_frames, read_record
from tests.checkpoints import save_tiny, tiny_config
from tests.cli.conftest import Program
from tests.faults import contents
from tests.records import a_record
from tests.video.conftest import colourful, save

OPTIONS = (
    "--class", "red dog", "--seed", 7, "--frames", 3, "--steps", 2, "--sampler", "euler", "--s-churn", 1.5,
    "--s-tmax", 9, "--guidance", 1.5, "--clamp", "--fps", 12.5, "--scale", 3, "--dtype", "float32", "--exact",
)  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", ()),
        (".mp4", ("--lossless",)),
        (".webm", ("--crf", 40)),
        (".webm", ("--format", "av1")),
        (".gif", ("--loop", 2)),
        (".apng", ("--filter", "lanczos")),
        (".mkv", ()),
        ("", ("--format", "png")),
        (".npy", ()),
        (".safetensors", ()),
    ],
)
def test_the_same_bytes_again(program: Program, ckpt: Path, suffix: str, options: tuple[object, ...]) -> None:
    made = program("sample", "--ckpt", ckpt, *OPTIONS, *options, "--out", f"a{suffix}")
    assert made.code == 0, made.stderr
    again = program("sample", "--like", f"a{suffix}", "--ckpt", ckpt, "--out", f"b{suffix}")
    assert again.code == 0, again.stderr
    assert "warning" not in again.stderr or "--lossless" in options
    if suffix:
        assert Path(f"a{suffix}").read_bytes() == Path(f"b{suffix}").read_bytes()
    else:
        assert contents(Path("a")) == contents(Path("b")) != {}
    assert "class 1, 'red dog', seed 7, 3 frames" in program("inspect", f"b{suffix}").stdout
    shown = json.loads(program("inspect", f"b{suffix}", "--json").stdout)
    assert shown["record"]["seed"] == 7 and shown["problems"] == []


@pytest.mark.parametrize(
    ("made", "options", "out", "given", "encoding"),
    [
        ("a.webm", ("--format", "av1"), "b.mp4", (), Encoding(8.0)),
        ("a.webm", ("--format", "av1"), "b.webm", (), Encoding(8.0, format="av1")),
        ("a.webm", ("--format", "av1"), "b.webm", ("--format", "webm"), Encoding(8.0)),
        ("a.mp4", ("--lossless", "--scale", 2), "b.gif", (), Encoding(8.0, 2)),
        ("a.mp4", ("--lossless",), "b.mp4", ("--crf", 30), Encoding(8.0, crf=30)),
        ("a.mp4", ("--crf", 30), "b.mp4", ("--lossless",), Encoding(8.0, lossless=True)),
        ("a.webm", ("--crf", 60), "b.mp4", (), Encoding(8.0)),
        ("a.gif", ("--loop", 2, "--filter", "lanczos"), "b.apng", (), Encoding(8.0, filter="lanczos")),
        ("a", ("--format", "png"), "b.npy", (), Encoding(8.0)),
    ],
)
def test_another_kind_of_file(
    program: Program,
    ckpt: Path,
    made: str,
    options: tuple[object, ...],
    out: str,
    given: tuple[object, ...],
    encoding: Encoding,
) -> None:
    """What only one kind of file has does not get into another's way."""
    few = ("--steps", 1, "--frames", 1)
    assert program("sample", "--ckpt", ckpt, *few, *options, "--out", made).code == 0
    done = program("sample", "--like", made, "--ckpt", ckpt, *given, "--out", out)
    assert done.code == 0, done.stderr
    assert load_record(Path(out)).encoding == encoding


def test_to_standard_output(ckpt: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> bytes:
        command = [sys.executable, "-m", "mpvideo", "sample", *map(str, arguments), "--ckpt", str(ckpt), "-q"]
        return subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, timeout=60, check=True).stdout

    run("--steps", 1, "--class", 1, "--out", "a.gif")
    assert run("--like", "a.gif", "--out", "-") == (tmp_path / "a.gif").read_bytes()


def test_the_same_bytes_from_python(program: Program, ckpt: Path) -> None:
    """A record alone is enough to make the same frames, without the command line."""
    from mpvideo.checkpoint import open_checkpoint
    from mpvideo.device import choose_placement
    from mpvideo.model import load_model

    assert program("sample", "--ckpt", ckpt, *OPTIONS, "--out", "a.gif").code == 0
    record = load_record(Path("a.gif"))
    checkpoint = open_checkpoint(ckpt, overrides=record.to_dict()["config"])
    model = load_model(checkpoint, choose_placement("cpu", record.dtype))  # type: ignore[arg-type]
    assert model.sha256 == record.checkpoint.sha256
    assert (model.config.model, model.config.edm) == (record.config.model, record.config.edm)


def test_what_is_given_overrides(program: Program, ckpt: Path) -> None:
    shutil.copy(ckpt, "tiny.safetensors")
    assert program("sample", "--ckpt", ckpt, *OPTIONS, "--out", "a.gif").code == 0
    made = load_record(Path("a.gif"))
    varied = program("sample", "--like", "a.gif", "--seed", 5, "--out", "b.gif")
    assert varied.code == 0, varied.stderr
    assert load_record(Path("b.gif")).differences(made) == {"seed": (5, 7)}
    assert program(
        "sample", "--like", "a.gif", "--steps", 3, "--no-clamp", "--class", 2, "--dtype", "bfloat16", "--fps", 4,
        "--set", "edm.sigma_data=0.25", "--out", "c.gif",
    ).code == 0  # fmt: skip
    assert load_record(Path("c.gif")).differences(made) == {
        "config.edm.sigma_data": (0.25, 0.5),
        "class": (2, 1),
        "sampling.steps": (3, 2),
        "clamp": (False, True),
        "encoding.fps": (4.0, 12.5),
        "dtype": ("bfloat16", "float32"),
    }


def test_a_preset_beats_the_record(program: Program, ckpt: Path) -> None:
    """In its clamp, too; on the command line and in a job."""
    shutil.copy(ckpt, "tiny.safetensors")
    assert program("sample", "--ckpt", "tiny.safetensors", *OPTIONS, "--no-clamp", "--out", "loose.npy").code == 0
    assert program("sample", "--like", "loose.npy", "--clamp", "--out", "clamped.npy").code == 0
    Path("jobs.jsonl").write_text(
        '{"like": "loose.npy", "preset": "package", "steps": 2, "out": "c.npy"}\n'
        '{"like": "clamped.npy", "preset": "fast", "steps": 2, "out": "d.npy"}\n'
        '{"like": "clamped.npy", "seed": 9, "out": "e.npy"}\n'
    )
    for done in (
        program("sample", "--like", "loose.npy", "--preset", "package", "--steps", 2, "--out", "a.npy"),
        program("sample", "--like", "clamped.npy", "--preset", "fast", "--steps", 2, "--out", "b.npy"),
        program("batch", "jobs.jsonl", "--dtype", "float32"),
    ):
        assert done.code == 0, done.stderr
    made = {name: load_record(Path(f"{name}.npy")) for name in "abcde"}
    assert {name: (record.sampling.sampler, record.clamp) for name, record in made.items()} == {
        "a": ("heun", True), "b": ("deis", False), "c": ("heun", True), "d": ("deis", False), "e": ("euler", True),
    }  # fmt: skip


def test_a_blend_between_two_seeds(program: Program, ckpt: Path) -> None:
    options = ("--class", "red dog:1+blue cat:2", "--seed", "3:1+8:2", "--steps", 1)
    made = program("sample", "--ckpt", ckpt, *options, "--out", "a.gif")
    assert made.code == 0, made.stderr
    assert program("sample", "--like", "a.gif", "--ckpt", ckpt, "--out", "b.gif").code == 0
    assert Path("a.gif").read_bytes() == Path("b.gif").read_bytes()


def test_a_guide(program: Program, ckpt: Path) -> None:
    shutil.copy(ckpt, "tiny.safetensors")
    guide = save_tiny(Path("weak.safetensors"), tiny_config(dim=4))
    options = ("--guide", guide, "--guidance", 2, "--steps", 1, "--class", 1)
    made = program("sample", "--ckpt", ckpt, *options, "--out", "a.gif")
    assert made.code == 0, made.stderr
    assert program("sample", "--like", "a.gif", "--out", "b.gif").code == 0
    assert Path("a.gif").read_bytes() == Path("b.gif").read_bytes()
    guide.unlink()
    save_tiny(guide, tiny_config(dim=12))
    refused = program("sample", "--like", "a.gif", "--out", "c.gif")
    assert refused.code == 2
    assert "a.gif was not made with the weights of weak.safetensors: " in refused.stderr


def test_what_flags_made_of_the_checkpoint_comes_back(program: Program, ckpt: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(ckpt), "bare.safetensors")
    Path("config.json").write_text(dataclasses.replace(tiny_config(), edm=EDMConfig(sigma_data=0.3)).to_json())
    made = program("sample", "--ckpt", "bare.safetensors", "--config", "config.json", "--class", 0, "--out", "a.gif")
    assert made.code == 0, made.stderr
    Path("config.json").unlink()
    again = program("sample", "--like", "a.gif", "--out", "b.gif")
    assert again.code == 0, again.stderr
    assert (read_frames(Path("a.gif"))[0] == read_frames(Path("b.gif"))[0]).all()
    assert load_record(Path("b.gif")).config.edm.sigma_data == 0.3


def test_the_checkpoint_is_looked_for_here_and_beside_the_video(program: Program, ckpt: Path) -> None:
    Path("there").mkdir()
    assert program("sample", "--ckpt", ckpt, "--out", "there/a.gif").code == 0
    lost = program("sample", "--like", "there/a.gif", "--out", "b.gif")
    assert lost.code == 2
    assert "there/a.gif was made with the checkpoint tiny.safetensors, which is neither here nor" in lost.stderr
    assert "hint: Give it with --ckpt." in lost.stderr
    shutil.copy(ckpt, "there/tiny.safetensors")
    assert program("sample", "--like", "there/a.gif", "--out", "b.gif").code == 0
    assert Path("there/a.gif").read_bytes() == Path("b.gif").read_bytes()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf:owner/repo", "hf:owner/repo"),
        ("hf:me/dog/my \x1b.safetensors", r"$'hf:me/dog/my \033.safetensors'"),
    ],
)
def test_nothing_is_fetched_for_a_video_of_somebody_else(program: Program, name: str, words: str) -> None:
    weights = dataclasses.replace(a_record().checkpoint, name=name)
    save(Path("a.gif"), colourful(1, 8), record=a_record(checkpoint=weights).to_dict())
    refused = program("sample", "--like", "a.gif", "--out", "b.gif")
    assert refused.code == 2
    assert f"with the checkpoint {printable(name)}, which is on the hub: it is only fetched" in refused.stderr
    assert f"hint: Give it with --ckpt {words}." in refused.stderr


def test_a_checkpoint_whose_name_begins_as_one_on_the_hub(program: Program, ckpt: Path) -> None:
    whole = Path("hf:x.safetensors").absolute()
    shutil.copy(ckpt, whole)
    assert program("sample", "--ckpt", whole, "--out", "hf:a.gif", "--exact").code == 0
    again = program("sample", "--like", "hf:a.gif", "--out", "b.gif")
    assert again.code == 0 and f"mpvideo sample --ckpt {whole} " in again.stderr
    assert Path("b.gif").read_bytes() == Path("hf:a.gif").read_bytes()
    whole.unlink()
    lost = program("sample", "--like", "hf:a.gif", "--out", "c.gif")
    assert "hf:x.safetensors, which is neither here nor beside it" in lost.stderr


def test_a_record_may_name_what_no_file_can_be_called(program: Program) -> None:
    weights = dataclasses.replace(a_record().checkpoint, name="x" * 300)
    save(Path("a.gif"), colourful(1, 8), record=a_record(checkpoint=weights).to_dict())
    refused = program("sample", "--like", "a.gif", "--out", "b.gif")
    assert refused.code == 2 and "which is neither here nor beside it" in refused.stderr


def test_other_weights_are_refused_with_the_reason(program: Program, ckpt: Path) -> None:
    from safetensors.torch import load_file, save_file

    assert program("sample", "--ckpt", ckpt, "--out", "a.gif").code == 0
    tensors = load_file(ckpt)
    tensors["input_block.weight"] *= 2
    save_file(tensors, "other.safetensors", metadata={"mpvideo": tiny_config().to_json()})
    refused = program("sample", "--like", "a.gif", "--ckpt", "other.safetensors", "--out", "b.gif")
    assert refused.code == 2
    made_with = load_record(Path("a.gif")).checkpoint.sha256[:12]
    said = f"a.gif was not made with the weights of other.safetensors: its record has the sha256 {made_with}..., they"
    assert said in refused.stderr
    other = save_tiny(Path("larger.safetensors"), tiny_config(dim=16))
    refused = program("sample", "--like", "a.gif", "--ckpt", other, "--out", "b.gif")
    assert refused.code == 2
    assert "a.gif was not made with the weights of larger.safetensors: " in refused.stderr
    assert "misshapen" in refused.stderr
    assert not Path("b.gif").exists()


def test_a_video_without_a_record(program: Program, ckpt: Path) -> None:
    made = program("sample", "--ckpt", ckpt, "--out", "a.gif", "--no-metadata", "--json")
    assert made.code == 0
    assert read_record(Path("a.gif")) is None
    assert json.loads(made.stdout)["seed"] == 0, "what is printed is another matter"
    refused = program("sample", "--like", "a.gif", "--ckpt", ckpt, "--out", "b.gif")
    assert refused.code == 1
    assert refused.stderr.startswith("error: --like a.gif does not say how it was made\nhint: ")
    save(Path("c.gif"), colourful(1, 8), record={**a_record().to_dict(), "seed": "$(reboot)"})
    refused = program("sample", "--like", "c.gif", "--ckpt", ckpt, "--out", "b.gif")
    assert "error: --like c.gif: the record of how it was made: seed must be a whole number" in refused.stderr
    assert "no such file" in program("sample", "--like", "d.gif", "--out", "b.gif").stderr
    assert "must end in" in program("sample", "--like", "d.txt", "--out", "b.gif").stderr


def test_no_folder_user_or_host_is_in_a_file(program: Program, ckpt: Path, tmp_path: Path) -> None:
    """Whatever was given: names of files are all that is kept."""
    folder = tmp_path / "home" / getpass.getuser() / socket.gethostname()
    folder.mkdir(parents=True)
    config = folder / "private.json"
    config.write_text(json.dumps({"format": 1, "training": {"by": str(folder)}, "title": str(folder)}))
    shutil.copy(ckpt, folder / "tiny.safetensors")
    done = program(
        "sample", "--ckpt", folder / "tiny.safetensors", "--config", config, "--set", f"license={folder}",
        "--out", folder / "a.gif",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    data = (folder / "a.gif").read_bytes()
    assert b"tiny.safetensors" in data
    for word in (str(tmp_path), "private", getpass.getuser(), socket.gethostname(), "home"):
        assert word.encode() not in data, word


def test_the_original_is_read_once(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command, and by all jobs of a list."""
    save(Path("o.gif"), colourful(1, 8), record=a_record().to_dict())
    reads: list[Path] = []

    def read(path: Path) -> Record:
        reads.append(path)
        return load_record(path)

    monkeypatch.setattr("mpvideo.record.load_record", read)
    program("sample", "--like", "o.gif", "--ckpt", ckpt, "--out", "no/a.gif")
    assert reads == [Path("o.gif")]
    sample = typer.main.get_command(app).commands["sample"]  # type: ignore[attr-defined]
    reader = JobReader(sample, None)
    for seed in range(3):
        job = Entry("line", {"like": "o.gif", "ckpt": str(ckpt), "seed": seed, "out": "b.gif"})
        [request] = reader.requests(job, seed)
        assert isinstance(request, Request) and (request.seed, request.class_index) == (seed, 1)
    assert reads == 2 * [Path("o.gif")]

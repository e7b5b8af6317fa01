import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from mpvideo.architecture import checkpoint_shapes, network_flops
from mpvideo.checkpoint.memory import sampling_memory
from mpvideo.checkpoint.report import unreadable
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.cli.inspect import inspect
from mpvideo.config import SamplingConfig
from mpvideo.errors import CheckpointError, ExitCode, MPVideoError, UsageError
from mpvideo.record import Weights
from tests.checkpoint.files import latent_config, put, random_tensors
from tests.checkpoints import tiny_config
from tests.records import a_record

CONFIG = latent_config(
    classes=("[red]dog[/red]", "cät", "a\x1b[2J"),
    training={"steps": 3, "data": "menagerie"},
    title="[bold]Small[/bold]",
    sampling=SamplingConfig(sampler="heun", guidance=2.0, steps=5),
)

app = typer.Typer(rich_markup_mode=None)
app.command()(inspect)


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "\x1b" not in result.stdout
    return result.stdout


def as_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    report = json.loads(run(*arguments, "--json", code=code))
    assert report["loads"] == (code == 0) == (not report["problems"])
    return report


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    save_checkpoint(path, random_tensors(CONFIG), CONFIG)
    return path


def test_how_it_was_trained_is_told_in_words(tmp_path: Path) -> None:
    before = {"recipe": {"rate": 0.01, "deeper": {"than": {"is": "read"}}}}
    training = {"recipe": {"rate": 0.003, "widths": [8, 16]}, "before": before, "nothing": {}}
    config = dataclasses.replace(CONFIG, training=training)
    save_checkpoint(path := tmp_path / "model.safetensors", random_tensors(config), config)
    lines = [line.split(maxsplit=1) for line in run(path).split("\nTraining\n")[1].splitlines()[:3]]
    assert lines == [
        ["recipe", "rate 0.003, widths [8, 16]"],
        ["before", 'recipe (rate 0.01, deeper (than {"is": "read"}))'],
        ["nothing", "{}"],
    ]


def test_for_people(good: Path) -> None:
    text = run(good)
    assert text.startswith("good.safetensors: [bold]Small[/bold]\n")
    for line in (
        "  codec       latent: 4x4x4 a frame, decoded to 4 times the size",
        "  picture     16x16 pixels, 3 channels",
        "  length      4 frames at 8 a second: 0.5 s",
        "  0           [red]dog[/red]",
        "  2           a\\x1b[2J",
        "  steps       3",
        "Would load: yes (by its header; --check reads the weights too)",
    ):
        assert line in text.splitlines(), text
    assert " a pass of the network, 9 evaluations of 2 passes: " in text
    assert "heun, 5 steps, sigma 80 to 0.002, rho 7, guidance 2" in text
    interval = " ".join(run(good, "--set", "sampling.guidance_interval=[0.2,3]").split())
    assert "9 evaluations of at most 2 passes: at most " in interval and "guidance 2 at sigma 0.2 to 3" in interval
    curbed = " ".join(run(good, "--set", "sampling.apg_eta=0", "--set", "sampling.apg_norm=9").split())
    assert ", guidance 2, apg_eta 0, apg_norm 9 " in curbed
    assert "rho 7, no guidance\n" in run(good, "--set", "sampling.apg_norm=9", "--set", "sampling.guidance=1")
    assert "1  2x2x2" in text and "6 blocks of 2 heads" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_sampling_of_other_kinds(good: Path) -> None:
    def shown(*settings: str) -> str:
        words = [word for setting in settings for word in ("--set", f"sampling.{setting}")]
        return run(good, *words)

    assert "unipc, 5 steps, sigma 80 to 0.002, cosine, " in shown("sampler=unipc", "schedule=cosine")
    assert "lms, 3 steps, sigma 50 to 0.5, listed, guidance 2" in shown("sampler=lms", "sigmas=[50,4,0.5]")
    assert "auto (ipndm), 99 steps, " in shown("sampler=auto", "steps=99")
    assert "  restarts     2, from 0.1 to 0.4, 3 steps each" in shown("restarts=2").splitlines()


def test_for_scripts(good: Path) -> None:
    report = as_json(good)
    assert list(report) == list(unreadable(good, CheckpointError("x")))
    shapes = checkpoint_shapes(CONFIG)
    total = sum(torch.zeros(shape).numel() for shape in shapes.values())
    assert report["parameters"]["total"] == total == sum(report["parameters"]["parts"].values())
    assert set(report["parameters"]["parts"]) == {"input", "down", "middle", "up", "embedding", "output", "codec"}
    assert report["dtypes"] == {"float32": len(shapes)} and report["bytes"] == good.stat().st_size
    assert report["files"] == ["good.safetensors"] and report["name"] == "good.safetensors"
    assert report["video"] == {
        "codec": "latent",
        "frames": 4,
        "width": 16,
        "height": 16,
        "channels": 3,
        "fps": 8.0,
        "seconds": 0.5,
    }
    blocks = {name: shape for name, shape in shapes.items() if name.startswith(("downs", "mids", "ups"))}
    counts = [level.pop("parameters") for level in report["levels"]]
    assert sum(counts) == sum(torch.zeros(shape).numel() for shape in blocks.values()) and counts[1] > counts[0]
    assert report["levels"] == [
        {"frames": 4, "image_size": 4, "width": 4, "down": 1, "middle": 0, "up": 3, "attention": 0, "heads": 0},
        {"frames": 2, "image_size": 2, "width": 8, "down": 2, "middle": 2, "up": 2, "attention": 6, "heads": 2},
    ]
    assert report["classes"] == {"count": 3, "names": None} and "classes" not in report["config"]
    assert report["cost"]["evaluations"] == 9, "Heun's 2N - 1"
    assert report["cost"]["passes"] == 2, "for guidance"
    assert report["cost"]["flops_per_video"] == 18 * network_flops(CONFIG.model)
    assert report["cost"]["memory"]["float32"] == sampling_memory(CONFIG, "float32", 4 * total, passes=2)
    assert report["tensors"] is None and report["check"] is None
    full = as_json(good, "--tensors", "--classes")
    assert full["classes"]["names"] == list(CONFIG.classes or ())
    assert {item["name"]: tuple(item["shape"]) for item in full["tensors"]} == shapes


def test_lists(good: Path) -> None:
    text = run(good, "--tensors")
    assert all(f"    {name}" in text or f"  {name}" in text for name in checkpoint_shapes(CONFIG))
    assert "output_block.1.gain" in text and "scalar" in text
    many = [f"name {index}" for index in range(7)]
    config = {"format": 1, "model": {"num_classes": 7}, "classes": many}
    file = put(good.with_name("seven.json"), json.dumps(config).encode())
    text = run(good, "--config", file, code=3)
    assert "4 more: --classes lists them" in text and "name 6" not in text
    assert "name 6" in run(good, "--config", file, "--classes", code=3)
    assert "1 tensor misshapen: to_class_emb.weight (16, 3) instead of (16, 7)" in text


def test_check_reads_the_weights(good: Path, tmp_path: Path) -> None:
    check = as_json(good, "--check")["check"]
    assert check["nonfinite"] == check["zero"] == check["zero_gains"] == []
    assert "header and weights checked" in run(good, "--check")
    tensors = random_tensors(CONFIG)
    tensors["output_block.1.gain"].zero_()
    path = tmp_path / "zero.safetensors"
    save_checkpoint(path, tensors, CONFIG)
    assert "1 tensor all zero: output_block.1.gain" in run(path, "--check")
    data = bytearray(path.read_bytes())
    data[-4:] = b"\x00\x00\xc0\x7f"  # NaN
    last = as_json(path, "--tensors")["tensors"][-1]["name"]
    path.write_bytes(data)
    run(path)  # the header says nothing of it
    report = as_json(path, "--check", code=3)
    assert report["check"]["nonfinite"] == [last]
    assert f"- 1 tensor with NaN or infinity: {last}" in run(path, "--check", code=3)


def test_truncated_file_is_still_described(good: Path, tmp_path: Path) -> None:
    path = put(tmp_path / "cut.safetensors", good.read_bytes()[:-100])
    for options in ((), ("--check",)):
        text = run(path, *options, code=3)
        assert "Would load: no" in text and "is truncated: it must have" in text and "16x16 pixels" in text


def test_file_without_config(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(random_tensors(CONFIG), path)
    text = run(path, code=3)
    assert "Network, by the shapes" in text and re.search(r"^  num_classes +3$", text, re.M)
    assert re.search(r"^  model.image_size +a multiple of 2; ", text, re.M), "what it does not tell, and what fits"
    assert "hint: Add what it was trained with, for example --set model.downsample_types=all" in text
    report = as_json(path, code=3)
    assert report["config"] is None and [entry["field"] for entry in report["open"]][-1] == "model.frames"
    assert report["inferred"]["widths"] == [4, 8] and report["inferred"]["fields"]["num_classes"] == 3
    sizes = ("--set", "model.image_size=4", "--set", "model.frames=4", "--set", "model.downsample_types=all")
    report = as_json(path, *sizes)
    assert report["video"]["codec"] == "latent" and report["sources"]["model.dim"] == "inferred"
    assert report["open"] == []
    text = run(path, *sizes)
    assert "video: codec=latent; video.autoencoder: width=2, latent_channels=4, num_downsamples=2" in text
    file = put(tmp_path / "c.json", CONFIG.to_json().encode())
    run(path, "--config", file)
    settings = CONFIG.to_dict()
    del settings["video"]
    file = put(tmp_path / "d.json", json.dumps(settings).encode())
    assert as_json(path, "--config", file)["video"]["codec"] == "latent", "by the autoencoder's tensors"
    assert "tensors left over: codec." in run(path, "--config", file, "--set", "video.codec=rgba", code=3)


def test_unreadable_file(tmp_path: Path) -> None:
    path = put(tmp_path / "page.safetensors", b"<!doctype html>")
    report = as_json(path, code=3)
    assert "HTML page" in report["problems"][0]["message"] and report["config"] is None
    with pytest.raises(CheckpointError, match="HTML page"):
        CliRunner().invoke(app, [str(path)], catch_exceptions=False)


@pytest.mark.parametrize("suffix", ["", ".safetensors", ".json"])
def test_a_name_that_no_file_can_have(suffix: str) -> None:
    problem = as_json("x" * 300 + suffix, code=3)["problems"][0]
    assert problem["message"].endswith("cannot be read: file name too long")
    with pytest.raises(MPVideoError, match="cannot be read as a video: file name too long"):
        CliRunner().invoke(app, ["x" * 300 + ".mp4"], catch_exceptions=False)


def test_settings_come_before_the_header(good: Path) -> None:
    assert as_json(good, "--set", "video.fps=2", "--set", "title=new")["video"]["seconds"] == 2
    assert "video: codec must be one of" in run(good, "--set", "video.codec=yuv", code=3)
    with pytest.raises(UsageError, match="--set must be KEY=VALUE"):
        CliRunner().invoke(app, [str(good), "--set", "fps"], catch_exceptions=False)


def test_weights_that_come_with_the_package(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpvideo.cli.inspect.bundled_checkpoint", lambda: good)
    assert as_json()["name"] == "good.safetensors"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_narrow_terminals(good: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    text = CliRunner().invoke(app, [str(good), "--tensors"]).stdout
    assert "\x1b[1m" in text and "\x1b[3" not in text and ";3" not in text, "bold, without colours"
    plain = re.sub("\x1b\\[[0-9;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= width


def test_no_torch(good: Path) -> None:
    code = (
        "import sys, typer; from mpvideo.cli.inspect import inspect; app = typer.Typer(); app.command()(inspect)\n"
        f"try: app([{str(good)!r}, '--tensors', '--classes'])\n"
        "finally: sys.exit(len({'torch', 'numpy', 'imageio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "Would load: yes" in done.stdout, done.stderr


def test_terminals_without_unicode(good: Path) -> None:
    code = f"from mpvideo.cli.inspect import inspect; from pathlib import Path; inspect(Path({str(good)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and b"c\\xe4t" in done.stdout, done.stderr


def test_a_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model": {"\x1b[2Jw": torch.zeros(2, 3)}, "step": 7}, path)
    text = run(path, "--tensors", "--check", code=3)
    assert "PyTorch file, listed without running it" in text and re.search(r"^  step +7$", text, re.M)
    assert "model.\\x1b[2Jw  float32  2x3" in text
    assert "cannot be converted as it is" in text and "holds no KarrasUnet3D" in text
    report = json.loads(run(path, "--json", code=3))
    assert report["kind"] == "torch" and report["parameters"]["total"] == 6 and report["tensors"] is None


def test_the_name_of_a_torch_file_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    torch.save(random_tensors(CONFIG), path := tmp_path / "a\x1b[2J.pt")
    assert "mpvideo convert" in run(path, code=3)  # which looks for escapes
    report = json.loads(run(path, "--json", code=3))
    assert report["convert"]["command"].startswith(f"mpvideo convert '{path}' "), "for programs, as it is"


def test_a_trainers_file_says_what_convert_would_want(tmp_path: Path) -> None:
    path = tmp_path / "a b.pt"
    ema = {f"ema_model.{name}": tensor for name, tensor in random_tensors(CONFIG).items()}
    torch.save({"ema": ema, "model": random_tensors(CONFIG), "step": 7}, path)
    text = run(path, code=3)
    assert re.search(r"^  ema\.ema_model +average of the weights \(EMA\), which convert takes$", text, re.M)
    assert re.search(r"^  model.frames +a multiple of 2$", text, re.M) and re.search(r"^  dim +4$", text, re.M)
    report = json.loads(run(path, "--json", code=3))
    assert [(entry["prefix"], entry["average"]) for entry in report["networks"]] == [
        ("ema.ema_model", True), ("model", False),
    ]  # fmt: skip
    convert = report["convert"]
    assert convert["prefix"] == "ema.ema_model" and convert["problem"] is None
    assert convert["command"].startswith(
        f"mpvideo convert '{path}' model.safetensors --set model.downsample_types=all "
    )
    assert f"hint: `{convert['command']}` makes a checkpoint of it" in text
    prefixed = tmp_path / "a.safetensors"
    save_file(ema, prefixed)
    text = run(prefixed, code=3)
    assert "begin with 'ema_model.'" in text and f"hint: `mpvideo convert {prefixed} model.safetensors --set" in text


def test_a_run(good: Path, tmp_path: Path) -> None:
    put(tmp_path / "run.json", b'{"version": "1", "source": {"data": "clips"}, "recipe": {"seed": 3}}')
    report = as_json(tmp_path, code=3)
    assert report["run"]["source"] == {"data": "clips"} and report["run"]["step"] is None
    text = " ".join(run(tmp_path, code=3).split())
    assert "none logged yet" in text and "has no checkpoint yet" in text and "goes on with it" in text
    put(tmp_path / "model.safetensors", good.read_bytes())
    lines = [
        {"step": n, "samples": 10 * n, "loss": 1 / n, "seconds": 60, "loss_by_sigma": {"<1": 0.5}} for n in (1, 9, 10)
    ]
    put(tmp_path / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    summary = as_json(tmp_path)["run"]
    assert (summary["step"], summary["samples"], summary["seconds"]) == (10, 100, 180)
    assert summary["loss"] == pytest.approx((1 / 9 + 1 / 10) / 2), "of the last tenth"
    text = run(tmp_path)
    assert "  trained on  clips" in text and "  steps       10, 100 videos" in text and "16x16 pixels" in text


def a_video(path: Path, record: dict[str, Any] | None) -> Path:
    from mpvideo.video import Encoding, VideoWriter

    with VideoWriter(path, width=8, height=8, channels=3, encoding=Encoding(8.0, 1), record=record) as writer:
        writer.write(torch.zeros(2, 8, 8, 3, dtype=torch.uint8).numpy())
    return path


def test_a_video(tmp_path: Path) -> None:
    sampling = SamplingConfig(sampler="heun", s_churn=4.0, s_tmax=9.0, apg_norm=9.0)
    record = a_record(sampling=sampling, clamp=True, exact=True).to_dict()
    path = a_video(tmp_path / "a.gif", record)
    report = json.loads(run(path, "--json"))
    assert report["kind"] == "video" and report["problems"] == []
    assert {**report["record"], "command": ""} == {**json.loads(json.dumps(record)), "command": ""}
    assert (report["width"], report["height"], report["frames"]) == (8, 8, 2)
    text = run(path)
    for line in (
        "  picture     8x8 pixels, 2 frames",
        "  video       class 1, 'red dog', seed 7, 4 frames",
        "  checkpoint  tiny.safetensors",
        "  sampling    heun, 32 steps, karras schedule, sigma 80 to 0.002, no guidance, s_churn 4, s_tmax 9, clamped",
        "  computed    in float32 on cpu, by itself (--exact)",
        "  again       mpvideo sample --ckpt tiny.safetensors --class 1 --seed 7 ",
    ):
        assert line in text, text
    guided = SamplingConfig(sampler="heun", guidance=2.0, guidance_interval=(0.2, 3.0), guidance_hold=True, apg_eta=0.0)
    guide = Weights(name="weak.safetensors", sha256="fedcba9876543210" * 4)
    text = run(a_video(tmp_path / "b.gif", a_record(sampling=guided, guide=guide).to_dict()))
    assert "\n  guide       weak.safetensors\n  its sha256  fedcba9876543210fedcba9" in text
    assert "to 0.002, guidance 2 at sigma 0.2 to 3, held outside, apg_eta 0\n" in text


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (None, "a.gif does not say how it was made"),
        ({"seed": 5}, "a.gif does not say how it was made"),
        ({**a_record().to_dict(), "seed": -5}, "a.gif: the record of how it was made: seed must be at least 0, got -5"),
        ({**a_record().to_dict(), "\x1b[2J": 1}, "has unknown fields: \\x1b[2J"),
    ],
)
def test_a_video_that_does_not_say_how_it_was_made(tmp_path: Path, record: dict[str, Any] | None, problem: str) -> None:
    path = a_video(tmp_path / "a.gif", record)
    report = json.loads(run(path, "--json"))
    assert report["record"] is None and problem in report["problems"][0]["message"]
    text = run(path)
    assert "How it was made: not known" in text and problem in text and "  hint: " in text


def test_a_grid_is_no_stranger(tmp_path: Path) -> None:
    """It has no record, and none is missing."""
    from mpvideo.video import Encoding, GridWriter

    with GridWriter(path := tmp_path / "a.gif", encoding=Encoding(8.0)) as grid:
        grid.add(torch.zeros(2, 8, 8, 3, dtype=torch.uint8).numpy(), "seed 0")
    assert "\n  hint: A grid or sheet of several videos never does; else mpvideo did not make it, " in run(path)


def test_videos_that_cannot_be_read_fail_alike(tmp_path: Path) -> None:
    """With the exit code 1 that they have in other commands; 3 is for checkpoints."""
    whole = a_video(tmp_path / "a.mp4", None).read_bytes()
    put(tmp_path / "cut.mp4", whole[:-1])
    put(tmp_path / "empty.mp4", b"")
    for name, words in (("cut", "it is cut short"), ("empty", "it has no index"), ("missing", "no such file")):
        with pytest.raises(MPVideoError, match=rf"{name}\.mp4 cannot be read as a video: {words}") as caught:
            CliRunner().invoke(app, [str(tmp_path / f"{name}.mp4")], catch_exceptions=False)
        assert caught.value.exit_code == ExitCode.FAILED


def test_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    tuned = {"checkpoint": {"name": "tiny.safetensors"}}
    for content, words in (
        ({"format": 1, "sampling": {"steps": 3}}, "mine.json must be a checkpoint or a video, but is a preset"),
        ({"format": 1, "sampling": {}, "tuned": tuned}, "is a preset of `mpvideo tune` for tiny.safetensors"),
        ({"format": 1, "model": {}, "sampling": {}}, "mine.json must be a safetensors file, but is a JSON file"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=f"{words}$"):
            CliRunner().invoke(app, [str(path)], catch_exceptions=False)


def test_differences(good: Path, tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG)
    tensors["input_block.weight"] *= 2
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, tensors, latent_config(classes=CONFIG.classes, title="[b]"))
    text = run("--diff", good, other, "--check")
    assert re.search(r"^  title +\[bold\]Small\[/bold\] +\[b\]$", text, re.M)
    assert re.search(r"^  input_block.weight +50.0%$", text, re.M)
    assert "The same: no (config, tensors and values)" in text
    report = json.loads(run("--diff", good, other, "--json"))
    assert report["kind"] == "diff" and report["values"] is None and not report["same"]
    assert "The same: yes" in run("--diff", good, good, "--check")
    whole = tmp_path / "whole.safetensors"
    save_file({**random_tensors(CONFIG), "input_block.weight": tensors["input_block.weight"].int()}, whole)
    text = run("--diff", good, whole, "--check")
    assert re.search(r"^  not compared +1, of dtypes that weights cannot have: input_block.weight$", text, re.M)
    assert json.loads(run("--diff", good, whole, "--check", "--json"))["uncompared"] == ["input_block.weight"]
    with pytest.raises(UsageError, match="cannot be given together with FILE"):
        CliRunner().invoke(app, [str(good), "--diff", str(good), str(good)], catch_exceptions=False)


def test_other_metadata_and_sources_are_shown(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    metadata = {"mpvideo": CONFIG.to_json(), "modelspec.title": "A\x1b[2Jdog", "modelspec.author": "me"}
    save_file(random_tensors(CONFIG), path, metadata=metadata)
    text = run(path, "--set", "video.fps=4")
    assert "  modelspec.title   A\\x1b[2Jdog" in text and "  modelspec.author  me" in text
    assert "  flag        video: fps" in text
    assert as_json(path)["metadata"]["modelspec.author"] == "me"
    assert as_json(path, "--set", "video.fps=4")["sources"]["video.fps"] == "flag"


def test_a_misfit_says_what_cures_it(good: Path) -> None:
    text = run(good, "--set", "model.num_classes=2", "--set", "classes=null", code=3)
    assert "hint: By its shapes: --set model.num_classes=3." in text


def test_more_than_the_memory_that_is_free(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpvideo.checkpoint.report.free_memory", lambda: 10)
    assert "; more than the 10 B that are free here" in run(good)
    monkeypatch.setattr("mpvideo.checkpoint.report.free_memory", lambda: None)
    assert "free here" not in run(good) and as_json(good)["cost"]["free_memory"] is None


def test_time_is_measured_if_asked_for(good: Path) -> None:
    assert re.search(r"^  time +not known without running it: --time measures it$", run(good), re.M)
    assert as_json(good)["time"] is None
    text = run(good, "--time")
    assert re.search(r"^  time +about \S+ s for one video on CPU, .* to start, \d+ passes of \S+ ms, ", text, re.M)
    measured = as_json(good, "--time")["time"]
    assert measured["device"] == "cpu" and 0 < measured["evaluation"] < measured["video"]


def test_guidance_in_an_interval_is_counted_where_time_is_measured(good: Path) -> None:
    """Of the levels 80, 24.4, 5.8, 0.9 and 0.002, which Heun evaluates twice save for the first, it has 0.9 in it."""
    report = as_json(good, "--set", "sampling.guidance_interval=[0.2,3]", "--time")
    assert report["time"]["evaluations"] == 9 + 2
    assert report["cost"]["flops_per_video"] == 11 * network_flops(CONFIG.model)
    text = " ".join(run(good, "--set", "sampling.guidance_interval=[0.2,3]", "--time").split())
    assert "9 evaluations of 1 or 2 passes, 11 in all: " in text and "at most" not in text


def test_time_of_what_cannot_be_sampled(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG)
    tensors["codec.std"].fill_(torch.finfo(torch.float32).max)
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tensors, CONFIG)
    report = as_json(path, "--time")
    assert report["time"] is None
    assert report["warnings"][0]["message"].startswith(
        "the time could not be measured: the sampled video is not usable"
    )


def test_time_of_guidance_away_from_nothing(tmp_path: Path) -> None:
    """A video can still be made of it, by `sample --guidance 1`."""
    path = tmp_path / "a.safetensors"
    config = dataclasses.replace(tiny_config(num_classes=None), sampling=CONFIG.sampling)
    save_checkpoint(path, random_tensors(config), config)
    report = as_json(path, "--time")
    assert report["time"] is None
    words = "the time could not be measured: sampling.guidance must be 1 for a network without classes, got 2"
    assert report["warnings"] == [{"message": words, "hint": "Give --set sampling.guidance=1."}]
    assert as_json(path, "--time", "--set", "sampling.guidance=1")["time"]["evaluations"] == 9

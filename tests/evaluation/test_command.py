"""`mpvideo eval`, in this process."""

import dataclasses
import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from mpvideo import menagerie
from mpvideo.checkpoint import open_checkpoint
from mpvideo.cli import main
from mpvideo.config import AutoencoderConfig, ModelConfig, VideoConfig
from mpvideo.device import choose_placement
from mpvideo.evaluation import nearest
from mpvideo.evaluation.frechet import frechet_distance
from mpvideo.model import load_model
from mpvideo.text import counted
from mpvideo.video import Encoding, VideoWriter, read_frames
from tests.checkpoints import save_tiny, tiny_config
from tests.evaluation.networks import Means, save_network


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str


Program = Callable[..., Outcome]


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Runs `mpvideo eval` in an empty folder and in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        with pytest.raises(SystemExit) as ended:
            main(["eval", *map(str, arguments)])
        for number, handler in before.items():  # the program is over, this process is not
            signal.signal(number, handler)
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands are given: checkpoints, a feature network, real videos."""
    folder = tmp_path_factory.mktemp("inputs")
    save_tiny(folder / "tiny.safetensors", tiny_config())
    config = dataclasses.replace(
        tiny_config("latent"),
        model=ModelConfig(
            image_size=8, frames=32, dim=8, dim_max=8, channels=2, num_downsamples=1, num_blocks_per_stage=1,
            attn_res=(), num_classes=1000,
        ),
        video=VideoConfig(codec="latent", autoencoder=AutoencoderConfig(width=4, latent_channels=2)),
        classes=menagerie.class_names(),
    )  # fmt: skip
    save_tiny(folder / "world.safetensors", config)
    save_network(folder / "net.pt", Means())
    (folder / "clips").mkdir()
    for number in range(5):
        frames = np.full((5 if number else 3, 16, 16, 3), 40 * number, np.uint8)
        write(folder / "clips" / f"{number}.gif", frames, {}, scale=1)
    return folder


@pytest.fixture(scope="module")
def training() -> nearest.TrainingRenderings:
    return nearest.TrainingRenderings()


@pytest.fixture
def same_training(monkeypatch: pytest.MonkeyPatch, training: nearest.TrainingRenderings) -> None:
    """What is the same for all commands, and takes seconds, is made once."""
    monkeypatch.setattr(nearest, "TrainingRenderings", lambda shown: training)


def write(path: Path, frames: np.ndarray, record: dict[str, object], scale: int | None = None) -> None:
    _, height, width, channels = frames.shape
    writer = VideoWriter(
        path, width=width, height=height, channels=channels, encoding=Encoding(8, scale), record=record, overwrite=False
    )
    with writer:
        writer.write(frames)


def means(video: np.ndarray) -> list[float]:
    x = video / 127.5 - 1
    return [*x.mean((0, 1, 2)), x[0].mean()]


def test_videos_of_anything(program: Program, folder: Path) -> None:
    arguments = (
        "--ckpt", folder / "tiny.safetensors", "--features", folder / "net.pt", "--data", folder / "clips",
        "--num", 6, "--seed", 3, "--feature-size", 8, "--steps", 2,
    )  # fmt: skip
    done = program(*arguments, "--json", "--out", "report.json")
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)
    assert json.loads(Path("report.json").read_text()) == report
    assert report["menagerie"] is None
    features = report["features"]
    assert (features["num_videos"], features["num_real"], features["too_short"]) == (6, 4, 1)
    assert (features["frames"], features["width"], features["feature_size"]) == (4, 8, 8)
    assert features["network"]["sha256"] == hashlib.sha256((folder / "net.pt").read_bytes()).hexdigest()
    assert features["real"]["name"] == "clips"
    assert (report["seeds"], report["sampling"]["steps"], report["num"]) == ([3, 8], 2, 6)
    assert len(report["checkpoint"]["sha256"]) == 64
    assert program(*arguments, "--json", "--out", "report.json").code == 5, "what is there is kept"
    assert program(*arguments, "--quiet", "--out", "report.json", "-y").code == 0
    page = program(*arguments, "--quiet")
    assert page.stderr == ""
    assert f"Fréchet distance {features['frechet']:.4g} in the features of net.pt" in page.stdout
    assert "1 real video left out: too short" in page.stdout


def test_the_distance_is_that_of_the_files(
    program: Program, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that were sampled before: the number follows from their pixels and those of the real ones."""
    made = tmp_path / "made"
    made.mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        colours = rng.integers(0, 256, (4, 1, 1, 3), np.uint8)
        write(made / f"{number}.gif", np.broadcast_to(colours, (4, 8, 8, 3)).copy(), {}, scale=1)
    done = program(
        "--videos", made, "--features", folder / "net.pt", "--data", folder / "clips", "--feature-size", 8, "--json"
    )
    assert done.code == 0, done.stderr
    sets = [torch.tensor([means(read_frames(path)[0][:4]) for path in sorted(where.glob("*.gif"))]) for where in
            (made, folder / "clips")]  # fmt: skip
    wanted = frechet_distance(sets[0], sets[1][1:])  # the first is too short
    assert json.loads(done.stdout)["features"]["frechet"] == pytest.approx(wanted, rel=1e-3)


@pytest.mark.usefixtures("same_training")
def test_the_menagerie(program: Program, folder: Path) -> None:
    arguments = ("--ckpt", folder / "world.safetensors", "--num", 5, "--steps", 1, "--sampler", "euler")
    done = program(*arguments, "--json", "--features", folder / "net.pt", "--feature-size", 16)
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)
    world = report["menagerie"]
    assert {name: share["total"] for name, share in world["sampled"]["accuracy"].items()} == dict.fromkeys(
        ("animal", "coat", "motion", "all"), 5
    )
    assert world["sampled"]["accuracy"]["all"]["hits"] == 0, "random weights draw no animals"
    assert world["real"]["accuracy"]["all"]["hits"] >= 4
    assert world["repainted"] is not None
    assert world["sampled"]["frechet"] > world["real"]["frechet"]
    assert world["nearest"]["ratio"] > 1
    assert report["features"]["real"] == "menagerie"
    assert report["features"]["num_real"] == 5
    assert report["classes"] is not None
    page = program(*arguments)
    assert page.code == 0
    assert world["nearest"]["of_its_run"] is False, "the checkpoint does not say"
    among = (
        "of the same class, among the first 16,384 videos of a run with seed 0 and without --init, as what was shown"
    )
    for words in (
        "animal right",
        "95% interval",
        "all three right",
        "nearest training video",
        "less is better",
        "real ones are copies",
        among,
    ):
        assert words in page.stdout
    first = world["confusions"][0]
    asked, total = f"{first['attribute']} {first['value']}", counted(first["total"], "video")
    assert (
        "\nmost frequent mistakes, as the judge reads the videos:\n"
        f"  asked for {asked}, read as {first['taken_for']}: {first['hits']} of {total}\n"
    ) in page.stdout
    assert "measuring: 5/5 passes" in page.stderr


@pytest.mark.usefixtures("same_training")
def test_files_of_the_menagerie(program: Program, tmp_path: Path) -> None:
    """Real renderings as `sample` would have written them: enlarged, encoded, and read back right."""
    (tmp_path / "made").mkdir()
    classes = [207, 311, 640, 45, 872]
    for number, index in enumerate(classes):
        video = menagerie.render(torch.tensor([index]), torch.tensor([2**50 + number]))[0].numpy()
        record = {"class": index, "class_name": menagerie.class_names()[index], "frames": 32}
        write(tmp_path / "made" / f"{number}.{'gif' if number == 4 else 'mp4'}", video, record)
    done = program("--videos", "made", "--json", "--steps", 5)
    assert done.code == 0, done.stderr
    assert "warning: --steps has no effect on videos that are there already" in done.stderr
    report = json.loads(done.stdout)
    assert report["videos"] == "made"
    assert report["menagerie"]["sampled"]["accuracy"]["all"]["hits"] == 5
    assert report["menagerie"]["repainted"] is None
    seven = menagerie.render(torch.tensor([207]), torch.tensor([2**50]))[0].numpy()[:7]
    about = {"class": 207, "class_name": menagerie.class_names()[207], "frames": 7}
    blend = {**about, "class": [[207, 1.0], [307, 1.0]], "class_name": "", "frames": 32}
    cases = (({}, "is of no class of the menagerie, by what it says of itself"), (blend, "is a blend of classes"),
             (about, "has 7 frames, and must have 32"))  # fmt: skip
    for record, words in cases:
        (tmp_path / "made" / "other.gif").unlink(missing_ok=True)
        write(tmp_path / "made" / "other.gif", seven, record)
        mixed = program("--videos", "made")
        assert mixed.code == 2
        assert f"judge of the menagerie can read, all or none, but made/other.gif {words}\n" in mixed.stderr
    (tmp_path / "short").mkdir()
    for number in range(4):
        write(tmp_path / "short" / f"{number}.gif", seven, about)
    short = program("--videos", "short")
    assert short.code == 2
    words = "for videos that the judge of the menagerie cannot read: short/0.gif has 7 frames, and must have 32\n"
    assert f"error: --features and --data must be given {words}" in short.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num", 3), "--num must be at least 4, got 3"),
        (("--seed", -1), "--seed must be at least 0, got -1"),
        (("--feature-size", 2, "--features", "net.pt"), "--feature-size must be at least 8, got 2"),
        (("--data", "clips"), "--data must come with --features"),
        (("--features", "none.pt"), "--features none.pt does not exist"),
        (("--features", "."), "--features must be a TorchScript file, got ."),
        (("--features", "net.pt", "--data", "none"), "--data must be a folder of videos, got none"),
        (("--videos", "none"), "--videos must be a folder of videos, got none"),
        (("--videos", "clips", "--ckpt", "tiny.safetensors"), "--videos and --ckpt cannot be given together"),
        (
            ("--videos", "clips", "--num", 4),
            "--features and --data must be given for videos that the judge of the menagerie cannot read: clips/0.gif ",
        ),
        (("--ckpt", "tiny.safetensors"), "menagerie cannot read: those of tiny.safetensors are of other classes\n"),
        (
            ("--ckpt", "world.safetensors", "--set", "model.frames=16"),
            "those of world.safetensors are 16 frames of 64x64 pixels with 3 channels, and must be 32 frames of 64x64",
        ),
        (("--ckpt", "tiny.safetensors", "--guide", "world.safetensors"), "--guide must have the video.codec of the"),
        (("--ckpt", "tiny.safetensors", "--guidance", "nan"), "--guidance must be a finite number"),
        (("--ckpt", "tiny.safetensors", "--features", "tiny.safetensors", "--data", "clips"), "is no TorchScript net"),
        (("--out", "no/report.json"), "/no does not exist"),
    ],
)
def test_refusals(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], message: str
) -> None:
    monkeypatch.chdir(folder)
    done = program(*arguments)
    assert done.code in (1, 2, 5)
    assert message in done.stderr
    assert done.stdout == ""


def test_only_a_report_is_replaced(program: Program, folder: Path, tmp_path: Path) -> None:
    ckpt = tmp_path / "tiny.safetensors"
    ckpt.write_bytes((folder / "tiny.safetensors").read_bytes())
    (tmp_path / "config.json").write_text('{"format": 1}')
    for name in ("tiny.safetensors", "config.json"):
        before = (tmp_path / name).read_bytes()
        done = program("--ckpt", ckpt, "--num", 4, "--out", name, "-y")
        assert done.code == 5
        assert f"error: --out {name} exists already, and is not a report of `mpvideo eval`\n" in done.stderr
        assert (tmp_path / name).read_bytes() == before
    done = program("--ckpt", ckpt, "--num", 4, "--out", "-")
    assert done.code == 2
    assert "error: --out must be the name of a file, got -: standard output has the results\n" in done.stderr


def test_a_guide_and_a_preset(program: Program, folder: Path, tmp_path: Path) -> None:
    """Both are in the report; what is not as it was made for, and what has no effect, is warned of."""
    guide = save_tiny(tmp_path / "weak.safetensors", tiny_config(dim=4))
    (tmp_path / "mine.json").write_text(
        '{"format": 1, "sampling": {"sampler": "lms", "sigmas": [9, 1], "guidance": 2},'
        ' "tuned": {"checkpoint": {"name": "other.safetensors", "sha256": "0"}}}'
    )
    arguments = (
        "--ckpt", folder / "tiny.safetensors", "--features", folder / "net.pt", "--data", folder / "clips",
        "--num", 4, "--feature-size", 8, "--guide", guide, "--preset", "mine.json",
    )  # fmt: skip
    guided = program(*arguments, "--guidance-interval", "0.2,3", "--out", "a.json")
    words = ": lms, 2 steps, guidance 2 at sigma 0.2 to 3, guide weak.safetensors\n"
    assert words in guided.stdout, guided.stderr
    report = json.loads(Path("a.json").read_text())
    sha256 = load_model(open_checkpoint(guide), choose_placement("cpu", "float32")).sha256
    assert report["guide"] == {"name": "weak.safetensors", "sha256": sha256}
    words = "warning: the noise levels of mine.json were made for"
    assert guided.stderr.count(words) == 2
    assert f"{words} guidance away from no class, not from a second checkpoint\n" in guided.stderr
    assert f"{words} the weights of other.safetensors, tiny.safetensors has others\n" in guided.stderr
    away = json.loads(program(*arguments[:-4], "--preset", "mine.json", "--json").stdout)
    assert away["guide"] is None and away["features"]["frechet"] != report["features"]["frechet"]
    alone = program(*arguments, "--guidance", 1, "--apg-eta", 0.5, "--json")
    assert json.loads(alone.stdout)["guide"] is None
    for option in ("--guide", "--apg-eta"):
        assert alone.stderr.count(f"warning: {option} has no effect at --guidance 1\n") == 1
    assert f"{words} guidance 2, not 1.0\n" in alone.stderr


def test_options_without_effect_are_told(program: Program, folder: Path) -> None:
    done = program("--ckpt", folder / "tiny.safetensors", "--feature-size", 64)
    assert "warning: --feature-size has no effect without --features" in done.stderr

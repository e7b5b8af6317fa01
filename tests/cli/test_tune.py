import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mpvideo.checkpoint import open_checkpoint
from mpvideo.cli.tune import _settings, tune
from mpvideo.config import SamplingConfig
from mpvideo.errors import MPVideoError, OutputError, UsageError
from mpvideo.presets import find_preset
from mpvideo.record import load_record
from mpvideo.tuning import Tuned
from mpvideo.video import read_record
from tests.checkpoints import save_tiny, tiny_config
from tests.cli.conftest import Program

app = typer.Typer(rich_markup_mode=None)
app.command()(tune)


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny.safetensors", tiny_config())


@pytest.fixture(autouse=True)
def few_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short search: what is tested does not depend on how fine it is."""
    monkeypatch.setattr("mpvideo.tuning.TEACHER_STEPS", 12)


def run(*arguments: object) -> Result:
    words = [str(argument) for argument in (*arguments, "--videos", 1, "--dtype", "float32")]
    return CliRunner().invoke(app, words, catch_exceptions=False)


def test_from_tuning_to_a_video(ckpt: Path, tmp_path: Path) -> None:
    """As a user does it: the file lies beside the checkpoint, and the video's record shows the levels."""
    program = [sys.executable, "-m", "mpvideo"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def done(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=True
        )

    tuned = done("tune", "tiny.safetensors", "--nfe", "3", "--videos", "1", "--sampler", "dpmpp-2m")
    assert tuned.stdout == "tiny-dpmpp-2m-3.json\n"
    assert "difference from exact videos 0." in tuned.stderr and "with the schedule karras" in tuned.stderr
    done("sample", "--ckpt", "tiny.safetensors", "--preset", "tiny-dpmpp-2m-3.json", "--out", "a.mp4", "--scale", "4")
    sampling = (read_record(tmp_path / "a.mp4") or {})["sampling"]
    assert sampling["sampler"] == "dpmpp-2m" and len(sampling["sigmas"]) == 3
    assert sampling["sigmas"] == json.loads((tmp_path / "tiny-dpmpp-2m-3.json").read_text())["sampling"]["sigmas"]


@pytest.mark.parametrize(
    ("error", "said"), [(0.1, "use it: --preset"), (0.2, "it gains nothing"), (0.3, "it gains nothing")]
)
def test_what_gains_nothing_is_not_recommended(
    ckpt: Path, monkeypatch: pytest.MonkeyPatch, error: float, said: str
) -> None:
    sampling = SamplingConfig(sampler="deis", steps=4)
    monkeypatch.setattr("mpvideo.tuning.tune", lambda *_, **__: Tuned(sampling=sampling, error=error, plain_error=0.2))
    monkeypatch.chdir(ckpt.parent)
    told = run(ckpt, "--nfe", 4, "-y", "--out", "fast").stderr
    assert said in told
    assert ("--preset ./fast\n" in told) == (error < 0.2), "the preset of that name is another one"
    assert told.count("use it") + told.count("it gains nothing") == 1


def test_the_file(ckpt: Path) -> None:
    out = ckpt.with_name("mine.json")
    result = run(ckpt, "--nfe", 4, "--out", out, "--json", "--guidance", 1.5)
    about = json.loads(result.stdout)
    assert about.pop("path") == str(out)
    content = json.loads(out.read_text())
    assert about.pop("sampling") == (sampling := content["sampling"])
    assert content["tuned"] == about
    assert about["checkpoint"]["name"] == "tiny.safetensors" and len(about["checkpoint"]["sha256"]) == 64
    assert (about["evaluations"], about["videos"], about["dtype"]) == (4, 1, "float32")
    assert about["error"] > 0 and about["plain_error"] > 0
    guidance = {
        "guidance": 1.5, "guidance_interval": None, "guidance_hold": False, "apg_eta": 1.0, "apg_norm": None
    }  # fmt: skip
    assert sampling.pop("sigmas") and sampling == {"sampler": "deis", "s_churn": 0.0, "restarts": 0, **guidance}
    assert content["clamp"] is False
    assert find_preset(str(out)).sampling["guidance"] == 1.5


def test_what_it_was_made_for_comes_back(program: Program, tmp_path: Path) -> None:
    """Whatever the checkpoint says of itself; of settings and weights that it was not made for, it is warned."""
    ckpt = save_tiny(tmp_path / "tiny.safetensors", tiny_config())
    own = ("--set", "sampling.guidance_interval=[0.1,5]", "--set", "sampling.apg_eta=0.5", "--set", "edm.clamp=true")
    made = program("tune", ckpt, "--nfe", 2, "--videos", 1, "--guidance", 2, *own, "--dtype", "float32", "--quiet")
    preset = tmp_path / "tiny-deis-2-guidance-2.json"
    assert made.stdout == f"{preset}\n"
    sample = ("sample", "--preset", preset, "--dtype", "float32")
    done = program(*sample, "--ckpt", ckpt, "--out", "a.npy")
    assert done.code == 0 and "noise levels" not in done.stderr
    record = load_record(Path("a.npy"))
    sampling = record.sampling
    assert (sampling.guidance, sampling.guidance_interval, sampling.apg_eta, record.clamp) == (2, (0.1, 5), 0.5, True)

    words = f"warning: the noise levels of {preset} were made for"
    lists = ("--sampler", "euler,lms", "--guidance", "2,3", "--out", "{index}.npy")
    done = program(*sample, "--ckpt", ckpt, "--guide", ckpt, *lists)
    assert [line for line in done.stderr.splitlines() if line.startswith(words)] == [
        f"{words} sampler deis, not euler",
        f"{words} guidance away from no class, not from a second checkpoint",
        f"{words} guidance 2.0, not 3.0",
        f"{words} sampler deis, not lms",
    ]
    assert words not in program(*sample, "--ckpt", ckpt, "--guidance", "3", "--steps", 1, "--out", "b.npy").stderr
    other = save_tiny(tmp_path / "other.safetensors", tiny_config(dim=12))
    Path("jobs.jsonl").write_text(
        "".join(json.dumps({"ckpt": str(other), "preset": str(preset), "seed": seed}) + "\n" for seed in range(3))
    )
    done = program("batch", "jobs.jsonl", "--out", "c{index}.npy")
    assert done.stderr.count(f"{words} the weights of tiny.safetensors, other.safetensors has others\n") == 1
    assert done.stderr.count("noise levels") == 1


def test_heun_takes_two_evaluations_a_step(ckpt: Path) -> None:
    run(ckpt, "--nfe", 6, "--sampler", "heun")
    sigmas = find_preset(str(ckpt.with_name("tiny-heun-5.json"))).sampling["sigmas"]
    assert len(sigmas) == 3


@pytest.mark.parametrize(("nfe", "solver", "steps"), [(12, "deis", 12), (24, "ipndm", 24), (63, "ipndm", 63)])
def test_no_more_evaluations_than_asked(ckpt: Path, nfe: int, solver: str, steps: int) -> None:
    sampling = _settings(open_checkpoint(ckpt), nfe, None)
    assert (sampling.solver, sampling.steps) == (solver, steps)
    assert sampling.num_evaluations <= nfe


def test_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    save_tiny(tmp_path / "run" / "model.safetensors", tiny_config())
    assert run(tmp_path / "run", "--nfe", 2).stdout == f"{tmp_path / 'run' / 'run-deis-2.json'}\n"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--nfe", "0"], UsageError, "--nfe must be at least 1, got 0"),
        (["--nfe", "64"], UsageError, "--nfe must be at most 63, got 64"),
        (["--videos", "0"], UsageError, "--videos must be at least 1, got 0"),
        (["--sampler", "dpmpp-2m-sde"], UsageError, "--sampler must be one without noise of its own, got dpmpp-2m-sde"),
        (["--sigma-min", "90"], UsageError, "--sigma-min must be less than --sigma-max, got 90.0 and 80.0"),
        (["--out", "nowhere/a.json"], OutputError, "nowhere"),
    ],
)
def test_wrong_options(ckpt: Path, arguments: list[str], error: type[MPVideoError], message: str) -> None:
    with pytest.raises(error) as caught:
        CliRunner().invoke(app, [str(ckpt), *arguments], catch_exceptions=False)
    assert message in caught.value.message


def test_guidance_away_from_nothing(tmp_path: Path) -> None:
    ckpt = save_tiny(tmp_path / "tiny.safetensors", tiny_config(num_classes=None))
    with pytest.raises(UsageError, match="--guidance must be 1 for a network without classes, got 2") as caught:
        run(ckpt, "--guidance", 2)
    assert caught.value.hint == "Give --guidance 1.", "tune takes no --guide"


def test_nothing_is_overwritten(ckpt: Path) -> None:
    ckpt.with_name("tiny-deis-2.json").write_text("kept")
    with pytest.raises(OutputError):
        run(ckpt, "--nfe", 2)
    assert ckpt.with_name("tiny-deis-2.json").read_text() == "kept"


def test_only_a_preset_is_replaced(ckpt: Path) -> None:
    out = ckpt.with_name("mine.json")
    assert run(ckpt, "--nfe", 2, "--out", out).exit_code == 0
    assert run(ckpt, "--nfe", 2, "--out", out, "-y").exit_code == 0
    config = ckpt.with_name("config.json")
    config.write_text('{"format": 1, "sampling": {"steps": 3}}')
    (link := ckpt.with_name("link.json")).symlink_to(ckpt)
    for path in (ckpt, config, link):
        before = path.read_bytes()
        with pytest.raises(OutputError, match=f"^--out {path} exists already, and is not a preset of `mpvideo tune`$"):
            run(ckpt, "--nfe", 2, "--out", path, "-y")
        assert path.read_bytes() == before
    with pytest.raises(UsageError, match=r"^--out must be the name of a file, got -: standard output has the results$"):
        run(ckpt, "--nfe", 2, "--out", "-")

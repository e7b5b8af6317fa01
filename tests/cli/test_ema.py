import json
from pathlib import Path

import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner, Result

from mpvideo.checkpoint import open_checkpoint
from mpvideo.checkpoint.load import load_tensors
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.cli.ema import ema
from mpvideo.config import CheckpointConfig
from mpvideo.device import choose_placement
from mpvideo.errors import CheckpointError, OutputError, UsageError
from mpvideo.model import load_model
from mpvideo.nn import KarrasUnet3D
from mpvideo.training.ema import PowerEMA
from mpvideo.training.factored import FactoredClassEmbedding, finished_weights
from mpvideo.training.posthoc import save_ema_snapshot
from tests.checkpoints import random_tensors, tiny_config

STDS = (0.05, 0.10)
STEPS = 64
FACTORS = (2, 3)

app = typer.Typer(rich_markup_mode=None)
app.command()(ema)


def run_ema(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def new_network(config: CheckpointConfig, factors: tuple[int, ...] | None) -> KarrasUnet3D:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = KarrasUnet3D(**vars(config.model))
        if factors is not None:
            net.to_class_emb = FactoredClassEmbedding(factors, 4 * config.model.dim)
    return net


def make_run(folder: Path, config: CheckpointConfig, factors: tuple[int, ...] | None) -> dict[float, dict[str, Tensor]]:
    """Writes a run's folder as the trainer does; returns the true averages of three widths, for checkpoints."""
    net = new_network(config, factors)
    averages = {std: PowerEMA(net, std) for std in (*STDS, 0.15)}
    generator = torch.Generator().manual_seed(0)
    for step in range(1, STEPS + 1):
        for parameter in net.parameters():
            parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        for average in averages.values():
            average.update(step)
        if step % 2 == 0:
            for std in STDS:
                save_ema_snapshot(folder, averages[std].average, ema_std=std, step=step, factors=factors)
    true = {std: finished_weights(average.average) for std, average in averages.items()}
    codec = {name: tensor for name, tensor in random_tensors(config).items() if name.startswith("codec.")}
    halves = {name: tensor.to(torch.float16) for name, tensor in (true[0.10] | codec).items()}
    save_checkpoint(folder / "model.safetensors", halves, config)
    for name in ("run.json", "log.jsonl", "snapshot.pt", "loss.png", "autoencoder.safetensors"):
        (folder / name).write_text("not looked at")
    (folder / "sheets").mkdir()
    return true


def latent_config() -> CheckpointConfig:
    config = tiny_config("latent", num_classes=6)
    training = {"steps": STEPS, "samples": 128, "ema_std": 0.10, "version": "1"}
    return CheckpointConfig(**{**vars(config), "training": training})


@pytest.fixture(scope="module")
def factored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[float, dict[str, Tensor]]]:
    run = tmp_path_factory.mktemp("factored")
    return run, make_run(run, latent_config(), FACTORS)


def load(path: Path) -> dict[str, Tensor]:
    return load_tensors(open_checkpoint(path).header)[0]


def test_a_run_folder_is_a_checkpoint(factored):
    run, true = factored
    checkpoint = open_checkpoint(run)
    assert checkpoint.header.files == (run / "model.safetensors",) and checkpoint.name == run.name
    load_model(checkpoint, choose_placement("cpu"))
    torch.testing.assert_close(
        load(run)["output_block.0.weight"].float(), true[0.10]["output_block.0.weight"], rtol=1e-3, atol=1e-3
    )


def test_checkpoints_of_several_widths(factored, tmp_path):
    run, true = factored
    result = run_ema(
        run, "--std", "0.05,0.10", "--std", "0.15", "--std", "0.1", "--out", tmp_path / "{std}.safetensors"
    )
    paths = [tmp_path / f"{word}.safetensors" for word in ("0.050", "0.100", "0.150")]
    assert result.stdout == "".join(f"{path}\n" for path in paths)
    assert "64 snapshots, the last of step 64" in result.stderr and "warning" not in result.stderr
    own = load(run)
    for path, std in zip(paths, true, strict=True):
        seen = load(path)
        assert seen.keys() == own.keys()
        for name, tensor in seen.items():
            assert tensor.dtype == torch.float16
            if name.startswith("codec."):
                assert torch.equal(tensor, own[name])
            else:
                error = (tensor.float() - true[std][name]).norm() / true[std][name].norm().clamp(min=1e-9)
                assert error < 2e-3, (path, name)
        assert open_checkpoint(path).config.training == {**latent_config().training, "ema_std": std}
        load_model(open_checkpoint(path), choose_placement("cpu"))


def test_a_plain_class_table_and_pixels(tmp_path):
    config = tiny_config("rgb", num_classes=3)
    true = make_run(tmp_path, config, None)
    result = run_ema(tmp_path, "--std", "0.15", "--quiet")
    path = tmp_path / "ema-0.150.safetensors"
    assert (result.stdout, result.stderr) == (f"{path}\n", "")
    table = load(path)["to_class_emb.weight"].float()
    torch.testing.assert_close(table, true[0.15]["to_class_emb.weight"], rtol=0, atol=5e-3)
    assert open_checkpoint(path).config.training == {"ema_std": 0.15, "steps": STEPS}
    assert open_checkpoint(tmp_path).header.files == (tmp_path / "model.safetensors",), "still the run's own"
    with pytest.raises(OutputError, match="exists already"):
        run_ema(tmp_path, "--std", "0.15")
    assert run_ema(tmp_path, "--std", "0.15", "-y").stdout == f"{path}\n"


def test_an_earlier_step_for_scripts(factored, tmp_path):
    run, _ = factored
    path = tmp_path / "early.safetensors"
    result = run_ema(run, "--std", "0.12", "--step", 8, "--out", path, "--json")
    about = json.loads(result.stdout)
    assert about["path"] == str(path) and about["ema_std"] == 0.12 and about["step"] == 8
    assert about["profile_error"] > 0.01 and "warning: the snapshots do not give the width 0.120" in result.stderr
    training = open_checkpoint(path).config.training
    assert training == {"steps": 8, "ema_std": 0.12, "version": "1"}, "how many samples, nobody wrote down"


def test_the_curve(factored):
    run, _ = factored
    done = run_ema(run)
    assert "up to 1e-02 is good" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "std   error of the profile"
    table = dict(line.split() for line in lines[1:])
    assert list(table) == [f"{percent / 100:.2f}" for percent in range(5, 21)]
    assert float(table["0.10"]) < 1e-7 < 1e-4 < float(table["0.15"]) < float(table["0.20"]) < 1e-2
    about = json.loads(run_ema(run, "--json").stdout)
    assert about["step"] == STEPS and about["snapshots"] == 64
    assert {f"{point['ema_std']:.2f}": f"{point['profile_error']:.1e}" for point in about["curve"]} == table
    assert not list(run.glob("ema-*"))
    quiet = run_ema(run, "--quiet")
    assert (quiet.stdout, quiet.stderr) == (done.stdout, "")


def test_how_far_a_width_is_off_is_told(factored, tmp_path):
    """Of the narrowest width, of which the steps and widths of the snapshots give least."""
    result = run_ema(factored[0], "--std", "0.01", "--step", 32, "--out", tmp_path / "narrow.safetensors", "--json")
    error = json.loads(result.stdout)["profile_error"]
    assert error > 0.1
    assert f"do not give the width 0.010 to within 1%: it is off by {100 * error:.1f}%; `mpvideo ema " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--std", "wide"), r"--std must be a number, or several with commas, got 'wide'"),
        (("--std", "0.1,"), r"--std must be a number, or several with commas, got ''"),
        (("--std", "nan"), r"--std must be a finite number, got nan"),
        (("--std", "0"), r"--std must be at least 0\.01, got 0\.0"),
        (("--std", "0.3"), r"--std must be less than 0\.288675, got 0\.3"),
        (("--std", "0.1", "--step", "0"), r"--step must be at least 1, got 0"),
        (("--std", "0.1", "--step", "9"), r"--step must be one that has snapshots \(2, 4, .*, 64\), got 9"),
        (("--std", "0.1,0.2", "--out", "x"), r"--out must contain \{std\} for 2 widths"),
        (("--out", "x"), r"--out needs --std"),
    ],
)
def test_usage(factored, arguments, message):
    with pytest.raises(UsageError, match=message):
        run_ema(factored[0], *arguments)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("x.mp4", "x.mp4.safetensors"), ("a/ema-0.10", "a/ema-0.10.safetensors"), ("", "ema-{std}.safetensors")],
)
def test_only_the_suffix_of_a_checkpoint(factored, tmp_path, name, hint):
    out = tmp_path / name
    with pytest.raises(UsageError, match=f"^--out must end in .safetensors, got {out}$") as caught:
        run_ema(factored[0], "--std", "0.1", "--out", out)
    assert caught.value.hint == f"For example {tmp_path / hint}."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "autoencoder.safetensors", "ema/std-{std}-step-00000064.safetensors", "ema/new.safetensors"],
)
def test_files_of_the_run_are_never_replaced(factored, name):
    run = factored[0]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"^--out must not be a file of the run's own, got ") as caught:
        run_ema(run, "--std", "0.05", "--out", run / "sheets" / ".." / name, "-y")
    assert caught.value.exit_code == 2
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["run.json", "snapshot.pt", "log.jsonl", "loss.png"])
def test_nor_are_they_through_links(factored, tmp_path, name):
    run, link = factored[0], tmp_path / "link.safetensors"
    link.symlink_to(run / name)
    with pytest.raises(UsageError, match=r"^--out must not be a file of the run's own, got .*link\.safetensors$"):
        run_ema(run, "--std", "0.05", "--out", link, "-y")
    assert (run / name).read_text() == "not looked at"


def test_a_folder_without_a_checkpoint(factored, tmp_path):
    (tmp_path / "ema").symlink_to(factored[0] / "ema")
    with pytest.raises(CheckpointError, match=r"must hold model\.safetensors"):
        run_ema(tmp_path, "--std", "0.1")


@pytest.mark.parametrize("num_classes", [5, 7])
def test_snapshots_of_another_network_than_the_checkpoint(factored, tmp_path, num_classes):
    """Five is the sum of the factors, and as many columns as their tensor has."""
    (tmp_path / "ema").symlink_to(factored[0] / "ema")
    config = tiny_config("latent", num_classes=num_classes)
    save_checkpoint(tmp_path / "model.safetensors", random_tensors(config), config)
    with pytest.raises(CheckpointError, match=r"is not of the network of .* they differ in to_class_emb\.weight"):
        run_ema(tmp_path, "--std", "0.1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ema", "model.safetensors"]


def test_a_folder_that_is_not_there(factored):
    with pytest.raises(OutputError, match=r"^--out: the folder .* does not exist$"):
        run_ema(factored[0], "--std", "0.1", "--out", "/nowhere/x.safetensors")

"""Conversion by the command and from Python; the files are made as other programs make them, of our own network."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from mpvideo.checkpoint import open_checkpoint
from mpvideo.checkpoint.conversion import find_source, plan_conversion
from mpvideo.checkpoint.load import load_tensors
from mpvideo.cli.convert import convert
from mpvideo.errors import CheckpointError, MPVideoError, OutputError, UsageError
from tests.checkpoints import random_tensors, save_tiny, tiny_config

CONFIG = tiny_config("rgb", num_classes=None, dim_max=768)
WEIGHTS = random_tensors(CONFIG)
SIZES = ("--set", "model.image_size=8", "--set", "model.frames=4", "--set", "model.downsample_types=all")

app = typer.Typer(rich_markup_mode=None)
app.command()(convert)


def under(prefix: str, tensors: dict[str, Tensor] = WEIGHTS, factor: float = 1) -> dict[str, Tensor]:
    return {prefix + name: tensor * factor for name, tensor in tensors.items()}


def trainer_file() -> dict[str, Any]:
    """As the package's trainers write it."""
    raw = {**under("net.", factor=2), "betas": torch.zeros(3)}
    ema = {**under("online_model.net.", factor=2), **under("ema_model.net."), "step": torch.tensor(9)}
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
    return {"step": 12000, "model": raw, "opt": optimizer, "ema": ema, "scaler": None, "version": "2.3.4"}


def run(*arguments: object) -> tuple[dict[str, Any], str]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout), result.stderr


def converted(source: object, tmp_path: Path, *options: str) -> dict[str, Tensor]:
    """Saves with torch, converts, and reads the checkpoint's tensors."""
    torch.save(source, tmp_path / "in.pt")
    run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES, *options)
    checkpoint = open_checkpoint(tmp_path / "out.safetensors")
    assert checkpoint.config.model == CONFIG.model
    return load_tensors(checkpoint.header)[0]


def assert_same(tensors: dict[str, Tensor], factor: float = 1) -> None:
    assert set(tensors) == set(WEIGHTS)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, WEIGHTS[name] * factor), name


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.net."])
def test_prefixes_are_dropped(prefix: str, tmp_path: Path) -> None:
    assert_same(converted(OrderedDict(under(prefix)), tmp_path))


def test_wrappers_inside_names_are_dropped(tmp_path: Path) -> None:
    assert_same(converted({name.replace("downs.0.", "downs.0._orig_mod."): t for name, t in WEIGHTS.items()}, tmp_path))


def test_a_trainers_file_gives_its_average(tmp_path: Path) -> None:
    assert_same(converted(trainer_file(), tmp_path))
    record = open_checkpoint(tmp_path / "out.safetensors").config.training["converted"]
    assert {**record, "mpvideo": ""} == {
        "from": "in.pt", "ema": True, "mpvideo": "", "prefix": "ema.ema_model.net", "step": 12000,
    }  # fmt: skip
    about, told = run(tmp_path / "in.pt", tmp_path / "again.safetensors", *SIZES)
    assert about["exact"] and about["difference"] <= 1e-5
    assert "in.pt: the average of the weights (EMA) of step 12,000, prefix 'ema.ema_model.net.' dropped" in told
    assert "among them the networks under model.net, ema.online_model.net" in told
    assert "model.mp_cat_t=0.5" in told and "edm.sigma_data=0.5" in told


def test_a_trainers_file_gives_its_raw_weights(tmp_path: Path) -> None:
    assert_same(converted(trainer_file(), tmp_path, "--no-ema"), factor=2)


def test_ema_pytorchs_own_state(tmp_path: Path) -> None:
    assert_same(converted(trainer_file()["ema"], tmp_path))
    assert open_checkpoint(tmp_path / "out.safetensors").config.training["converted"]["step"] == 9


def test_several_networks_want_a_prefix(tmp_path: Path) -> None:
    source = {**under("a."), **under("b.", factor=2)}
    with pytest.raises(UsageError, match="holds 2 networks, --prefix must choose one"):
        converted(source, tmp_path)
    assert_same(converted(source, tmp_path, "--prefix", "b"), factor=2)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no average of the weights \(EMA\)"):
        converted(WEIGHTS, tmp_path, "--ema")
    with pytest.raises(UsageError, match="holds no network under the prefix 'x'"):
        converted(WEIGHTS, tmp_path, "--prefix", "x")
    with pytest.raises(CheckpointError, match="holds no KarrasUnet3D"):
        converted({"a": torch.zeros(1)}, tmp_path)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz,
        torch.float8_e5m2fnuz,
    ],
)  # fmt: skip
@pytest.mark.parametrize("container", ["torch", "safetensors"])
def test_dtypes(dtype: torch.dtype, container: str, tmp_path: Path) -> None:
    narrow = {name: tensor.to(dtype) for name, tensor in WEIGHTS.items()}
    source = tmp_path / "in"
    if container == "torch":
        torch.save(narrow, source)
    else:
        save_file(narrow, source)
    about, _ = run(source, tmp_path / "out.safetensors", *SIZES)
    assert about["exact"]
    tensors, _ = load_tensors(open_checkpoint(tmp_path / "out.safetensors").header)
    for name, tensor in tensors.items():
        assert tensor.dtype == (torch.bfloat16 if dtype.itemsize == 1 else dtype)
        assert torch.equal(tensor.double(), narrow[name].double())


def test_a_narrower_dtype(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "in.pt")
    about, told = run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES, "--dtype", "bfloat16")
    assert about["dtypes"] == ["bfloat16"] and not about["exact"]
    assert 0 < about["difference"] < 0.05
    assert "one forward pass is" in told and "away" in told


def test_a_dtype_that_is_too_narrow(tmp_path: Path) -> None:
    torch.save({**WEIGHTS, "output_block.1.gain": torch.tensor(-1e6)}, tmp_path / "in.pt")
    with pytest.raises(UsageError, match=r"holds values up to 65,504, output_block\.1\.gain has 1e\+06") as caught:
        run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES, "--dtype", "float16")
    assert "--dtype bfloat16" in (caught.value.hint or "") and not (tmp_path / "out.safetensors").exists()
    run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES, "--dtype", "bfloat16")


@pytest.mark.parametrize("container", ["torch", "safetensors"])
def test_weights_that_a_dtype_flushes_to_zero(tmp_path: Path, container: str) -> None:
    small = {name: tensor * 1e-9 if name.endswith(".weight") else tensor for name, tensor in WEIGHTS.items()}
    torch.save(small, tmp_path / "in") if container == "torch" else save_file(small, tmp_path / "in")
    words = r"--dtype float16 rounds these weights too coarsely: .* must be within 0\.1 of .*, it is 0\.\d+ away"
    with pytest.raises(UsageError, match=words) as caught:
        run(tmp_path / "in", tmp_path / "out.safetensors", *SIZES, "--dtype", "float16")
    assert "bfloat16 has the range of float32" in (caught.value.hint or "")
    assert not (tmp_path / "out.safetensors").exists()
    about, _ = run(tmp_path / "in", tmp_path / "out.safetensors", *SIZES, "--dtype", "bfloat16")
    assert about["difference"] < 0.05


@pytest.mark.parametrize("options", [[], ["--dtype", "bfloat16"]])
def test_weights_that_compute_nothing_finite(tmp_path: Path, options: list[str]) -> None:
    gains = {name: torch.full_like(tensor, 3e38) for name, tensor in WEIGHTS.items() if name.endswith(".gain")}
    torch.save({**WEIGHTS, **gains}, tmp_path / "in.pt")
    with pytest.raises(CheckpointError, match="one forward pass of the source's weights must be finite"):
        run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES, *options)
    assert not (tmp_path / "out.safetensors").exists()


def test_what_is_read_is_not_replaced(tmp_path: Path) -> None:
    both = {**under("model."), **under("ema_model.")}
    source, link, folder = tmp_path / "both.safetensors", tmp_path / "link.safetensors", tmp_path / "state"
    save_file(both, source)
    link.symlink_to(source)
    before = source.read_bytes()
    for out in (source, link):
        with pytest.raises(UsageError, match="OUT must not be a file that IN is read from, got ") as caught:
            run(source, out, *SIZES, "-y")
        assert source.read_bytes() == before and "never replaced" in (caught.value.hint or "")
    folder.mkdir()
    save_file(WEIGHTS, folder / "model.safetensors")
    torch.save(under("ema_model."), folder / "custom_checkpoint_0.pkl")
    with pytest.raises(UsageError, match="OUT must not be a file that IN is read from"):
        run(folder, folder / "model.safetensors", *SIZES, "-y")


@pytest.mark.parametrize(("out", "example"), [(".", "model.safetensors"), ("/", "/model.safetensors")])
def test_a_folder_is_no_name_for_a_checkpoint(tmp_path: Path, out: str, example: str) -> None:
    with pytest.raises(UsageError, match=r"OUT must end in \.safetensors, got ") as caught:
        run(tmp_path / "in.pt", out)
    assert caught.value.hint == f"For example {example}."


def test_folders(tmp_path: Path) -> None:
    names = sorted(WEIGHTS)
    halves = {
        "pytorch_model-1.bin": {name: WEIGHTS[name] for name in names[::2]},
        "pytorch_model-2.bin": {name: WEIGHTS[name] for name in names[1::2]},
    }
    for kind in ("bin", "shards", "safetensors"):
        folder = tmp_path / kind
        folder.mkdir()
        if kind == "bin":
            torch.save(WEIGHTS, folder / "pytorch_model.bin")
        elif kind == "safetensors":
            save_file(WEIGHTS, folder / "model.safetensors")
            (folder / "config.json").write_text('{"architectures": ["Other"]}')  # of another program
        else:
            for name, half in halves.items():
                torch.save(half, folder / name)
            weight_map = {name: file for file, half in halves.items() for name in half}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        run(folder, tmp_path / f"{kind}.safetensors", *SIZES)
        assert_same(load_tensors(open_checkpoint(tmp_path / f"{kind}.safetensors").header)[0])


def test_latents_bring_their_autoencoder(tmp_path: Path) -> None:
    config = tiny_config("latent", num_classes=None)
    torch.save(random_tensors(config), tmp_path / "in.pt")
    run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES)
    assert open_checkpoint(tmp_path / "out.safetensors").config.video == config.video


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    config = tiny_config("rgba", num_classes=None)
    torch.save(random_tensors(config), tmp_path / "in.pt")
    with pytest.raises(UsageError) as caught:
        run(tmp_path / "in.pt", tmp_path / "out.safetensors")
    assert caught.value.message == (
        "in.pt does not tell 4 fields of its config, which must be given: model.downsample_types (all or image; the "
        "package's default is all); model.image_size (a multiple of 2; 32 if attn_res was the package's default, 16 "
        "and 8); model.frames (a multiple of 2); video.codec (rgba; latents cannot be shown, for "
        "the file holds no autoencoder under codec.)"
    )
    flags = "--set model.downsample_types=all --set model.image_size=32 --set model.frames=16 --set video.codec=rgba"
    assert flags in (caught.value.hint or "")
    assert not (tmp_path / "out.safetensors").exists()
    run(tmp_path / "in.pt", tmp_path / "out.safetensors", *flags.split())


def test_a_config_file_and_legacy_fan_in(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "in.pt")
    model = {"image_size": 8, "frames": 4, "downsample_types": "all"}
    config = {"format": 1, "model": model, "video": {"fps": 24}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    run(tmp_path / "in.pt", tmp_path / "out.safetensors", "--config", tmp_path / "config.json", "--legacy-fan-in")
    made = open_checkpoint(tmp_path / "out.safetensors").config
    assert made.video.fps == 24 and made.edm.legacy_fan_in


def test_what_contradicts_the_tensors(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "in.pt")
    for field, words in (("model.dim=9", "must be 8 by the shapes"), ("video.codec=latent", "needs the autoencoder's")):
        with pytest.raises(CheckpointError, match=words):
            run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES, "--set", field)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def test_nothing_of_a_pickle_is_run(tmp_path: Path) -> None:
    for number, content in enumerate(({**WEIGHTS, "x": Evil(tmp_path / "ran")}, torch.nn.Linear(2, 2))):
        source = tmp_path / f"{number}.pt"
        torch.save(content, source)
        with pytest.raises(CheckpointError, match=r"it wants (posix|nt|torch\.nn).*, which is refused") as caught:
            run(source, tmp_path / "out.safetensors", *SIZES)
        assert "Nothing of it was run" in (caught.value.hint or "")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match="which is refused"):
        run(tmp_path / "bare.pt", tmp_path / "out.safetensors", *SIZES)
    assert not (tmp_path / "ran").exists()


def test_a_storage_without_an_offset(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "in.pt", "w") as bad:
        for name in good.namelist():
            # The offset is the first argument after the storage, which BINPERSID makes.
            bad.writestr(name, good.read(name).replace(b"QK\0", b"QN", 1))
    with pytest.raises(CheckpointError, match="a tensor without a storage, an offset or a shape"):
        run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES)


def test_weights_that_are_no_weights(tmp_path: Path) -> None:
    broken = {**WEIGHTS, "input_block.weight": torch.full_like(WEIGHTS["input_block.weight"], torch.nan)}
    with pytest.raises(CheckpointError, match=r"must be finite, NaN or infinity is in input_block\.weight"):
        converted(broken, tmp_path)
    whole = {**WEIGHTS, "input_block.weight": WEIGHTS["input_block.weight"].to(torch.int8)}
    with pytest.raises(CheckpointError, match=r"got input_block\.weight \(int8\)"):
        converted(whole, tmp_path)
    assert not (tmp_path / "out.safetensors").exists()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    converted(WEIGHTS, tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        converted(WEIGHTS, tmp_path)
    assert_same(converted({name: 2 * tensor for name, tensor in WEIGHTS.items()}, tmp_path, "-y"), factor=2)
    with pytest.raises(UsageError, match=r"OUT must end in \.safetensors"):
        run(tmp_path / "in.pt", tmp_path / "out.pt")


def test_a_checkpoint_that_reads_back_otherwise_never_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mpvideo.convert

    def bad(header: Any) -> tuple[dict[str, Tensor], str]:
        tensors, digest = load_tensors(header)
        return {**tensors, "mids.0.to_emb.1.gain": torch.tensor(9.0)}, digest

    converted(WEIGHTS, tmp_path)
    before = (tmp_path / "out.safetensors").read_bytes()
    monkeypatch.setattr(mpvideo.convert, "load_tensors", bad)
    with pytest.raises(MPVideoError, match=r"not what was written: mids\.0\.to_emb\.1\.gain"):
        converted({name: 2 * tensor for name, tensor in WEIGHTS.items()}, tmp_path, "-y")
    assert (tmp_path / "out.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.pt", "out.safetensors"]


def test_the_plan_is_made_without_torch(tmp_path: Path) -> None:
    torch.save(trainer_file(), tmp_path / "in.pt")
    code = (
        "import sys, pathlib\nfrom mpvideo.checkpoint.conversion import find_source, plan_conversion\n"
        f"source = find_source(pathlib.Path({str(tmp_path / 'in.pt')!r}))\n"
        "sizes = {'image_size': 8, 'frames': 4, 'downsample_types': 'all'}\n"
        "plan_conversion(source, overrides={'model': sizes})\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    plan = plan_conversion(
        find_source(tmp_path / "in.pt"), overrides={"model": {"image_size": 8, "frames": 4, "downsample_types": "all"}}
    )
    assert plan.config.model == CONFIG.model


def test_the_format_of_before_2020(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "in.pt", _use_new_zipfile_serialization=False)
    run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES)
    assert_same(load_tensors(open_checkpoint(tmp_path / "out.safetensors").header)[0])


def test_a_checkpoint_with_a_config_keeps_it(tmp_path: Path) -> None:
    config = tiny_config("latent")
    save_tiny(tmp_path / "in.safetensors", config)
    about, _ = run(tmp_path / "in.safetensors", tmp_path / "out.safetensors", "--dtype", "float64")
    assert about["exact"]
    made = open_checkpoint(tmp_path / "out.safetensors").config
    assert replace(made, training={}) == config


@pytest.mark.parametrize("cut", [10, 200, 2000, -300, -10])
def test_a_cut_file_is_refused(cut: int, tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "whole.pt")
    (tmp_path / "in.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:cut])
    with pytest.raises(CheckpointError):
        run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES)
    assert not (tmp_path / "out.safetensors").exists()


def test_values_that_are_not_in_the_file(tmp_path: Path) -> None:
    """One number that stands for millions would be millions once it is loaded."""
    torch.save({name: torch.zeros(()).expand(tensor.shape) for name, tensor in WEIGHTS.items()}, tmp_path / "in.pt")
    with pytest.raises(CheckpointError, match="must have a byte for each value of its tensors"):
        run(tmp_path / "in.pt", tmp_path / "out.safetensors", *SIZES)

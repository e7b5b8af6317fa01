"""The bundled weights' training, from nothing to a checkpoint, a few steps long."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mpvideo.checkpoint import open_checkpoint
from mpvideo.checkpoint.load import load_tensors
from mpvideo.training import bundle
from mpvideo.training.autoencoder import train_autoencoder
from mpvideo.training.loop import Recipe
from mpvideo.video.autoencoder import Autoencoder


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    return train_autoencoder(bundle.AUTOENCODER, bundle.images(8), steps=3, say=print)


def test_the_checkpoint_holds_what_was_trained(autoencoder: Autoencoder, tmp_path: Path) -> None:
    trainer = bundle.new_trainer(Recipe(batch_size=2))
    batches = bundle.latent_batches(autoencoder, 2)
    trainer.train_step(*batches(0))
    bundle.save_bundle(tmp_path / "model.safetensors", trainer, autoencoder)
    checkpoint = open_checkpoint(tmp_path / "model.safetensors")
    assert checkpoint.config.training["samples"] == 2
    assert checkpoint.config.classes is not None
    assert checkpoint.config.classes[207] == "golden dog trots"
    tensors, _ = load_tensors(checkpoint.header)
    for name, tensor in autoencoder.state_dict().items():
        # To float16, and no coarser: the latents were encoded in bfloat16, by a copy.
        assert torch.equal(tensors[f"codec.{name}"], tensor.half()), name
    averaged = trainer.ema.average.state_dict()["downs.0.block1.1.weight"]
    assert torch.equal(tensors["downs.0.block1.1.weight"], averaged.half())


def test_data_never_repeat_and_always_come_again(autoencoder: Autoencoder) -> None:
    frames, classes = bundle.videos(7, 3)
    again, classes_again = bundle.videos(7, 3)
    assert torch.equal(frames, again)
    assert torch.equal(classes, classes_again)
    assert not torch.equal(frames, bundle.videos(8, 3)[0])
    source = bundle.images(4)
    assert not torch.equal(next(source), next(source))
    latents, labels = bundle.latent_batches(autoencoder, 3)(7)
    assert latents.shape == (3, 4, 32, 8, 8)
    assert latents.dtype == torch.float32
    assert torch.equal(labels, classes)


def test_latents_have_the_promised_statistics(autoencoder: Autoencoder) -> None:
    latents, _ = bundle.latent_batches(autoencoder, 16)(0)
    assert latents.mean(dim=(0, 2, 3, 4)).abs().max() < 0.1
    assert (latents.std(dim=(0, 2, 3, 4)) / bundle.SIGMA_DATA - 1).abs().max() < 0.15


def test_the_autoencoder_learns() -> None:
    lines: list[str] = []
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train_autoencoder(
        bundle.AUTOENCODER, bundle.images(4), steps=200, peak_rate=5e-3, warmup_steps=10, say=lines.append
    )
    assert torch.equal(torch.get_rng_state(), before)
    (line,) = lines
    assert line.startswith("autoencoder: step 200 of 200, PSNR ")
    assert float(line.split()[-2]) > 16  # gray everywhere has 13


def start(run: Path, *options: object) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "mpvideo.training",
        "--out",
        str(run),
        "--autoencoder-steps",
        "1",
        *map(str, options),
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_the_program_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = start(tmp_path / "run", "--steps", 1)
    _, stderr = first.communicate(timeout=120)
    assert first.returncode == 0, stderr
    assert stderr.endswith("model.safetensors: 1 steps\n")
    second = start(tmp_path / "run", "--steps", 100000)
    assert second.stderr is not None
    assert "going on from step 1" in second.stderr.readline()
    second.send_signal(signal.SIGTERM)
    _, stderr = second.communicate(timeout=120)
    assert second.returncode == 0, stderr
    assert open_checkpoint(tmp_path / "run" / "model.safetensors").config.training["steps"] >= 1


def test_errors_are_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a folder")
    process = start(tmp_path / "run" / "deeper")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 5
    assert "Traceback" not in stderr

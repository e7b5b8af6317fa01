"""The weights that come with the package."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mpvideo import menagerie
from mpvideo.checkpoint import Checkpoint, bundled_checkpoint, open_checkpoint
from mpvideo.config import SamplingConfig
from mpvideo.device import choose_placement
from mpvideo.generate import Job, generate, load_model

# The coats that differ most in hue: first weights tell these apart for certain, not yet white from cyan.
VIVID = {"golden": 0, "red": 1, "green": 2, "blue": 3}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(bundled_checkpoint())


def test_what_they_are(checkpoint: Checkpoint) -> None:
    assert checkpoint.path.stat().st_size <= 20_000_000
    config = checkpoint.config
    assert config.classes == menagerie.class_names()
    assert (config.model.frames, config.pixel_size, config.video.fps) == (menagerie.FRAMES, menagerie.SIZE, 8)
    assert config.video.codec == "latent"
    assert config.license == "MIT"
    assert config.training["data"] == "mpvideo.menagerie"


def test_the_readme_s_dog(checkpoint: Checkpoint) -> None:
    assert checkpoint.config.classes is not None
    assert checkpoint.config.classes[207] == "golden dog trots"


def test_the_autoencoder_knows_the_world(checkpoint: Checkpoint) -> None:
    model = load_model(checkpoint, choose_placement("cpu"))
    frames = menagerie.render(torch.tensor([207, 311, 640]), torch.tensor([2**50, 2**50 + 1, 2**50 + 2]))
    latents = model.codec.encode(frames)
    assert latents.shape == (3, 4, 32, 8, 8)
    assert 0.35 < latents.std() < 0.65
    error = model.codec.decode(latents).float() - frames.float()
    assert 20 * torch.log10(255 / error.square().mean().sqrt()) > 22


def test_the_coat_is_seen(checkpoint: Checkpoint) -> None:
    """Resting dogs in four coats, the same seed: what differs from the common background has the coat's colour."""
    model = load_model(checkpoint, choose_placement("cpu"))
    jobs = [Job(seed=1, class_index=menagerie.class_index(2, coat, 0)) for coat in VIVID.values()]
    videos = np.stack([video.frames for video in generate(model, jobs, SamplingConfig(steps=12), batch_size=4)])
    coats = np.array([menagerie.coat_colour(coat) for coat in VIVID.values()])
    background = np.median(videos.reshape(-1, 64, 64, 3), axis=0)
    for index, video in enumerate(videos.astype(float)):
        animal = np.abs(video - background).sum(-1) > 120
        colour = np.median(video[animal], axis=0)
        assert np.abs(colour - coats).sum(-1).argmin() == index


def test_missing_weights_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from mpvideo.errors import CheckpointError

    monkeypatch.setattr(Path, "is_file", lambda self: False)
    with pytest.raises(CheckpointError, match="lacks its bundled weights"):
        bundled_checkpoint()

"""The weights that come with the package."""

import numpy as np
import pytest
import torch

from mpvideo import menagerie
from mpvideo.checkpoint import Checkpoint, bundled_checkpoint, open_checkpoint
from mpvideo.checkpoint.load import load_tensors
from mpvideo.config import SamplingConfig
from mpvideo.device import choose_placement
from mpvideo.evaluation.judge import load_judge
from mpvideo.generation import generate
from mpvideo.job import Job
from mpvideo.model import load_model
from mpvideo.nn.memory import FOR_PASSES
from mpvideo.nn.processor import onednn_bfloat16

# The coats that differ most in hue.
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
    assert config.training["source"]["data"] == "menagerie"


def test_the_readme_s_dog(checkpoint: Checkpoint) -> None:
    assert checkpoint.config.classes is not None
    assert checkpoint.config.classes[207] == "golden dog trots"


def test_the_autoencoder_knows_the_world(checkpoint: Checkpoint) -> None:
    model = load_model(checkpoint, choose_placement("cpu"))
    frames = menagerie.render(torch.tensor([207, 311, 640]), torch.tensor([2**50, 2**50 + 1, 2**50 + 2]))
    latents = model.codec.encode(frames)
    assert latents.shape == (3, 16, 32, 4, 4)
    assert 0.35 < latents.std() < 0.65
    error = model.codec.decode(latents).float() - frames.float()
    assert 20 * torch.log10(255 / error.square().mean().sqrt()) > 22


def test_freed_memory_is_kept_from_the_first_evaluation_on(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are replaced would leave gaps, and so would what the first pass leaves for good."""
    called: list[object] = []
    note = called.append
    monkeypatch.setattr("mpvideo.model.return_freed_memory", lambda: note("return"))
    monkeypatch.setattr("mpvideo.model.load_tensors", lambda header: note("load") or load_tensors(header))
    monkeypatch.setattr("mpvideo.nn.inference.keep_freed_memory", note)
    model = load_model(checkpoint, choose_placement("cpu", "float32"))
    evaluate = model.net._evaluate
    monkeypatch.setattr(model.net, "_evaluate", lambda *arguments: note("pass") or evaluate(*arguments))
    job = Job(seed=0, sampling=SamplingConfig(sampler="euler", steps=2))
    next(generate(model, [job]))
    assert called == ["return", "load", *["pass", FOR_PASSES] * 2]


def test_the_coat_is_seen(checkpoint: Checkpoint) -> None:
    """Dogs in four coats: of the colours that real ones have, each sampled one has its own coat's."""
    classes = [menagerie.class_index(2, coat, 0) for coat in VIVID.values()]
    drawn = menagerie.render(torch.tensor(classes).repeat_interleave(8), torch.arange(2**50, 2**50 + 32))
    real = np.stack([coat_colour(video) for video in drawn.numpy()]).reshape(4, 8, 3).mean(1)
    model = load_model(checkpoint, choose_placement("cpu"))
    jobs = [Job(seed=1, class_index=index) for index in classes]
    for index, video in enumerate(generate(model, jobs, batch_size=4)):
        assert np.abs(coat_colour(video.frames) - real).sum(-1).argmin() == index


def test_animals_and_motions_are_seen(checkpoint: Checkpoint) -> None:
    """One of each kind: the judge knows most of them; by chance it would know one."""
    numbers = torch.arange(10)
    model = load_model(checkpoint, choose_placement("cpu"))
    jobs = [Job(seed=n, class_index=menagerie.class_index(n, 0, n)) for n in range(10)]
    videos = torch.stack([torch.from_numpy(video.frames) for video in generate(model, jobs, batch_size=5)])
    reading = load_judge().read(videos)
    assert (reading.animal == numbers).sum() >= 7
    assert (reading.motion == numbers).sum() >= 7


@pytest.mark.skipif(not onednn_bfloat16(), reason="this processor takes more than a minute for it in bfloat16")
def test_bfloat16_makes_the_same_video(checkpoint: Checkpoint) -> None:
    """What is computed with by default where it is faster: within 35 dB of float32."""
    frames = []
    for dtype in ("float32", "bfloat16"):
        model = load_model(checkpoint, choose_placement("cpu", dtype))  # type: ignore[arg-type]
        (video,) = generate(model, [Job(seed=0, class_index=207)])
        frames.append(video.frames.astype(float))
    assert 10 * np.log10(255**2 / np.square(frames[0] - frames[1]).mean()) >= 35


def coat_colour(video: np.ndarray) -> np.ndarray:
    """The mean of a video's most colourful pixels, which no sky and no ground has: (3,)."""
    pixels = video.reshape(-1, 3).astype(float)
    colourfulness = pixels.max(1) - pixels.min(1)
    return pixels[colourfulness >= np.quantile(colourfulness, 0.97)].mean(0)

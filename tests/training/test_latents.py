"""The network's samples: encoded anew, or once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpvideo.config import AutoencoderConfig
from mpvideo.errors import CheckpointError, OutputError
from mpvideo.training.folder import ClipFormat, FolderData, open_folder
from mpvideo.training.latents import cache_latents, cached_batches, encoded_batches
from mpvideo.video.autoencoder import Autoencoder
from mpvideo.video.codec import LatentCodec, PixelCodec

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path: Path) -> FolderData:
    """Three GIFs of six frames of noise, cut into clips of two frames with stride two."""
    random = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for clip in range(3):
        frames = [Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)) for _ in range(6)]
        frames[0].save(folder / f"{clip}.gif", save_all=True, append_images=frames[1:], duration=100)
    return open_folder(folder, tmp_path / "cache", ClipFormat(size=16, frames=2, stride=2), seed=3, say=[].append)


@pytest.fixture
def codec() -> LatentCodec:
    torch.manual_seed(0)
    autoencoder = Autoencoder(AutoencoderConfig(width=4, latent_channels=3, num_downsamples=2)).eval()
    autoencoder.std.fill_(0.1)  # untrained latents are small
    return LatentCodec(autoencoder.requires_grad_(False), 0.5)


def test_pixels_are_encoded(data: FolderData) -> None:
    x, labels = encoded_batches(data, PixelCodec(), CPU)(range(4), None)
    assert x.shape == (4, 3, 2, 16, 16)
    torch.testing.assert_close(x, data.batch(range(4))[0].permute(0, 4, 1, 2, 3) / 127.5 - 1)
    assert labels.tolist() == [0] * 4


@pytest.mark.parametrize("frames", [None, 1])
def test_cached_latents_are_the_encoded_ones(
    data: FolderData, codec: LatentCodec, tmp_path: Path, frames: int | None
) -> None:
    said: list[str] = []
    assert cache_latents(data, codec, tmp_path / "latents.npy", CPU, say=said.append, stopping=lambda: False)
    assert said == ["encoding 18 frames"]
    numbers = range(100, 109)
    fresh, labels = encoded_batches(data, codec, CPU)(numbers, frames)
    cached, cached_labels = cached_batches(data, tmp_path / "latents.npy", CPU, (3, 4, 4))(numbers, frames)
    assert cached.shape == (9, 3, frames or 2, 4, 4)
    assert cached.dtype == torch.float32
    assert fresh.std() > 0.01
    torch.testing.assert_close(cached, fresh, rtol=2e-3, atol=2e-3)
    assert torch.equal(cached_labels, labels)


def test_latents_are_made_once(data: FolderData, codec: LatentCodec, tmp_path: Path) -> None:
    path = tmp_path / "latents.npy"
    path.write_bytes(b"as they were")
    assert cache_latents(data, codec, path, CPU, say=lambda line: pytest.fail(line), stopping=lambda: True)
    assert path.read_bytes() == b"as they were"


def test_latents_that_cannot_be_written(data: FolderData, codec: LatentCodec, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        cache_latents(data, codec, tmp_path / "file" / "latents.npy", CPU, say=[].append, stopping=lambda: False)


def test_encoding_may_be_cut_short(data: FolderData, codec: LatentCodec, tmp_path: Path) -> None:
    answers = iter([True])
    path = tmp_path / "latents-2.npy"
    (tmp_path / "latents-1.npy").write_bytes(b"of frames that were arranged in another way")
    assert not cache_latents(data, codec, path, CPU, say=[].append, stopping=lambda: next(answers))
    assert {each.name for each in tmp_path.iterdir()} == {"data", "cache"}


def test_an_autoencoder_that_gives_no_numbers(data: FolderData, codec: LatentCodec, tmp_path: Path) -> None:
    codec.autoencoder.std.zero_()
    with pytest.raises(CheckpointError, match="the run's autoencoder makes NaN or infinity of a frame"):
        cache_latents(data, codec, tmp_path / "latents.npy", CPU, say=[].append, stopping=lambda: False)
    assert {each.name for each in tmp_path.iterdir()} == {"data", "cache"}


@pytest.mark.parametrize("size", [0, 60, 200])
def test_damaged_latents(data: FolderData, codec: LatentCodec, tmp_path: Path, size: int) -> None:
    path = tmp_path / "latents.npy"
    cache_latents(data, codec, path, CPU, say=[].append, stopping=lambda: False)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"latents\.npy is not the latents of this run: "):
        cached_batches(data, path, CPU, (3, 4, 4))


@pytest.mark.parametrize(
    ("latents", "words"),
    [
        (np.zeros((5, 3, 4, 4), np.float16), "got (5, 3, 4, 4) in float16"),
        (np.zeros((18, 3, 4, 2), np.float16), "got (18, 3, 4, 2) in float16"),
        (np.zeros((18, 3, 4, 4), np.float32), "got (18, 3, 4, 4) in float32"),
        (np.zeros((18, 3, 4, 4), np.complex64), "got (18, 3, 4, 4) in complex64"),
        (np.array(3.0), "got () in float64"),
    ],
)
def test_latents_of_something_else(data: FolderData, tmp_path: Path, latents: np.ndarray, words: str) -> None:
    np.save(tmp_path / "latents.npy", latents)
    with pytest.raises(CheckpointError) as caught:
        cached_batches(data, tmp_path / "latents.npy", CPU, (3, 4, 4))
    assert caught.value.message.endswith(f"it should have the shape (18, 3, 4, 4) in float16, {words}")


def test_an_archive_in_the_place_of_latents(data: FolderData, tmp_path: Path) -> None:
    with (tmp_path / "latents.npy").open("wb") as file:
        np.savez(file, np.zeros(3))
    with pytest.raises(CheckpointError, match=r"got None in None$"):
        cached_batches(data, tmp_path / "latents.npy", CPU, (3, 4, 4))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_latents_that_are_no_numbers(data: FolderData, tmp_path: Path, value: float) -> None:
    """They are found where they are used: a look at all of them may take long."""
    latents = np.zeros((18, 3, 4, 4), np.float16)
    latents[7, 1, 2, 3] = value
    np.save(tmp_path / "latents.npy", latents)
    batches = cached_batches(data, tmp_path / "latents.npy", CPU, (3, 4, 4))
    with pytest.raises(CheckpointError, match="is not the latents of this run: it has NaN or infinity"):
        batches(range(200), None)

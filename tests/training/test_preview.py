from typing import Any

import pytest
import torch

from mpvideo.config import AutoencoderConfig, EDMConfig, SamplingConfig
from mpvideo.diffusion import (
    EDMDenoiser,
    Guidance,
    GuidedDenoiser,
    SeededNoise,
    class_rows,
    karras_sigmas,
    sample_deis,
)
from mpvideo.nn import KarrasUnet3D
from mpvideo.training.factored import FactoredClassEmbedding
from mpvideo.training.preview import NUM_VIDEOS, STEPS, preview
from mpvideo.video.autoencoder import Autoencoder
from mpvideo.video.codec import LatentCodec, PixelCodec
from tests.networks import TINY, tiny_network

EDM, SAMPLING = EDMConfig(), SamplingConfig(guidance=2.0)
NAMES = tuple("abcde")


def test_videos_are_those_of_their_seeds_and_classes() -> None:
    """Sampled again, one by one; rounding may go the other way."""
    net = tiny_network(channels=3, self_condition=True)
    videos, captions = preview(net, PixelCodec(), EDM, SAMPLING, NAMES)
    assert videos.shape == (8, 4, 8, 8, 3) == (NUM_VIDEOS, 4, 8, 8, 3)
    assert videos.dtype == torch.uint8
    for seed in range(0, NUM_VIDEOS, 3):
        main = EDMDenoiser(
            net=net,
            sigma_data=0.5,
            self_condition=True,
            class_labels=class_rows(torch.tensor([NAMES.index(captions[seed])]), 5),
        )
        denoiser = GuidedDenoiser(main, Guidance(strength=2.0))
        noise = SeededNoise([seed])
        with torch.no_grad():
            x = sample_deis(denoiser, 80 * noise.randn(3, 4, 8, 8), karras_sigmas(STEPS, 0.002, 80.0, 7.0))
        alone = PixelCodec().decode(x)[0]
        assert (videos[seed].int() - alone.int()).abs().max() <= 1
    assert len({video.numpy().tobytes() for video in videos}) == 8


def small_network(**overrides: Any) -> KarrasUnet3D:
    return tiny_network(**{"num_downsamples": 0, "downsample_types": "all", "attn_res": (), "frames": 2, **overrides})


def test_it_is_always_the_same_and_draws_nothing_else() -> None:
    net = small_network(channels=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, _ = preview(net, PixelCodec(), EDM, SAMPLING, NAMES)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, _ = preview(net, PixelCodec(), EDM, SAMPLING, NAMES)
    assert torch.equal(first, again)


@pytest.mark.parametrize("num_classes", [1, 5, 8, 12, 1000])
def test_classes_are_spread(num_classes: int) -> None:
    net = small_network(gain=None, channels=1, num_classes=num_classes)
    _, captions = preview(net, PixelCodec(), EDM, SAMPLING, None)
    indices = [int(caption.removeprefix("class ")) for caption in captions]
    assert all(0 <= index < num_classes for index in indices)
    assert len(set(indices)) == min(num_classes, 8)
    if num_classes == 1000:
        assert len({index // 100 for index in indices}) == 8
        assert max(indices) > 800
        assert len({index % 10 for index in indices}) == 8


def test_a_network_without_classes_is_not_guided() -> None:
    net = small_network(channels=1, num_classes=None)
    videos, captions = preview(net, PixelCodec(), EDM, SAMPLING, None)
    assert videos.shape == (8, 2, 8, 8, 1)
    assert captions == [f"seed {seed}" for seed in range(8)]


def test_latents_and_factors() -> None:
    net = small_network()
    net.to_class_emb = FactoredClassEmbedding((5, 1), 4 * TINY["dim"]).eval()
    autoencoder = Autoencoder(AutoencoderConfig(width=4, latent_channels=2, num_downsamples=1)).eval()
    videos, captions = preview(net, LatentCodec(autoencoder, 0.5), EDM, SAMPLING, NAMES)
    assert videos.shape == (8, 2, 16, 16, 3)
    assert set(captions) <= set(NAMES)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 3e38])
def test_a_network_that_diverged_does_not_end_the_training(bad: float) -> None:
    """It shows as gray: 0 in [-1, 1] is the pixel 127.5."""
    net = small_network(channels=1)
    with torch.no_grad():
        net.output_block[1].gain.fill_(bad)
    videos, _ = preview(net, PixelCodec(), EDM, SAMPLING, NAMES)
    if not torch.tensor(bad).isfinite():
        assert set(videos.unique().tolist()) == {128}
    latents = small_network()
    with torch.no_grad():
        latents.output_block[1].gain.fill_(bad)
    autoencoder = Autoencoder(AutoencoderConfig(width=4, latent_channels=2, num_downsamples=1)).eval()
    assert preview(latents, LatentCodec(autoencoder, 0.5), EDM, SAMPLING, NAMES)[0].shape == (8, 2, 16, 16, 3)

import pytest
import torch
from torch import Tensor

from mpvideo.config import AutoencoderConfig
from mpvideo.video.autoencoder import LATENT_LIMIT, Autoencoder
from mpvideo.video.codec import LatentCodec, PixelCodec, to_pixels, to_unit
from tests.networks import randn

SIGMA_DATA = 0.5


def frames(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def autoencoder(**changes: int) -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Autoencoder(AutoencoderConfig(**{"width": 4, "num_downsamples": 2, **changes})).requires_grad_(False)


# Pixels


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_round_trip_exactly(channels):
    """Every value of every kind of frame comes back."""
    clip = torch.arange(256, dtype=torch.uint8).view(1, 4, 8, 8, 1).expand(2, 4, 8, 8, channels).clone()
    clip[1] = frames(4, 8, 8, channels)
    x = PixelCodec().encode(clip)
    assert x.shape == (2, channels, 4, 8, 8)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (-1, 1)
    assert torch.equal(PixelCodec().decode(x), clip)
    assert torch.equal(x[1, channels - 1, 2], to_unit(clip[1, 2, :, :, channels - 1]))


def test_to_unit():
    assert to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([-1, -0.6, 1])


def test_to_pixels_rounds_to_the_nearest():
    steps = torch.tensor([0.0, 0.49, 0.51, 1.49, 254.4, 254.6])
    assert to_pixels(steps / 127.5 - 1).tolist() == [0, 0, 1, 1, 254, 255]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_to_pixels_clips(dtype):
    """Without wrapping around, from just outside to far away."""
    x = torch.tensor([-60000, -30000, -3, -1.02, 1.02, 3, 30000, 60000], dtype=dtype)
    pixels = to_pixels(x)
    assert pixels.dtype == torch.uint8
    assert pixels.tolist() == [0] * 4 + [255] * 4


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_to_pixels_wants_numbers(bad):
    with pytest.raises(FloatingPointError, match="must be finite"):
        to_pixels(torch.tensor([0.0, bad]))


def test_pixel_tensors_are_contiguous():
    clip = frames(1, 2, 4, 4, 3)
    assert PixelCodec().encode(clip).is_contiguous()
    assert PixelCodec().decode(randn(1, 3, 2, 4, 4)).is_contiguous()


# Latents


@pytest.mark.parametrize(("downsamples", "channels"), [(1, 4), (2, 4), (3, 2)])
def test_latent_shapes(downsamples, channels):
    model = autoencoder(num_downsamples=downsamples, latent_channels=channels)
    codec, clip = LatentCodec(model, SIGMA_DATA), frames(2, 3, 16, 16, 3)
    factor = model.config.factor
    assert factor == 2**downsamples
    x = codec.encode(clip)
    assert x.shape == (2, channels, 3, 16 // factor, 16 // factor)
    assert x.dtype == torch.float32
    decoded = codec.decode(x)
    assert decoded.shape == clip.shape
    assert decoded.dtype == torch.uint8


def test_latents_have_the_standard_deviation_sigma_data():
    """Once mean and std hold the statistics of the raw latents, of each channel."""
    model, clip = autoencoder(), frames(4, 6, 16, 16, 3)
    raw = model.encode_raw(to_unit(clip.flatten(0, 1)).permute(0, 3, 1, 2))
    model.mean.copy_(raw.mean(dim=(0, 2, 3)))
    model.std.copy_(raw.std(dim=(0, 2, 3)))
    x = LatentCodec(model, SIGMA_DATA).encode(clip)
    torch.testing.assert_close(x.mean(dim=(0, 2, 3, 4)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(dim=(0, 2, 3, 4)), torch.full((4,), SIGMA_DATA))


def test_decode_undoes_the_scaling_of_encode():
    """What reaches the raw decoder is what left the raw encoder."""
    model, clip = autoencoder(), frames(1, 2, 8, 8, 3)
    model.mean.copy_(torch.tensor([0.3, -1.0, 0.0, 2.0]))
    model.std.copy_(torch.tensor([0.1, 2.0, 1.0, 0.5]))
    codec = LatentCodec(model, SIGMA_DATA)
    raw = model.encode_raw(to_unit(clip[0]).permute(0, 3, 1, 2))
    assert torch.equal(codec.decode(codec.encode(clip))[0], to_pixels(model.decode_raw(raw)).permute(0, 2, 3, 1))


@pytest.mark.parametrize("at_once", [1, 4, 6, 100])
def test_frames_at_once_do_not_matter(at_once):
    model, clip = autoencoder(), frames(2, 3, 8, 8, 3)
    whole, parts = LatentCodec(model, SIGMA_DATA), LatentCodec(model, SIGMA_DATA, frames_at_once=at_once)
    sizes: list[int] = []
    model.decoder[0].register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    x = whole.encode(clip)
    torch.testing.assert_close(parts.encode(clip), x)
    apart = (parts.decode(x).int() - whole.decode(x).int()).abs()
    assert apart.max() <= 1  # a rounding
    assert max(sizes[:-1]) == min(at_once, 6)
    assert sum(sizes[:-1]) == 6


def test_frames_are_coded_one_by_one():
    """Frame t of video b depends on that frame alone."""
    codec, clip = LatentCodec(autoencoder(), SIGMA_DATA), frames(2, 3, 8, 8, 3)
    x = codec.encode(clip)
    for b in range(2):
        for t in range(3):
            torch.testing.assert_close(codec.encode(clip[b : b + 1, t : t + 1])[0, :, 0], x[b, :, t])


def test_raw_latents_are_bounded():
    model = autoencoder()
    for conv in model.encoder:
        conv.weight.mul_(100)
    raw = model.encode_raw(to_unit(frames(2, 3, 8, 8)))
    assert LATENT_LIMIT - 0.1 < raw.abs().max() <= LATENT_LIMIT


def test_latent_codec_works_in_the_dtype_of_the_autoencoder():
    clip = frames(1, 2, 8, 8, 3)
    x = LatentCodec(autoencoder(), SIGMA_DATA).encode(clip)
    codec = LatentCodec(autoencoder().bfloat16(), SIGMA_DATA)
    rough = codec.encode(clip)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, x)
    torch.testing.assert_close(rough, x, atol=0.02, rtol=0.05)
    assert codec.decode(x).dtype == torch.uint8

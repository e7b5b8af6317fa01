import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from mpvideo.config import AutoencoderConfig
from mpvideo.diffusion.noise import seeded_generator
from mpvideo.errors import CheckpointError, ExitCode
from mpvideo.training.autoencoder import (
    IMAGES_PER_STEP,
    LATENT_NOISE,
    AutoencoderTrainer,
    load_autoencoder,
    psnr,
    save_autoencoder,
)
from mpvideo.training.loss import learning_rate
from mpvideo.training.snapshot import load_snapshot, save_snapshot
from mpvideo.video.codec import LatentCodec, to_unit

CONFIG = AutoencoderConfig(width=8, latent_channels=3, num_downsamples=1)


def images(numbers: range) -> Tensor:
    """16 x 16 pixels: a sky of one colour over a ground of another."""
    colours = torch.stack(
        [torch.randint(256, (2, 3), generator=seeded_generator(number), dtype=torch.uint8) for number in numbers]
    )
    return colours.repeat_interleave(8, dim=1).unsqueeze(2).expand(-1, -1, 16, -1)


def trainer(steps: int = 6, **settings: Any) -> AutoencoderTrainer:
    return AutoencoderTrainer(CONFIG, images, steps=steps, **{"warmup_steps": 2, "peak_rate": 5e-3, **settings})


def run(trainer: AutoencoderTrainer, steps: int) -> AutoencoderTrainer:
    for _ in range(steps):
        trainer.train_step()
    return trainer


def weights(trainer: AutoencoderTrainer) -> list[Tensor]:
    return [tensor.clone() for tensor in trainer.autoencoder.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


@pytest.fixture(scope="module")
def trained() -> tuple[AutoencoderTrainer, list[float]]:
    training = trainer(100, warmup_steps=10, peak_rate=1e-2)
    return training, [training.train_step() for _ in range(100)]


def test_resuming_takes_the_very_same_steps(tmp_path: Path) -> None:
    torch.manual_seed(98)  # nothing may depend on the global generator
    whole = run(trainer(), 6)
    torch.manual_seed(99)
    save_snapshot(run(trainer(), 3).state(), tmp_path / "autoencoder.pt")
    second = run(trainer(), 1)
    second.load_state(load_snapshot(tmp_path / "autoencoder.pt"))
    assert second.step == 3
    assert same(weights(run(second, 3)), weights(whole))
    assert second.optimizer.rate == whole.optimizer.rate
    assert same(list(second.finished(2).state_dict().values()), list(whole.finished(2).state_dict().values()))


def test_the_preview_shows_images_and_what_is_left_of_them(trained: tuple[AutoencoderTrainer, list[float]]) -> None:
    training, _ = trained
    seen, made = training.preview(3)
    first = training.steps * IMAGES_PER_STEP
    assert torch.equal(seen, images(range(first, first + 3)))
    assert made.dtype == torch.uint8
    missed = [(one.float() - seen.float()).square().mean() for one in (made, seen.roll(1, 0))]
    assert missed[0] < missed[1] / 4, "it is nearer to the images than these are to each other"


def test_the_preview_of_one_that_diverged_is_gray() -> None:
    training = trainer()
    for parameter in training.autoencoder.parameters():
        parameter.data.fill_(torch.nan)
    assert (training.preview(2)[1] == 128).all()


def test_a_state_of_another_length_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"^autoencoder_steps must stay what this run .*, 6, got 7$"):
        trainer(7).load_state(trainer(6).state())


@pytest.mark.parametrize(("error", "ratio"), [(4.0, 0.0), (0.04, 20.0), (0.0, 106.0206), (math.inf, math.nan)])
def test_psnr(error: float, ratio: float) -> None:
    assert psnr(error) == pytest.approx(ratio, abs=1e-4, nan_ok=True)


def test_the_seed_matters_and_the_global_generator_does_not() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ours = trainer()
    assert same(weights(ours), weights(trainer()))
    assert not same(weights(ours), weights(trainer(seed=1)))
    run(ours, 2)
    assert torch.equal(torch.get_rng_state(), before)
    other = trainer(seed=1)  # the noise, then, too
    other.load_state(trainer().state())
    assert not same(weights(run(other, 2)), weights(ours))


def test_it_may_begin_with_an_autoencoder() -> None:
    other = run(trainer(seed=1), 3).finished(1)
    begun = trainer(initial=other)
    assert same(weights(begun), list(other.state_dict().values()))
    run(begun, 1)
    assert not same(weights(begun), list(other.state_dict().values()))


def test_bfloat16_is_close() -> None:
    """The same steps, but for rounding; weights and latents' statistics stay in float32."""
    exact, rough = trainer(), trainer(dtype="bfloat16")
    errors = [(exact.train_step(), rough.train_step()) for _ in range(3)]
    for ours, theirs in errors:
        assert theirs == pytest.approx(ours, rel=0.02)
    assert not same(weights(exact), weights(rough))
    assert {tensor.dtype for tensor in rough.autoencoder.state_dict().values()} == {torch.float32}


def test_error_falls(trained: tuple[AutoencoderTrainer, list[float]]) -> None:
    """Two colours need six numbers; gray everywhere has an error of a third."""
    _, errors = trained
    assert errors[0] > 0.3
    assert max(errors[-5:]) < 0.06


def test_decodes_what_it_encodes(trained: tuple[AutoencoderTrainer, list[float]]) -> None:
    training, _ = trained
    autoencoder = training.finished(4)
    unseen = to_unit(images(range(10**6, 10**6 + 64))).permute(0, 3, 1, 2)
    latents = autoencoder.encode(unseen)
    assert (autoencoder.decode(latents) - unseen).square().mean() < 0.06
    # Latents off by a fraction of what was added in training do little harm.
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    assert (autoencoder.decode(latents + 0.05 * noise) - unseen).square().mean() < 0.07


def test_statistics_of_the_latents_are_measured(trained: tuple[AutoencoderTrainer, list[float]]) -> None:
    training, _ = trained
    autoencoder = training.finished(4)
    assert not autoencoder.training
    assert not any(parameter.requires_grad for parameter in autoencoder.parameters())
    raw = autoencoder.encode_raw(to_unit(images(range(100 * 64, 104 * 64))).permute(0, 3, 1, 2))
    torch.testing.assert_close(autoencoder.mean, raw.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(autoencoder.std, raw.std(dim=(0, 2, 3)))
    frames = images(range(10**6, 10**6 + 256)).unsqueeze(1)
    latents = LatentCodec(autoencoder, sigma_data=0.5).encode(frames)
    assert latents.shape == (256, 3, 1, 8, 8)
    assert latents.mean(dim=(0, 2, 3, 4)).abs().max() < 0.1
    torch.testing.assert_close(latents.std(dim=(0, 2, 3, 4)), torch.full((3,), 0.5), atol=0.05, rtol=0)


def test_every_image_is_seen_once() -> None:
    asked: list[int] = []

    def watched(numbers: range) -> Tensor:
        asked.extend(numbers)
        return images(numbers)

    training = AutoencoderTrainer(CONFIG, watched, steps=3)
    run(training, 3).finished(2)
    assert asked == list(range(5 * IMAGES_PER_STEP))


def test_every_step_has_noise_of_its_own_on_its_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    training, passed = trainer(), []
    encode, decode = training.autoencoder.encode_raw, training.autoencoder.decode_raw

    def encoded(x: Tensor) -> Tensor:
        passed.append(encode(x))
        return passed[-1]

    def decoded(x: Tensor) -> Tensor:
        passed.append(x)
        return decode(x)

    monkeypatch.setattr(training.autoencoder, "encode_raw", encoded)
    monkeypatch.setattr(training.autoencoder, "decode_raw", decoded)
    run(training, 3)
    latents, noisy = (torch.stack(passed[start::2]).detach() for start in (0, 1))
    noise = (noisy - latents) / latents.std(dim=(1, 3, 4), keepdim=True)
    assert noise.std().item() == pytest.approx(LATENT_NOISE, rel=0.02)
    assert noise.std(dim=(0, 1, 3, 4)).tolist() == pytest.approx([LATENT_NOISE] * 3, rel=0.04)
    correlation = torch.corrcoef(noise.flatten(1)) - torch.eye(3)
    assert correlation.abs().max() < 5 / noise[0].numel() ** 0.5


def test_rate_rises_and_falls_to_almost_nothing() -> None:
    training, rates = trainer(6), []
    for _ in range(6):
        run(training, 1)
        rates.append(training.optimizer.rate)
    plain = [learning_rate(step, peak=5e-3, warmup_steps=2, decay_steps=6) for step in range(6)]
    assert rates == pytest.approx([rate * (6 - step) / 6 for step, rate in enumerate(plain)])
    assert rates[0] < rates[1] > rates[5]


def test_loss_is_the_absolute_and_the_squared_error() -> None:
    """Without noise on the latents, computed again with plain Adam."""
    from mpvideo.training import autoencoder as module

    training, again = trainer(), trainer()
    optimizer = torch.optim.Adam(again.autoencoder.parameters(), lr=training.peak_rate / 2, betas=(0.9, 0.99))
    batch = to_unit(images(range(64))).permute(0, 3, 1, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LATENT_NOISE", 0.0)
        squared = training.train_step()
    error = again.autoencoder.decode_raw(again.autoencoder.encode_raw(batch)) - batch
    assert squared == pytest.approx(float(error.detach().square().mean()), rel=1e-5)
    (error.abs() + error**2).mean().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    for ours, theirs in zip(weights(training), weights(again), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


# Files


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    autoencoder = run(trainer(2), 2).finished(1)
    path = tmp_path / "autoencoder.safetensors"
    path.write_bytes(b"an older one")
    save_autoencoder(autoencoder, path)
    loaded = load_autoencoder(path, CONFIG)
    assert same(list(loaded.state_dict().values()), list(autoencoder.state_dict().values()))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def refusal(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_autoencoder(path, CONFIG)
    error = caught.value
    assert error.message.startswith(f"{path} is not the autoencoder of a run: ")
    assert error.message.isprintable()
    assert error.hint is not None and error.hint.startswith("Move it away: ")
    assert error.exit_code == ExitCode.CHECKPOINT
    return error


def test_damaged_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "autoencoder.safetensors"
    assert refusal(path).message.endswith(": no such file or directory")
    save_autoencoder(trainer().autoencoder, path)
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[:100], b"<html>" * 100, whole[:8] + b"!" + whole[9:]):
        path.write_bytes(content)
        refusal(path)
        assert path.read_bytes() == content


def test_another_autoencoder_is_told(tmp_path: Path) -> None:
    path = tmp_path / "autoencoder.safetensors"
    other = AutoencoderTrainer(AutoencoderConfig(width=4, latent_channels=3, num_downsamples=1), images, steps=1)
    save_autoencoder(other.autoencoder, path)
    assert refusal(path).message.endswith(": its tensors are not the ones")
    path.write_bytes(save({"mean": torch.zeros(3)}))
    assert refusal(path).message.endswith(": its tensors are not the ones")

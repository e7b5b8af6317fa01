"""From a checkpoint to frames."""

import dataclasses
import itertools
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpvideo import generation
from mpvideo.blend import Blend
from mpvideo.checkpoint import open_checkpoint
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.config import SamplingConfig
from mpvideo.device import choose_placement
from mpvideo.diffusion import EDMDenoiser
from mpvideo.errors import ExitCode, MPVideoError, OutOfMemoryError, UsageError
from mpvideo.generation import count_passes, drawn_class, generate
from mpvideo.job import Job
from mpvideo.model import Model, load_model
from tests.checkpoints import random_tensors, save_tiny, tiny_config

HEUN = SamplingConfig(steps=4, s_churn=2.0)
PLAIN = SamplingConfig(sampler="heun", steps=4)


def load(path: Path, dtype: str = "float32") -> Model:
    return load_model(open_checkpoint(path), choose_placement("cpu", dtype))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_tiny(tmp_path_factory.mktemp("ckpt") / "tiny.safetensors", tiny_config(self_condition=True)))


def asked(jobs: list[Job], sampling: SamplingConfig = HEUN, clamp: bool | None = None) -> list[Job]:
    return [dataclasses.replace(job, sampling=sampling, clamp=clamp) for job in jobs]


def pixels(
    model: Model,
    jobs: list[Job],
    sampling: SamplingConfig = HEUN,
    clamp: bool | None = None,
    **options: object,
) -> np.ndarray:
    videos = generate(model, asked(jobs, sampling, clamp), **options)  # type: ignore[arg-type]
    return np.stack([video.frames for video in videos])


@pytest.mark.parametrize("codec", ["gray", "rgb", "rgba", "latent"])
def test_every_codec(codec: str, tmp_path: Path) -> None:
    config = tiny_config(codec)
    (video,) = generate(load(save_tiny(tmp_path / "x.safetensors", config)), [Job(seed=0)])
    side = 16 if codec == "latent" else 8
    assert video.frames.shape == (4, side, side, config.video.pixel_channels)
    assert video.frames.dtype == np.uint8
    assert video.frames.std() > 1


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_seed_gives_the_same_video_in_any_batch(model: Model, guidance: float) -> None:
    sampling = SamplingConfig(steps=4, s_churn=2.0, guidance=guidance)
    jobs = [Job(seed=seed, class_index=seed % 3) for seed in range(8)]
    alone = pixels(model, jobs, sampling, batch_size=1).astype(int)
    assert np.abs(alone - pixels(model, jobs, sampling, batch_size=3)).max() <= 1
    assert np.abs(alone - pixels(model, jobs, sampling, batch_size=8)).max() <= 1
    assert np.abs(alone - pixels(model, jobs[::-1], sampling, batch_size=3)[::-1]).max() <= 1


class Untouched:
    """A codec that shows the network's own tensor, whose values pixels would round."""

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return frames

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_network_s_own_values_are_the_same_in_any_batch(model: Model, guidance: float) -> None:
    sampling = SamplingConfig(steps=4, s_churn=2.0, guidance=guidance)
    jobs = [Job(seed=seed) for seed in range(8)]
    raw = dataclasses.replace(model, codec=Untouched())
    alone, three, eight = (pixels(raw, jobs, sampling, batch_size=size) for size in (1, 3, 8))
    assert alone.dtype == np.float32
    assert alone.std() > 0.1
    np.testing.assert_allclose(three, alone, rtol=0, atol=1e-4)
    np.testing.assert_allclose(eight, alone, rtol=0, atol=1e-4)


def test_seed_and_class_matter(model: Model) -> None:
    one, other_seed, other_class = pixels(
        model, [Job(seed=0, class_index=0), Job(seed=1, class_index=0), Job(seed=0, class_index=1)]
    )
    assert (one != other_seed).mean() > 0.5
    assert (one != other_class).mean() > 0.1


def test_the_seed_chooses_the_class(model: Model) -> None:
    chosen = drawn_class(5, 3)
    (drawn,) = generate(model, [Job(seed=5, sampling=HEUN)])
    (named,) = generate(model, [Job(seed=5, class_index=chosen, sampling=HEUN)])
    assert drawn.class_index == chosen
    assert (drawn.frames == named.frames).all()
    assert {drawn_class(seed, 3) for seed in range(20)} == {0, 1, 2}


def test_evaluations_are_counted(model: Model) -> None:
    for sampler, steps in (("euler", 3), ("heun", 3), ("heun", 1), ("unipc", 4)):
        sampling = SamplingConfig(sampler=sampler, steps=steps)  # type: ignore[arg-type]
        seen: list[int] = []
        pixels(model, [Job(seed=seed) for seed in range(5)], sampling, batch_size=2, on_evaluation=seen.append)
        assert sum(seen) == 5 * sampling.num_evaluations
        assert len(seen) == 3 * sampling.num_evaluations


def test_guided_evaluations_count_for_both_branches(model: Model) -> None:
    """Heun's 7 levels of 4 steps from 80 to 0.002: 80, 9.7 twice, 0.47 twice, 0.002 twice."""
    cases = (
        (None, False, 14), ((0.2, 6.0), False, 9), ((1e4, 1e5), False, 7),
        (None, True, 14), ((0.2, 6.0), True, 10), ((1e4, 1e5), True, 8), ((0.2, 80.0), True, 12),
    )  # fmt: skip
    for interval, hold, expected in cases:
        sampling = SamplingConfig(
            sampler="heun", steps=4, sigma_max=80.0, guidance=3.0, guidance_interval=interval, guidance_hold=hold
        )
        seen: list[int] = []
        pixels(model, [Job(seed=seed) for seed in range(3)], sampling, batch_size=2, on_evaluation=seen.append)
        assert count_passes(sampling) == expected
        assert sum(seen) == 3 * expected


@pytest.mark.parametrize("guidance", [1 + 1e-9, 1 + 1e-6])
def test_guidance_that_is_nearly_1_is_counted_as_it_is_evaluated(model: Model, guidance: float) -> None:
    """The first one is 1 in float32."""
    sampling, seen = dataclasses.replace(PLAIN, guidance=guidance), list[int]()
    pixels(model, [Job(seed=0)], sampling, on_evaluation=seen.append)
    assert sum(seen) == count_passes(sampling) == (7 if guidance < 1 + 1e-8 else 14)


def test_an_interval_of_guidance_to_the_bit(model: Model) -> None:
    jobs = [Job(seed=seed) for seed in range(2)]

    def videos(**settings: Any) -> np.ndarray:
        return pixels(model, jobs, dataclasses.replace(HEUN, **settings), batch_size=2)

    full, none = videos(guidance=3.0), videos()
    assert (videos(guidance=3.0, guidance_interval=(0.0, 1e6)) == full).all()
    assert (videos(guidance=3.0, guidance_interval=(1e5, 1e6)) == none).all()
    some = videos(guidance=3.0, guidance_interval=(0.05, 10.0))
    assert (some != full).any()
    assert (some != none).any()
    held = videos(guidance=3.0, guidance_interval=(0.05, 10.0), guidance_hold=True)
    assert all((held != other).any() for other in (full, none, some))


@pytest.mark.parametrize("num_classes", [3, None])
def test_a_guide_is_the_second_branch(num_classes: int | None, tmp_path: Path) -> None:
    """Of another shape; with strength 0 it is all there is, and a network without classes can have one too."""
    strong = save_tiny(tmp_path / "strong.safetensors", tiny_config(num_classes=num_classes, self_condition=True))
    weak = save_tiny(tmp_path / "weak.safetensors", tiny_config(num_classes=num_classes, dim=12))
    guided = load_model(open_checkpoint(strong), choose_placement("cpu", "float32"), guide=open_checkpoint(weak))
    jobs = [Job(seed=seed) for seed in range(3)]
    settings = {strength: dataclasses.replace(PLAIN, guidance=strength) for strength in (0.0, 1.0, 3.0)}
    seen: list[int] = []
    only_guide = pixels(guided, jobs, settings[0.0], batch_size=3, on_evaluation=seen.append)
    assert (only_guide == pixels(load(weak), jobs, PLAIN, batch_size=3)).all()
    assert sum(seen) == 3 * count_passes(settings[0.0]) == 3 * 14
    assert (pixels(guided, jobs, settings[1.0], batch_size=3) == pixels(load(strong), jobs, PLAIN, batch_size=3)).all()
    assert (pixels(guided, jobs, settings[3.0]) != pixels(guided, jobs, settings[1.0])).any()


def test_a_blend_has_the_length_of_classes_in_the_guide_too(tmp_path: Path) -> None:
    """By its own embeddings, which have other lengths and angles than the main network's."""
    strong = save_tiny(tmp_path / "strong.safetensors", tiny_config())
    weak = save_tiny(tmp_path / "weak.safetensors", tiny_config(dim=12))
    guided = load_model(open_checkpoint(strong), choose_placement("cpu", "float32"), guide=open_checkpoint(weak))
    jobs = [Job(seed=0, class_index=Blend(((0, 0.5), (1, 0.5)))), Job(seed=1, class_index=2)]
    only_guide = dataclasses.replace(PLAIN, guidance=0.0)
    expected = pixels(dataclasses.replace(load(weak), codec=Untouched()), jobs, PLAIN)
    assert (pixels(dataclasses.replace(guided, codec=Untouched()), jobs, only_guide) == expected).all()


def test_a_guide_needs_the_same_autoencoder(tmp_path: Path) -> None:
    config = tiny_config("latent")
    path, rounded, other = (tmp_path / f"{name}.safetensors" for name in ("own", "rounded", "other"))
    tensors = random_tensors(config)
    save_checkpoint(path, tensors, config)
    save_checkpoint(rounded, {name: tensor.bfloat16() for name, tensor in tensors.items()}, config)
    changed = {name: tensor + 0.1 if name.startswith("codec.") else tensor for name, tensor in tensors.items()}
    save_checkpoint(other, changed, config)
    checkpoint, placement = open_checkpoint(path), choose_placement("cpu", "float32")
    guided = load_model(checkpoint, placement, guide=open_checkpoint(rounded))
    assert guided.guide is not None
    assert guided.guide.sha256 != guided.sha256
    with pytest.raises(UsageError, match=r"--guide must have the checkpoint's own autoencoder, other.safetensors has"):
        load_model(checkpoint, placement, guide=open_checkpoint(other))


def test_a_blend_lies_between_its_classes(model: Model) -> None:
    """A class alone to the bit; a blend nearer to both than they are to each other."""
    raw = dataclasses.replace(model, codec=Untouched())
    choices = (0, Blend(((0, 1.0), (1, 0.0))), Blend(((0, 0.5), (1, 0.5))), 1, Blend(((1, 0.5), (0, 0.5))))
    first, alone, blend, second, turned = pixels(raw, [Job(seed=0, class_index=choice) for choice in choices], PLAIN)
    assert (alone == first).all()
    np.testing.assert_allclose(turned, blend, rtol=0, atol=5e-5)
    apart = np.linalg.norm(first - second)
    assert 0 < np.linalg.norm(blend - first) < apart
    assert 0 < np.linalg.norm(blend - second) < apart
    with pytest.raises(ValueError, match="class_index must be at most 2, got 3"):
        pixels(raw, [Job(seed=0, class_index=Blend(((0, 1.0), (3, 1.0))))])


def test_a_walk_of_seeds(model: Model) -> None:
    raw = dataclasses.replace(model, codec=Untouched())
    seeds = [3, *(Blend(((3, 1 - share), (8, share))) for share in (0.0, 0.02, 1.0)), 8]
    first, start, near, end, last = pixels(raw, [Job(seed=seed, class_index=1) for seed in seeds], HEUN)
    assert (start == first).all()
    assert (end == last).all()
    assert 0 < np.linalg.norm(near - first) < np.linalg.norm(last - first) / 4
    assert drawn_class(seeds[2], 1000) == drawn_class(3, 1000)


def test_videos_are_yielded_as_they_are_made(model: Model) -> None:
    seen: list[int] = []
    videos = generate(model, asked([Job(seed=0), Job(seed=1)]), batch_size=1, on_evaluation=seen.append)
    next(videos)
    assert len(seen) == HEUN.num_evaluations


def test_clamp_overrides_the_checkpoint(model: Model) -> None:
    assert (pixels(model, [Job(seed=0)], clamp=True) != pixels(model, [Job(seed=0)])).any()
    assert (pixels(model, [Job(seed=0)], clamp=False) == pixels(model, [Job(seed=0)])).all()


def test_bfloat16_is_close(model: Model, tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "x.safetensors", tiny_config(self_condition=True))
    exact, rough = (pixels(load(path, dtype), [Job(seed=0)]).astype(float) for dtype in ("float32", "bfloat16"))
    assert 0 < np.abs(exact - rough).mean() < 8


def test_unconditional(tmp_path: Path) -> None:
    plain = load(save_tiny(tmp_path / "x.safetensors", tiny_config(num_classes=None)))
    (video,) = generate(plain, [Job(seed=0, sampling=HEUN)])
    assert video.class_index is None
    with pytest.raises(ValueError, match="class_index must be None for a network without classes, got 1"):
        list(generate(plain, [Job(seed=0, class_index=1, sampling=HEUN)]))


def test_bad_arguments(model: Model) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        list(generate(model, [Job(seed=0, sampling=HEUN)], batch_size=0))
    with pytest.raises(ValueError, match=r"^class_index must be at most 2, got 3$"):
        list(generate(model, [Job(seed=0, class_index=3, sampling=HEUN)]))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("too much"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("Invalid buffer size: 19.07 GiB"),  # Metal's
    ],
)
def test_out_of_memory_is_a_device_error(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def no_memory(*_: object) -> None:
        raise error

    jobs = [Job(seed=0), Job(seed=1)]
    smaller: list[tuple[int, int]] = []
    with monkeypatch.context() as patch, pytest.raises(OutOfMemoryError, match="memory for one video") as caught:
        patch.setattr("mpvideo.generation.GuidedDenoiser.__call__", no_memory)
        list(generate(model, asked(jobs), batch_size=2, on_smaller_batch=lambda *sizes: smaller.append(sizes)))
    assert caught.value.exit_code == ExitCode.DEVICE
    assert caught.value.hint == "Try another --dtype or --device."
    assert smaller == [(2, 1)]
    with monkeypatch.context() as patch:
        patch.setattr(type(model.codec), "decode", no_memory)
        with pytest.raises(OutOfMemoryError, match="not enough memory for one decoded video") as caught:
            pixels(model, jobs)
    assert "--batch-size" not in (caught.value.hint or "--batch-size")
    monkeypatch.setattr("mpvideo.model.load_tensors", no_memory)
    path = save_tiny(tmp_path / "x.safetensors", tiny_config())
    with pytest.raises(OutOfMemoryError, match="not enough memory for the weights") as caught:
        load(path)
    assert "--batch-size" not in (caught.value.hint or "--batch-size")


@dataclasses.dataclass
class Memory:
    """Memory for so many videos at once, and no more: installed before the sampling of `generate`."""

    videos: int
    tried: list[int] = dataclasses.field(default_factory=list)
    held: list[weakref.ref[torch.Tensor]] = dataclasses.field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def sample(net: EDMDenoiser, x: torch.Tensor, sigma: float, state: object = None) -> object:
            if sigma == PLAIN.sigma_max:
                assert all(batch() is None for batch in self.held), "what did not fit is still held"
                self.tried.append(len(x))
            if len(x) > self.videos and sigma < 1:
                self.held.append(weakref.ref(x))
                raise torch.OutOfMemoryError("out of memory")
            return call(net, x, sigma, state)  # type: ignore[arg-type]

        call = EDMDenoiser.__call__
        monkeypatch.setattr(EDMDenoiser, "__call__", sample)


def test_a_batch_that_does_not_fit_is_made_in_halves(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = dataclasses.replace(model, codec=Untouched())
    jobs = [Job(seed=seed) for seed in range(11)]
    alone = pixels(raw, jobs, PLAIN)
    memory = Memory(videos=2)
    memory.install(monkeypatch)
    evaluations: list[int] = []
    smaller: list[tuple[int, int]] = []
    halved = pixels(
        raw,
        jobs,
        PLAIN,
        batch_size=7,
        on_evaluation=evaluations.append,
        on_smaller_batch=lambda *sizes: smaller.append(sizes),
    )
    assert memory.tried == [7, 3, *11 * [1]]
    assert smaller == [(7, 3), (3, 1)]
    assert sum(evaluations) == len(jobs) * PLAIN.num_evaluations
    assert min(evaluations) < 0
    np.testing.assert_allclose(halved, alone, rtol=0, atol=1e-4)


def test_the_smaller_batch_is_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(videos=2)
    memory.install(monkeypatch)
    assert len(pixels(model, [Job(seed=seed) for seed in range(9)], PLAIN, batch_size=4)) == 9
    assert memory.tried == [4, 2, 2, 2, 2, 1]


@pytest.mark.parametrize("error", [NotImplementedError("no kernel"), RuntimeError("shapes differ")])
def test_other_failures_are_not_blamed_on_memory(
    model: Model, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("mpvideo.generation.GuidedDenoiser.__call__", fail)
    with pytest.raises(type(error), match=str(error)):
        list(generate(model, [Job(seed=0, sampling=HEUN)]))


@pytest.mark.parametrize("error", [MemoryError("mine"), ValueError("mine"), RuntimeError("mine: out of memory")])
def test_what_the_callback_raises_is_no_failure_of_the_batch(model: Model, error: Exception) -> None:
    def fail(passes: int) -> None:
        try:
            raise KeyError("before")
        except KeyError:
            raise error  # noqa: B904 - with its history

    def no_failure(*_: object) -> None:
        raise AssertionError("no job failed")

    with pytest.raises(type(error), match="mine") as caught:
        list(generate(model, [Job(seed=0)], on_evaluation=fail, on_smaller_batch=no_failure, on_failure=no_failure))
    assert caught.value is error
    assert isinstance(error.__context__, KeyError) and not error.__suppress_context__


def test_what_the_callback_raises_when_passes_are_taken_back(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(videos=1).install(monkeypatch)

    def fail(passes: int) -> None:
        if passes < 0:
            raise ValueError("mine")

    failed: list[object] = []
    jobs = [Job(seed=seed, sampling=HEUN) for seed in range(2)]
    with pytest.raises(ValueError, match="mine"):
        list(generate(model, jobs, batch_size=2, on_evaluation=fail, on_failure=lambda *each: failed.append(each)))
    assert not failed


def test_the_model_knows_its_weights(model: Model, tmp_path: Path) -> None:
    again = load(save_tiny(tmp_path / "other.safetensors", tiny_config(self_condition=True)))
    assert len(model.sha256) == 64
    assert again.sha256 == model.sha256
    plain = load(save_tiny(tmp_path / "plain.safetensors", tiny_config()))
    assert plain.sha256 != model.sha256


def test_half_precision_weights_load(tmp_path: Path) -> None:
    """A checkpoint's dtype is how its weights travel; they are computed with in float32."""
    from safetensors.torch import load_file, save_file

    path = save_tiny(tmp_path / "x.safetensors", tiny_config())
    halves = {name: tensor.half() for name, tensor in load_file(path).items()}
    save_file(halves, tmp_path / "half.safetensors", metadata={"mpvideo": tiny_config().to_json()})
    half = load(tmp_path / "half.safetensors")
    assert half.net.dtype == torch.float32
    difference = pixels(half, [Job(seed=0)]).astype(int) - pixels(load(path), [Job(seed=0)])
    assert np.abs(difference).mean() < 2


def test_embeddings_are_tabulated_before_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(save_tiny(tmp_path / "x.safetensors", tiny_config()))
    shapes = []
    scales = model.net._embedding.scales

    def counted(embeddings: torch.Tensor) -> list[torch.Tensor]:
        shapes.append(tuple(embeddings.shape[:-1]))
        return scales(embeddings)

    monkeypatch.setattr(model.net._embedding, "scales", counted)
    sampling = SamplingConfig(sampler="heun", steps=3, s_churn=1.0, guidance=2.0)
    list(generate(model, asked([Job(seed=0), Job(seed=1)], sampling), batch_size=2))
    assert shapes == [(5, 4)], "once: the five levels of three churned steps, for two branches of two videos"
    assert not model.net._tables, "the model is the same as before"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_cuda_makes_the_same_video(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(save_tiny(tmp_path / "x.safetensors", tiny_config(self_condition=True)))
    jobs = [Job(seed=seed) for seed in range(3)]
    on_cpu, on_cuda = (
        pixels(load_model(checkpoint, choose_placement(device, "float32")), jobs, batch_size=3)  # type: ignore[arg-type]
        for device in ("cpu", "cuda")
    )
    assert np.abs(on_cpu.astype(int) - on_cuda).max() <= 2


def counted_batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The seeds of every batch that is sampled from now on."""
    batches: list[list[int]] = []
    sample = generation._sample

    def note(model: Model, jobs: list[Job], on_evaluation: object) -> object:
        batches.append([job.seed for job in jobs])
        return sample(model, jobs, on_evaluation)  # type: ignore[arg-type]

    monkeypatch.setattr(generation, "_sample", note)
    return batches


def test_jobs_share_a_batch_when_seed_class_and_guidance_differ(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    guided = [
        Job(seed=seed, class_index=seed % 3, sampling=dataclasses.replace(PLAIN, guidance=1.5 + seed))
        for seed in range(4)
    ]
    raw = dataclasses.replace(model, codec=Untouched())
    alone = np.stack([video.frames for video in generate(raw, guided, batch_size=1)])
    batches = counted_batches(monkeypatch)
    together = np.stack([video.frames for video in generate(raw, guided, batch_size=4)])
    assert batches == [[0, 1, 2, 3]]
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)


def test_jobs_that_differ_otherwise_do_not_share_a_batch(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [PLAIN, PLAIN, dataclasses.replace(PLAIN, steps=3), dataclasses.replace(PLAIN, guidance=2.0), PLAIN]
    jobs = [Job(seed=seed, sampling=sampling) for seed, sampling in enumerate(settings)]
    jobs += [Job(seed=5, sampling=PLAIN, clamp=True), Job(seed=6)]
    batches = counted_batches(monkeypatch)
    assert [video.job for video in generate(model, jobs, batch_size=9)] == jobs
    assert batches == [[0, 1], [2], [3, 4], [5], [6]]


def test_jobs_are_taken_as_they_are_needed(model: Model) -> None:
    taken = []

    def endless() -> Iterator[Job]:
        for seed in itertools.count():
            taken.append(seed)
            yield Job(seed=seed, sampling=PLAIN)

    videos = generate(model, endless(), batch_size=3)
    assert [next(videos).job.seed for _ in range(5)] == [0, 1, 2, 3, 4]
    assert taken == [0, 1, 2, 3, 4, 5]


def test_a_pause_in_the_stream_is_not_waited_out(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = counted_batches(monkeypatch)
    jobs = [None, Job(seed=0, sampling=PLAIN), None, None, Job(seed=1, sampling=PLAIN), Job(seed=2, sampling=PLAIN)]
    assert len(list(generate(model, jobs, batch_size=4))) == 3
    assert batches == [[0], [1, 2]]


def test_what_fails_does_not_end_the_others(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(videos=0)
    jobs = [Job(seed=0, class_index=3), *(Job(seed=seed, sampling=PLAIN) for seed in (1, 2)), Job(seed=3)]
    failed: list[tuple[int, str]] = []
    memory.install(monkeypatch)

    def note(job: Job, error: Exception) -> None:
        failed.append((job.seed, str(error)))
        memory.videos = len(failed) - 1  # there is room again after the first that did not fit

    assert [video.job.seed for video in generate(model, jobs, batch_size=4, on_failure=note)] == [2, 3]
    assert failed == [(0, "class_index must be at most 2, got 3"), (1, "not enough memory for one video")]


def test_settings_that_a_sampler_cannot_do_do_not_end_the_others(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such settings are refused before; should some slip through, they cost their own videos."""
    bad = dataclasses.replace(PLAIN, steps=3)
    levels = generation.schedule
    monkeypatch.setattr(
        generation, "schedule", lambda sampling: levels(sampling).flip(0) if sampling == bad else levels(sampling)
    )
    jobs = [Job(seed=seed, sampling=PLAIN if seed in (0, 3) else bad) for seed in range(4)]
    failed: list[int] = []
    counts: list[int] = []
    videos = generate(model, jobs, on_failure=lambda job, error: failed.append(job.seed), on_evaluation=counts.append)
    assert [video.job.seed for video in videos] == [0, 3]
    assert (failed, sum(counts)) == ([1, 2], 2 * PLAIN.num_evaluations)
    with pytest.raises(ValueError, match="sigmas must be finite and descend"):
        list(generate(model, jobs))


def test_frames_are_decoded_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(save_tiny(tmp_path / "x.safetensors", tiny_config("latent", frames=20)))
    lengths = []
    decode = type(model.codec).decode

    def note(codec: object, x: torch.Tensor) -> torch.Tensor:
        lengths.append(x.shape[2])
        return decode(codec, x)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model.codec), "decode", note)
    (video,) = generate(model, [Job(seed=0)])
    assert lengths == []
    assert next(video.chunks()).shape[0] == lengths[0] < 20
    assert video.frames.shape[0] == 20
    assert video.frames is video.frames


def test_a_video_that_is_not_finite_is_its_own_failure(model: Model) -> None:
    first, second = generate(model, [Job(seed=0), Job(seed=1)], batch_size=2)
    broken = dataclasses.replace(first, x=first.x * float("nan"))
    with pytest.raises(MPVideoError, match="the sampled video is not usable"):
        _ = broken.frames
    assert second.frames.shape == (4, 8, 8, 3)

from dataclasses import asdict, fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpvideo.architecture import network_plan
from mpvideo.checkpoint import bundled_checkpoint, open_checkpoint
from mpvideo.config import CheckpointConfig, VideoConfig
from mpvideo.training.cost import num_parameters
from mpvideo.training.recipe import PRESETS, PresetName, Recipe, TrainedCodec, changed_fields, codec_config
from mpvideo.training.trainer import clips_per_sample

CODECS = get_args(TrainedCodec)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0), ("batch_size", 2.0), ("micro_batch", 0), ("P_mean", float("nan")), ("P_std", -1.0),
        ("peak_rate", 0.0), ("peak_rate", float("nan")), ("peak_rate", 1.5), ("warmup_steps", -1), ("decay_steps", 0),
        ("label_dropout", 1.5), ("clip_frames", 0), ("clip_share", -0.1), ("autoencoder_steps", -1),
        ("dtype", "float16"), ("seed", -1), ("seed", 2**63),
    ],
)  # fmt: skip
def test_recipes_that_cannot_be(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        Recipe(**{name: value})


def test_recipes_at_the_edge() -> None:
    Recipe(batch_size=1, micro_batch=1, P_std=0.0, peak_rate=1.0, warmup_steps=0, decay_steps=1, label_dropout=1.0)
    Recipe(clip_frames=1, clip_share=0.0, autoencoder_steps=0, dtype="bfloat16", seed=2**63 - 1, label_dropout=0.0)


def test_changed_fields() -> None:
    recipe = Recipe(clip_frames=8)
    before = asdict(recipe)
    assert changed_fields(before, recipe) == []
    assert changed_fields(before, replace(recipe, seed=1, batch_size=2, clip_frames=None)) == [
        "batch_size",
        "clip_frames",
        "seed",
    ]
    del before["P_std"]
    assert changed_fields(before, recipe) == ["P_std"]
    assert changed_fields({}, Recipe()) == [field.name for field in fields(Recipe) if field.name != "clip_frames"]


def test_codecs() -> None:
    assert codec_config("gray", 12.0) == VideoConfig(codec="gray", fps=12.0)
    assert codec_config("rgb", 8.0).channels == 3
    latent = codec_config("latent", 8.0)
    assert (latent.channels, latent.pixel_size(4)) == (16, 64)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", get_args(PresetName))
def test_every_preset_is_a_legal_network(name: PresetName, codec: TrainedCodec) -> None:
    preset, video = PRESETS[name], codec_config(codec, 8.0)
    for num_classes in (None, 7):
        model = preset.model(video, size=preset.size, frames=preset.frames, num_classes=num_classes)
        CheckpointConfig(model=model, video=video)
        assert video.pixel_size(model.image_size) == preset.size
        assert (model.frames, model.channels) == (preset.frames, video.channels)
        assert (model.num_classes, model.dropout, model.self_condition) == (num_classes, 0.0, False)
        plan = network_plan(model)
        smallest = min(block.image_size for block in plan)
        assert smallest <= preset.smallest
        assert any(block.attention != "none" for block in plan)
        assert max(block.dim_out for block in plan) <= preset.dim_max
        shortest = Recipe(clip_frames=model.frames_multiple)
        assert clips_per_sample(shortest, model) == model.frames / model.frames_multiple
    assert preset.model(video, size=preset.size, frames=preset.frames, num_classes=7, dropout=0.2).dropout == 0.2
    recipe = Recipe(**preset.recipe)
    assert recipe.batch_size % recipe.micro_batch == 0
    assert recipe.warmup_steps < recipe.decay_steps < preset.steps


@pytest.mark.parametrize("codec", CODECS)
def test_presets_grow(codec: TrainedCodec) -> None:
    sizes = [
        num_parameters(preset.model(codec_config(codec, 8.0), size=64, frames=32, num_classes=None))
        for preset in PRESETS.values()
    ]
    assert list(PRESETS) == ["tiny", "small", "base"]
    assert sizes == sorted(sizes)
    assert sizes[2] > 5 * sizes[0]


def test_small_on_latents_is_the_bundled_weights_network() -> None:
    bundled = open_checkpoint(bundled_checkpoint()).config
    video = codec_config("latent", bundled.video.fps)
    assert video == bundled.video
    assert PRESETS["small"].model(video, size=64, frames=32, num_classes=1000) == bundled.model


@pytest.mark.parametrize(
    ("codec", "size", "message"),
    [
        ("latent", 60, "^size must be a multiple of 16 for the codec latent, got 60$"),
        ("latent", 4, "^size must be a multiple of 16 for the codec latent, got 4$"),
        ("latent", 0, "^size must be a multiple of 16 for the codec latent, got 0$"),
        ("rgb", 0, "^size must be a multiple of 1 for the codec rgb, got 0$"),
        ("rgb", -8, "^image_size must be at least 1, got -8$"),
        ("gray", 10**6, "^image_size must be at most"),
    ],
)
def test_sizes_that_fit_no_network(codec: TrainedCodec, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PRESETS["tiny"].model(codec_config(codec, 8.0), size=size, frames=16, num_classes=None)


@given(
    name=st.sampled_from(get_args(PresetName)),
    codec=st.sampled_from(CODECS),
    size=st.integers(1, 300),
    frames=st.integers(1, 70),
)
def test_any_size_is_a_network_or_an_error(name: PresetName, codec: TrainedCodec, size: int, frames: int) -> None:
    """Height and width are halved while they are above the smallest and divide, the frames with them and after them."""
    preset, video = PRESETS[name], codec_config(codec, 8.0)
    if size % video.pixel_size(1):
        with pytest.raises(ValueError, match=f"got {size}$"):
            preset.model(video, size=size, frames=frames, num_classes=None)
        return
    model = preset.model(video, size=size, frames=frames, num_classes=None)
    halvings = sum(word != "frame" for word in model.stage_types)
    height, length = model.image_size / 2**halvings, frames / model.frames_multiple
    assert height.is_integer()
    assert length.is_integer()
    assert halvings == 0 or 2 * height > preset.smallest
    assert height <= preset.smallest or height % 2
    assert model.stage_types[halvings:] == ("frame",) * (model.num_downsamples - halvings), "the frames alone come last"
    assert length <= preset.shortest or length % 2

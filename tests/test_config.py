import dataclasses
import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpvideo.config import (
    FORMAT,
    AutoencoderConfig,
    CheckpointConfig,
    EDMConfig,
    ModelConfig,
    SamplingConfig,
    VideoConfig,
)
from mpvideo.errors import CheckpointError, ExitCode
from mpvideo.sampling_config import Sampler, Schedule
from tests.networks import model_configs

FEW = settings(max_examples=60, deadline=None, database=None, derandomize=True)

MODEL = ModelConfig(image_size=16, frames=8, channels=3, num_classes=2)
RGB = CheckpointConfig(model=MODEL, video=VideoConfig(codec="rgb"))
FULL = CheckpointConfig(
    model=ModelConfig(
        image_size=8,
        frames=12,
        dim=32,
        dim_max=48,
        num_classes=3,
        channels=5,
        num_downsamples=2,
        num_blocks_per_stage=(1, 2, 3),
        downsample_types=("all", "image"),
        attn_res=(4,),
        fourier_dim=8,
        attn_dim_head=16,
        attn_flash=True,
        mp_cat_t=0.25,
        mp_add_emb_t=0.75,
        attn_res_mp_add_t=0.0,
        resnet_mp_add_t=1.0,
        dropout=0.0,
        self_condition=True,
        factorize_space_time_attn=True,
    ),
    video=VideoConfig(codec="latent", fps=12.5, autoencoder=AutoencoderConfig(width=8, latent_channels=5)),
    edm=EDMConfig(sigma_data=0.25, clamp=True, legacy_fan_in=True),
    sampling=SamplingConfig(
        sampler="euler",
        schedule="cosine",
        sigmas=(50, 9, 0.01),
        rho=5.0,
        s_churn=10.0,
        s_tmin=0.05,
        s_tmax=40.0,
        s_noise=1.01,
        eta=0.5,
        restart_steps=5,
        restart_min=0.3,
        restart_max=3.0,
        guidance=0,
    ),
    classes=("rot", "grün", 'blau "hell"'),
    training={"steps": 10, "seed": None, "rates": [0.1, None], "data": {"name": "x", "note": None}},
    title="Ein Versuch",
    license="MIT",
)


def read(data: Any, where: str = "a.safetensors") -> CheckpointConfig:
    return CheckpointConfig.from_dict(data, where)


def changed(part: str, **fields: Any) -> dict[str, Any]:
    """The JSON object of RGB with fields of a part changed."""
    data = json.loads(RGB.to_json())
    data[part] = {**data.get(part, {}), **fields}
    return data


def refused(data: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read(data)
    assert caught.value.exit_code == ExitCode.CHECKPOINT
    return caught.value


# Round trips


@pytest.mark.parametrize("config", [RGB, FULL, dataclasses.replace(RGB, classes=["a", "b"], title="")])
def test_round_trip(config):
    text = config.to_json()
    assert read(json.loads(text)) == config
    assert read(json.loads(text)).to_json() == text
    assert json.loads(text) == json.loads(json.dumps(config.to_dict()))


def descending(places: list[int]) -> list[float]:
    """Noise levels, none next to equal to another."""
    return [1.001**place for place in sorted(places, reverse=True)]


@st.composite
def checkpoint_configs(draw: st.DrawFn) -> CheckpointConfig:
    model = draw(model_configs())
    codec = draw(st.sampled_from(["latent", *{1: ["gray"], 3: ["rgb"], 4: ["rgba"]}.get(model.channels, [])]))
    autoencoder = None
    if codec == "latent":
        autoencoder = AutoencoderConfig(
            width=draw(st.integers(1, 4096)), latent_channels=model.channels, num_downsamples=draw(st.integers(1, 8))
        )
    sigma_min, s_tmin = draw(st.floats(1e-6, 1)), draw(st.floats(0, 1))
    name = st.text(min_size=1).filter(lambda name: name.strip() and "," not in name)
    names = st.lists(name, min_size=model.num_classes or 0, max_size=model.num_classes or 0, unique=True)
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )
    return CheckpointConfig(
        model=model,
        video=VideoConfig(codec=codec, fps=draw(st.floats(0.01, 240) | st.integers(1, 240)), autoencoder=autoencoder),
        edm=EDMConfig(sigma_data=draw(st.floats(1e-6, 1e6)), clamp=draw(st.booleans())),
        sampling=SamplingConfig(
            sampler=draw(st.sampled_from(get_args(Sampler))),
            schedule=draw(st.sampled_from(get_args(Schedule))),
            sigmas=draw(st.none() | st.lists(st.integers(-9000, 9000), min_size=1, unique=True).map(descending)),
            steps=draw(st.integers(1, 100_000)),
            sigma_min=sigma_min,
            sigma_max=draw(st.floats(1.2, 1e6)),
            s_tmin=s_tmin,
            s_tmax=draw(st.none() | st.floats(s_tmin, 1e6)),
            guidance=draw(st.floats(0, 1000)),
            guidance_interval=draw(st.none() | st.tuples(st.floats(0, 1), st.floats(1, 1e6))),
        ),
        classes=tuple(draw(names)) if model.num_classes and draw(st.booleans()) else None,
        training=draw(st.dictionaries(st.text(), json_values, max_size=3)),
        title=draw(st.none() | st.text()),
    )


@FEW
@given(checkpoint_configs())
def test_any_legal_config_comes_back(config):
    assert read(json.loads(config.to_json())) == config


def test_what_the_json_looks_like():
    """The format comes first, what is None is left out, the text is one line and readable."""
    data = RGB.to_dict()
    assert list(data) == ["format", "model", "video", "edm", "sampling", "training"]
    assert data["format"] == FORMAT == 1
    assert "s_tmax" not in data["sampling"] and "autoencoder" not in data["video"]
    assert data["model"]["attn_res"] == (16, 8)
    text = FULL.to_json()
    assert "grün" in text and "\n" not in text and ": " not in text
    assert text == FULL.to_json()


def test_the_record_of_training_is_kept_as_it_is():
    assert FULL.to_dict()["training"] == FULL.training


def test_numbers_that_json_lacks_are_not_written():
    with pytest.raises(ValueError, match="Out of range float"):
        dataclasses.replace(RGB, training={"loss": math.nan}).to_json()


def test_what_is_left_out_gets_its_default():
    config = read({"format": 1, "model": {"image_size": 16, "frames": 8, "channels": 3}, "video": {"codec": "rgb"}})
    assert config.model == ModelConfig(image_size=16, frames=8, channels=3)
    assert (config.edm, config.sampling) == (EDMConfig(), SamplingConfig())
    assert (config.classes, config.training, config.title, config.license) == (None, {}, None, None)


def test_null_is_as_good_as_left_out():
    data = changed("video", autoencoder=None)
    data |= {"classes": None, "title": None, "license": None}
    data["sampling"]["s_tmax"] = None
    assert read(data) == RGB


def test_reading_leaves_its_argument_alone():
    data = json.loads(FULL.to_json())
    read(data)
    assert data == json.loads(FULL.to_json())


def test_defaults_of_the_published_package():
    model = ModelConfig(image_size=64, frames=32)
    expected = (192, 768, None, 4, 3, 4, "all", (16, 8), 16, 64, False, 0.5, 0.5, 0.3, 0.3, 0.1, False, False)
    assert dataclasses.astuple(model)[2:] == expected
    assert dataclasses.astuple(EDMConfig()) == (0.5, False, False)


# Frozen


def test_configs_are_frozen():
    for config, name in [(RGB, "title"), (MODEL, "dim"), (RGB.video, "fps"), (RGB.edm, "clamp"), (RGB.sampling, "rho")]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, name, None)


def test_sequences_are_frozen():
    """A list that the caller goes on to change is not the config's."""
    blocks, types, attn = [1, 2], ["all", "image"], [8]
    model = ModelConfig(
        image_size=16,
        frames=8,
        num_downsamples=2,
        num_blocks_per_stage=blocks,
        downsample_types=types,
        attn_res=attn,
    )
    blocks.append(0), types.clear(), attn.append(3)
    assert (model.num_blocks_per_stage, model.downsample_types, model.attn_res) == ((1, 2), ("all", "image"), (8,))
    hash(model)
    assert ModelConfig(image_size=16, frames=8, attn_res={16}).attn_res == (16,)
    assert ModelConfig(image_size=16, frames=8, attn_res=16).attn_res == (16,)
    names = ["a", "b"]
    config = CheckpointConfig(model=MODEL, video=RGB.video, classes=names)
    names.append("c")
    assert config.classes == ("a", "b")


# What follows from the fields


@pytest.mark.parametrize(
    ("S", "blocks", "expected"),
    [(0, 3, (3,)), (0, (2,), (2,)), (2, 3, (3, 3, 3)), (2, (1, 2), (1, 1, 2)), (2, (1, 2, 3), (1, 2, 3))],
)
def test_stage_blocks(S, blocks, expected):  # noqa: N803
    model = ModelConfig(image_size=16, frames=8, num_downsamples=S, num_blocks_per_stage=blocks)
    assert model.stage_blocks == expected


def test_stage_types():
    assert ModelConfig(image_size=16, frames=8, downsample_types="image").stage_types == ("image",) * 3
    types = ("frame", "image", "all")
    assert ModelConfig(image_size=16, frames=8, downsample_types=types).stage_types == types


@pytest.mark.parametrize(
    ("codec", "channels", "pixel_channels"), [("gray", 1, 1), ("rgb", 3, 3), ("rgba", 4, 4), ("latent", 5, 3)]
)
def test_channels_of_codecs(codec, channels, pixel_channels):
    latent = codec == "latent"
    autoencoder = AutoencoderConfig(latent_channels=5, num_downsamples=2) if latent else None
    video = VideoConfig(codec=codec, autoencoder=autoencoder)
    assert (video.channels, video.pixel_channels) == (channels, pixel_channels)
    assert video.pixel_size(16) == (64 if latent else 16)


def test_pixel_size():
    assert (RGB.pixel_size, FULL.pixel_size) == (16, 64)


# Fields out of range: the ends of each range and what lies just outside

RANGES = [
    (ModelConfig, "image_size", 1, 65536),
    (ModelConfig, "frames", 1, 65536),
    (ModelConfig, "channels", 1, 65536),
    (ModelConfig, "attn_dim_head", 1, 65536),
    (ModelConfig, "dim", 1, 65536),
    (ModelConfig, "dim_max", 1, 65536),
    (ModelConfig, "num_classes", 1, 10_000_000),
    (ModelConfig, "num_downsamples", 0, 16),
    (ModelConfig, "fourier_dim", 2, 65536),
    (ModelConfig, "num_blocks_per_stage", 1, 1024),
    (AutoencoderConfig, "width", 1, 4096),
    (AutoencoderConfig, "latent_channels", 1, 4096),
    (AutoencoderConfig, "num_downsamples", 1, 8),
    (SamplingConfig, "steps", 1, 100_000),
    (SamplingConfig, "restarts", 0, 1000),
    (SamplingConfig, "restart_steps", 1, 100_000),
]
REQUIRED: dict[type, dict[str, Any]] = {
    ModelConfig: {"image_size": 65536, "frames": 65536, "num_downsamples": 0},
    VideoConfig: {"codec": "rgb"},
}


def make(kind: type, **fields: Any) -> Any:
    return kind(**{**REQUIRED.get(kind, {}), **fields})


@pytest.mark.parametrize(("kind", "name", "low", "high"), RANGES)
def test_range_of_whole_numbers(kind, name, low, high):
    for value in (low, high):
        assert getattr(make(kind, **{name: value}), name) == value
    with pytest.raises(ValueError, match=f"^{name} must be at least {low}, got {low - 1}$"):
        make(kind, **{name: low - 1})
    with pytest.raises(ValueError, match=f"^{name} must be at most {high}, got {high + 1}$"):
        make(kind, **{name: high + 1})


@pytest.mark.parametrize(("kind", "name", "low", "high"), RANGES)
@pytest.mark.parametrize("value", [True, 3.0, "3", math.nan, math.inf, b"3", {}])
def test_types_of_whole_numbers(kind, name, low, high, value):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number, got ") as caught:
        make(kind, **{name: value})
    assert str(caught.value).endswith(repr(value))


FLOATS = [
    (ModelConfig, "mp_cat_t", "at least 0", -1e-9, "at most 1", 1 + 1e-9),
    (ModelConfig, "mp_add_emb_t", "at least 0", -1e-9, "at most 1", 1 + 1e-9),
    (ModelConfig, "attn_res_mp_add_t", "at least 0", -1e-9, "at most 1", 1 + 1e-9),
    (ModelConfig, "resnet_mp_add_t", "at least 0", -1e-9, "at most 1", 1 + 1e-9),
    (ModelConfig, "dropout", "at least 0", -1e-9, "less than 1", 1.0),
    (EDMConfig, "sigma_data", "greater than 0", 0.0, r"at most 1e\+06", 1e6 + 1),
    (VideoConfig, "fps", "at least 0.01", 0, "at most 240", 240.5),
    (SamplingConfig, "sigma_min", "at least 1e-08", 0.0, r"at most 1e\+06", 1e7),
    (SamplingConfig, "sigma_max", "greater than 0", 0.0, r"at most 1e\+06", 1e7),
    (SamplingConfig, "rho", "greater than 0", 0, "at most 1000", 1001),
    (SamplingConfig, "s_churn", "at least 0", -0.5, r"at most 1e\+06", 1e7),
    (SamplingConfig, "s_tmin", "at least 0", -0.5, r"at most 1e\+06", 1e7),
    (SamplingConfig, "s_tmax", "at least 0", -0.5, r"at most 1e\+06", 1e7),
    (SamplingConfig, "s_noise", "greater than 0", 0.0, "at most 1000", 1001.0),
    (SamplingConfig, "eta", "at least 0", -0.1, "at most 100", 100.1),
    (SamplingConfig, "restart_min", "greater than 0", 0, r"at most 1e\+06", 1e7),
    (SamplingConfig, "restart_max", "greater than 0", 0, r"at most 1e\+06", 1e7),
    (SamplingConfig, "guidance", "at least 0", -1, "at most 1000", 1000.1),
]


@pytest.mark.parametrize(("kind", "name", "rule_low", "low", "rule_high", "high"), FLOATS)
def test_range_of_numbers(kind, name, rule_low, low, rule_high, high):
    for rule, value in ((rule_low, low), (rule_high, high), (rule_high, 10**400)):
        with pytest.raises(ValueError, match=rf"^{name} must be {rule}, got \S+$"):
            make(kind, **{name: value})


@pytest.mark.parametrize(("kind", "name"), [entry[:2] for entry in FLOATS])
@pytest.mark.parametrize("value", [True, "0.5", math.nan, math.inf, -math.inf, [0.5]])
def test_types_of_numbers(kind, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be a finite number, got ") as caught:
        make(kind, **{name: value})
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ModelConfig, dict.fromkeys(("mp_cat_t", "mp_add_emb_t", "attn_res_mp_add_t", "resnet_mp_add_t"), 0)),
        (ModelConfig, dict.fromkeys(("mp_cat_t", "mp_add_emb_t", "attn_res_mp_add_t", "resnet_mp_add_t"), 1)),
        (ModelConfig, {"dropout": 0}),
        (EDMConfig, {"sigma_data": 1e6}),
        (VideoConfig, {"fps": 240}),
        (VideoConfig, {"fps": 0.01}),
        (SamplingConfig, {"s_churn": 0, "s_tmin": 0, "s_tmax": 0, "guidance": 0}),
        (SamplingConfig, {"sigma_max": 1e6, "s_churn": 1e6, "s_tmax": 1e6, "s_noise": 1000, "rho": 1000}),
    ],
)
def test_ends_that_belong_to_their_range(kind, fields):
    config = make(kind, **fields)
    assert {name: getattr(config, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ModelConfig, "attn_flash"),
        (ModelConfig, "self_condition"),
        (ModelConfig, "factorize_space_time_attn"),
        (EDMConfig, "clamp"),
        (EDMConfig, "legacy_fan_in"),
    ],
)
@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_booleans(kind, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be true or false, got {value!r}$"):
        make(kind, **{name: value})


@pytest.mark.parametrize(
    ("kind", "name", "choices"),
    [
        (ModelConfig, "downsample_types", "all, image, frame"),
        (VideoConfig, "codec", "gray, rgb, rgba, latent"),
        (
            SamplingConfig,
            "sampler",
            "auto, euler, heun, dpmpp-2m, dpmpp-3m, dpmpp-2m-sde, unipc, deis, ipndm, lms",
        ),
        (SamplingConfig, "schedule", "karras, exponential, linear, cosine"),
    ],
)
@pytest.mark.parametrize("value", ["other", "", 3, None, {}])
def test_choices(kind, name, choices, value):
    with pytest.raises(ValueError, match=f"^{name} must be one of {choices}; got {value!r}$"):
        make(kind, **{name: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fourier_dim": 7}, "fourier_dim must be even, got 7"),
        ({"image_size": 12}, "image_size must be divisible by 8, because 3 stages halve it; got 12"),
        ({"frames": 12}, "frames must be divisible by 8, because 3 stages halve it; got 12"),
        (
            {"downsample_types": ["image", "frame", "all"], "frames": 6},
            "frames must be divisible by 4, because 2 stages halve it; got 6",
        ),
        (
            {"downsample_types": ["all", "all"]},
            "downsample_types must be one word or 3 of them for num_downsamples 3; ",
        ),
        ({"downsample_types": ["all", "all", "none"]}, "downsample_types must be one of all, image, frame; got 'none'"),
        (
            {"num_blocks_per_stage": [1, 2]},
            "num_blocks_per_stage must be one number, 3 or 4 of them for num_downsamples 3; got 2: [1, 2]",
        ),
        ({"num_blocks_per_stage": [1] * 5}, "num_blocks_per_stage must be one number, 3 or 4 of them"),
        ({"num_blocks_per_stage": []}, "num_blocks_per_stage must be one number, 3 or 4 of them"),
        ({"num_blocks_per_stage": [], "num_downsamples": 0}, "num_blocks_per_stage must be one number, "),
        ({"num_blocks_per_stage": [1, 2, 0]}, "num_blocks_per_stage must be at least 1, got 0"),
        ({"num_blocks_per_stage": [1, 2, True]}, "num_blocks_per_stage must be a whole number, got True"),
        ({"attn_res": "16"}, "attn_res must be a list of whole numbers, got '16'"),
        ({"attn_res": None}, "attn_res must be a list of whole numbers, got None"),
        ({"attn_res": True}, "attn_res must be a list of whole numbers, got True"),
        ({"attn_res": [16, 0]}, "attn_res must be at least 1, got 0"),
        ({"attn_res": [16, "8"]}, "attn_res must be a whole number, got '8'"),
    ],
)
def test_model_fields_that_do_not_fit(fields, message):
    with pytest.raises(ValueError) as caught:
        ModelConfig(**{"image_size": 16, "frames": 8, **fields})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sigma_min": 2, "sigma_max": 2}, "sigma_min must be less than sigma_max, got 2 and 2"),
        ({"sigma_min": 3.0, "sigma_max": 2.0}, "sigma_min must be less than sigma_max, got 3.0 and 2.0"),
        ({"s_tmin": 3, "s_tmax": 2}, "s_tmax must be at least s_tmin, got 2 and 3"),
        ({"guidance_interval": [3, 0.2]}, "guidance_interval must have its lowest noise level first, got 3 and 0.2"),
        ({"guidance_hold": 1}, "guidance_hold must be true or false, got 1"),
        ({"apg_eta": -1}, "apg_eta must be at least 0, got -1"),
        ({"apg_norm": 0}, "apg_norm must be greater than 0, got 0"),
        ({"guidance_interval": 3}, "guidance_interval must be a lowest and a highest noise level, got 3"),
    ],
)
def test_sampling_fields_that_do_not_fit(fields, message):
    with pytest.raises(ValueError) as caught:
        SamplingConfig(**fields)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("codec", "autoencoder", "state"),
    [("latent", None, "missing for latent"), ("rgb", AutoencoderConfig(), "given for rgb")],
)
def test_autoencoder_exactly_for_latents(codec, autoencoder, state):
    with pytest.raises(ValueError, match=f"^autoencoder must be given exactly for the codec latent; it is {state}$"):
        VideoConfig(codec=codec, autoencoder=autoencoder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"video": VideoConfig(codec="rgba")}, "model.channels must be 4 for the codec rgba, got 3"),
        (
            {"video": VideoConfig(codec="latent", autoencoder=AutoencoderConfig(latent_channels=5))},
            "model.channels must be 5 for the codec latent, got 3",
        ),
        ({"classes": ("a",)}, "classes must be 2 names, as num_classes; got 1"),
        ({"classes": ("a", "b", "c")}, "classes must be 2 names, as num_classes; got 3"),
        ({"classes": ("a", "a")}, "classes must be different names, got 'a' twice"),
        ({"classes": ("a", "b, c")}, "classes must be names without commas, got 'b, c' at 1"),
        ({"classes": ("", "b")}, "classes must be names without commas, got '' at 0"),
        ({"classes": ("a", "  ")}, "classes must be names without commas, got '  ' at 1"),
        ({"classes": ("a", 3)}, "classes must be names without commas, got 3 at 1"),
        ({"classes": ("a", "b" * 1001)}, "classes must be names of at most 1,000 characters, got 1,001 at 1"),
        ({"classes": "ab"}, "classes must be a list of names, got 'ab'"),
        ({"classes": {"a": 0, "b": 1}}, "classes must be a list of names, got {'a': 0, 'b': 1}"),
        ({"training": [1]}, "training must be an object, got [1]"),
        ({"training": None}, "training must be an object, got None"),
        ({"title": 3}, "title must be a string, got 3"),
        ({"license": ["MIT"]}, "license must be a string, got ['MIT']"),
    ],
)
def test_checkpoint_fields_that_do_not_fit(fields, message):
    with pytest.raises(ValueError) as caught:
        CheckpointConfig(**{"model": MODEL, "video": VideoConfig(codec="rgb"), **fields})
    assert str(caught.value) == message


def test_class_names_without_classes():
    with pytest.raises(ValueError, match=r"^classes must be left out for a network without classes "):
        dataclasses.replace(RGB, model=dataclasses.replace(MODEL, num_classes=None), classes=())


# Reading: the place is named


@pytest.mark.parametrize(
    ("part", "fields", "message"),
    [
        ("model", {"dim": 0}, "a.safetensors: model: dim must be at least 1, got 0"),
        ("model", {"dim": True}, "a.safetensors: model: dim must be a whole number, got True"),
        ("edm", {"sigma_data": "0.5"}, "a.safetensors: edm: sigma_data must be a finite number, got '0.5'"),
        ("sampling", {"rho": math.nan}, "a.safetensors: sampling: rho must be a finite number, got nan"),
        ("sampling", {"rho": math.inf}, "a.safetensors: sampling: rho must be a finite number, got inf"),
        ("video", {"fps": 0}, "a.safetensors: video: fps must be at least 0.01, got 0"),
        (
            "video",
            {"codec": "latent", "autoencoder": {"width": 0}},
            "a.safetensors: video.autoencoder: width must be at least 1, got 0",
        ),
        ("video", {"autoencoder": 3}, "a.safetensors: video.autoencoder must be an object, got 3"),
        ("model", {"channels": 4}, "a.safetensors: model.channels must be 3 for the codec rgb, got 4"),
    ],
)
def test_place_of_a_bad_value(part, fields, message):
    assert refused(changed(part, **fields)).message == message


@pytest.mark.parametrize("part", ["model", "edm", "sampling", "video"])
def test_unknown_field_of_a_part(part):
    error = refused(changed(part, widht=3, other=4))
    assert error.message == f"a.safetensors: {part} has unknown fields: widht, other"
    assert error.hint is not None and error.hint.startswith("Known fields: ")


def test_unknown_field_at_the_top():
    error = refused({**RGB.to_dict(), "modle": {}})
    assert error.message == "a.safetensors has unknown fields: modle"
    assert error.hint == "Known fields: model, video, edm, sampling, classes, training, title, license."


def test_many_unknown_fields_are_cut_short():
    message = refused({**RGB.to_dict(), **{f"x{index}": 0 for index in range(1000)}}).message
    assert message.endswith("x8, x9")


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (("model",), "a.safetensors lacks model"),
        (("model", "video"), "a.safetensors lacks model, video"),
        (("model.frames",), "a.safetensors: model lacks frames"),
        (("model.frames", "model.image_size"), "a.safetensors: model lacks image_size, frames"),
        (("video.codec",), "a.safetensors: video lacks codec"),
    ],
)
def test_missing_fields(drop, message):
    data = json.loads(RGB.to_json())
    for path in drop:
        *parts, name = path.split(".")
        del (data[parts[0]] if parts else data)[name]
    assert refused(data).message == message


@pytest.mark.parametrize("part", ["model", "edm", "sampling", "video"])
@pytest.mark.parametrize("value", [None, [], "heun", 3])
def test_part_that_is_no_object(part, value):
    message = refused({**RGB.to_dict(), part: value}).message
    assert message == f"a.safetensors: {part} must be an object, got {value!r}"


@pytest.mark.parametrize("version", [2, 0, -1, 10**30])
def test_format_of_another_version(version):
    error = refused({**RGB.to_dict(), "format": version})
    assert error.message == f"a.safetensors: config format must be 1, got {version}"
    assert error.hint is not None and "newer mpvideo" in error.hint


@pytest.mark.parametrize("version", [None, "1", [1]])
def test_format_that_is_no_number(version):
    error = refused({**RGB.to_dict(), "format": version})
    assert error.message == f"a.safetensors: config format must be 1, got {version!r}"
    assert error.hint is not None and '"format": 1' in error.hint


def test_format_that_is_missing_or_a_boolean():
    data = RGB.to_dict()
    assert "got True" in refused({**data, "format": True}).message
    del data["format"]
    assert refused(data).message == "a.safetensors: config format must be 1, got None"

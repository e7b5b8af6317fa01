import json
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from mpvideo.architecture import checkpoint_shapes, network_shapes
from mpvideo.checkpoint import Header, TensorInfo, find_problems, read_header, resolve_config
from mpvideo.checkpoint.completion import OpenConfigError
from mpvideo.checkpoint.resolving import config_layers, resolve
from mpvideo.config import CheckpointConfig, ModelConfig
from mpvideo.errors import CheckpointError
from tests.checkpoint.files import CONFIG, latent_config, put, with_shapes
from tests.checkpoints import tiny_config
from tests.networks import model_configs


@pytest.fixture
def bare(tmp_path: Path) -> Header:
    """Tensors without any config."""
    return read_header(with_shapes(tmp_path / "bare.safetensors", checkpoint_shapes(CONFIG)))


def error_of(*arguments: Any, **options: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        resolve_config(*arguments, **options)
    return caught.value


def model(**changes: Any) -> dict[str, Any]:
    return {**CONFIG.to_dict()["model"], **changes}


def test_a_config_file_or_flags_complete_a_checkpoint_without_config(bare: Header, tmp_path: Path) -> None:
    file = put(tmp_path / "c.json", json.dumps(CONFIG.to_dict()).encode())
    assert resolve_config(bare, config_file=file) == CONFIG
    assert resolve_config(bare, overrides={"model": model(), "sampling": {"sampler": "heun", "steps": 3}}) == CONFIG


def test_what_is_open_is_asked_for(bare: Header) -> None:
    with pytest.raises(OpenConfigError, match=r"bare\.safetensors does not tell 3 fields of its config") as caught:
        resolve_config(bare)
    fields = [question.field for question in caught.value.questions]
    assert fields == ["model.downsample_types", "model.image_size", "model.frames"]
    assert "--set model.image_size=32" in (caught.value.hint or "")
    answers = {"model": {"image_size": 8, "frames": 4, "downsample_types": "all"}}
    resolution = resolve(bare, config_layers(bare, overrides=answers))
    assert resolution.config.model == replace(CONFIG.model, dim_max=768), "which no level reaches"
    assert resolution.config.video == CONFIG.video
    assert "model.dim" in resolution.inferred and "model.frames" not in resolution.inferred


def test_what_a_header_leaves_out_is_inferred_or_has_its_default(tmp_path: Path) -> None:
    """As in the example of weights.md: a config that gives the sizes need not give the rest."""
    config = {"format": 1, "model": {"image_size": 8, "frames": 4}, "video": {"fps": 2}}
    resolved = resolve_config(read_header(with_shapes(tmp_path / "a", checkpoint_shapes(CONFIG), config)))
    assert (resolved.model.dim, resolved.model.downsample_types, resolved.video.codec) == (8, "all", "rgb")
    assert resolved.model.attn_res == (4,), "the default, 16 and 8, would not fit the tensors"


def test_what_contradicts_the_tensors_is_taken_at_its_word(bare: Header) -> None:
    """So that all that differs can be told."""
    config = resolve_config(bare, overrides={"model": model(dim=16, dim_max=32)})
    assert config.model.dim == 16 and len(find_problems(bare, config)) == 1
    error = error_of(bare, overrides={"model": {"dim": 16, "num_downsamples": 1}})
    assert error.message.endswith("bare.safetensors: model.dim must be 8 by the shapes of the tensors, got 16")
    assert error_of(bare, overrides={"model": 3}).message == "config from flags: model must be an object, got 3"


def test_tensors_of_something_else(tmp_path: Path) -> None:
    error = error_of(read_header(with_shapes(tmp_path / "a", {"weight": (2,)})))
    assert "does not say which architecture it has: no config gives `model`, and the tensors are not" in error.message
    sizes = {"model": {"image_size": 8, "frames": 4}}
    error = error_of(read_header(tmp_path / "a"), overrides=sizes)
    assert "does not say which architecture it has: the tensors are not those of" in error.message, "flags do not help"
    error = error_of(read_header(with_shapes(tmp_path / "b", {"ema\n.input_block.weight": (2,)})))
    assert "the names of its tensors begin with 'ema" in error.message and error.message.isprintable()
    assert "convert" in (error.hint or "")


def test_a_config_of_another_program_is_passed_over(tmp_path: Path) -> None:
    with_shapes(tmp_path / "model.safetensors", checkpoint_shapes(CONFIG), CONFIG.to_dict())
    put(tmp_path / "config.json", b'{"architectures": ["Other"], "frames": 3}')
    assert resolve_config(read_header(tmp_path)) == CONFIG
    put(tmp_path / "config.json", b'{"model": {"frames": 8}}')
    assert "config.json: config format must be 1, got None" in error_of(read_header(tmp_path)).message


def test_a_list_of_noise_levels_and_what_spaces_them_give_way_to_each_other(tmp_path: Path) -> None:
    levels = CONFIG.to_dict() | {"sampling": {"steps": 2, "sigmas": [9.0, 1.0], "guidance": 2.0}}
    listed = read_header(with_shapes(tmp_path / "a", checkpoint_shapes(CONFIG), levels))
    spaced = read_header(with_shapes(tmp_path / "b", checkpoint_shapes(CONFIG), CONFIG.to_dict()))
    found = resolve_config(listed, overrides={"sampling": {"steps": 5}}).sampling
    assert (found.steps, found.sigmas, found.sigma_max, found.guidance) == (5, None, 80.0, 2.0)
    found = resolve_config(spaced, overrides={"sampling": {"sigmas": [7, 1, 0.1]}}).sampling
    assert (found.steps, found.sigmas, found.sampler) == (3, (7, 1, 0.1), "heun")
    assert resolve_config(listed, overrides={"sampling": {"guidance": 3.0}}).sampling.sigmas == (9.0, 1.0)


@pytest.mark.parametrize(("channels", "codec"), [(1, "gray"), (3, "rgb")])
def test_codec_without_doubt_is_filled_in(tmp_path: Path, channels: int, codec: str) -> None:
    """Without tensors that could tell."""
    config = {"format": 1, "model": model(channels=channels)}
    assert resolve_config(read_header(with_shapes(tmp_path / "a", {}, config))).video.codec == codec


def test_other_channels_are_asked_about(tmp_path: Path) -> None:
    def header(channels: int) -> Header:
        config = {"format": 1, "model": model(channels=channels)}
        return read_header(with_shapes(tmp_path / "a", {}, config))

    assert "no pixel codec has 5 channels" in error_of(header(5)).message
    error = error_of(header(4))
    assert "rgba pixels or latents" in error.message and "--set video.codec=rgba" in (error.hint or "")
    latent = resolve_config(header(4), overrides={"video": {"codec": "latent"}})
    assert latent.video.autoencoder is not None


def test_four_channels_are_asked_about(tmp_path: Path) -> None:
    config = tiny_config("rgba", num_classes=None)
    header = read_header(with_shapes(tmp_path / "a", checkpoint_shapes(config)))
    settings = {name: value for name, value in config.to_dict()["model"].items() if name != "channels"}
    with pytest.raises(OpenConfigError) as caught:
        resolve_config(header, overrides={"model": settings})
    assert [question.field for question in caught.value.questions] == ["video.codec"]
    assert resolve_config(header, overrides={"model": settings, "video": {"codec": "rgba"}}).video.codec == "rgba"


def test_precedence_flags_file_header(tmp_path: Path) -> None:
    header_config = {**CONFIG.to_dict(), "title": "header", "license": "header", "video": {"codec": "rgb", "fps": 1}}
    header = read_header(with_shapes(tmp_path / "a.safetensors", checkpoint_shapes(CONFIG), header_config))
    file = put(tmp_path / "c.json", json.dumps({"format": 1, "title": "file", "video": {"fps": 2}}).encode())
    config = resolve_config(header, config_file=file, overrides={"video": {"fps": 3}})
    assert (config.license, config.title, config.video.fps, config.video.codec) == ("header", "file", 3, "rgb")
    assert resolve_config(header, config_file=file).video.fps == 2
    assert resolve_config(header).video.fps == 1


def test_config_beside_the_weights(tmp_path: Path) -> None:
    with_shapes(tmp_path / "model.safetensors", checkpoint_shapes(CONFIG), {**CONFIG.to_dict(), "title": "header"})
    put(tmp_path / "config.json", b'\xef\xbb\xbf{"format": 1, "title": "beside"}')
    assert resolve_config(read_header(tmp_path)).title == "beside"
    given = put(tmp_path / "given.json", b'{"format": 1, "license": "MIT"}')
    config = resolve_config(read_header(tmp_path), config_file=given)
    assert (config.title, config.license) == ("header", "MIT"), "a given file takes the place of config.json"


def test_null_takes_a_field_away(tmp_path: Path) -> None:
    config = {**CONFIG.to_dict(), "model": model(num_classes=3), "classes": ["a", "b", "c"]}
    header = read_header(with_shapes(tmp_path / "a", {}, config))
    resolved = resolve_config(header, overrides={"model": {"num_classes": None}, "classes": None})
    assert resolved.model.num_classes is None and resolved.classes is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**CONFIG.to_dict(), "format": 2}, "config format must be 1, got 2"),
        ({"model": {}}, "config format must be 1, got None"),
        ("not json", "header key mpvideo is not valid JSON"),
        ("[1]", "header key mpvideo must be a JSON object"),
        ('{"format": 1, "training": ' + "[" * 200 + "]" * 200 + "}", "nested at most 64"),
        ({**CONFIG.to_dict(), "modell": 1}, "unknown fields: modell"),
        ({**CONFIG.to_dict(), "model": 7}, "model must be an object"),
        ({**CONFIG.to_dict(), "model": model(dim=0)}, "dim must be at least 1, got 0"),
        ({**CONFIG.to_dict(), "model": model(dim="8")}, "dim must be a whole number"),
        ({**CONFIG.to_dict(), "model": {"dim": 8, "channels": 3}}, "lacks image_size, frames"),
        ({**CONFIG.to_dict(), "video": [1]}, "video must be an object"),
        ({**CONFIG.to_dict(), "video": {"codec": "gray"}}, "model.channels must be 1 for the codec gray"),
        ({**CONFIG.to_dict(), "classes": 5}, "classes must be a list of names, got 5"),
        ({**CONFIG.to_dict(), "edm": {"sigma_data": 10**19}}, "sigma_data must be at most"),
        ({**CONFIG.to_dict(), "\x1b[2J": 1}, "unknown fields: \\x1b[2J"),
    ],
)
def test_wrong_configs(tmp_path: Path, config: object, words: str) -> None:
    error = error_of(read_header(with_shapes(tmp_path / "a.safetensors", {}, config)))
    assert words in error.message and "a.safetensors" in error.message and error.message.isprintable()


def test_wrong_config_files(bare: Header, tmp_path: Path) -> None:
    assert "none.json does not exist" in error_of(bare, config_file=tmp_path / "none.json").message
    assert "c.json is not valid JSON" in error_of(bare, config_file=put(tmp_path / "c.json", b"{")).message
    assert "must be a regular file" in error_of(bare, config_file=tmp_path).message
    error = error_of(bare, config_file=put(tmp_path / "c.json", b'{"format": 3}'))
    assert "c.json: config format must be 1, got 3" in error.message


def test_round_trip_of_every_field(tmp_path: Path) -> None:
    config = latent_config(classes=("a", "b", "ü"), training={"steps": 3, "on": {"x": [1]}}, title="t", license="l")
    header = read_header(with_shapes(tmp_path / "a", checkpoint_shapes(config), config.to_dict()))
    assert resolve_config(header) == config == CheckpointConfig.from_dict(config.to_dict(), "here")


@settings(max_examples=100, deadline=None)
@given(model_configs())
def test_any_network_is_told_by_its_tensors_and_sizes(model: ModelConfig) -> None:
    """Without a config, and with the sizes as the only words on it."""
    shapes = network_shapes(model)
    tensors = {name: TensorInfo(name, "F32", shape, Path("a"), 0, 4 * prod(shape)) for name, shape in shapes.items()}
    header = Header(Path("a"), (), tensors, {}, 0)
    sizes = {name: getattr(model, name) for name in ("image_size", "frames", "downsample_types")}
    codec = {"video": {"codec": "rgba"}} if model.channels == 4 else {}
    if model.channels == 2:
        with pytest.raises(CheckpointError, match="its 2 channels are latents"):
            resolve_config(header, overrides={"model": sizes})
        return
    config = resolve_config(header, overrides={"model": sizes, **codec})
    assert network_shapes(config.model) == shapes and find_problems(header, config) == []

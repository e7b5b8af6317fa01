import json
from pathlib import Path

from mpvideo.architecture import checkpoint_shapes
from mpvideo.checkpoint import read_header
from mpvideo.checkpoint.header import CONFIG_FILE, WEIGHTS_FILE
from mpvideo.checkpoint.resolving import config_layers, resolve
from mpvideo.checkpoint.sources import field_sources
from tests.checkpoint.files import CONFIG, latent_config, pack, put, with_shapes


def test_every_field_has_its_source(tmp_path: Path) -> None:
    config = {"format": 1, "model": {"image_size": 8, "frames": 8, "channels": 3, "dim": 16}, "edm": {"sigma_data": 1}}
    put(tmp_path / WEIGHTS_FILE, pack({"__metadata__": {"mpvideo": json.dumps(config)}}))
    put(tmp_path / CONFIG_FILE, b'{"format": 1, "model": {"frames": 16, "dim": null}, "sampling": {"steps": 5}}')
    header = read_header(tmp_path)
    overrides = {"sampling": {"guidance": 2.0}, "model": {"frames": 32}}
    sources = field_sources(resolve(header, config_layers(header, overrides=overrides)))
    assert sources["model.image_size"] == sources["edm.sigma_data"] == "header"
    assert sources["model.frames"] == sources["sampling.guidance"] == "flag"
    assert sources["sampling.steps"] == "config file"
    assert sources["video.codec"] == "inferred", "from the three channels"
    assert sources["video.fps"] == sources["edm.clamp"] == "default"
    assert sources["model.dim"] == "default", "a null takes the header's word away"
    assert "model.num_classes" not in sources, "what has no value has no source"
    assert not any(path.startswith("video.autoencoder") for path in sources)


def test_something_else_in_the_place_of_a_group(tmp_path: Path) -> None:
    """It takes the words below away as a null does, and what stands over it counts."""
    config = {"format": 1, "model": {"image_size": 8, "frames": 8, "channels": 3}, "edm": {"sigma_data": 1}}
    put(tmp_path / WEIGHTS_FILE, pack({"__metadata__": {"mpvideo": json.dumps({**config, "sampling": 5})}}))
    put(tmp_path / CONFIG_FILE, b'{"format": 1, "edm": "x"}')
    overrides = {"sampling": {"steps": 9}, "edm": {"clamp": True}}
    header = read_header(tmp_path)
    sources = field_sources(resolve(header, config_layers(header, overrides=overrides)))
    assert sources["sampling.steps"] == sources["edm.clamp"] == "flag"
    assert sources["sampling.guidance"] == sources["edm.sigma_data"] == "default"


def test_a_config_file_takes_the_place_of_the_one_beside_the_weights(tmp_path: Path) -> None:
    put(tmp_path / WEIGHTS_FILE, pack({}))
    put(tmp_path / CONFIG_FILE, b"not even JSON")
    given = put(
        tmp_path / "given.json",
        b'{"format": 1, "model": {"image_size": 8, "frames": 8, "channels": 4}, "video": {"codec": "latent"}}',
    )
    header = read_header(tmp_path)
    sources = field_sources(resolve(header, config_layers(header, config_file=given)))
    assert sources["video.codec"] == "config file" and sources["video.autoencoder.width"] == "default"


def test_what_only_tensors_tell_is_inferred_even_where_it_is_the_default(tmp_path: Path) -> None:
    header = read_header(with_shapes(tmp_path / "a", checkpoint_shapes(CONFIG)))
    overrides = {"model": {"image_size": 8, "frames": 4, "downsample_types": "all", "dim": 8}}
    sources = field_sources(resolve(header, config_layers(header, overrides=overrides)))
    assert sources["model.fourier_dim"] == sources["model.attn_res"] == sources["model.channels"] == "inferred"
    assert sources["model.dim"] == sources["model.downsample_types"] == "flag"
    assert sources["model.dim_max"] == sources["model.dropout"] == sources["edm.sigma_data"] == "default"


def test_an_autoencoder_is_inferred(tmp_path: Path) -> None:
    header = read_header(with_shapes(tmp_path / "a", checkpoint_shapes(latent_config())))
    overrides = {"model": {"image_size": 4, "frames": 4, "downsample_types": "all"}}
    sources = field_sources(resolve(header, config_layers(header, overrides=overrides)))
    assert sources["video.codec"] == sources["video.autoencoder.latent_channels"] == "inferred"

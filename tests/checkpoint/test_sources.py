import json
from pathlib import Path

from mpvideo.checkpoint import read_header, resolve_config
from mpvideo.checkpoint.header import CONFIG_FILE, WEIGHTS_FILE
from mpvideo.checkpoint.sources import field_sources
from tests.checkpoint.files import pack, put


def test_every_field_has_its_source(tmp_path: Path) -> None:
    config = {"format": 1, "model": {"image_size": 8, "frames": 8, "channels": 3, "dim": 16}, "edm": {"sigma_data": 1}}
    put(tmp_path / WEIGHTS_FILE, pack({"__metadata__": {"mpvideo": json.dumps(config)}}))
    put(tmp_path / CONFIG_FILE, b'{"format": 1, "model": {"frames": 16, "dim": null}, "sampling": {"steps": 5}}')
    header = read_header(tmp_path)
    overrides = {"sampling": {"guidance": 2.0}, "model": {"frames": 32}}
    resolved = resolve_config(header, overrides=overrides)
    sources = field_sources(header, resolved, overrides=overrides)
    assert sources["model.image_size"] == sources["edm.sigma_data"] == "header"
    assert sources["model.frames"] == sources["sampling.guidance"] == "flag"
    assert sources["sampling.steps"] == "config file"
    assert sources["video.codec"] == "inferred", "from the three channels"
    assert sources["video.fps"] == sources["edm.clamp"] == "default"
    assert sources["model.dim"] == "default", "a null takes the header's word away"
    assert "model.num_classes" not in sources, "what has no value has no source"
    assert not any(path.startswith("video.autoencoder") for path in sources)


def test_a_config_file_takes_the_place_of_the_one_beside_the_weights(tmp_path: Path) -> None:
    put(tmp_path / WEIGHTS_FILE, pack({}))
    put(tmp_path / CONFIG_FILE, b"not even JSON")
    given = put(
        tmp_path / "given.json",
        b'{"format": 1, "model": {"image_size": 8, "frames": 8, "channels": 4}, "video": {"codec": "latent"}}',
    )
    header = read_header(tmp_path)
    resolved = resolve_config(header, config_file=given)
    sources = field_sources(header, resolved, config_file=given)
    assert sources["video.codec"] == "config file" and sources["video.autoencoder.width"] == "default"

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from mpvideo.architecture import checkpoint_shapes
from mpvideo.checkpoint import Header, bundled_checkpoint, find_problems, open_checkpoint, read_header, resolve_config
from mpvideo.checkpoint import opening as opening_module
from mpvideo.config import CheckpointConfig
from mpvideo.errors import CheckpointError
from tests.checkpoint.files import CONFIG, latent_config, pack, put


def with_shapes(path: Path, shapes: dict[str, tuple[int, ...]], config: object = None, dtype: str = "F32") -> Path:
    """A file of zeros with tensors of these shapes; `config` goes into the header as JSON, or as it is if text."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    if config is not None:
        header["__metadata__"] = {"mpvideo": config if isinstance(config, str) else json.dumps(config)}
    return put(path, pack(header, bytes(end)))


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


def test_config_of_the_header(tmp_path: Path) -> None:
    path = with_shapes(tmp_path / "a.safetensors", checkpoint_shapes(CONFIG), CONFIG.to_dict())
    checkpoint = open_checkpoint(path)
    assert checkpoint.config == CONFIG and checkpoint.path == path and checkpoint.name == "a.safetensors"


def test_config_file_completes_a_checkpoint_without_one(bare: Header, tmp_path: Path) -> None:
    error = error_of(bare)
    assert "does not say which architecture" in error.message and "--config FILE" in (error.hint or "")
    file = put(tmp_path / "c.json", json.dumps(CONFIG.to_dict()).encode())
    assert resolve_config(bare, config_file=file) == CONFIG


def test_flags_complete_a_checkpoint_without_config(bare: Header) -> None:
    assert resolve_config(bare, overrides={"model": model(), "sampling": {"sampler": "heun", "steps": 3}}) == CONFIG


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


@pytest.mark.parametrize(("channels", "codec"), [(1, "gray"), (3, "rgb")])
def test_codec_without_doubt_is_filled_in(bare: Header, channels: int, codec: str) -> None:
    assert resolve_config(bare, overrides={"model": model(channels=channels)}).video.codec == codec


def test_four_channels_are_asked_about(bare: Header) -> None:
    settings = model()
    del settings["channels"]  # the default is four
    error = error_of(bare, overrides={"model": settings})
    assert "video.codec" in error.message and "rgba" in error.message and "latents" in error.message
    assert "--set video.codec=rgba or --set video.codec=latent" in (error.hint or "")
    assert resolve_config(bare, overrides={"model": settings, "video": {"codec": "rgba"}}).video.codec == "rgba"
    latent = resolve_config(bare, overrides={"model": settings, "video": {"codec": "latent"}})
    assert latent.video.autoencoder is not None
    assert resolve_config(bare, overrides={"model": settings, "video": {"autoencoder": {}}}) == latent


def test_other_channels_are_asked_about(bare: Header) -> None:
    assert "no pixel codec has 5 channels" in error_of(bare, overrides={"model": model(channels=5)}).message


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


def test_problems_are_named_with_shapes(tmp_path: Path) -> None:
    config = latent_config()
    shapes = checkpoint_shapes(config)
    assert find_problems(read_header(with_shapes(tmp_path / "a", shapes)), config) == []
    gone = [name for name in shapes if name.startswith("ups.")]
    changed = {name: shape for name, shape in shapes.items() if name not in gone}
    changed |= {"input_block.weight": (4, 4, 3, 3, 3), "ema.\n": (2,)}
    problems = find_problems(read_header(with_shapes(tmp_path / "b", changed)), config)
    assert len(problems) == 3
    assert problems[0].startswith(f"{len(gone)} tensors missing: {gone[0]} (")
    assert problems[0].endswith(f"and {len(gone) - 10} more")
    assert problems[1] == "1 tensor left over: ema.\\n (2)"
    assert problems[2] == "1 tensor misshapen: input_block.weight (4, 4, 3, 3, 3) instead of (4, 5, 3, 3, 3)"


def test_wrong_dtypes(tmp_path: Path) -> None:
    path = with_shapes(tmp_path / "a", checkpoint_shapes(CONFIG), CONFIG.to_dict(), dtype="I32")
    with pytest.raises(CheckpointError, match=r"not of dtype float16, bfloat16, float32, float64: .*\(I32\)") as caught:
        open_checkpoint(path)
    assert "does not fit its config" in caught.value.message


def test_missing_bundled_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(opening_module, "__file__", str(tmp_path / "mpvideo" / "checkpoint" / "opening.py"))
    with pytest.raises(CheckpointError, match="lacks its bundled weights") as caught:
        bundled_checkpoint()
    assert "Reinstall" in (caught.value.hint or "")


def test_round_trip_of_every_field(tmp_path: Path) -> None:
    config = latent_config(classes=("a", "b", "ü"), training={"steps": 3, "on": {"x": [1]}}, title="t", license="l")
    header = read_header(with_shapes(tmp_path / "a", checkpoint_shapes(config), config.to_dict()))
    assert resolve_config(header) == config == CheckpointConfig.from_dict(config.to_dict(), "here")

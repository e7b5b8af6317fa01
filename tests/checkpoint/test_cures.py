from pathlib import Path
from typing import Any

import pytest

from mpvideo.architecture import Shape, checkpoint_shapes, network_shapes
from mpvideo.checkpoint import find_problems, read_header, resolve_config
from mpvideo.checkpoint.cures import cure
from mpvideo.checkpoint.header import Header
from mpvideo.cli.options import parse_settings
from tests.checkpoint.files import CONFIG, entry, latent_config, pack, put


def header_of(path: Path, shapes: dict[str, Shape], config: dict[str, Any] | None = None) -> Header:
    entries, end = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        entries[name] = entry(end, end + size, list(shape))
        end += size
    metadata = {} if config is None else {"__metadata__": {"mpvideo": CONFIG.to_json()}}
    return read_header(put(path, pack({**entries, **metadata}, bytes(end))))


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("num_classes", 7, "--set model.num_classes=3"),
        ("dim", 8, "--set model.dim=4"),
        ("fourier_dim", 6, "--set model.fourier_dim=16"),
        ("self_condition", True, "--set model.self_condition=false"),
        ("factorize_space_time_attn", True, "--set model.factorize_space_time_attn=false"),
        ("attn_dim_head", 2, "--set model.attn_dim_head=64"),
        ("attn_res", (4,), "--set model.attn_res=[2]"),
        ("num_blocks_per_stage", 2, "--set model.num_blocks_per_stage=1"),
        ("num_downsamples", 2, "--set model.num_downsamples=1"),
    ],
)
def test_the_flag_cures(tmp_path: Path, field: str, value: object, flag: str) -> None:
    """What the hint says is what makes the problems go away."""
    right = latent_config()
    header = header_of(tmp_path / "a", checkpoint_shapes(right))
    words = right.to_dict()
    wrong = {**words, "model": {**words["model"], field: value}}
    config = resolve_config(header, overrides={key: item for key, item in wrong.items() if key != "format"})
    assert find_problems(header, config)
    hint = cure(header, config)
    assert hint is not None and hint.startswith("By its shapes: ") and flag in hint
    flags = hint.removeprefix("By its shapes: ").removesuffix(".").removeprefix("--set ").split(" --set ")
    told = parse_settings(flags)["model"]
    cured = resolve_config(header, overrides={**wrong, "model": {**wrong["model"], **told}} | {"format": 1})
    assert find_problems(header, cured) == []


def test_a_prefix_is_named(tmp_path: Path) -> None:
    shapes = {f"ema_model.\n{name}": shape for name, shape in checkpoint_shapes(CONFIG).items()}
    shapes = {f"x.{name}".replace("\n", ""): shape for name, shape in shapes.items()} | shapes
    header = header_of(tmp_path / "a", shapes)
    assert cure(header, CONFIG) is not None and "'x.ema_model.'" in (cure(header, CONFIG) or "")


def test_nothing_is_made_up(tmp_path: Path) -> None:
    shapes = checkpoint_shapes(CONFIG)
    assert cure(header_of(tmp_path / "a", {"weight": (3,)}), CONFIG) is None
    gone = {name: shape for name, shape in shapes.items() if not name.startswith("ups.0.")}
    assert cure(header_of(tmp_path / "b", gone), CONFIG) is None, "half a file, of the right network"


def test_an_autoencoder_elsewhere(tmp_path: Path) -> None:
    config = latent_config()
    hint = cure(header_of(tmp_path / "a", network_shapes(config.model)), config)
    assert hint is not None and "one in a file of its own cannot be used yet" in hint

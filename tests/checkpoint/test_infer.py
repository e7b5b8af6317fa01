from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpvideo.architecture import autoencoder_shapes, network_shapes
from mpvideo.checkpoint.completion import complete
from mpvideo.checkpoint.infer import (
    NEVER_TOLD,
    Inference,
    describe_inference,
    infer_architecture,
    infer_autoencoder,
)
from mpvideo.config import AutoencoderConfig, ModelConfig
from mpvideo.errors import CheckpointError
from tests.networks import TINY, model_configs

TYPES = ("all", "image", "frame")


def asked(model: ModelConfig) -> dict[str, Any]:
    """The fields that a user has to give."""
    return {name: getattr(model, name) for name in ("image_size", "frames", "downsample_types")}


def completed(found: Inference, **given: Any) -> ModelConfig:
    fields, _, questions = complete(found, given)
    assert questions == []
    return ModelConfig(**fields)


def fits(model: ModelConfig, **changes: Any) -> bool:
    """Whether a network with some fields changed has the very same tensors."""
    return network_shapes(replace(model, **changes)) == network_shapes(model)


@settings(max_examples=300, deadline=None)
@given(model_configs())
def test_every_determined_field_comes_back(model: ModelConfig) -> None:
    found = infer_architecture(network_shapes(model))
    told = dict(found.determined)
    again = replace(model, num_blocks_per_stage=told.pop("num_blocks_per_stage"))
    assert again.stage_blocks == model.stage_blocks
    assert told == {name: getattr(model, name) for name in told}
    assert found.attn_res(model.image_size, model.stage_types) is not None
    assert network_shapes(completed(found, **asked(model))) == network_shapes(model)


@settings(max_examples=100, deadline=None)
@given(model_configs())
def test_just_the_fields_that_may_differ_are_free(model: ModelConfig) -> None:
    """Found out by trying: a field is free if some other value of it gives the same tensors."""
    others: dict[str, list[Any]] = {
        "dim": [model.dim + 1, 2 * model.dim],
        "dim_max": [1, model.dim_max + 1, 65536],
        "num_classes": [None, 10],
        "channels": [model.channels + 1, 2 * model.channels],
        "fourier_dim": [model.fourier_dim + 2],
        "attn_dim_head": [1, model.attn_dim_head + 1],
        "self_condition": [not model.self_condition],
        "factorize_space_time_attn": [not model.factorize_space_time_attn],
        "attn_flash": [True],
        "mp_cat_t": [0.123],
        "mp_add_emb_t": [0.123],
        "attn_res_mp_add_t": [0.123],
        "resnet_mp_add_t": [0.123],
        "dropout": [0.123],
    }
    first, *rest = model.stage_blocks
    others["num_blocks_per_stage"] = [(first + 1, *rest), (*rest, first), *([(first, *rest[:-1], 3)] if rest else [])]
    found = infer_architecture(network_shapes(model))
    for name, values in others.items():
        present = model.stage_blocks if name == "num_blocks_per_stage" else getattr(model, name)
        different = [value for value in values if value != present]
        assert any(fits(model, **{name: value}) for value in different) == (name in found.free), name
    assert set(NEVER_TOLD) < set(found.free)
    assert {"image_size", "frames", "downsample_types", "attn_res"} < set(found.free)


@settings(max_examples=50, deadline=None)
@given(model_configs())
def test_what_stages_may_halve(model: ModelConfig) -> None:
    found = infer_architecture(network_shapes(model))
    allowed = set(product(*found.stage_types))
    for types in product(TYPES, repeat=model.num_downsamples):
        attn_res = found.attn_res(16, types)
        assert types not in allowed or attn_res is not None
        if attn_res is not None:
            other = {"image_size": 16, "frames": 8, "downsample_types": types, "attn_res": attn_res}
            assert network_shapes(replace(model, **other)) == network_shapes(model)


@settings(max_examples=100, deadline=None)
@given(model_configs())
def test_the_image_size_is_among_the_candidates(model: ModelConfig) -> None:
    found = infer_architecture(network_shapes(model))
    sizes = found.image_sizes(model.attn_res, model.stage_types)
    assert model.image_size in sizes or not any(found.attention)
    for size in sizes:
        assert fits(model, image_size=size)
    for size in range(1, 20):
        if any(found.attention) and size not in sizes:
            with pytest.raises((ValueError, AssertionError)):
                assert fits(model, image_size=size)


@settings(deadline=None)
@given(model_configs(), st.data())
def test_a_changed_shape_is_no_network_or_another(model: ModelConfig, data: st.DataObject) -> None:
    shapes = network_shapes(model)
    name = data.draw(st.sampled_from(sorted(shapes)))
    change = data.draw(st.sampled_from(["remove", "scalar", "grow"]))
    if change == "remove":
        del shapes[name]
    else:
        shapes[name] = () if change == "scalar" and shapes[name] else (*shapes[name], 2)
    try:
        found = infer_architecture(shapes)
    except CheckpointError:
        return
    assert name == "to_class_emb.weight"
    assert found.determined["num_classes"] is None


NET = ModelConfig(**{**TINY, "downsample_types": "all"})
FOUND = infer_architecture(network_shapes(NET))


def test_in_words() -> None:
    assert describe_inference(FOUND) == (
        "2 channels; 5 classes; levels of width 8, 12, 12; 1 block a level; attention at level 2, 3, heads of 5; "
        "8 Fourier features"
    )


def test_odd_tensors_are_named() -> None:
    shapes = network_shapes(NET)
    with pytest.raises(CheckpointError, match=r"1 tensor left over: text\.weight \(3, 4\)"):
        infer_architecture({**shapes, "text.weight": (3, 4)})
    with pytest.raises(CheckpointError, match=r"not those of a KarrasUnet3D: output_block\.0\.weight is missing"):
        infer_architecture({})
    with pytest.raises(CheckpointError, match=r"must have 2 or, with self_condition, 4 inputs and one of ones"):
        infer_architecture({**shapes, "input_block.weight": (8, 4, 3, 3, 3)})
    with pytest.raises(CheckpointError, match="num_downsamples must be"):
        infer_architecture({**shapes, **{f"downs.{i}.downsample_conv.weight": (8, 8, 1, 1, 1) for i in range(40)}})


def test_the_autoencoder() -> None:
    for config in (AutoencoderConfig(), AutoencoderConfig(width=5, latent_channels=2, num_downsamples=1)):
        shapes = {f"codec.{name}": shape for name, shape in autoencoder_shapes(config).items()}
        assert infer_autoencoder(shapes) == config
    assert infer_autoencoder(network_shapes(NET)) is None
    with pytest.raises(CheckpointError, match="of no autoencoder known here"):
        infer_autoencoder({"codec.mean": (2,), "codec.encoder.0.weight": (4, 12, 3, 3)})

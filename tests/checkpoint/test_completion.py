from typing import Any

import pytest

from mpvideo.architecture import Shape, checkpoint_shapes, network_shapes
from mpvideo.checkpoint.completion import Question, complete, complete_config
from mpvideo.checkpoint.infer import infer_architecture, infer_network
from mpvideo.config import ModelConfig
from mpvideo.errors import CheckpointError
from tests.checkpoint.files import latent_config
from tests.checkpoints import tiny_config
from tests.networks import TINY

NET = ModelConfig(**{**TINY, "downsample_types": "all"})
FOUND = infer_architecture(network_shapes(NET))
SIZES = {"frames": 4, "downsample_types": "all"}


def test_what_is_asked() -> None:
    fields, _, questions = complete(FOUND, {})
    assert questions == [
        Question(
            "model.downsample_types",
            'all or ["all","image"] or ["all","frame"] or ["image","all"] or image or ["image","frame"]; '
            "the package's default is all",
            "all",
        ),
        Question("model.image_size", "a multiple of 4; 32 if attn_res was the package's default, 16 and 8", 32),
        Question("model.frames", "a multiple of 4", 16),
    ]
    assert "attn_res" not in fields
    _, _, questions = complete(FOUND, {"downsample_types": "all", "attn_res": [4, 2], "frames": 4})
    assert questions == [Question("model.image_size", "8", 8)]
    _, _, questions = complete(FOUND, {"image_size": 8, "frames": 2})
    assert [question.field for question in questions] == ["model.downsample_types"]
    assert questions[0].candidates.startswith('["all","image"] or ["image","all"] or image or ["image","frame"];')


def test_what_only_one_value_fits_is_not_asked() -> None:
    fields, _, questions = complete(FOUND, {"image_size": 4, "frames": 1})
    assert not questions
    assert fields["downsample_types"] == "image"


def test_attn_res_is_made_from_the_image_size() -> None:
    assert complete(FOUND, {**SIZES, "image_size": 8})[0]["attn_res"] == (4, 2)
    assert complete(FOUND, {**SIZES, "image_size": 64})[0]["attn_res"] == (32, 16)


@pytest.mark.parametrize(
    ("given_fields", "words"),
    [
        ({"dim": 16}, "model.dim must be 8 by the shapes of the tensors, got 16"),
        ({"num_classes": None}, "model.num_classes must be 5 by the shapes"),
        (
            {"image_size": 32, "downsample_types": "all", "attn_res": [4, 2]},
            r"attn_res \[4, 2\] does not fit the tensors at image_size 32: levels of height 32, 16, 8 have attention "
            "at level 2, 3",
        ),
        (
            {"image_size": 8, "downsample_types": ["frame", "all"]},
            "levels of the same height, 8, 8, 4, differ in their attention",
        ),
    ],
)
def test_what_contradicts_the_shapes(given_fields: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        complete(FOUND, given_fields)


def test_what_was_told_and_what_was_inferred() -> None:
    _, inferred, _ = complete(FOUND, {**SIZES, "image_size": 8, "dim": 8})
    assert {"num_classes", "channels", "attn_res", "num_blocks_per_stage"} < inferred
    assert not inferred & {"dim", "image_size", "frames", "downsample_types", "mp_cat_t", "dropout"}
    assert "downsample_types" in complete(FOUND, {"image_size": 4, "frames": 1})[1], "only one value fits"


def test_what_a_config_leaves_out_has_its_default() -> None:
    """A config that gives the sizes is a whole one; flags alone are not."""
    sizes = {"image_size": 8, "frames": 4}
    fields, inferred, questions = complete(FOUND, sizes, declared=True)
    assert (fields["downsample_types"], questions) == ("all", []) and "downsample_types" not in inferred
    fields, _, questions = complete(FOUND, {**sizes, "frames": 2}, declared=True)
    assert [question.field for question in questions] == ["model.downsample_types"], "the default does not fit"


def shapes_of(codec: str) -> dict[str, Shape]:
    return checkpoint_shapes(tiny_config(codec, num_classes=None))


@pytest.mark.parametrize("codec", ["gray", "rgb"])
def test_codecs_that_channels_tell(codec: str) -> None:
    shapes = shapes_of(codec)
    whole, _, questions = complete_config(infer_network(shapes), shapes, {"model": {**SIZES, "image_size": 8}})
    assert questions == [] and "video" not in whole, "the config's own check fills it in"


def test_an_autoencoder_tells_the_codec() -> None:
    config = latent_config()
    shapes = checkpoint_shapes(config)
    model = {**SIZES, "image_size": 4}
    whole, inferred, questions = complete_config(infer_network(shapes), shapes, {"model": model})
    assert questions == [] and whole["video"] == {"codec": "latent", "autoencoder": vars(config.video.autoencoder)}
    assert {"video.codec", "video.autoencoder.width"} < inferred
    rgba = {"model": model, "video": {"codec": "rgba"}}
    assert complete_config(infer_network(shapes), shapes, rgba).whole["video"] == {"codec": "rgba"}, "told otherwise"


def test_four_channels_without_an_autoencoder_are_asked_about() -> None:
    shapes = shapes_of("rgba")
    found = infer_network(shapes)
    assert [question.field for question in complete_config(found, shapes, {}).questions][-1] == "video.codec"
    with pytest.raises(CheckpointError, match=r"latent needs the autoencoder's tensors under codec\.") as error:
        complete_config(found, shapes, {"video": {"codec": "latent"}})
    assert "an autoencoder in a file of its own cannot be used yet" in (error.value.hint or "")


def test_channels_that_no_pixels_have() -> None:
    shapes = network_shapes(ModelConfig(**{**TINY, "channels": 5}))
    with pytest.raises(CheckpointError, match="its 5 channels are latents, and the file does not hold the autoencoder"):
        complete_config(infer_network(shapes), shapes, {})
    with pytest.raises(CheckpointError, match="model must be an object, got 7"):
        complete_config(infer_network(shapes), shapes, {"model": 7})

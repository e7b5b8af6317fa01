from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.config import AutoencoderConfig, CheckpointConfig, EDMConfig, VideoConfig
from mpvideo.errors import CheckpointError, UsageError
from mpvideo.nn import KarrasUnet3D
from mpvideo.training.factored import FactoredClassEmbedding, finished_weights
from mpvideo.training.initial import InitialWeights
from tests.checkpoints import random_tensors, save_tiny, tiny_config
from tests.networks import randn


def network(config: CheckpointConfig, factors: tuple[int, ...] = (), seed: int = 1) -> KarrasUnet3D:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = KarrasUnet3D(**vars(config.model))
        if factors:
            net.to_class_emb = FactoredClassEmbedding(factors, 4 * config.model.dim)
    return net.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("num_classes", [3, None])
def test_weights_are_those_of_the_checkpoint(tmp_path: Path, dtype: torch.dtype, num_classes: int | None) -> None:
    config, path = tiny_config(num_classes=num_classes), tmp_path / "model.safetensors"
    tensors = random_tensors(config, dtype)
    save_checkpoint(path, tensors, config)
    initial, net = InitialWeights(path, config.model, config.video), network(config)
    assert initial.autoencoder is None
    for _ in range(2):  # loading takes nothing away
        initial.load_into(net)
        state = net.state_dict()
        assert state.keys() == tensors.keys()
        for name, tensor in state.items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, tensors[name].float()), name
        with torch.no_grad():
            next(net.parameters()).zero_()


def test_autoencoder_comes_with_the_weights(tmp_path: Path) -> None:
    config = tiny_config("latent")
    path = save_tiny(tmp_path / "model.safetensors", config)
    initial, net = InitialWeights(path, config.model, config.video), network(config)
    initial.load_into(net)
    tensors = random_tensors(config)
    assert initial.autoencoder is not None
    for name, tensor in initial.autoencoder.state_dict().items():
        assert torch.equal(tensor, tensors[f"codec.{name}"]), name
    assert torch.equal(net.state_dict()["input_block.weight"], tensors["input_block.weight"])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2e-3)])
def test_factors_are_found_again(tmp_path: Path, dtype: torch.dtype, tolerance: float) -> None:
    """From the full table, which is all that a checkpoint holds; the network then is the same function."""
    config, path = tiny_config(num_classes=24), tmp_path / "model.safetensors"
    trained, net = network(config, (2, 3, 4)), network(config, (2, 3, 4), seed=2)
    with torch.no_grad():
        trained.to_class_emb.weight.mul_(3)  # factors need no RMS of 1
    weights = {name: tensor.to(dtype) for name, tensor in finished_weights(trained).items()}
    save_checkpoint(path, weights, config)
    InitialWeights(path, config.model, config.video).load_into(net)
    table = net.to_class_emb.table().detach()
    torch.testing.assert_close(table, trained.to_class_emb.table().detach(), rtol=0, atol=tolerance)
    # Already before it is normalised: the first step of the training need not scale it.
    full = net.to_class_emb.weight.detach() @ net.to_class_emb.design
    torch.testing.assert_close(full, table, rtol=0, atol=tolerance)
    with torch.no_grad():
        x, time = randn(24, 3, 4, 8, 8), torch.linspace(-1, 1, 24)
        wanted = trained(x, time, class_labels=torch.arange(24))
        torch.testing.assert_close(net(x, time, class_labels=torch.arange(24)), wanted, rtol=0, atol=10 * tolerance)


def test_a_table_of_no_factors_comes_as_near_as_it_can(tmp_path: Path) -> None:
    """Classes by two factors of two: what the sums cannot say is the one pattern + - - +."""
    config, path = tiny_config(num_classes=4), tmp_path / "model.safetensors"
    tensors = random_tensors(config)
    save_checkpoint(path, tensors, config)
    net = network(config, (2, 2))
    InitialWeights(path, config.model, config.video).load_into(net)
    table = tensors["to_class_emb.weight"]
    pattern = torch.tensor([1.0, -1.0, -1.0, 1.0])
    wanted = table - torch.outer(table @ pattern / 4, pattern)
    full = net.to_class_emb.weight.detach() @ net.to_class_emb.design
    torch.testing.assert_close(full, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "theirs"),
    [
        ("dim", 4, 8),
        ("frames", 8, 4),
        ("image_size", 16, 8),
        ("num_classes", 4, 3),
        ("num_classes", None, 3),
        ("attn_res", (4, 2), "(4,)"),
        ("mp_cat_t", 0.25, 0.5),
        ("self_condition", True, False),
        ("num_blocks_per_stage", 2, 1),
    ],
)
def test_another_network_is_refused(tmp_path: Path, name: str, value: Any, theirs: Any) -> None:
    config = tiny_config()
    path = save_tiny(tmp_path / "model.safetensors", config)
    with pytest.raises(UsageError) as caught:
        InitialWeights(path, replace(config.model, **{name: value}), config.video)
    assert caught.value.message == (
        f"--init must be a checkpoint of the network to train, with {name} {value}, but {path} has {theirs}"
    )


@pytest.mark.parametrize(("name", "value"), [("dropout", 0.3), ("attn_flash", True), ("resnet_mp_add_t", 0.5)])
def test_what_weights_do_not_depend_on_may_be_another(tmp_path: Path, name: str, value: Any) -> None:
    config = tiny_config()
    path = save_tiny(tmp_path / "model.safetensors", config)
    other = replace(config, model=replace(config.model, **{name: value}))
    net, same = network(other), network(config)
    InitialWeights(path, other.model, config.video).load_into(net)
    same.load_state_dict(net.state_dict())
    x, labels = randn(2, 3, 4, 8, 8), torch.tensor([0, 2])
    with torch.no_grad():
        given = net(x, torch.zeros(2), class_labels=labels)
        assert torch.equal(given, same(x, torch.zeros(2), class_labels=labels))


def test_another_codec_is_refused(tmp_path: Path) -> None:
    config = tiny_config("rgb", num_classes=None, channels=3)
    path = save_tiny(tmp_path / "model.safetensors", config)
    autoencoder = AutoencoderConfig(width=4, latent_channels=3, num_downsamples=1)
    with pytest.raises(UsageError, match=r"^--init must be a checkpoint of the codec latent, but .* is one of rgb$"):
        InitialWeights(path, config.model, VideoConfig(codec="latent", autoencoder=autoencoder))
    InitialWeights(path, config.model, replace(config.video, fps=30.0))  # how fast they play does not matter


def test_another_autoencoder_is_refused(tmp_path: Path) -> None:
    config = tiny_config("latent")
    path = save_tiny(tmp_path / "model.safetensors", config)
    wider = replace(config.video, autoencoder=AutoencoderConfig(width=8, latent_channels=2, num_downsamples=1))
    with pytest.raises(UsageError) as caught:
        InitialWeights(path, config.model, wider)
    assert caught.value.message == (
        f"--init must be a checkpoint with an autoencoder of width 8, but that of {path} has 4"
    )


@pytest.mark.parametrize(("name", "value"), [("sigma_data", 1.0), ("legacy_fan_in", True)])
def test_weights_that_mean_something_else_here_are_refused(tmp_path: Path, name: str, value: Any) -> None:
    config = replace(tiny_config(), edm=EDMConfig(**{name: value}))
    path = save_tiny(tmp_path / "model.safetensors", config)
    with pytest.raises(UsageError, match=f"^--init must be a checkpoint with {name} (0.5|False), .* has {value}$"):
        InitialWeights(path, config.model, config.video)
    if name == "sigma_data":
        InitialWeights(path, config.model, config.video, sigma_data=1.0)


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    config = tiny_config()
    for content in (None, b"", b"no checkpoint"):
        path = tmp_path / "model.safetensors"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CheckpointError):
            InitialWeights(path, config.model, config.video)

"""The network against the published package's recorded outputs.

Weights are not stored: every tensor is filled from its name, by a generator seeded with the name's crc32.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mpvideo.architecture import network_shapes
from mpvideo.nn import KarrasUnet3D, MPImageTransformer

GOLDEN = Path(__file__).parent.parent / "golden"
INDEX = json.loads((GOLDEN / "unet3d_index.json").read_text())
SMALL = [name for name in INDEX if name not in ("seed_example", "mp_image_transformer")]


def fill_from_names(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            draw = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
            tensor.copy_(0.5 + 0.1 * draw if name.endswith("gain") else draw)


def golden_network(name: str, **overrides: Any) -> KarrasUnet3D:
    net = KarrasUnet3D(**{**INDEX[name]["config"], **overrides})
    fill_from_names(net)
    return net.eval()


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", [name for name in INDEX if name != "mp_image_transformer"])
def test_names_and_shapes(name: str) -> None:
    net = KarrasUnet3D(**INDEX[name]["config"])
    shapes = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    assert shapes == {key: tuple(shape) for key, shape in INDEX[name]["tensors"].items()}
    assert network_shapes(net.config) == shapes


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_outputs(name: str) -> None:
    net, data = golden_network(name), load_file(GOLDEN / f"unet3d_{name}.safetensors")
    x, time, self_cond = data["x"], data["time"], data.get("self_cond")
    labels, soft = data.get("class_labels"), data.get("soft_labels")
    assert relative_error(net(x, time, self_cond, labels), data["out"]) <= 1e-5
    if "out_no_self_cond" in data:
        assert relative_error(net(x, time, None, labels), data["out_no_self_cond"]) <= 1e-5
    if soft is not None:
        assert relative_error(net(x, time, self_cond, soft), data["out_soft"]) <= 1e-5
        assert relative_error(net(x, time, self_cond, torch.zeros_like(soft)), data["out_null"]) <= 1e-5
    if "out_float64" in data:
        out = net.double()(x.double(), time.double())
        assert out.dtype == torch.float64
        assert relative_error(out, data["out_float64"]) <= 1e-12


@pytest.mark.parametrize("name", SMALL)
def test_training_pass(name: str) -> None:
    net = golden_network(name, dropout=0.0).train()
    data = load_file(GOLDEN / f"unet3d_{name}.safetensors")
    loss = net(data["x"], data["time"], data.get("self_cond"), data.get("class_labels")).square().mean()
    loss.backward()
    assert relative_error(loss.detach(), data["train_loss"]) <= 1e-5
    parameters = dict(net.named_parameters())
    checked = 0
    for key, expected in data.items():
        kind, _, parameter = key.partition("/")
        if kind == "train_weight":
            assert relative_error(parameters[parameter].detach(), expected) <= 1e-5, key
        elif kind == "train_grad":
            gradient = parameters[parameter].grad
            assert gradient is not None
            # Both are float32, and how they round differs with the processor and the number of threads.
            assert relative_error(gradient, expected) <= 3e-5, key
        checked += kind in ("train_weight", "train_grad")
    assert checked == 8


@torch.no_grad()
def test_published_example() -> None:
    """The package's own example configuration: 192 million parameters, 32 frames of 64 x 64."""
    net, data = golden_network("seed_example"), load_file(GOLDEN / "unet3d_seed_example.safetensors")
    x = torch.randn(1, 4, 32, 64, 64, generator=torch.Generator().manual_seed(INDEX["seed_example"]["input_seed"]))
    out = net(x, data["time"], None, data["class_labels"])
    assert relative_error(out[..., ::4, ::4], data["out_strided"]) <= 1e-5


@torch.no_grad()
def test_image_transformer() -> None:
    net = MPImageTransformer(**INDEX["mp_image_transformer"]["config"]).eval()
    fill_from_names(net)
    data = load_file(GOLDEN / "mp_image_transformer.safetensors")
    shapes = {key: list(tensor.shape) for key, tensor in net.state_dict().items()}
    assert shapes == INDEX["mp_image_transformer"]["tensors"]
    assert relative_error(net(data["x"]), data["out"]) <= 1e-5

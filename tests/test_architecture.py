import dataclasses
import json
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mpvideo import architecture
from mpvideo.architecture import (
    activation_bytes,
    attention_heads,
    autoencoder_plan,
    autoencoder_shapes,
    checkpoint_shapes,
    clips_at_once,
    network_flops,
    network_plan,
    network_shapes,
)
from mpvideo.config import AutoencoderConfig, CheckpointConfig, ModelConfig, VideoConfig
from mpvideo.nn import InferenceUnet3D, KarrasUnet3D
from mpvideo.video.autoencoder import Autoencoder
from tests.networks import TINY, model_configs, tiny_network

FEW = settings(max_examples=12, deadline=None, database=None, derandomize=True)


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def network(model: ModelConfig) -> KarrasUnet3D:
    return KarrasUnet3D(**{field.name: getattr(model, field.name) for field in dataclasses.fields(model)})


def tiny(**overrides: Any) -> ModelConfig:
    return ModelConfig(**{**TINY, **overrides})


def inputs(model: ModelConfig, device: str = "cpu") -> dict[str, Any]:
    size, rows = model.image_size, model.num_classes
    return {
        "x": torch.zeros(1, model.channels, model.frames, size, size, device=device),
        "time": torch.zeros(1, device=device),
        "class_labels": None if rows is None else torch.zeros(1, rows, device=device),
    }


# Shapes


@FEW
@given(model_configs())
def test_shapes_are_those_of_the_network(model):
    with torch.device("meta"):
        net = network(model)
    assert network_shapes(model) == shapes_of(net)


@FEW
@given(model_configs())
def test_any_legal_network_runs(model):
    with torch.device("meta"), torch.no_grad():
        net = network(model).eval()
        sizes = {block: [] for block in (*net.downs, *net.mids, *net.ups)}
        for block, seen in sizes.items():
            block.register_forward_hook(lambda _, args, out, seen=seen: seen.append(tuple(out.shape)))
        example = inputs(model, "meta")
        assert net(**example).shape == example["x"].shape
    for block, seen in sizes.items():
        plan = block.plan
        assert seen == [(1, plan.dim_out, plan.frames, plan.image_size, plan.image_size)]


@FEW
@given(
    st.builds(
        AutoencoderConfig, width=st.integers(1, 4), latent_channels=st.integers(1, 5), num_downsamples=st.integers(1, 4)
    )
)
def test_shapes_are_those_of_the_autoencoder(config):
    with torch.device("meta"):
        model = Autoencoder(config)
        latents = model.encode(torch.zeros(2, 3, 32, 32))
        assert latents.shape == (2, config.latent_channels, 32 // config.factor, 32 // config.factor)
        assert model.decode(latents).shape == (2, 3, 32, 32)
    assert autoencoder_shapes(config) == shapes_of(model)


def test_first_and_last_convolution_of_the_autoencoder():
    encoder, decoder = autoencoder_plan(AutoencoderConfig(width=8, latent_channels=5, num_downsamples=3))
    assert (encoder[0].dim_in, encoder[-1].dim_out) == (12, 5)
    assert (decoder[0].dim_in, decoder[-1].dim_out) == (5, 12)
    assert [conv.dim_out for conv in encoder if conv.factor == 2] == [16, 32]
    assert [conv.dim_out for conv in decoder if conv.factor == 2] == [16, 8]


def test_shapes_of_a_checkpoint():
    """The network's, and with a codec of latents the autoencoder's under `codec.`."""
    inner = AutoencoderConfig(width=2, num_downsamples=1)
    latent = CheckpointConfig(model=tiny(channels=4), video=VideoConfig(codec="latent", autoencoder=inner))
    pixels = CheckpointConfig(model=tiny(channels=4), video=VideoConfig(codec="rgba"))
    assert checkpoint_shapes(pixels) == network_shapes(pixels.model)
    extra = checkpoint_shapes(latent).items() - network_shapes(latent.model).items()
    assert dict(extra) == {f"codec.{name}": shape for name, shape in autoencoder_shapes(inner).items()}
    json.dumps(checkpoint_shapes(latent))


# The plan


def test_plan_of_the_tiny_network():
    plan = network_plan(tiny())
    assert [(b.dim_in, b.dim_out, b.factors, b.frames, b.image_size) for b in plan.downs] == [
        (8, 8, (1, 1, 1), 4, 8),
        (8, 12, (2, 2, 2), 2, 4),
        (12, 12, (1, 1, 1), 2, 4),
        (12, 12, (1, 2, 2), 2, 2),
        (12, 12, (1, 1, 1), 2, 2),
    ]
    assert [(b.dim_in, b.dim_out, b.skip_dim, b.factors) for b in plan.ups] == [
        (24, 12, 12, (1, 1, 1)),
        (24, 12, 12, (1, 1, 1)),
        (12, 12, 0, (1, 2, 2)),
        (24, 12, 12, (1, 1, 1)),
        (24, 12, 12, (1, 1, 1)),
        (12, 8, 0, (2, 2, 2)),
        (16, 8, 8, (1, 1, 1)),
        (16, 8, 8, (1, 1, 1)),
    ]
    names = [block.name for block in plan]
    assert names == [f"downs.{i}" for i in range(5)] + ["mids.0", "mids.1"] + [f"ups.{i}" for i in range(8)]


def test_first_level_never_attends():
    plan = network_plan(tiny(attn_res=(8,)))
    # But the block that comes up to it does.
    assert [block.name for block in plan if block.attention != "none"] == ["ups.5"]


def test_only_resampling_blocks_are_factorized():
    for block in network_plan(tiny(attn_res=(8, 4, 2), factorize_space_time_attn=True)):
        if block.attention != "none":
            assert block.attention == ("factorized" if block.resamples else "joint")


@FEW
@given(model_configs())
def test_every_skip_is_used_once_and_fits(model):
    plan = network_plan(model)
    skips = [model.dim, *(block.dim_out for block in plan.downs)]
    used = [block.skip_dim for block in plan.ups if block.skip_dim]
    assert used == skips[::-1]


@pytest.mark.parametrize(
    ("width", "dim_head", "heads"), [(8, 64, 2), (128, 64, 2), (129, 64, 3), (192, 64, 3), (12, 5, 3)]
)
def test_heads(width, dim_head, heads):
    assert attention_heads(tiny(attn_dim_head=dim_head), width) == heads


# Cost


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"attn_res": ()},
        {"attn_res": (8, 4, 2), "factorize_space_time_attn": True},
        {"num_downsamples": 0, "downsample_types": ()},
        {"downsample_types": "frame", "num_classes": None, "num_blocks_per_stage": (1, 2, 3), "attn_res": (8,)},
    ],
)
def test_flops_are_those_of_torch(overrides):
    """To the operation: torch counts what is executed, of which the embeddings' linear layers are left out here.

    Attention is run as two matrix products, because torch's counter does not know the fused CPU kernel.
    """
    model = tiny(**overrides)
    net = tiny_network(**overrides)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        net(**inputs(model))
    counts = dict(counter.get_flop_counts()["Global"])
    linear = counts.pop(torch.ops.aten.mm)
    assert counts.keys() <= {torch.ops.aten.convolution, torch.ops.aten.bmm}
    assert network_flops(model) == sum(counts.values())
    assert linear < 0.01 * network_flops(model)


class PeakMemory(TorchDispatchMode):
    """Bytes of the tensors that operations made and that are still alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and not func.is_view:
                storage = tensor.untyped_storage()
                if storage not in self._known:
                    self._known.add(storage)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._release, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _release(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize(
    "overrides",
    [
        {"attn_res": ()},
        {"attn_res": (16, 8), "attn_dim_head": 64},
        {"attn_res": (32,)},
        {"attn_res": (32,), "num_downsamples": 0, "downsample_types": ()},
        {"num_blocks_per_stage": 4},
    ],
)
def test_activations_take_about_what_is_said(overrides):
    """Measured over what torch's operations return; the kernels' own workspaces do not show.

    The videos are large beside the weights, of which some forms of convolution make others as they run.
    """
    model = tiny(image_size=32, frames=4, **overrides)
    net = InferenceUnet3D(model, tiny_network(image_size=32, frames=4, **overrides).state_dict())
    example = inputs(model)
    net(**example)  # what is made once
    with PeakMemory() as memory:
        net(**example)
    assert 0.6 < memory.peak / activation_bytes(model) < 1.25


def test_clips_go_together_up_to_a_size(monkeypatch):
    of_clip = activation_bytes(tiny())
    monkeypatch.setattr(architecture, "_TOGETHER", 6 * of_clip)
    assert clips_at_once(tiny()) == 6
    assert clips_at_once(tiny(), bytes_per_value=2) == 12
    assert clips_at_once(tiny(), frames=tiny().frames // 2) == 12
    monkeypatch.setattr(architecture, "_TOGETHER", of_clip - 1)
    assert clips_at_once(tiny()) == 1, "a clip is never divided"


def test_activations_grow_with_every_size():
    base = activation_bytes(tiny())
    assert activation_bytes(tiny(), bytes_per_value=2) == base // 2
    bigger = [
        {"image_size": 16},
        {"frames": 8},
        {"dim": 16},
        {"num_blocks_per_stage": 2},
        {"attn_res": (8, 4, 2), "attn_dim_head": 30},
    ]
    for overrides in bigger:
        assert activation_bytes(tiny(**overrides)) > base, overrides


def test_flops_grow_with_every_size():
    base = network_flops(tiny())
    for overrides in ({"image_size": 16}, {"frames": 8}, {"dim": 16}, {"num_blocks_per_stage": 2}, {"channels": 3}):
        assert network_flops(tiny(**overrides)) > base, overrides

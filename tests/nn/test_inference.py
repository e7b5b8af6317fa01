"""The inference form against the network, which is the reference, and against the published package's outputs."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from mpvideo import architecture
from mpvideo.architecture import activation_bytes
from mpvideo.config import ModelConfig
from mpvideo.nn import InferenceUnet3D, KarrasUnet3D
from mpvideo.nn.kernels import Convolution
from mpvideo.nn.processor import onednn_bfloat16
from tests.networks import model_configs, randn, tiny_network
from tests.nn.test_golden import GOLDEN, INDEX, SMALL, golden_network, relative_error

FAST_BFLOAT16 = pytest.mark.skipif(not onednn_bfloat16(), reason="this processor takes minutes for it in bfloat16")

ACCURACY = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def inference_form(net: KarrasUnet3D, dtype: torch.dtype = torch.float32, **arguments) -> InferenceUnet3D:
    return InferenceUnet3D(net.config, dict(net.state_dict()), dtype=dtype, **arguments)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("name", SMALL)
def test_published_outputs(name, dtype):
    data = load_file(GOLDEN / f"unet3d_{name}.safetensors")
    net = inference_form(golden_network(name).to(torch.promote_types(dtype, torch.float32)), dtype)
    x, time = data["x"].to(dtype), data["time"]
    given = {"self_cond": data.get("self_cond"), "class_labels": data.get("class_labels")}
    accuracy = max(ACCURACY[dtype], 1e-5)  # the outputs are float32
    out = net(x, time, **given)
    assert out.dtype == dtype
    assert relative_error(out.float(), data["out"]) <= accuracy
    if (soft := data.get("soft_labels")) is not None:
        zeros = torch.zeros_like(soft)
        assert relative_error(net(x, time, **{**given, "class_labels": soft}).float(), data["out_soft"]) <= accuracy
        assert relative_error(net(x, time, **{**given, "class_labels": zeros}).float(), data["out_null"]) <= accuracy
    if "out_float64" in data and dtype == torch.float64:
        assert relative_error(net(x, data["time"].double()), data["out_float64"]) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=FAST_BFLOAT16)])
def test_published_example(dtype):
    data = load_file(GOLDEN / "unet3d_seed_example.safetensors")
    x = torch.randn(1, 4, 32, 64, 64, generator=torch.Generator().manual_seed(INDEX["seed_example"]["input_seed"]))
    net = golden_network("seed_example")
    tensors = dict(net.state_dict())
    del net
    inference = InferenceUnet3D(ModelConfig(**INDEX["seed_example"]["config"]), tensors, dtype=dtype)
    assert not tensors, "the weights are taken out, so that they are not held twice"
    out = inference(x, data["time"], class_labels=data["class_labels"]).float()
    assert relative_error(out[..., ::4, ::4], data["out_strided"]) <= ACCURACY[dtype]


def reference(config: ModelConfig, batch: int, *, legacy: bool = False, shorter: bool = False):
    """A random network in float64, what to call it with, and what it gives."""
    torch.manual_seed(0)
    net = KarrasUnet3D(legacy_fan_in=legacy, **vars(config)).double().eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("gain"):
                parameter.fill_(0.5)
    frames = config.frames_multiple if shorter else config.frames
    shape = (batch, config.channels, frames, config.image_size, config.image_size)
    x, time = randn(*shape, dtype=torch.float64), randn(batch, dtype=torch.float64)
    given = {}
    if config.num_classes is not None:
        given["class_labels"] = randn(batch, config.num_classes, dtype=torch.float64)
    if config.self_condition:
        given["self_cond"] = randn(*shape, seed=1, dtype=torch.float64)
    with torch.no_grad():
        return net, (x, time, given), net(x, time, **given)


@settings(max_examples=60, deadline=None)
@given(config=model_configs(), batch=st.integers(1, 3), legacy=st.booleans(), shorter=st.booleans())
def test_is_the_network(config, batch, legacy, shorter):
    """To 1e-6: in widths of 1, where norms divide by almost nothing, rounding grows to 1e-9 and more."""
    net, (x, time, given), expected = reference(config, batch, legacy=legacy, shorter=shorter)
    out = inference_form(net, torch.float64, legacy_fan_in=legacy)(x, time, **given)
    assert (out - expected).norm() <= 1e-6 * (expected.norm() + 1e-3)


@settings(max_examples=30, deadline=None)
@given(config=model_configs(), batch=st.integers(1, 3))
def test_is_the_network_in_float32(config, batch):
    """On widths from 8 up: normalising one channel alone gives its sign, which rounding can turn."""
    wider = {"dim": 8 + config.dim, "dim_max": 8 + config.dim_max, "attn_dim_head": 8 + config.attn_dim_head}
    net, (x, time, given), expected = reference(replace(config, **wider), batch)
    out = inference_form(net)(x.float(), time, **given)
    with torch.no_grad():
        rounding = (net.float()(x.float(), time.float(), **given) - expected).norm()
    assert (out - expected).norm() <= 1e-5 * expected.norm() + 4 * rounding + 1e-6


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("factorized", [False, True])
def test_accuracy(dtype, factorized):
    """On a network of ordinary size: there rounding has settled to what it is in practice, and Winograd comes in."""
    net = tiny_network(frames=8, dim=48, dim_max=64, attn_dim_head=16, factorize_space_time_attn=factorized).double()
    x, time = randn(2, 2, 8, 8, 8, dtype=torch.float64), randn(2, dtype=torch.float64)
    labels = torch.tensor([3, 1])
    with torch.no_grad():
        expected = net(x, time, class_labels=labels)
    out = inference_form(net, dtype)(x.to(dtype), time, class_labels=labels)
    assert relative_error(out.double(), expected) <= ACCURACY[dtype]


def test_preparing_changes_nothing():
    net = inference_form(tiny_network())
    labels, others = randn(2, 5), randn(2, 5, seed=1)
    x, times = randn(2, 2, 4, 8, 8), torch.tensor([0.5, -0.25, 1.0])
    calls = [(time.expand(2), rows) for time in times for rows in (labels, others)] + [(times[:2], labels)]
    before = [net(x, time, class_labels=rows) for time, rows in calls]
    net.prepare((times[:2], labels))
    for (time, rows), expected in zip(calls, before, strict=True):
        torch.testing.assert_close(net(x, time, class_labels=rows), expected)


def test_preparing_is_made_use_of(monkeypatch):
    net = inference_form(tiny_network())
    labels, times = randn(2, 5), torch.tensor([0.5, -0.25])
    both = torch.cat((labels, torch.zeros(1, 5)))
    net.prepare((times, labels), (times[1:], both))
    monkeypatch.setattr(net, "_embedding", None)
    net(randn(2, 2, 4, 8, 8), times[1].expand(2), class_labels=labels)
    net(randn(3, 2, 4, 8, 8), times[1].expand(3), class_labels=both)
    with pytest.raises(TypeError):
        net(randn(2, 2, 4, 8, 8), times[1].expand(2), class_labels=labels.clone())
    with pytest.raises(TypeError):
        net(randn(3, 2, 4, 8, 8), times[0].expand(3), class_labels=both)


def test_preparing_in_any_order():
    """Samplers with churn go back to levels that they have passed; what is made at once ends somewhere in between."""
    net, labels = inference_form(tiny_network()), randn(5, 5)
    times = torch.linspace(1, -1, 40)
    x, order = randn(5, 2, 4, 8, 8), [0, 13, 12, 14, 39, 25, 38, 1]
    before = [net(x, times[i].expand(5), class_labels=labels) for i in order]
    net.prepare((times, labels))
    for i, expected in zip(order, before, strict=True):
        torch.testing.assert_close(net(x, times[i].expand(5), class_labels=labels), expected)


def test_a_thousand_levels_take_little_memory():
    net = inference_form(tiny_network())
    net.prepare((torch.linspace(1, -1, 1000), randn(64, 5)))
    [table] = net._tables
    held = [table[1.0], [table._levels, table._classes], table._scales]
    scales = sum(block.plan.dim_out for block in net._blocks)
    assert sum(tensor.numel() for tensors in held for tensor in tensors) < 1000 * 32 + 64 * (32 + 2 * scales) + 1


def test_which_products_are_convolutions():
    """Those on 4 frames of 8x8; not those on 2 of 4x4, whence the first of the larger blocks takes its residual."""
    config = ModelConfig(
        image_size=8, frames=4, dim=8, dim_max=16, num_classes=3, num_downsamples=1, num_blocks_per_stage=1, channels=3,
        attn_res=(8, 4), attn_dim_head=8,
    )  # fmt: skip
    net = tiny_network(**vars(config))
    blocks = InferenceUnet3D(config, net.state_dict(), dtype=torch.bfloat16)._blocks
    assert {8, 4} == {block.plan.image_size for block in blocks}
    for block in blocks:
        convolved = block.plan.image_size == 8 and onednn_bfloat16()
        for attention in block._attention:
            assert isinstance(attention._to_qkv, Convolution) == convolved
            assert isinstance(attention._to_out, Convolution) == convolved
        if block._residual is not None:
            assert isinstance(block._residual, Convolution) == (convolved and not block.plan.resamples)
    residuals = [block for block in blocks if block._residual is not None and block.plan.image_size == 8]
    assert {block.plan.resamples for block in residuals} == {True, False}


def test_a_copy_has_its_own_tables():
    net = inference_form(tiny_network())
    other = copy.copy(net)
    other.prepare((torch.tensor([0.5]), randn(2, 5)))
    assert len(other._tables) == 1 and not net._tables


@pytest.mark.parametrize("overrides", [{}, {"num_classes": None}, {"self_condition": True}])
@pytest.mark.parametrize("prepared", [False, True])
def test_batches_of_large_clips_go_through_in_parts(overrides, prepared, monkeypatch):
    """Five clips in twos, with what belongs to each of them."""
    net = tiny_network(**overrides).double()
    monkeypatch.setattr(architecture, "_TOGETHER", 2 * activation_bytes(net.config, 8) + 1)
    in_parts, whole = (inference_form(net, torch.float64) for _ in range(2))
    whole._in_parts = False
    seen = []
    real = InferenceUnet3D._run
    monkeypatch.setattr(in_parts, "_evaluate", lambda x, *scales: seen.append(len(x)) or real(in_parts, x, *scales))
    time = torch.full((5,), 0.5, dtype=torch.float64) if prepared else randn(5, dtype=torch.float64)
    given = {} if net.config.num_classes is None else {"class_labels": randn(5, 5, seed=1, dtype=torch.float64)}
    if prepared:
        in_parts.prepare((time[:1], given.get("class_labels")))
    if net.config.self_condition:
        given["self_cond"] = randn(5, 2, 4, 8, 8, seed=2, dtype=torch.float64)
    x = randn(5, 2, 4, 8, 8, seed=3, dtype=torch.float64)
    assert relative_error(in_parts(x, time, **given), whole(x, time, **given)) <= 1e-12
    assert seen == [2, 2, 1]


def test_compiled_code_sees_batches_whole():
    assert inference_form(tiny_network())._in_parts
    assert not inference_form(tiny_network(), compiled=True)._in_parts


@pytest.mark.parametrize("rows", [1, 4, 6, 10])
def test_a_table_of_other_labels_is_an_error(rows):
    """Five clips, and a table of labels of another number of rows: it must not stand for theirs."""
    net = inference_form(tiny_network())
    labels = randn(rows, 5)
    net.prepare((torch.full((1,), 0.5), labels))
    with pytest.raises(ValueError, match="class_labels must have the shape"):
        net(randn(5, 2, 4, 8, 8), torch.full((5,), 0.5), class_labels=labels)


def test_class_embedding():
    """It is linear, nothing for no class, and what is added to the noise level's: told by what the network gives."""
    reference = tiny_network()
    net, rows = inference_form(reference), torch.eye(5)
    own = net.class_embedding(rows)
    scale = 0.5 / math.sqrt(0.5)  # mp_sum's, of equal parts
    with torch.no_grad():
        torch.testing.assert_close(own, scale * reference.to_class_emb(rows * math.sqrt(5)))
    torch.testing.assert_close(net.class_embedding(randn(1, 5)), randn(1, 5) @ own)
    with pytest.raises(ValueError, match="class_labels must be None for a network without classes"):
        inference_form(tiny_network(num_classes=None)).class_embedding(rows)


def test_without_classes():
    reference = tiny_network(num_classes=None)
    net = inference_form(reference)
    net.prepare((torch.tensor([0.5]), None))
    x, time = randn(1, 2, 4, 8, 8), torch.tensor([0.5])
    with torch.no_grad():
        torch.testing.assert_close(net(x, time), reference(x, time))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": randn(2, 3, 4, 8, 8)}, "^x must have the shape"),
        ({"time": torch.zeros(3)}, "^time must have the shape"),
        ({"class_labels": None}, "^class_labels must be given"),
        ({"class_labels": torch.tensor([0, 5])}, r"^class_labels must be in 0\.\.4, got 5$"),
        ({"self_cond": randn(2, 2, 4, 8, 8)}, "^self_cond must be None"),
    ],
)
def test_errors_are_the_networks(change, message):
    net = inference_form(tiny_network())
    given = {"x": randn(2, 2, 4, 8, 8), "time": torch.zeros(2), "class_labels": torch.tensor([0, 1]), **change}
    with pytest.raises(ValueError, match=message):
        net(given.pop("x"), given.pop("time"), **given)

"""The magnitude-preserving layers: what they promise of magnitudes, and naive forms of what they compute."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mpvideo.nn.layers import (
    Gain,
    MPAttention,
    MPConv3d,
    MPFeedForward,
    MPFourier,
    MPLinear,
    normalize,
)
from tests.networks import randn, rms


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(12345)  # not a seed of `randn`: weights and inputs must be independent
        yield


# Linear layer and convolution


@pytest.mark.parametrize("layer", [MPLinear(3, 4), MPConv3d(3, 4, 3)])
def test_gradients_of_gradients(layer):
    layer = copy.deepcopy(layer).double().eval()
    x = randn(2, 3).double() if isinstance(layer, MPLinear) else randn(1, 3, 2, 2, 2).double()

    def run(weight: Tensor, x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, x)  # type: ignore[no-any-return]

    inputs = (layer.weight.detach().clone().requires_grad_(), x.requires_grad_())
    torch.autograd.gradcheck(run, inputs)
    torch.autograd.gradgradcheck(run, inputs)


def test_gradients_of_gradients_in_training():
    layer = MPLinear(5, 3).double().train()
    gradient, direction = randn(3, 5, seed=1).double(), randn(3, 5, seed=2).double()
    results = []
    for effective in (layer.effective_weight(torch.float64), normalize(layer.weight) / math.sqrt(5)):
        (first,) = torch.autograd.grad(effective, layer.weight, gradient, create_graph=True)
        results.append((first, *torch.autograd.grad(first, layer.weight, direction)))
    torch.testing.assert_close(*results)


def test_linear():
    layer, x = MPLinear(6, 4).eval(), randn(3, 2, 6)
    weight = layer.weight.detach()
    expected = torch.einsum("...i,oi->...o", x, weight / weight.norm(dim=1, keepdim=True))  # RMS 1 over sqrt(6)
    torch.testing.assert_close(layer(x), expected)


def test_linear_keeps_the_magnitude():
    layer = MPLinear(256, 256).eval()
    layer.weight.data.mul_(17)
    assert rms(layer(randn(500, 256))) == pytest.approx(1, abs=0.02)


def naive_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Cross-correlation with zeros around, one tap at a time."""
    k = weight.shape[-1]
    padded = F.pad(x, (k // 2,) * 6)
    _, _, T, H, W = x.shape
    out = torch.zeros(len(x), len(weight), T, H, W)
    for t in range(k):
        for h in range(k):
            for w in range(k):
                part = padded[:, :, t : t + T, h : h + H, w : w + W]
                out += torch.einsum("bithw,oi->bothw", part, weight[:, :, t, h, w])
    return out


@pytest.mark.parametrize("k", [1, 3, 5])
def test_conv_is_the_naive_one_with_same_padding(k):
    layer, x = MPConv3d(3, 4, k).eval(), randn(2, 3, 4, 5, 6)
    weight = layer.weight.detach()
    rows = weight / weight.square().mean((1, 2, 3, 4), keepdim=True).sqrt()
    torch.testing.assert_close(layer(x), naive_conv(x, rows / math.sqrt(3 * k**3)), atol=1e-5, rtol=1e-4)


def test_a_gain_is_a_factor_of_the_result():
    layer, x = MPConv3d(3, 4, 3).eval(), randn(2, 3, 4, 5, 6)
    plain, gained = layer(x), layer(x, 2.5)
    torch.testing.assert_close(gained, 2.5 * plain)
    gradients = [torch.autograd.grad(y.square().sum(), layer.weight)[0] for y in (2.5 * plain, gained)]
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-3)


def test_conv_keeps_the_magnitude():
    layer = MPConv3d(16, 32, 3).eval()
    layer.weight.data.mul_(0.01)
    inside = layer(randn(2, 16, 10, 12, 12))[..., 1:-1, 1:-1, 1:-1]
    assert rms(inside) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_conv_gradients_in_bfloat16(frames):
    """Also for two frames, of which the library's own gradient is off by far more than rounding."""
    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        conv = MPConv3d(64, 64, 3)
        x = randn(4, 64, frames, 4, 4, seed=1).to(dtype)
        (conv(x).float() * randn(4, 64, frames, 4, 4, seed=2)).sum().backward()
        gradients[dtype] = conv.weight.grad
    error = (gradients[torch.bfloat16] - gradients[torch.float32]).norm() / gradients[torch.float32].norm()
    assert error < 0.02


def test_ones_are_the_first_channel_and_fan_in_does_not_count_them():
    layer = MPConv3d(2, 5, 3, concat_ones=True).eval()
    assert layer.weight.shape == (5, 3, 3, 3, 3)
    assert layer.fan_in == 2 * 27
    x = randn(1, 2, 3, 4, 4)
    rows = normalize(layer.weight.detach())
    with_ones = torch.cat((torch.ones(1, 1, 3, 4, 4), x), dim=1)
    torch.testing.assert_close(layer(x), naive_conv(with_ones, rows / math.sqrt(54)), atol=1e-5, rtol=1e-4)
    # The ones are padded with zeros like everything else: where x is zero a corner sees 8 of them, the middle 27.
    out = layer(torch.zeros(1, 2, 3, 4, 4))
    torch.testing.assert_close(out[0, :, 1, 1, 1], rows[:, 0].sum((1, 2, 3)) / math.sqrt(54))
    torch.testing.assert_close(out[0, :, 0, 0, 0], rows[:, 0, 1:, 1:, 1:].sum((1, 2, 3)) / math.sqrt(54))


@pytest.mark.parametrize("k", [1, 3])
def test_legacy_fan_in(k):
    """The old scale forgot one axis of the kernel: its results are greater by sqrt(k)."""
    layer, legacy = MPConv3d(3, 4, k).eval(), MPConv3d(3, 4, k, legacy_fan_in=True).eval()
    legacy.load_state_dict(layer.state_dict())
    x = randn(1, 3, 3, 4, 4)
    torch.testing.assert_close(legacy(x), layer(x) * math.sqrt(k))


LAYERS = [
    (lambda: MPLinear(6, 4), (3, 6)),
    (lambda: MPConv3d(2, 4, 3), (1, 2, 3, 4, 4)),
    (lambda: MPConv3d(2, 4, 3, concat_ones=True), (1, 2, 3, 4, 4)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_training_overwrites_the_stored_weight(make, shape):
    layer, x = make().train(), randn(*shape)
    before = layer.weight.detach().mul_(3).clone()
    out = layer(x)
    torch.testing.assert_close(layer.weight.detach().flatten(1).square().mean(1), torch.ones(4))
    torch.testing.assert_close(layer.weight.detach(), normalize(before))
    torch.testing.assert_close(out, layer.eval()(x))


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_evaluation_leaves_the_stored_weight_alone(make, shape):
    layer, x = make().eval(), randn(*shape)
    before = layer.weight.detach().mul_(3).clone()
    out = layer(x)
    assert torch.equal(layer.weight.detach(), before)
    layer.weight.data.div_(7)
    torch.testing.assert_close(layer(x), out)  # only its direction acts


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_gradient_is_orthogonal_to_each_filter(make, shape):
    """EDM2, section 2.3: the loss cannot be lowered by making a filter longer."""
    layer, x = make().train(), randn(*shape)
    layer(x).pow(3).sum().backward()
    gradient, weight = layer.weight.grad.flatten(1), layer.weight.detach().flatten(1)
    assert (gradient.norm(dim=1) > 0.1).all()
    assert F.cosine_similarity(gradient, weight).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_computes_in_the_dtype_of_its_input(make, shape, dtype):
    layer, x = make().eval(), randn(*shape)
    out = layer(x.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), layer(x), atol=0.03, rtol=0.03)


# Embedding


def test_fourier():
    """Pairs of sqrt(2) sin and sqrt(2) cos of the same angle, all sines first: each pair has the magnitude 1."""
    layer = MPFourier(6)
    layer.weights.copy_(torch.tensor([0.25, 1.0, -0.5]))
    out = layer(torch.tensor([0.0, 1.0]))
    expected = math.sqrt(2) * torch.tensor([[0, 0, 0, 1, 1, 1], [1, 0, 0, 0, 1, -1]])
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)
    assert list(layer.state_dict()) == ["weights"]
    assert not list(layer.parameters())
    many = MPFourier(200)(randn(50))
    torch.testing.assert_close(many[:, :100] ** 2 + many[:, 100:] ** 2, torch.full((50, 100), 2.0))


def test_fourier_frequencies_are_standard_normal():
    weights = MPFourier(40_000).weights
    assert weights.mean().item() == pytest.approx(0, abs=0.03)
    assert weights.std().item() == pytest.approx(1, abs=0.03)


def test_gain():
    layer, x = Gain(), randn(3, 4)
    assert not layer(x).any()
    layer.gain.data.fill_(2.5)
    torch.testing.assert_close(layer(x), 2.5 * x)
    assert layer(x.bfloat16()).dtype == torch.bfloat16


# Attention and feed-forward

SIZE = {"T": 3, "H": 2, "W": 4}


def sequences(axes: str) -> list[list[tuple[int, int, int]]]:
    """The sets of positions (t, h, w) that see each other."""
    T, H, W = SIZE.values()
    everywhere = [(t, h, w) for t in range(T) for h in range(H) for w in range(W)]
    if axes == "joint":
        return [everywhere]
    if axes == "space":
        return [[p for p in everywhere if p[0] == t] for t in range(T)]
    return [[p for p in everywhere if p[1:] == (h, w)] for h in range(H) for w in range(W)]


def unit(x: Tensor) -> Tensor:
    return x / x.square().mean(-1, keepdim=True).sqrt()


def naive_attention(layer: MPAttention, x: Tensor, axes: str, dim_head: int, balance: float) -> Tensor:
    """One query at a time, in float64."""
    x, heads = x.double(), layer.heads
    w_qkv, w_out = (normalize(conv.weight.detach().double())[..., 0, 0, 0] for conv in (layer.to_qkv, layer.to_out))
    qkv = torch.einsum("oi,bithw->bothw", w_qkv / math.sqrt(x.shape[1]), x)
    out = torch.zeros(len(x), heads * dim_head, *x.shape[2:], dtype=torch.float64)
    memory = layer.mem_kv.detach().double()
    for b in range(len(x)):
        for head in range(heads):
            rows = slice(head * dim_head, (head + 1) * dim_head)
            q, k, v = (part[rows] for part in qkv[b].chunk(3))
            for places in sequences(axes):
                keys = unit(torch.cat((memory[0, head], torch.stack([k[:, *p] for p in places]))))
                values = unit(torch.cat((memory[1, head], torch.stack([v[:, *p] for p in places]))))
                for p in places:
                    weights = (keys @ unit(q[:, *p]) / math.sqrt(dim_head)).softmax(0)
                    out[b, rows, *p] = weights @ values
    out = torch.einsum("oi,bithw->bothw", w_out / math.sqrt(heads * dim_head), out)
    return ((1 - balance) * out + balance * x) / math.hypot(1 - balance, balance)


@pytest.mark.parametrize("axes", ["joint", "space", "time"])
@pytest.mark.parametrize(("dim", "heads", "dim_head"), [(8, 2, 4), (6, 2, 5), (6, 3, 1)])
def test_attention(axes, dim, heads, dim_head):
    layer = MPAttention(dim, heads=heads, dim_head=dim_head, balance=0.4, axes=axes, num_memory=3).eval()
    x = randn(2, dim, *SIZE.values())
    expected = naive_attention(layer, x, axes, dim_head, balance=0.4)
    torch.testing.assert_close(layer(x), expected.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("axes", "seen"), [("joint", 24), ("space", 8), ("time", 3)])
def test_attention_reach(axes, seen):
    """How many positions feel a change at one."""
    layer, x = MPAttention(8, heads=2, dim_head=4, axes=axes).eval(), randn(1, 8, *SIZE.values())
    changed = x.clone()
    changed[..., 1, 1, 1] += 1
    assert (layer(changed) - layer(x)).abs().sum(1).gt(1e-6).sum() == seen


def test_attention_without_memory():
    """One position that sees itself alone: the softmax is 1 and the value passes through."""
    layer, x = MPAttention(8, heads=2, dim_head=4, num_memory=0, balance=0.0).eval(), randn(1, 8, 1, 1, 1)
    values = unit(layer.to_qkv(x)[:, 16:].reshape(2, 4)).reshape(1, 8, 1, 1, 1)
    torch.testing.assert_close(layer(x), layer.to_out(values))


def test_attention_memory_comes_first_in_halves():
    """mem_kv[0] are keys and mem_kv[1] values: memory keys that every query loves make the output one memory value."""
    layer = MPAttention(8, heads=2, dim_head=4, num_memory=1, balance=0.0).eval()
    x = randn(1, 8, 1, 1, 2)
    before = layer(x)
    layer.mem_kv.data[1] *= -1
    assert not torch.allclose(layer(x), before)
    layer.mem_kv.data *= 100  # only its direction acts
    after = layer(x)
    layer.mem_kv.data /= 100
    torch.testing.assert_close(layer(x), after)


@pytest.mark.parametrize("axes", ["joint", "space", "time"])
def test_attention_runs_fused(axes):
    """Torch falls back in silence to storing all N * N weights where the layout of its inputs does not suit."""
    layer, x = MPAttention(8, heads=2, dim_head=4, axes=axes).eval(), randn(1, 8, *SIZE.values())
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        fused = layer(x)
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(layer(x), fused)


def test_attention_keeps_the_dtype():
    layer, x = MPAttention(8, heads=2, dim_head=5).eval(), randn(1, 8, *SIZE.values())
    out = layer(x.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("balance", [0.0, 0.3, 1.0])
def test_feed_forward(balance):
    layer, x = MPFeedForward(6, mult=3, balance=balance).eval(), randn(2, 6, 2, 3, 3)
    first, second = (normalize(layer.net[i].weight.detach())[..., 0, 0, 0] for i in (1, 3))
    y = x / x.square().mean(1, keepdim=True).sqrt()
    y = torch.einsum("oi,bi...->bo...", first / math.sqrt(6), y)
    y = y / (1 + (-y).exp()) / 0.596
    y = torch.einsum("oi,bi...->bo...", second / math.sqrt(18), y)
    expected = ((1 - balance) * y + balance * x) / math.hypot(1 - balance, balance)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)

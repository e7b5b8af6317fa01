import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from mpvideo.architecture import network_plan
from mpvideo.nn import KarrasUnet3D
from mpvideo.nn.layers import mp_cat, mp_sum, pixel_norm
from mpvideo.nn.unet3d import EncoderBlock
from tests.networks import TINY, TINY_SHAPE, randn, tiny_network

X = randn(3, *TINY_SHAPE)
TIME = torch.tensor([-1.0, 0.1, 0.9])
LABELS = torch.tensor([0, 4, 2])


@pytest.fixture(scope="module")
def net() -> KarrasUnet3D:
    return tiny_network().requires_grad_(False)


def evaluate(net: KarrasUnet3D, **changes) -> Tensor:
    with torch.no_grad():
        return net(**{"x": X, "time": TIME, "class_labels": LABELS, **changes})


# Closed forms


def test_untrained_network_is_zero():
    """All gains start at 0, the last one too; D is then c_skip x, the best guess for Gaussian data."""
    assert not evaluate(tiny_network(gain=None)).any()


def test_output_is_proportional_to_the_last_gain(net):
    doubled = tiny_network()
    doubled.output_block[1].gain.data.fill_(1.0)
    torch.testing.assert_close(evaluate(doubled), 2 * evaluate(net))


def test_embedding(net):
    """mp_silu of the balanced sum of noise and class embedding, each of magnitude 1."""
    noise, table = net.to_time_emb(TIME), net.to_class_emb.weight
    rows = table / table.square().mean(1, keepdim=True).sqrt()
    for row, label in enumerate(LABELS.tolist()):
        # One-hot times sqrt(5), by rows over sqrt(5): a column of the table.
        total = (0.5 * noise[row] + 0.5 * rows[:, label]) / math.hypot(0.5, 0.5)
        torch.testing.assert_close(net.embed(TIME, LABELS)[row], total * total.sigmoid() / 0.596)
    zeros = net.embed(TIME, torch.zeros(3, 5))
    half = noise / math.sqrt(2)
    torch.testing.assert_close(zeros, half * half.sigmoid() / 0.596)


def test_first_level_by_hand():
    """A network without downsampling or attention, block by block."""
    net = tiny_network(num_downsamples=0, downsample_types=(), num_classes=None, attn_res=(), gain=0.3)
    emb = net.embed(TIME)

    def residual(block, x):
        silu = lambda z: z * z.sigmoid() / 0.596  # noqa: E731
        y = block.block1[1](silu(x)) * (1 + 0.3 * block.to_emb[0](emb))[:, :, None, None, None]
        return block.block2[2](silu(y))

    with torch.no_grad():
        stem = net.input_block(X)
        x = pixel_norm(stem, 1)
        skip = x = mp_sum(residual(net.downs[0], x), x, 0.3)
        for block in net.mids:
            x = mp_sum(residual(block, x), x, 0.3)
        for block, other in zip(net.ups, (skip, stem), strict=True):
            x = mp_cat(x, other, 0.5)
            x = mp_sum(residual(block, x), block.res_conv(x), 0.3)
        torch.testing.assert_close(net(X, TIME), 0.3 * net.output_block[0](x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["all", "image", "frame"])
def test_encoder_resizes_as_trilinear_interpolation(kind):
    net = tiny_network(num_downsamples=1, downsample_types=kind, attn_res=())
    block = next(block for block in net.downs if block.plan.resamples)
    assert isinstance(block, EncoderBlock)
    seen: list[Tensor] = []
    block.downsample_conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, emb = randn(2, 8, 4, 8, 8, seed=5), randn(2, 32, seed=6)
    with torch.no_grad():
        block(x, emb)
    scale = [1 / factor for factor in block.plan.factors]
    expected = F.interpolate(x, scale_factor=scale, mode="trilinear", align_corners=False)
    assert seen[0].shape == expected.shape != x.shape
    torch.testing.assert_close(seen[0], expected)


@pytest.mark.parametrize("kind", ["all", "image", "frame"])
def test_decoder_resizes_its_own_axes(kind):
    net = tiny_network(num_downsamples=1, downsample_types=kind, attn_res=())
    block = next(block for block in net.ups if block.plan.resamples)
    T, H = (2 if kind != "image" else 4), (4 if kind != "frame" else 8)
    with torch.no_grad():
        assert block(randn(1, 12, T, H, H), randn(1, 32)).shape == (1, 8, 4, 8, 8)


# The call


def test_heads_times_dim_head_need_not_be_the_width(net):
    widths = {(a.to_out.weight.shape[1], a.to_out.weight.shape[0]) for a in net.modules() if hasattr(a, "to_qkv")}
    assert widths == {(15, 12)}
    assert evaluate(net).shape == X.shape
    wider = evaluate(tiny_network(attn_res=(8, 4, 2), factorize_space_time_attn=True))
    assert wider.shape == X.shape
    assert wider.isfinite().all()


def test_one_hot_rows_are_labels(net):
    out = evaluate(net)
    assert torch.equal(evaluate(net, class_labels=F.one_hot(LABELS, 5).float()), out)
    assert torch.equal(evaluate(net, class_labels=F.one_hot(LABELS, 5).double()), out)
    assert torch.equal(evaluate(net, class_labels=LABELS.to(torch.uint8)), out)
    assert not torch.allclose(evaluate(net, class_labels=LABELS.flip(0)), out)


def test_samples_do_not_see_each_other(net):
    out = evaluate(net)
    for i in range(3):
        one = evaluate(net, x=X[i : i + 1], time=TIME[i : i + 1], class_labels=LABELS[i : i + 1])
        torch.testing.assert_close(one, out[i : i + 1], atol=1e-5, rtol=1e-4)


def test_self_condition():
    """Left out, it is zeros; given, it comes before x on the channels."""
    net = tiny_network(self_condition=True)
    out, guess = evaluate(net), randn(*X.shape, seed=9)
    assert torch.equal(evaluate(net, self_cond=torch.zeros_like(X)), out)
    conditioned = evaluate(net, self_cond=guess)
    assert not torch.allclose(conditioned, out)
    seen: list[Tensor] = []
    net.input_block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    evaluate(net, self_cond=guess.double())
    assert torch.equal(seen[0], torch.cat((guess, X), dim=1))


def test_attn_flash_and_resnet_balance_have_no_effect(net):
    assert torch.equal(evaluate(tiny_network(attn_flash=True, resnet_mp_add_t=0.9)), evaluate(net))


@pytest.mark.parametrize("name", ["mp_cat_t", "mp_add_emb_t", "attn_res_mp_add_t"])
def test_balances_have_an_effect(net, name):
    assert not torch.allclose(evaluate(tiny_network(**{name: 0.8})), evaluate(net))


def test_legacy_fan_in_scales_the_last_convolution(net):
    assert not torch.allclose(evaluate(tiny_network(legacy_fan_in=True)), evaluate(net))
    legacy = {name for name, m in tiny_network(legacy_fan_in=True).named_modules() if _fan_in_is_legacy(m)}
    wanted = {name for name, m in net.named_modules() if getattr(m, "weight", torch.zeros(0)).shape[2:] == (3, 3, 3)}
    assert legacy == wanted


def _fan_in_is_legacy(module: torch.nn.Module) -> bool:
    if not hasattr(module, "fan_in") or module.weight.ndim != 5:
        return False
    inputs = module.weight.shape[1] - module.concat_ones
    return module.fan_in != inputs * module.weight.shape[-1] ** 3


def test_dropout_acts_in_training_only():
    net = tiny_network(dropout=0.5)
    assert torch.equal(evaluate(net), evaluate(net))
    net.train()
    assert not torch.equal(evaluate(net), evaluate(net))


# Dtypes, state, gradients


def test_bfloat16_is_close_to_float32(net):
    out, rough = evaluate(net), evaluate(net, x=X.bfloat16())
    assert rough.dtype == torch.bfloat16
    error = ((rough.float() - out).norm() / out.norm()).item()
    assert 0 < error < 0.03


def test_every_convolution_computes_in_the_dtype_of_the_input():
    net = tiny_network(self_condition=True)
    dtypes = set()
    for module in net.modules():
        if hasattr(module, "concat_ones"):
            module.register_forward_hook(lambda _, inputs, out: dtypes.update({inputs[0].dtype, out.dtype}))
    evaluate(net, x=X.bfloat16(), self_cond=X)
    assert dtypes == {torch.bfloat16}


def test_float64_is_close_to_float32(net):
    precise = evaluate(net, x=X.double(), time=TIME.double())
    assert precise.dtype == torch.float64
    torch.testing.assert_close(precise.float(), evaluate(net), atol=1e-5, rtol=1e-4)


def test_state_dict_round_trip(net):
    other = tiny_network(seed=1)
    assert not torch.equal(evaluate(other), evaluate(net))
    other.load_state_dict(load(save(net.state_dict())))
    assert torch.equal(evaluate(other), evaluate(net))


def test_gradient_reaches_every_parameter():
    net = tiny_network(self_condition=True, factorize_space_time_attn=True).train()
    net(X, TIME, randn(*X.shape, seed=9), LABELS).square().sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_untrained_network_can_learn():
    """At first only the last gain has a gradient: everything else is multiplied by it."""
    net = tiny_network(gain=None).train()
    (net(X, TIME, class_labels=LABELS) - X).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad.any()] == ["output_block.1.gain"]


def test_evaluation_does_not_change_the_weights(net):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    evaluate(net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_training_normalises_every_weight():
    net = tiny_network().train()
    evaluate(net)
    weights = [m.weight.detach() for m in net.modules() if hasattr(m, "fan_in")]
    assert len(weights) > 30
    for weight in weights:
        torch.testing.assert_close(weight.flatten(1).square().mean(1), torch.ones(len(weight)))


def test_blocks_follow_the_plan(net):
    plan = network_plan(net.config)
    for block in plan:
        assert net.get_submodule(block.name).plan == block
    assert (len(net.downs), len(net.mids), len(net.ups)) == (len(plan.downs), len(plan.mids), len(plan.ups))


# Bad arguments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": X[0]}, r"x must have the shape \(B, 2, 4, 8, 8\), got \(2, 4, 8, 8\)"),
        ({"x": X[:, :1]}, r"x must have the shape \(B, 2, 4, 8, 8\), got \(3, 1, 4, 8, 8\)"),
        ({"x": X[:, :, :3]}, r"x must have up to 4 frames, a multiple of 2, in its shape, got \(3, 2, 3, 8, 8\)"),
        ({"x": X[:, :, :0]}, r"x must have up to 4 frames, a multiple of 2, in its shape, got \(3, 2, 0, 8, 8\)"),
        ({"x": X.repeat(1, 1, 2, 1, 1)}, r"x must have up to 4 frames, .*, got \(3, 2, 8, 8, 8\)"),
        ({"x": X[..., :4, :]}, r"x must have the shape \(B, 2, 4, 8, 8\), got \(3, 2, 4, 4, 8\)"),
        ({"x": X[..., :4]}, r"x must have the shape \(B, 2, 4, 8, 8\), got \(3, 2, 4, 8, 4\)"),
        ({"x": X[:0], "time": TIME[:0]}, r"x must have the shape \(B, 2, 4, 8, 8\), got \(0, 2, 4, 8, 8\)"),
        ({"x": X.long()}, r"x must be floating point, got torch\.int64"),
        ({"time": TIME[:2]}, r"time must have the shape \(3,\), got \(2,\)"),
        ({"time": TIME[:, None]}, r"time must have the shape \(3,\), got \(3, 1\)"),
        ({"time": TIME[0]}, r"time must have the shape \(3,\), got \(\)"),
        ({"class_labels": None}, r"class_labels must be given: the network has 5 classes"),
        ({"class_labels": torch.tensor([0, 5, 1])}, r"class_labels must be in 0\.\.4, got 5"),
        ({"class_labels": torch.tensor([0, -1, 1])}, r"class_labels must be in 0\.\.4, got -1"),
        ({"class_labels": LABELS[:2]}, r"class_labels must have the shape \(3,\) as integers, got \(2,\)"),
        ({"class_labels": LABELS[:, None]}, r"class_labels must have the shape \(3,\) as integers, got \(3, 1\)"),
        ({"class_labels": torch.ones(3, 4)}, r"class_labels must have the shape \(3, 5\) as weights, got \(3, 4\)"),
        ({"class_labels": torch.ones(2, 5)}, r"class_labels must have the shape \(3, 5\) as weights, got \(2, 5\)"),
        ({"class_labels": torch.ones(3)}, r"class_labels must have the shape \(3, 5\) as weights, got \(3,\)"),
        ({"self_cond": X}, r"self_cond must be None for a network without self_condition"),
    ],
)
def test_bad_arguments(net, changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        evaluate(net, **changes)


def test_unwanted_labels():
    unconditional = tiny_network(num_classes=None)
    assert evaluate(unconditional, class_labels=None).any()
    with pytest.raises(ValueError, match=r"^class_labels must be None for a network without classes"):
        evaluate(unconditional)


@pytest.mark.parametrize("self_cond", [X[:1], X[:, :1], X[0]])
def test_misshapen_self_cond(self_cond):
    with pytest.raises(ValueError, match=r"^self_cond must have the shape of x, \(3, 2, 4, 8, 8\), got \("):
        evaluate(tiny_network(self_condition=True), self_cond=self_cond)


def test_constructor_checks_its_arguments():
    with pytest.raises(ValueError, match=r"^image_size must be divisible by 4, because 2 stages halve it; got 6$"):
        KarrasUnet3D(**{**TINY, "image_size": 6})
    with pytest.raises(TypeError, match="widht"):
        KarrasUnet3D(**TINY, widht=3)

"""The magnitude-preserving operations: what they promise of magnitudes, against their formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from mpvideo.nn.layers import EPS, MPSiLU, PixelNorm, mp_cat, mp_silu, mp_sum, normalize, pixel_norm
from tests.networks import randn, rms

BALANCES = [0.0, 0.1, 0.3, 0.5, 0.9, 1.0]


@pytest.mark.parametrize("shape", [(7, 11), (5, 3, 3, 3, 3), (2, 1)])
def test_normalize(shape):
    weight = 40 * randn(*shape)
    rows = normalize(weight)
    torch.testing.assert_close(rows.flatten(1).square().mean(1), torch.ones(shape[0]))
    # Each row keeps its direction, and a normalised weight is left as it is.
    torch.testing.assert_close(F.cosine_similarity(rows.flatten(1), weight.flatten(1)), torch.ones(shape[0]))
    torch.testing.assert_close(normalize(rows), rows)


def test_normalize_of_almost_nothing():
    """Below the bound of the norm a row is scaled by a constant, zeros stay zeros, and gradients stay finite."""
    weight = torch.zeros(2, 9)
    weight[1, 4] = EPS / 8
    weight.requires_grad_()
    rows = normalize(weight)
    rows.sum().backward()
    assert rows[0].tolist() == [0.0] * 9
    assert rows[1, 4].item() == pytest.approx(3 / 8)  # sqrt(9) elements, an eighth of the bound
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("dim", [1, -1])
def test_pixel_norm(dim):
    x = 30 * randn(3, 5, 4, 6)
    y = pixel_norm(x, dim)
    torch.testing.assert_close(y.square().mean(dim), torch.ones_like(y.sum(dim)))
    torch.testing.assert_close(y, x / x.square().mean(dim, keepdim=True).sqrt())


@pytest.mark.parametrize("dim", [1, -1])
def test_gradients_of_pixel_norm(dim):
    """Of all orders; also where almost nothing is scaled by a constant."""
    x = randn(2, 4, 3).double()
    x[0] *= 1e-6
    torch.autograd.gradcheck(lambda x: pixel_norm(x, dim), x[1:].requires_grad_())
    torch.autograd.gradgradcheck(lambda x: pixel_norm(x, dim), x[1:].requires_grad_())
    small = x[:1].detach().requires_grad_()
    gradient = randn(1, 4, 3, seed=1).double()
    pixel_norm(small, dim).backward(gradient)
    torch.testing.assert_close(small.grad, gradient * math.sqrt(small.shape[dim]) / EPS)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
def test_gradient_of_pixel_norm_is_float64s(dtype, error):
    x, gradient = randn(3, 5, 4, 6).to(dtype).requires_grad_(), randn(3, 5, 4, 6, seed=1).to(dtype)
    exact = x.detach().double().requires_grad_()
    pixel_norm(exact, 1).backward(gradient.double())
    pixel_norm(x, 1).backward(gradient)
    assert x.grad.dtype == dtype
    assert (x.grad.double() - exact.grad).norm() < error * exact.grad.norm()


def test_pixel_norm_module_works_on_channels():
    x = randn(2, 5, 1, 2, 3)
    assert torch.equal(PixelNorm()(x), pixel_norm(x, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_pixel_norm_of_almost_nothing(dtype):
    """The scale at the bound, sqrt(C) / EPS, is beyond float16 from 43 channels on."""
    x = torch.zeros(2, 64, 1, dtype=dtype)
    x[1, 0] = EPS / 16
    y = pixel_norm(x, 1)
    assert y.dtype == dtype
    assert not y[0].any()
    assert y[1, 0].item() == pytest.approx(8 / 16, rel=0.3 if dtype == torch.float16 else 0.01)
    assert y.isfinite().all()
    pixel_norm(x.requires_grad_(), 1).sum().backward()
    assert x.grad.isfinite().all()


def test_pixel_norm_of_large_halves():
    """Squares of 1000 are beyond float16; the norm is not taken in it."""
    y = pixel_norm(torch.full((1, 64), 1000.0, dtype=torch.float16), 1)
    assert y.dtype == torch.float16
    assert (y == 1).all()


def test_mp_silu():
    x = randn(400_000)
    assert rms(mp_silu(x)) == pytest.approx(1, abs=0.005)
    torch.testing.assert_close(mp_silu(x), x / (1 + (-x).exp()) / 0.596)
    assert torch.equal(MPSiLU()(x), mp_silu(x))


@pytest.mark.parametrize("balance", BALANCES)
def test_mp_sum_keeps_the_magnitude(balance):
    a, b = randn(300_000, seed=1), randn(300_000, seed=2)
    total = mp_sum(a, b, balance)
    assert rms(total) == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(total, ((1 - balance) * a + balance * b) / math.sqrt((1 - balance) ** 2 + balance**2))


def test_mp_sum_ends():
    a, b = randn(9, seed=1), randn(9, seed=2)
    assert torch.equal(mp_sum(a, b, 0.0), a)
    assert torch.equal(mp_sum(a, b, 1.0), b)


@pytest.mark.parametrize("balance", BALANCES)
def test_mp_cat_keeps_the_magnitude(balance):
    """Of the whole; and the two parts contribute in the ratio of the balance, however many channels they have."""
    a, b = randn(40, 6, 32, 32, seed=1), randn(40, 2, 32, 32, seed=2)
    both = mp_cat(a, b, balance)
    assert both.shape == (40, 8, 32, 32)
    assert rms(both) == pytest.approx(1, abs=0.02)
    parts = both[:, :6].norm().item(), both[:, 6:].norm().item()
    assert parts[1] / math.hypot(*parts) == pytest.approx(balance / math.hypot(1 - balance, balance), abs=0.01)


def test_mp_cat_ends():
    a, b = randn(2, 3, 4, seed=1), randn(2, 1, 4, seed=2)
    torch.testing.assert_close(mp_cat(a, b, 0.0), torch.cat((a * math.sqrt(4 / 3), 0 * b), 1))
    torch.testing.assert_close(mp_cat(a, b, 1.0), torch.cat((0 * a, b * 2), 1))


@pytest.mark.parametrize("dim", [1, -1])
def test_mp_cat_of_equal_parts_scales_nothing(monkeypatch, dim):
    a, b = randn(2, 3, 3, seed=1), randn(2, 3, 3, seed=2)
    monkeypatch.setattr(torch, "cat", lambda parts, dim: (parts, dim))
    parts, along = mp_cat(a, b, 0.5, dim)
    assert parts[0] is a and parts[1] is b and along == dim

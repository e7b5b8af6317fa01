"""Winograd's convolution against the direct one in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mpvideo.nn import winograd
from tests.networks import randn

ACCURACY = {torch.float64: 1e-13, torch.float32: 1e-5}


def direct(x, kernel):
    """The convolution of (B, T, 4, 4, C)."""
    return F.conv3d(x.permute(0, 4, 1, 2, 3), kernel, padding=1).permute(0, 2, 3, 4, 1)


@pytest.mark.parametrize("dtype", ACCURACY)
@settings(max_examples=40, deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 4)] * 4), of_x=st.booleans())
def test_results_and_gradients(dtype, sizes, of_x):
    B, T, C, D = sizes
    x, kernel, gradient = randn(B, T, 4, 4, C), randn(D, C, 3, 3, 3, seed=1), randn(B, T, 4, 4, D, seed=2)
    inputs = [value.double().requires_grad_() for value in (x, kernel)]
    y = direct(*inputs)
    expected = torch.autograd.grad(y, inputs, gradient.double())
    points = winograd.kernel_points(kernel.to(dtype))
    assert_near(winograd.convolve(x.to(dtype), points), y, dtype)
    by_x, by_kernel = winograd.gradients(x.to(dtype), points, gradient.to(dtype), of_x=of_x)
    assert_near(by_kernel, expected[1], dtype)
    assert (by_x is not None) == of_x
    if by_x is not None:
        assert_near(by_x, expected[0], dtype)


def assert_near(result, expected, dtype):
    """Of the same size and dtype, and near relative to the size of the values."""
    assert result.dtype == dtype and result.shape == expected.shape and result.is_contiguous()
    assert (result.double() - expected).norm() <= ACCURACY[dtype] * (1 + expected.norm())


@pytest.mark.parametrize("frames", [50, 300])
def test_parts_of_a_batch(frames):
    """More frames than are convolved at once, with a last part that is smaller, and clips longer than a part."""
    x, kernel, gradient = randn(5, frames, 4, 4, 2), randn(3, 2, 3, 3, 3, seed=1), randn(5, frames, 4, 4, 3, seed=2)
    points = winograd.kernel_points(kernel)
    whole = winograd.convolve(x, points)
    assert_near(whole, direct(x.double(), kernel.double()), torch.float32)
    alone = [winograd.gradients(x[i : i + 1], points, gradient[i : i + 1], of_x=True) for i in range(5)]
    by_x, by_kernel = winograd.gradients(x, points, gradient, of_x=True)
    torch.testing.assert_close(by_x, torch.cat([part for part, _ in alone]), rtol=0, atol=1e-4)
    torch.testing.assert_close(by_kernel, sum(part for _, part in alone), rtol=0, atol=1e-2)


def test_suits():
    assert winograd.suits(16, 4, 4)
    assert not winograd.suits(15, 4, 4)
    assert not any(winograd.suits(16, *plane) for plane in [(2, 2), (4, 2), (8, 8), (5, 5)])

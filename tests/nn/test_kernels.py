"""Convolutions and products against the plain operations in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mpvideo.nn import kernels, winograd
from mpvideo.nn.kernels import (
    Convolution,
    FramePairConvolution,
    Product,
    SmallPlaneConvolution,
    StackedConvolution,
    WinogradConvolution,
    convolution,
    pointwise,
    shrinking,
)
from mpvideo.nn.processor import onednn_bfloat16
from tests.networks import randn

ACCURACY = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}

dtypes = st.sampled_from(list(ACCURACY))
shapes = st.tuples(*[st.integers(1, 4)] * 3)  # B, T, H = W
widths = st.tuples(*[st.sampled_from([1, 2, 3, 16, 40])] * 2)


def direct(x, kernel, **how):
    """The convolution in float64, of (B, T, H, W, C)."""
    return F.conv3d(x.double().permute(0, 4, 1, 2, 3), kernel.double(), **how).permute(0, 2, 3, 4, 1)


def assert_near(result, expected, dtype, scale):
    """Within the dtype's rounding of numbers of that size."""
    assert result.dtype == dtype and result.shape == expected.shape and result.is_contiguous()
    assert (result.double() - expected).abs().max() <= ACCURACY[dtype] * (1 + scale)


def operands(shape, widths, dtype):
    """An input of B, T and H = W, a kernel, and what a result may be multiplied by or added to."""
    (B, T, S), (C, D) = shape, widths
    x, kernel = randn(B, T, S, S, C), randn(D, C, 3, 3, 3, seed=1)
    times, plus = randn(B, 1, 1, 1, D, seed=2), randn(B, T, S, S, D, seed=3)
    return [value.to(dtype) for value in (x, kernel, times, plus)]


def check(run, x, kernel, times, plus, *, rounding=1):
    """Alone, times and plus something, within `rounding` times the rounding of the direct convolution."""
    expected = direct(x, kernel, padding=1)
    scale = rounding * float(expected.abs().max())
    assert_near(run(x), expected, x.dtype, scale)
    assert_near(run(x, times=times), expected * times.double(), x.dtype, 4 * scale)
    sum_ = expected + plus.double()  # before: the result may be written in its place
    assert_near(run(x, plus=plus), sum_, x.dtype, scale + 4)


@settings(max_examples=100, deadline=None)
@given(shape=shapes, usual=shapes, widths=widths, dtype=dtypes)
def test_convolution(shape, usual, widths, dtype):
    x, kernel, times, plus = operands(shape, widths, dtype)
    check(Convolution(kernel, (usual[1], *x.shape[2:4])), x, kernel, times, plus)


@settings(max_examples=60, deadline=None)
@given(shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 2)), widths=widths, dtype=dtypes)
def test_small_planes(shape, widths, dtype):
    x, kernel, times, plus = operands(shape, widths, dtype)
    run = convolution(kernel, tuple(x.shape[1:4]))
    assert isinstance(run, SmallPlaneConvolution)
    check(run, x, kernel, times, plus)


@pytest.mark.parametrize("frames", [1, 32])
@pytest.mark.parametrize(("size", "kept"), [(2, 9), (4, 36), (8, 9)])
def test_tiles(frames, size, kept):
    x, kernel, times, plus = operands((2, frames, size), (64, 72), torch.float32)
    run = convolution(kernel, (32, size, size))
    assert isinstance(run, WinogradConvolution)
    assert run._kept.shape == (3, kept, 64, 72), "of few tiles 36 points are kept, of many they cost little"
    check(run, x, kernel, times, plus)


@settings(max_examples=60, deadline=None)
@given(shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 5)), widths=widths, dtype=dtypes)
def test_pairs_of_frames(shape, widths, dtype):
    """Of even and odd numbers of frames; a third fewer products of what was rounded cost twice the rounding error."""
    x, kernel, times, plus = operands(shape, widths, dtype)
    check(FramePairConvolution(kernel, (8, *x.shape[2:4]), dtype), x, kernel, times, plus, rounding=2)


def test_pairs_of_frames_of_accurate_kernels():
    """Of which nothing is rounded before the taps, here almost opposite ones, are added up."""
    x, kernel = torch.ones(1, 8, 3, 3, 1).bfloat16(), torch.zeros(1, 1, 3, 3, 3)
    kernel[0, 0, :, 1, 1] = torch.tensor([1 + 2**-9, 0, -1])
    run = FramePairConvolution(kernel, (8, 3, 3), torch.bfloat16)
    assert (run(x)[:, 1:-1] == 2**-9).all()


@settings(max_examples=60, deadline=None)
@given(shape=shapes, widths=st.tuples(st.sampled_from([1, 2, 3, 16, 40]), st.integers(1, 5)), dtype=dtypes)
def test_few_channels(shape, widths, dtype):
    x, kernel, times, plus = operands(shape, widths, dtype)
    check(StackedConvolution(kernel, (4, *x.shape[2:4])), x, kernel, times, plus, rounding=2)


@pytest.mark.parametrize(("by_vectors", "form"), [(True, FramePairConvolution), (False, Convolution)])
def test_matrix_units_take_all_frames_at_once(monkeypatch, by_vectors, form):
    monkeypatch.setattr(winograd, "bfloat16_by_vectors", lambda: by_vectors)
    kernel = randn(64, 64, 3, 3, 3)
    assert type(convolution(kernel.bfloat16(), (16, 16, 16))) is form
    assert type(convolution(kernel, (16, 16, 16), dtype=torch.bfloat16)) is form
    assert type(convolution(kernel.half(), (16, 16, 16))) is Convolution
    assert type(convolution(kernel.bfloat16(), (16, 16, 16), reorder=False)) is Convolution


def test_forms():
    kernel = randn(64, 64, 3, 3, 3)
    assert isinstance(convolution(kernel, (32, 2, 2), reorder=False), SmallPlaneConvolution)
    assert isinstance(convolution(kernel.bfloat16(), (32, 2, 2)), SmallPlaneConvolution)
    assert isinstance(convolution(kernel.bfloat16(), (32, 4, 4)), Convolution)
    assert isinstance(convolution(kernel, (32, 4, 4), reorder=False), Convolution)
    assert isinstance(convolution(kernel, (32, 6, 6)), Convolution)
    assert isinstance(convolution(kernel[:3], (32, 6, 6)), StackedConvolution)
    assert isinstance(convolution(kernel[:3], (32, 6, 6), reorder=False), Convolution)


def test_kernels_that_each_call_makes(monkeypatch):
    """Are not made at once, but by the convolution, which makes no more of them than it needs at a time."""
    asked, convolve = [], winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda x, kernel, **how: asked.append(how) or convolve(x, kernel, **how))
    for keep_points, values in ((True, 36), (False, 9)):
        run = WinogradConvolution(randn(3, 2, 3, 3, 3), 4, keep_points=keep_points)
        run(randn(1, 4, 4, 4, 2))
        assert run._kept.shape == (3, values, 2, 3)
        assert asked.pop() == {"in_points": keep_points}


@settings(max_examples=60, deadline=None)
@given(shape=shapes, widths=widths, dtype=dtypes)
def test_product(shape, widths, dtype):
    C, D = widths
    x, matrix, plus = randn(*shape, C).to(dtype), randn(D, C, seed=1).to(dtype), randn(*shape, D, seed=2).to(dtype)
    run, expected = Product(matrix), x.double() @ matrix.double().mT
    scale = float(expected.abs().max())
    assert_near(run(x), expected, dtype, scale)
    assert_near(run(x, plus=plus), expected + plus.double(), dtype, scale + 4)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("shape", [(4, 8, 8), (1, 16, 16), (3, 9, 9), (4, 4, 4)])
def test_pointwise(shape, dtype):
    """Many places and few, and others than those that it is made for."""
    matrix = randn(24, 17, seed=1).to(dtype)
    run = pointwise(matrix, shape)
    for batch, frames in ((1, shape[0]), (2, shape[0] + 1)):
        x, plus = randn(batch, frames, *shape[1:], 17).to(dtype), randn(batch, frames, *shape[1:], 24, seed=2).to(dtype)
        expected = x.double() @ matrix.double().mT
        scale = float(expected.abs().max())
        assert_near(run(x), expected, dtype, scale)
        assert_near(run(x.mT.contiguous().mT), expected, dtype, scale)
        assert_near(run(x, plus=plus.clone()), expected + plus.double(), dtype, scale + 4)


def test_which_products_are_convolutions():
    matrix = randn(24, 16)
    assert isinstance(pointwise(matrix.bfloat16(), (4, 8, 8)), Convolution) == onednn_bfloat16()
    assert isinstance(pointwise(matrix.bfloat16(), (3, 8, 8)), Product)
    assert isinstance(pointwise(matrix.bfloat16(), (4, 8, 8), reorder=False), Product)
    assert isinstance(pointwise(matrix, (4, 8, 8)), Product)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 2, 2), (2, 1, 1)])
def test_shrinking(factors, dtype):
    x, matrix = randn(2, 4, 6, 6, 16).to(dtype), randn(24, 16, seed=1).to(dtype)
    pooled = F.avg_pool3d(x.double().permute(0, 4, 1, 2, 3), factors).permute(0, 2, 3, 4, 1)
    expected = pooled @ matrix.double().mT
    assert_near(shrinking(matrix, factors, (4, 6, 6))(x), expected, dtype, float(expected.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_onednn(monkeypatch, dtype):
    """What other builds of torch and other devices run gives the same."""
    x, kernel, plus = randn(2, 4, 6, 6, 16).to(dtype), randn(24, 16, 3, 3, 3).to(dtype), randn(2, 4, 6, 6, 24).to(dtype)
    times = randn(2, 1, 1, 1, 24).to(dtype)
    ours = Convolution(kernel, (4, 6, 6))
    matrix = Product(kernel[..., 1, 1, 1].contiguous())
    monkeypatch.setattr(kernels, "_onednn_takes", lambda weight: False)
    plain, plain_matrix = Convolution(kernel, (4, 6, 6)), Product(kernel[..., 1, 1, 1].contiguous())
    near = {"rtol": 0, "atol": 300 * ACCURACY[dtype]}
    torch.testing.assert_close(plain(x), ours(x), **near)
    torch.testing.assert_close(plain(x, times=times), ours(x, times=times), **near)
    torch.testing.assert_close(plain(x, plus=plus.clone()), ours(x, plus=plus.clone()), **near)
    torch.testing.assert_close(plain_matrix(x, plus=plus.clone()), matrix(x, plus=plus.clone()), **near)

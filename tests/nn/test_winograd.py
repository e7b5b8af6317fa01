"""Winograd's convolution against the direct one in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mpvideo.nn import winograd
from tests.networks import randn

ACCURACY = {torch.float64: 1e-13, torch.float32: 1e-5}

few = st.integers(1, 4)


@pytest.mark.parametrize("dtype", ACCURACY)
@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(few, few, few, few),
    plane=st.just((2, 2)) | st.tuples(*[st.sampled_from([4, 8, 12])] * 2),
)
def test_results_and_gradients(dtype, sizes, plane):
    check(*sizes, plane, dtype)


@pytest.mark.parametrize(
    ("batch", "frames", "plane"),
    [(5, 50, (2, 2)), (5, 50, (4, 4)), (2, 300, (4, 4)), (3, 40, (8, 8)), (2, 20, (20, 8)), (2, 140, (12, 4))],
)
def test_parts(batch, frames, plane):
    """Several clips at once and the rest of them, several rows of tiles and the rest, and rows longer than a part."""
    check(batch, frames, 2, 3, plane, torch.float32)


def check(batch, frames, dim_in, dim_out, plane, dtype):
    x, gradient = randn(batch, frames, *plane, dim_in), randn(batch, frames, *plane, dim_out, seed=2)
    kernel = randn(dim_out, dim_in, 3, 3, 3, seed=1)
    exact, exact_x = kernel.double().requires_grad_(), x.double().requires_grad_()
    y = F.conv3d(exact_x.permute(0, 4, 1, 2, 3), exact, padding=1).permute(0, 2, 3, 4, 1)
    y.backward(gradient.double())
    taps = winograd.kernel_taps(kernel.to(dtype))
    points = winograd.kernel_points(taps, plane[0])
    for result in (winograd.convolve(x.to(dtype), points), winograd.convolve(x.to(dtype), taps, in_points=False)):
        assert_near(result, y.detach(), dtype)
        assert result.is_contiguous()
    of_x, of_kernel = winograd.gradients(x.to(dtype), gradient.to(dtype), points)
    assert_near(of_x, exact_x.grad, dtype)
    assert of_x.is_contiguous()
    assert_near(of_kernel, exact.grad, dtype)
    assert of_kernel.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_kernel_learns_nothing_from_an_empty_batch(monkeypatch):
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda x, *shape: empty(x, *shape).fill_(math.nan))
    of_x, of_kernel = winograd.gradients(randn(0, 4, 4, 4, 2), randn(0, 4, 4, 4, 3), None)
    assert of_x is None and not of_kernel.any()


def assert_near(result, expected, dtype):
    """Of the same size and dtype, and near relative to the size of the values."""
    assert result.dtype == dtype and result.shape == expected.shape
    assert (result.double() - expected).norm() <= ACCURACY[dtype] * expected.norm()


def test_clips_and_rows_of_tiles_at_once():
    assert [
        len(list(winograd._parts(randn(*shape, 1))))
        for shape in [(48, 32, 2, 2), (8, 32, 4, 4), (8, 16, 8, 8), (1, 16, 32, 32)]
    ] == [
        3,  # of 16 clips
        2,  # of four clips
        4,  # of two
        8,  # of a row
    ]


@pytest.mark.parametrize(("frames", "made"), [(8, [(36, 2, 3)] * 3), (40, [(3, 36, 2, 3)])])
def test_points_of_a_kernel_are_made_by_thirds_for_a_single_part(monkeypatch, frames, made):
    kernel_points, shapes = winograd.kernel_points, []

    def noted(taps, height):
        points = kernel_points(taps, height)
        shapes.append(tuple(points.shape))
        return points

    monkeypatch.setattr(winograd, "kernel_points", noted)
    winograd.convolve(randn(1, frames, 8, 8, 2), winograd.kernel_taps(randn(3, 2, 3, 3, 3)), in_points=False)
    assert shapes == made


def test_the_default_device_is_not_that_of_the_transforms():
    winograd._transforms.cache_clear()
    x, points = randn(1, 4, 4, 4, 2), randn(3, 36, 2, 2, seed=1)
    with torch.device("meta"):
        assert winograd.convolve(x, points).device.type == "cpu"

"""Products over whole planes against torch's convolution and its gradients, in float64."""

import pytest
import torch
import torch.nn.functional as F

from mpvideo.nn import planes
from tests.networks import randn

SIZES = [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_it_is_the_convolution_and_its_gradients(height, width, frames):
    x = randn(3, frames, height, width, 4).double().requires_grad_()
    kernel = randn(5, 4, 3, 3, 3, seed=1).double().requires_grad_()
    gradient = randn(3, frames, height, width, 5, seed=2).double()
    y = F.conv3d(x.permute(0, 4, 1, 2, 3), kernel, padding=1).permute(0, 2, 3, 4, 1)
    result = planes.convolve(x, kernel)
    torch.testing.assert_close(result, y)
    inputs = (x, kernel)
    torch.testing.assert_close(torch.autograd.grad(result, inputs, gradient), torch.autograd.grad(y, inputs, gradient))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_gradients_of_all_orders(height, width):
    x = randn(2, 3, height, width, 2).double().requires_grad_()
    kernel = randn(2, 2, 3, 3, 3, seed=1).double().requires_grad_()
    torch.autograd.gradcheck(planes.convolve, (x, kernel))
    torch.autograd.gradgradcheck(planes.convolve, (x, kernel))


def test_a_gradient_laid_out_otherwise():
    kernel = randn(3, 4, 3, 3, 3).requires_grad_()
    matrix = planes._KernelMatrix.apply(kernel, (2, 2))
    gradient = randn(*matrix.shape, seed=1)
    results = [torch.autograd.grad(matrix, kernel, laid_out, retain_graph=True) for laid_out in (
        gradient, gradient.mT.contiguous().mT
    )]  # fmt: skip
    torch.testing.assert_close(*results)


def test_the_default_device_is_not_that_of_the_gradients():
    planes._standing.cache_clear()
    x, kernel = randn(1, 3, 2, 2, 4), randn(3, 4, 3, 3, 3, seed=1).requires_grad_()
    with torch.device("meta"):
        planes.convolve(x, kernel).sum().backward()
    assert kernel.grad.device.type == "cpu"


def test_one_product_makes_a_convolution():
    """What inference does with a matrix that it keeps."""
    x, kernel = randn(3, 5, 2, 2, 4), randn(6, 4, 3, 3, 3, seed=1)
    result = planes.three_planes(x) @ planes.kernel_matrix(kernel, (2, 2)).mT
    torch.testing.assert_close(result.view(3, 5, 2, 2, 6), planes.convolve(x, kernel))

"""Products over whole planes against torch's convolution and its gradients, in float64."""

import pytest
import torch
import torch.nn.functional as F

from mpvideo.nn import planes


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_it_is_the_convolution_and_its_gradients(height, width, frames):
    torch.manual_seed(0)
    x = torch.randn(3, frames, height, width, 4, dtype=torch.float64)
    kernel = torch.randn(5, 4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(3, frames, height, width, 5, dtype=torch.float64)
    video = x.permute(0, 4, 1, 2, 3).requires_grad_()
    y = F.conv3d(video, kernel, padding=1)
    y.backward(gradient.permute(0, 4, 1, 2, 3))

    matrix = planes.kernel_matrix(kernel.detach(), height, width)
    result = (planes.three_planes(x) @ matrix.mT).view(*x.shape[:4], 5)
    torch.testing.assert_close(result, y.detach().permute(0, 2, 3, 4, 1))
    of_x = planes.input_gradient(gradient, matrix)
    torch.testing.assert_close(of_x, video.grad.permute(0, 2, 3, 4, 1))
    torch.testing.assert_close(planes.kernel_gradient(x, gradient), kernel.grad)

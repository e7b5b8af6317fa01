"""3x3x3 convolution with zero padding of planes of at most 2x2 places, as a product over whole planes.

Three planes, one after the other in time, give one: with fewer operations than 27 taps, none of which falls on the
padding. (Of larger planes, pairs of places that no tap connects would be most of the work.)

Letters: B batch, C D channels in and out, T frames, H W height and width, P = H * W places of a plane. Activations are
(B, T, H, W, C), contiguous.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def kernel_matrix(kernel: Tensor, height: int, width: int) -> Tensor:
    """A kernel (D, C, 3, 3, 3) as the matrix from three planes to one: (P * D, 3 * P * C)."""
    taps = kernel.permute(0, 2, 3, 4, 1).contiguous()  # channels last: places are copied as they are
    rows = torch.stack([taps[seen] for seen in _seen(height, width)])
    return rows.view(height * width * len(kernel), -1)


def three_planes(x: Tensor) -> Tensor:
    """Each plane of (B, T, H, W, C) with those before and after it, which are zeros at the ends: (B, T, 3 * P * C)."""
    planes = F.pad(x.flatten(2), (0, 0, 1, 1))
    return torch.cat((planes[:, :-2], planes[:, 1:-1], planes[:, 2:]), dim=2)


def input_gradient(gradient: Tensor, matrix: Tensor) -> Tensor:
    """Gradient (B, T, H, W, C) of the input, from that of the result, (B, T, H, W, D), and the `kernel_matrix`."""
    before, at, after = (gradient.flatten(2) @ matrix).chunk(3, dim=2)
    result = at.contiguous()
    result[:, :-1].add_(before[:, 1:])
    result[:, 1:].add_(after[:, :-1])
    height, width = gradient.shape[2:4]
    return result.view(*gradient.shape[:4], matrix.shape[1] // (3 * height * width))


def kernel_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient (D, C, 3, 3, 3) of the kernel, from the input (B, T, H, W, C) and that of the result (B, T, H, W, D)."""
    height, width, C = x.shape[2:]
    D = gradient.shape[-1]
    rows = gradient.flatten(2).flatten(0, 1).mT @ three_planes(x).flatten(0, 1)
    taps = x.new_zeros(D, 3, 3, 3, C)
    for seen, row in zip(_seen(height, width), rows.view(height * width, D, 3, height, width, C), strict=True):
        taps[seen].add_(row)
    return taps.permute(0, 4, 1, 2, 3)


def _seen(height: int, width: int) -> Iterator[tuple[slice, ...]]:
    """The taps (D, 3, 3, 3, C) through which each place sees the plane: y through y - Y + 1 from Y, and so along x."""
    for Y in range(height):
        for X in range(width):
            yield slice(None), slice(None), slice(1 - Y, 1 - Y + height), slice(1 - X, 1 - X + width)

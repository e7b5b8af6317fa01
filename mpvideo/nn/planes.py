"""3x3x3 convolution with zero padding of planes of at most 2x2 places, as a product over whole planes.

Three planes, one after the other in time, give one: with fewer operations than 27 taps, none of which falls on the
padding. (Of larger planes, pairs of places that no tap connects would be most of the work.) Planes of 2x2 with many
channels are in float32 a matter of `mpvideo.nn.winograd`; in bfloat16 that gains nothing for four times the error.

Letters: B batch, C D channels in and out, T frames, H W height and width, P = H * W places of a plane. Activations are
(B, T, H, W, C), contiguous.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mpvideo.nn.function import Function


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolution of (B, T, H, W, C) by a kernel (D, C, 3, 3, 3), with gradients of all orders: (B, T, H, W, D).

    For the gradients it keeps `three_planes` and `kernel_matrix`, which have three times the values of x and up to 48
    for each 27 of the kernel: a tenth more memory for training the menagerie's network than by keeping x.
    """
    matrix = _KernelMatrix.apply(kernel, x.shape[2:4])
    three = _ThreePlanes.apply(x)
    return F.linear(three, matrix).view(*x.shape[:4], len(kernel))


def kernel_matrix(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """A kernel (D, C, 3, 3, 3) as the matrix from three planes of H and W to one: (P * D, 3 * P * C)."""
    taps = kernel.permute(0, 2, 3, 4, 1).contiguous()  # channels last: places are copied as they are
    rows = torch.stack([taps[seen] for seen in _seen(*size)])
    return rows.view(len(rows) * len(kernel), -1)


def three_planes(x: Tensor) -> Tensor:
    """Each plane of (B, T, H, W, C) with those before and after it, which are zeros at the ends: (B, T, 3 * P * C)."""
    planes = F.pad(x.flatten(2), (0, 0, 1, 1))
    return torch.cat((planes[:, :-2], planes[:, 1:-1], planes[:, 2:]), dim=2)


class _KernelMatrix(Function):
    """`kernel_matrix`; what autograd makes of it passes over the taps several times as often."""

    @staticmethod
    def forward(kernel: Tensor, size: tuple[int, int]) -> Tensor:
        return kernel_matrix(kernel, size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[int, int]], output: Tensor) -> None:
        kernel, ctx.size = inputs
        ctx.dim_out = len(kernel)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _KernelTaps.apply(gradient, ctx.dim_out, ctx.size), None


class _KernelTaps(Function):
    """The transpose of `kernel_matrix`: for each tap of a kernel (D, C, 3, 3, 3) the sum of where it stands."""

    @staticmethod
    def forward(matrix: Tensor, dim_out: int, size: tuple[int, int]) -> Tensor:
        order, begins = _standing(dim_out, *size, matrix.device)
        taps = F.embedding_bag(order, matrix.reshape(len(order), -1), begins, mode="sum")
        return taps.view(dim_out, 3, 3, 3, -1).permute(0, 4, 1, 2, 3)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, tuple[int, int]], output: Tensor) -> None:
        _, _, ctx.size = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _KernelMatrix.apply(gradient, ctx.size), None, None


class _ThreePlanes(Function):
    """`three_planes`."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return three_planes(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        result: Tensor = _PlaneSum.apply(gradient, ctx.shape)
        return result


class _PlaneSum(Function):
    """The transpose of `three_planes`: for each plane the sum of the three places where it stands."""

    @staticmethod
    def forward(three: Tensor, shape: tuple[int, ...]) -> Tensor:
        before, at, after = three.chunk(3, dim=2)
        result = at.clone(memory_format=torch.contiguous_format)
        result[:, :-1].add_(before[:, 1:])
        result[:, 1:].add_(after[:, :-1])
        return result.view(shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[int, ...]], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _ThreePlanes.apply(gradient.contiguous()), None


@lru_cache
def _standing(dim_out: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each tap of a kernel (D, 3, 3, 3) stands in its matrix, for `torch.nn.functional.embedding_bag`.

    Returns:
        The numbers (P * D * 3 * P,) of the matrix's blocks of C values, those of the first tap first.
        Where each tap's begin among them, (27 * D,).
    """
    taps = torch.arange(dim_out * 27, device=device).view(dim_out, 3, 3, 3)
    blocks = torch.stack([taps[seen] for seen in _seen(height, width)]).flatten()
    of_taps, order = blocks.sort(stable=True)
    return order, torch.searchsorted(of_taps, taps.flatten())


def _seen(height: int, width: int) -> Iterator[tuple[slice, ...]]:
    """The taps (D, 3, 3, 3, C) through which each place sees the plane: y through y - Y + 1 from Y, and so along x."""
    for Y in range(height):
        for X in range(width):
            yield slice(None), slice(None), slice(1 - Y, 1 - Y + height), slice(1 - X, 1 - X + width)

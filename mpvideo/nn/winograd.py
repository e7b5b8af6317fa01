"""3x3x3 convolution of planes of 4x4 places with a quarter of the products: Winograd's minimal filtering.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308: F(4x4, 3x3). A plane is
one tile, its zero padding is left out of the transform, and the taps along time stay as they are. The rounding error is
about four times that of a direct convolution: for float32, not for less.

A plane becomes P = 36 points, at each of which channels meet in a matrix product. Letters: B batch, C D channels in and
out, T frames. Activations are (B, T, 4, 4, C), contiguous.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 4
"""Height and width of a plane."""

_ROWS = 128
"""How many frames are convolved at once, or one clip: few enough for their points to stay in a cache."""

_FEWEST = 16
"""Length of clips from which on this pays: at each point every frame is one row, against a matrix of the kernel."""

# Rows of the paper's matrices for the points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
)  # fmt: skip
_KERNEL = (
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
)  # fmt: skip
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def suits(frames: int, height: int, width: int) -> bool:
    """Whether clips of this shape are convolved faster by this than directly; those of other planes cannot be."""
    return height == width == SIZE and frames >= _FEWEST


@lru_cache
def _transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """From the places of a plane to points (P, 16), from the taps of a kernel (P, 9), and from points back (16, P)."""
    with torch.inference_mode(False):  # they are kept for training, too
        rows = [torch.tensor(matrix, dtype=torch.float64) for matrix in (_INPUT, _KERNEL, _OUTPUT)]
        rows[0] = rows[0][:, 1:-1]  # the first and the last place are the padding
        to_points, of_kernel, to_places = (torch.kron(matrix, matrix).to(dtype) for matrix in rows)
    return to_points, of_kernel, to_places


def kernel_points(kernel: Tensor) -> Tensor:
    """A kernel (D, C, 3, 3, 3) at the points: (3, P, C, D), the first axis along time."""
    _, of_kernel, _ = _transforms(kernel.dtype)
    D, C = kernel.shape[:2]
    return (of_kernel @ kernel.permute(2, 3, 4, 1, 0).reshape(3, 9, -1)).view(3, -1, C, D)


def convolve(x: Tensor, points: Tensor) -> Tensor:
    """Convolution with zero padding by what `kernel_points` made of a kernel: (B, T, 4, 4, C) -> (B, T, 4, 4, D)."""
    _, _, to_places = _transforms(x.dtype)
    result = x.new_empty(*x.shape[:4], points.shape[-1])
    for part, place in _parts(x, result):
        inputs, step = _input_points(part), len(part)
        rows = inputs.shape[1] - 2 * step
        outputs = torch.bmm(inputs[:, :rows], points[0])
        for tap in (1, 2):
            outputs.baddbmm_(inputs[:, tap * step :][:, :rows], points[tap])
        _put(to_places @ outputs.flatten(1), place)
    return result


def gradients(x: Tensor, points: Tensor, gradient: Tensor, *, of_x: bool) -> tuple[Tensor | None, Tensor]:
    """Gradients of x, if `of_x` says so, and of the kernel (D, C, 3, 3, 3), from that of the result of `convolve`."""
    to_points, of_kernel, to_places = _transforms(x.dtype)
    result = torch.empty_like(x)
    of_points = torch.zeros_like(points)
    for part, of_y, place in _parts(x, gradient, result):
        inputs, step = _input_points(part), len(part)
        outputs = (to_places.mT @ _places_first(of_y).flatten(1)).view(len(to_points), -1, points.shape[-1])
        rows = outputs.shape[1]
        for tap in range(3):
            of_points[tap].baddbmm_(inputs[:, tap * step :][:, :rows].mT, outputs)
        if of_x:
            # Taps are the other way round: what a frame takes of the one before it, that one gives to the one after.
            padded = F.pad(outputs, (0, 0, step, step))
            of_inputs = torch.bmm(padded[:, :rows], points[2].mT)
            for tap in (1, 0):
                of_inputs.baddbmm_(padded[:, (2 - tap) * step :][:, :rows], points[tap].mT)
            _put(to_points.mT @ of_inputs.flatten(1), place)
    taps = (of_kernel.mT @ of_points.flatten(2)).view(3, 3, 3, *points.shape[2:])  # time, height, width
    return result if of_x else None, taps.permute(4, 3, 0, 1, 2).contiguous()


def _parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same few clips of each tensor, one after another."""
    return zip(*(torch.split(tensor, max(1, _ROWS // tensor.shape[1])) for tensor in tensors), strict=True)


def _places_first(x: Tensor) -> Tensor:
    """(B, T, 4, 4, C) -> (16, T, B, C), contiguous."""
    return x.flatten(2, 3).permute(2, 1, 0, 3).contiguous()


def _input_points(x: Tensor) -> Tensor:
    """(B, T, 4, 4, C) -> (P, (T + 2) * B, C), with zeros for a frame before the first and after the last."""
    to_points, _, _ = _transforms(x.dtype)
    places = F.pad(_places_first(x), (0, 0, 0, 0, 1, 1))
    return (to_points @ places.flatten(1)).view(len(to_points), -1, x.shape[-1])


def _put(places: Tensor, result: Tensor) -> None:
    """Stores (16, T * B * C) in (B, T, 4, 4, C)."""
    B, T, _, _, C = result.shape
    result.view(B, T, SIZE * SIZE, C).copy_(places.view(-1, T, B, C).permute(2, 1, 0, 3))

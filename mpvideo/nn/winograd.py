"""3x3x3 convolution with a quarter of the products, of planes that tiles of 4x4 places cover: Winograd's method.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308: F(4x4, 3x3) over height
and width; the taps along time stay as they are. The rounding error is two to eight times that of a direct convolution:
for float32, not for less.

A tile, with the places around it, becomes P = 36 points, at each of which channels meet in a matrix product. Where that
is worth while, `mpvideo.kernel_form` says. Letters: B batch, C D channels in and out, T frames, H W height and width.
Activations are (B, T, H, W, C), contiguous.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mpvideo.kernel_form import TILE, KernelForm, kernel_form

_TILES = 128
"""How many tiles are convolved at once, or else a row of them in all frames: few, so that they stay in a cache."""

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


def form(
    kernel: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None, device: torch.device | None = None
) -> KernelForm:
    """The form in which a kernel (D, C, 3, 3, 3) convolves clips of T, H and W fastest.

    Args:
        kernel: the kernel.
        shape: T, H and W.
        dtype, device: where and in what it is to convolve, if not where and in what it is.
    """
    on_cpu = (device or kernel.device).type == "cpu"
    name = str(dtype or kernel.dtype).removeprefix("torch.") if on_cpu else None
    fastest = kernel_form(kernel.shape[1], kernel.shape[0], shape, name)
    return "direct" if fastest == "pairs" and not _bfloat16_by_vectors() else fastest


def _bfloat16_by_vectors() -> bool:
    """Whether bfloat16 is multiplied in vectors of AVX-512, and not in matrix units, where products are cheap (AMX)."""
    return torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


def kernel_taps(kernel: Tensor) -> Tensor:
    """A kernel (D, C, 3, 3, 3), ordered as `kernel_points` takes it: (3, 9, C, D), the first axis along time."""
    D, C = kernel.shape[:2]
    return kernel.permute(2, 3, 4, 1, 0).reshape(3, 9, C, D)


def kernel_points(taps: Tensor) -> Tensor:
    """A kernel, from `kernel_taps`, at the points: (3, P, C, D)."""
    _, _, C, D = taps.shape
    return (_matrix(_KERNEL, taps.dtype) @ taps.flatten(2)).view(3, -1, C, D)


def convolve(x: Tensor, points: Tensor) -> Tensor:
    """Convolution with zero padding by what `kernel_points` made of a kernel: (B, T, H, W, C) -> (B, T, H, W, D).

    H and W are multiples of 4.
    """
    to_places = _matrix(_OUTPUT, x.dtype)
    result = x.new_empty(*x.shape[:4], points.shape[-1])
    for clips, rows in _parts(x):
        inputs, place = _input_points(x, clips, rows), _tiles(result, clips, rows)
        frame = inputs.shape[1] // (x.shape[1] + 2)
        count = inputs.shape[1] - 2 * frame
        outputs = torch.bmm(inputs[:, :count], points[0])
        for tap in (1, 2):
            outputs.baddbmm_(inputs[:, tap * frame :][:, :count], points[tap])
        place.copy_((to_places @ outputs.flatten(1)).view_as(place))
    return result


def kernel_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient (D, C, 3, 3, 3) of the kernel, from the input (B, T, H, W, C) and that of the result (B, T, H, W, D)."""
    to_places, of_kernel = _matrix(_OUTPUT, x.dtype), _matrix(_KERNEL, x.dtype)
    C, D = x.shape[-1], gradient.shape[-1]
    of_points = x.new_empty(3, len(of_kernel), C, D)
    if not len(x):
        of_points.zero_()
    beta = 0  # for the first part: what is there before it does not count
    for clips, rows in _parts(x):
        inputs, tiles = _input_points(x, clips, rows), _tiles(gradient, clips, rows)
        outputs = (to_places.mT @ tiles.reshape(TILE * TILE, -1)).view(len(of_kernel), -1, D)
        count = outputs.shape[1]
        frame = count // x.shape[1]
        for tap in range(3):
            of_points[tap].baddbmm_(inputs[:, tap * frame :][:, :count].mT, outputs, beta=beta)
        beta = 1
    taps = (of_kernel.mT @ of_points.flatten(2)).view(3, 3, 3, C, D)
    return taps.permute(4, 3, 0, 1, 2).contiguous(memory_format=torch.channels_last_3d)


@lru_cache
def _matrix(rows: tuple[tuple[float, ...], ...], dtype: torch.dtype) -> Tensor:
    """A transform of height and width together, of one that is given for either."""
    matrix = torch.tensor(rows, dtype=torch.float64, device="cpu")  # it is kept, whatever the default device is now
    return torch.kron(matrix, matrix).to(dtype)


def _parts(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Clips of a batch and rows of tiles, together about as many tiles as are to be convolved at once."""
    B, T, H, W, _ = x.shape
    across, down = T * (W // TILE), H // TILE
    clips, rows = max(1, _TILES // (across * down)), max(1, min(down, _TILES // across))
    for clip in range(0, B, clips):
        for row in range(0, down, rows):
            yield slice(clip, min(B, clip + clips)), slice(row, min(down, row + rows))


def _tiles(x: Tensor, clips: slice, rows: slice) -> Tensor:
    """A view of some tiles of (B, T, H, W, D): (4, 4, T, clips, rows, columns, D)."""
    part = x[clips, :, TILE * rows.start : TILE * rows.stop]
    B, T, H, W, D = part.shape
    return part.view(B, T, H // TILE, TILE, W // TILE, TILE, D).permute(3, 5, 1, 0, 2, 4, 6)


def _input_points(x: Tensor, clips: slice, rows: slice) -> Tensor:
    """Some tiles of (B, T, H, W, C) at the points: (P, (T + 2) * tiles, C).

    Before the first frame and after the last are zeros. Frames are the slowest, so that the tiles of the next frame are
    all as many rows further on.
    """
    _, T, H, W, C = x.shape
    matrix = _matrix(_INPUT, x.dtype)
    if H == W == TILE:  # of the places around the only tile nothing is seen
        inside = matrix.view(-1, TILE + 2, TILE + 2)[:, 1:-1, 1:-1]
        matrix, tiles = inside.flatten(1), _tiles(x, clips, rows)
    else:
        top, bottom = TILE * rows.start - 1, TILE * rows.stop + 1
        part = x[clips, :, max(top, 0) : min(bottom, H)]
        part = F.pad(part, (0, 0, 1, 1, int(top < 0), int(bottom > H)))
        tiles = part.unfold(2, TILE + 2, TILE).unfold(3, TILE + 2, TILE).permute(5, 6, 1, 0, 2, 3, 4)
    places = tiles.reshape(matrix.shape[1], -1)
    points = x.new_empty(len(matrix), T + 2, places.shape[1] // T)
    points[:, 0], points[:, -1] = 0, 0
    frame = points.shape[-1]
    torch.mm(matrix, places, out=points.flatten(1)[:, frame:-frame])
    return points.view(len(matrix), -1, C)

"""3x3x3 convolution with fewer products, of planes of one tile of 2x2 places or of tiles of 4x4: Winograd's method.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308: F(4x4, 3x3) over height
and width, with a quarter of the products; the taps along time stay as they are. A tile of 2x2 is a whole plane. Along
an axis its two places make two, by three taps: that is F(2, 2), in which the places filter the taps, three products for
four. The rounding error is two to eight times that of a direct convolution, of 2x2 less: for float32, not for less.

A tile, with the places around it, becomes P = 36 points, one of 2x2 becomes 9, at each of which channels meet in a
matrix product. Where that is worth while, `mpvideo.kernel_form` says. Letters: B batch, C D channels in and out, T
frames, H W height and width, N tiles of a frame. Activations are (B, T, H, W, C), contiguous.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from mpvideo.kernel_form import TILE, KernelForm, kernel_form
from mpvideo.nn.processor import bfloat16_by_vectors

_TILES = 128
"""How many tiles of 4x4, or four times as many of 2x2, are convolved at once, or else a row of them in all frames: few,
so that they stay in a cache."""


_TRANSFORMS = {
    # The paper's, for the points 0, 1, -1, 2, -2 and infinity.
    4: (
        (
            (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
        ),
        (
            (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
        ),
        ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    ),
    # What the tap in the middle makes of either place, and what the outer taps make of the one that they see besides.
    2: (
        ((0, 1, 1, 0), (0, 0, 1, 0), (0, 1, 0, 0)),
        ((0, 1, 0), (0, -1, 1), (1, -1, 0)),
        ((1, 1, 0), (1, 0, 1)),
    ),
}  # fmt: skip
"""For each height of a tile the matrices along an axis, as rows: from the tile and a place on either side to points,
from three taps to points, and from points to places."""


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
    return "direct" if fastest == "pairs" and not bfloat16_by_vectors() else fastest


def kernel_taps(kernel: Tensor) -> Tensor:
    """A kernel (D, C, 3, 3, 3), ordered as `kernel_points` takes it: (3, 9, C, D), the first axis along time."""
    D, C = kernel.shape[:2]
    return kernel.permute(2, 3, 4, 1, 0).reshape(3, 9, C, D)


def kernel_points(taps: Tensor, height: int) -> Tensor:
    """A kernel from `kernel_taps`, or one tap in time, (..., 9, C, D), at the points of planes: (..., P, C, D)."""
    *taps_of_time, _, C, D = taps.shape
    _, of_kernel, _ = _transforms(_tile(height), taps.dtype)
    return (of_kernel @ taps.flatten(-2)).view(*taps_of_time, -1, C, D)


def convolve(x: Tensor, kernel: Tensor, *, in_points: bool = True) -> Tensor:
    """Convolution with zero padding by what `kernel_points` made of a kernel: (B, T, H, W, C) -> (B, T, H, W, D).

    Args:
        x: H and W are multiples of 4, or both 2.
        kernel: (3, P, C, D).
        in_points: False if it is from `kernel_taps` alone, (3, 9, C, D), and its points are to be made for this call: a
            third of them at a time, where all of x is convolved at once.
    """
    height = x.shape[2]
    _, _, to_places = _transforms(_tile(height), x.dtype)
    result = x.new_empty(*x.shape[:4], kernel.shape[-1])
    parts = list(_parts(x))
    by_thirds = not in_points and len(parts) == 1
    points = kernel if in_points or by_thirds else kernel_points(kernel, height)

    def tap(index: int) -> Tensor:
        return kernel_points(kernel[index], height) if by_thirds else points[index]

    for clips, rows in parts:
        place = _tiles(result, clips, rows)
        # Nothing in between has a name, which would keep it until the next part's is there.
        place.copy_((to_places @ _over_frames(_between_zeros(*_seen(x, clips, rows)), tap).flatten(1)).view_as(place))
    return result


def gradients(x: Tensor, gradient: Tensor, points: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Gradients of the input and of the kernel: the steps of `convolve` transposed, the last one first.

    Args:
        x: the input (B, T, H, W, C).
        gradient: that of the result (B, T, H, W, D).
        points: what `kernel_points` made of the kernel; None if the gradient of the input is not wanted.
            That takes up to 2.25 times its memory for a while, where tiles overlap.

    Returns:
        (B, T, H, W, C) or None, and (D, C, 3, 3, 3).
    """
    _, of_kernel, to_places = _transforms(_tile(x.shape[2]), x.dtype)
    of_outputs = to_places.mT
    C, D = x.shape[-1], gradient.shape[-1]
    of_x = None if points is None else _nothing_seen(x)
    of_points = x.new_empty(3, len(of_kernel), C, D)
    if not len(x):
        of_points.zero_()
    back = () if points is None else points.mT.unbind()[::-1]  # what a frame gave to the next, that gives back
    beta = 0  # for the first part: what is there before it does not count
    for clips, rows in _parts(x):
        matrix, places = _seen(x, clips, rows)
        inputs = (matrix @ places.flatten(1)).view(len(matrix), -1, C)
        tiles = _tiles(gradient, clips, rows).reshape(of_outputs.shape[1], x.shape[1], -1, D)
        outputs = _between_zeros(of_outputs, tiles)
        for of_tap, frames in zip(of_points.unbind()[::-1], _neighbours(outputs), strict=True):
            of_tap.baddbmm_(inputs.mT, frames, beta=beta)
        beta = 1
        if of_x is not None:
            inputs = _over_frames(outputs, lambda tap: back[tap])
            _add_seen(of_x, matrix.mT @ inputs.flatten(1), clips, rows)
    taps = (of_kernel.mT @ of_points.flatten(2)).view(3, 3, 3, C, D)
    of_taps = taps.permute(4, 3, 0, 1, 2).contiguous(memory_format=torch.channels_last_3d)
    return None if of_x is None else _without_padding(of_x, x), of_taps


@lru_cache
def _transforms(tile: int, dtype: torch.dtype, *, alone: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """The matrices for height and width together: (P, K), (P, 9) and (places, P).

    Args:
        tile: height and width of the tiles.
        dtype: of the matrices.
        alone: whether there is nothing around a tile, so that K counts its own places only.
    """
    of_input, of_kernel, to_output = _TRANSFORMS[tile]
    if alone:
        of_input = tuple(row[1:-1] for row in of_input)
    return _both_axes(of_input, dtype), _both_axes(of_kernel, dtype), _both_axes(to_output, dtype)


def _both_axes(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
    matrix = torch.tensor(rows, dtype=torch.float64, device="cpu")  # it is kept, whatever the default device is now
    return torch.kron(matrix, matrix).to(dtype)


def _parts(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Clips of a batch and rows of tiles, together about as many tiles as are to be convolved at once."""
    B, T, H, W, _ = x.shape
    tile = _tile(H)
    across, down = T * (W // tile), H // tile
    at_once = _TILES * (TILE // tile) ** 2
    clips, rows = max(1, at_once // (across * down)), max(1, min(down, at_once // across))
    for clip in range(0, B, clips):
        for row in range(0, down, rows):
            yield slice(clip, min(B, clip + clips)), slice(row, min(down, row + rows))


def _tile(height: int) -> int:
    """Height and width of the tiles of planes of that height."""
    return min(height, TILE)


def _tiles(x: Tensor, clips: slice, rows: slice) -> Tensor:
    """A view of some tiles of (B, T, H, W, D): (height, width, T, clips, rows, columns, D)."""
    tile = _tile(x.shape[2])
    part = x[clips, :, tile * rows.start : tile * rows.stop]
    B, T, H, W, D = part.shape
    return part.view(B, T, H // tile, tile, W // tile, tile, D).permute(3, 5, 1, 0, 2, 4, 6)


def _neighbours(points: Tensor) -> list[Tensor]:
    """For each of T frames of (P, T + 2, N, C), between two ends, that before, itself and that after: (P, T * N, C)."""
    _, padded, tiles, _ = points.shape
    frames = points.flatten(1, 2)
    return [frames[:, tap * tiles : (padded - 2 + tap) * tiles] for tap in range(3)]


def _over_frames(points: Tensor, tap: Callable[[int], Tensor]) -> Tensor:
    """What taps 0 before, 1 at and 2 after a frame, each (P, C, D), make of points (P, T + 2, N, C): (P, T * N, D)."""
    before, at, after = _neighbours(points)
    return torch.bmm(before, tap(0)).baddbmm_(at, tap(1)).baddbmm_(after, tap(2))


def _between_zeros(matrix: Tensor, places: Tensor) -> Tensor:
    """Places (K, T, N, C) multiplied by a matrix (P, K), and frames of zeros before and after: (P, T + 2, N, C)."""
    _, T, tiles, C = places.shape
    points = places.new_empty(len(matrix), T + 2, tiles, C)
    points[:, :: T + 1] = 0
    torch.mm(matrix, places.flatten(1), out=points.flatten(1)[:, tiles * C : -tiles * C])
    return points


def _is_a_tile(x: Tensor) -> bool:
    """Whether planes of (B, T, H, W, C) are of one tile: of the places around it nothing is seen."""
    return x.shape[2] == x.shape[3] == _tile(x.shape[2])


def _seen(x: Tensor, clips: slice, rows: slice) -> tuple[Tensor, Tensor]:
    """The input's transform (P, K), and what it transforms: K places in and around each of N tiles (K, T, N, C)."""
    alone = _is_a_tile(x)
    matrix, _, _ = _transforms(_tile(x.shape[2]), x.dtype, alone=alone)
    if alone:
        tiles = _tiles(x, clips, rows)
    else:
        H = x.shape[2]
        top, bottom = TILE * rows.start - 1, TILE * rows.stop + 1
        part = x[clips, :, max(top, 0) : min(bottom, H)]
        part = F.pad(part, (0, 0, 1, 1, int(top < 0), int(bottom > H)))
        tiles = part.unfold(2, TILE + 2, TILE).unfold(3, TILE + 2, TILE).permute(5, 6, 1, 0, 2, 3, 4)
    return matrix, tiles.reshape(matrix.shape[1], x.shape[1], -1, x.shape[-1])


def _nothing_seen(x: Tensor) -> Tensor:
    """Zeros for `_add_seen` to add to: (B, T, H, W, C) with a place before and three after, but for single tiles."""
    B, T, H, W, C = x.shape
    return torch.zeros_like(x) if _is_a_tile(x) else x.new_zeros(B, T, H + TILE, W + TILE, C)


def _add_seen(whole: Tensor, places: Tensor, clips: slice, rows: slice) -> None:
    """Puts places, ordered as of `_seen`, where they are from, and sums up where tiles overlap."""
    if _is_a_tile(whole):
        place = _tiles(whole, clips, rows)
        place.copy_(places.view_as(place))
        return
    B, T, H, W, C = whole[clips].shape
    cells = whole[clips].view(B, T, H // TILE, TILE, W // TILE, TILE, C).permute(3, 5, 1, 0, 2, 4, 6)
    count, across = rows.stop - rows.start, W // TILE - 1
    places = places.view(TILE + 2, TILE + 2, T, B, count, across, C)
    # Two lines of a tile's surroundings belong to the next tile, as everything lies a place further on.
    own, next_one = (slice(0, TILE), 0), (slice(TILE, TILE + 2), 1)
    for (y, down), (x, right) in product((own, next_one), repeat=2):
        part = places[y, x]
        cells[: len(part), : part.shape[1], :, :, rows.start + down : rows.stop + down, right : across + right] += part


def _without_padding(whole: Tensor, x: Tensor) -> Tensor:
    """What `_nothing_seen` made for x, without what is not seen of it."""
    return whole if _is_a_tile(x) else whole[:, :, 1 : x.shape[2] + 1, 1 : x.shape[3] + 1].contiguous()

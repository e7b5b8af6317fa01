"""In which form a 3x3x3 kernel convolves fastest on a CPU; decided without torch, for memory is told without it.

Letters: C D channels in and out, T frames, H W height and width.
"""

from typing import Literal

KernelForm = Literal["direct", "planes", "points", "taps"]

_SMALL_PLANE = 2
"""Height and width up to which a plane is multiplied as a whole."""

TILE = 4
"""Height and width of the tiles of Winograd's method."""

_SHORTEST, _NARROWEST, _FEWEST, _WIDEST = 4, 48, 32, 4
"""Frames, channels and tiles from which on Winograd's transforms cost less than what they save, and channels for each
tile up to which its kernel, four times as large, is not most of what has to be read. Measured with AVX2; with AVX-512
some smaller ones gain as well."""

_MANY = 128
"""Tiles from which on that kernel is made in each call, for 2 to 12 % of its time, instead of kept."""


def kernel_form(dim_in: int, dim_out: int, shape: tuple[int, ...], *, float32: bool) -> KernelForm:
    """The form that suits a kernel (D, C, 3, 3, 3) and clips of T, H and W.

    Args:
        dim_in, dim_out: C and D.
        shape: T, H and W.
        float32: whether that is the dtype; others have units of their own, or round too much for Winograd's method.

    Returns:
        `direct` for the kernel as it is, `planes` for a matrix from three whole planes to one
        (`mpvideo.nn.planes`), `points` and `taps` for Winograd's method (`mpvideo.nn.winograd`): with its kernel kept,
        or made in each call.
    """
    frames, height, width = shape
    if max(height, width) <= _SMALL_PLANE:
        return "planes"
    tiles = frames * (height // TILE) * (width // TILE)
    covered = height % TILE == width % TILE == 0
    pays = frames >= _SHORTEST and tiles >= _FEWEST and min(dim_in, dim_out) >= _NARROWEST
    if float32 and covered and pays and max(dim_in, dim_out) <= _WIDEST * tiles:
        return "points" if tiles < _MANY else "taps"
    return "direct"


def values_per_tap(dim_in: int, dim_out: int, shape: tuple[int, ...], *, float32: bool) -> float:
    """How many values the form of a kernel has for each of its 27 taps; arguments as of `kernel_form`."""
    _, height, width = shape
    values = {"direct": 27, "planes": 3 * (height * width) ** 2, "points": 3 * (TILE + 2) ** 2, "taps": 27}
    return values[kernel_form(dim_in, dim_out, shape, float32=float32)] / 27

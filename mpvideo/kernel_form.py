"""In which form a 3x3x3 kernel convolves fastest on a CPU; decided without torch, for memory is told without it.

Letters: C D channels in and out, T frames, H W height and width.
"""

from typing import Literal

KernelForm = Literal["direct", "planes", "points"]

_SMALL = 2
_TILE = 4

_NARROWEST, _FEWEST, _WIDEST = 48, 32, 4
"""Channels and tiles from which on Winograd's transforms cost less than what they save, and channels for each tile up
to which its kernel, four times as large, is not most of what has to be read. Measured with AVX2, 16 to 256 channels."""


def kernel_form(dim_in: int, dim_out: int, shape: tuple[int, ...], *, float32: bool) -> KernelForm:
    """The form that suits a kernel (D, C, 3, 3, 3) and clips of T, H and W.

    Args:
        dim_in, dim_out: C and D.
        shape: T, H and W.
        float32: whether that is the dtype; others have units of their own, or round too much for Winograd's method.

    Returns:
        `direct` for the kernel as it is, `planes` for a matrix from three whole planes to one
        (`mpvideo.nn.kernels.SmallPlaneConvolution`), `points` for Winograd's method (`mpvideo.nn.winograd`).
    """
    frames, height, width = shape
    if max(height, width) <= _SMALL:
        return "planes"
    tiles = frames * (height // _TILE) * (width // _TILE)
    covered = height % _TILE == width % _TILE == 0
    if float32 and covered and tiles >= _FEWEST and min(dim_in, dim_out) >= _NARROWEST:
        return "points" if max(dim_in, dim_out) <= _WIDEST * tiles else "direct"
    return "direct"


def values_per_tap(dim_in: int, dim_out: int, shape: tuple[int, ...], *, float32: bool) -> float:
    """How many values the form of a kernel has for each of its 27 taps; arguments as of `kernel_form`."""
    _, height, width = shape
    values = {"direct": 27, "planes": 3 * (height * width) ** 2, "points": 3 * (_TILE + 2) ** 2}
    return values[kernel_form(dim_in, dim_out, shape, float32=float32)] / 27

"""In which form a 3x3x3 kernel convolves fastest on a CPU; decided without torch, for memory is told without it.

Letters: C D channels in and out, T frames, H W height and width.
"""

from typing import Literal

KernelForm = Literal["direct", "planes", "points", "taps", "pairs", "stacked"]

SMALL_PLANE = 2
"""Height and width up to which a plane is multiplied as a whole, or is a tile of its own."""

_NARROWEST_PLANE = 64
"""Channels from which on such a tile, with fewer values to keep, takes about as long as a plane as a whole, and less
with more of them. Measured with AVX-512."""

TILE = 4
"""Height and width of the tiles of Winograd's method."""

_SHORTEST, _NARROWEST, _FEWEST, _WIDEST = 4, 48, 32, 4
"""Frames, channels and tiles from which on Winograd's transforms cost less than what they save, and channels for each
tile up to which its kernel, four times as large, is not most of what has to be read. Measured with AVX2; with AVX-512
some smaller ones gain as well."""

_NARROWEST_OF_ONE, _FEWEST_OF_ONE = 16, 64
"""Channels, and planes of a single tile in a batch, from which on Winograd's method makes gradients sooner than oneDNN.
Measured with AVX2."""

_MANY = 128
"""Tiles from which on that kernel is made in each call, for 2 to 12 % of its time, instead of kept."""

_FEW, _LEAST_STACKED = 5, 2**14
"""Channels out of which three times as many take oneDNN no longer, as it computes 16 at least, and C * T * H * W from
which on that saves more than the sums after it take. Measured with AVX-512."""

_SHORTEST_PAIRED, _FEWEST_TAPS, _FEWEST_PRODUCTS = 8, 2048, 2**24
"""Frames, C * D and C * D * T * H * W from which on a third of the products takes longer than the sums of whole frames
that save it. Of fewer frames the direct convolution leaves out more taps, those on the padding. Measured in bfloat16,
with AVX-512."""


def kernel_form(dim_in: int, dim_out: int, shape: tuple[int, ...], dtype: str | None) -> KernelForm:
    """The form that suits a kernel (D, C, 3, 3, 3) and clips of T, H and W.

    Args:
        dim_in, dim_out: C and D.
        shape: T, H and W.
        dtype: its name; None on other devices than a CPU. Those of less than float32 round too much for Winograd's
            method on tiles.

    Returns:
        `direct` for the kernel as it is, `planes` for a matrix from three whole planes to one
        (`mpvideo.nn.planes`), `points` and `taps` for Winograd's method on tiles (`mpvideo.nn.winograd`), of which a
        plane of 2x2 is one: with its kernel kept, or made in each call. `stacked` for its taps along time as further
        channels out, and `pairs` for Winograd's method on pairs of frames, in bfloat16 (`mpvideo.nn.kernels`), where
        processors with units for its matrix products are faster with the kernel as it is.
    """
    frames, height, width = shape
    if max(height, width) <= SMALL_PLANE:
        in_points = dtype == "float32" and height == width == SMALL_PLANE and min(dim_in, dim_out) >= _NARROWEST_PLANE
        return "points" if in_points else "planes"
    places = frames * height * width
    if dtype in ("float32", "bfloat16") and dim_out <= _FEW and dim_in * places >= _LEAST_STACKED:
        return "stacked"
    tiles = frames * (height // TILE) * (width // TILE)
    covered = height % TILE == width % TILE == 0
    pays = frames >= _SHORTEST and tiles >= _FEWEST and min(dim_in, dim_out) >= _NARROWEST
    if dtype == "float32" and covered and pays and max(dim_in, dim_out) <= _WIDEST * tiles:
        return "points" if tiles < _MANY else "taps"
    taps = dim_in * dim_out
    paired = frames >= _SHORTEST_PAIRED and taps >= _FEWEST_TAPS and taps * places >= _FEWEST_PRODUCTS
    if dtype == "bfloat16" and paired:
        return "pairs"
    return "direct"


def gradients_by_points(dim_in: int, dim_out: int, batch: int, shape: tuple[int, ...]) -> bool:
    """Whether Winograd's method makes the gradients of a convolution of `batch` clips, in float32 on a CPU.

    It does so for narrower ones than it convolves, where planes are a single tile: oneDNN took 1.9 to 3 times as long
    for the gradients of 16 clips of 32 frames, of 17 to 64 and 64 to 16 channels. Other arguments as of `kernel_form`.
    """
    planes = batch * shape[0]
    one_tile = shape[0] >= _SHORTEST and shape[1:] == (TILE, TILE) and planes >= _FEWEST_OF_ONE
    if one_tile and min(dim_in, dim_out) >= _NARROWEST_OF_ONE:
        return True
    return kernel_form(dim_in, dim_out, shape, "float32") in ("points", "taps")


def values_per_tap(dim_in: int, dim_out: int, shape: tuple[int, ...], dtype: str | None) -> float:
    """How many values the form of a kernel has for each of its 27 taps; arguments as of `kernel_form`."""
    _, height, width = shape
    points = 9 if height == SMALL_PLANE else (TILE + 2) ** 2
    values = {"planes": 3 * (height * width) ** 2, "points": 3 * points, "pairs": 36}
    return values.get(kernel_form(dim_in, dim_out, shape, dtype), 27) / 27

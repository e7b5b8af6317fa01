"""Convolutions and matrix products by weights that never change again, in the form that a device computes fastest.

On a CPU with oneDNN a weight is reordered once to what its kernels want, and what comes after a convolution, a scale
for each channel or a sum, is done before its result is rounded and stored. These are the operations that torch.compile
puts in the place of the ordinary ones, and no public interface. In other dtypes, on other devices and in other builds
of torch the ordinary ones do the same.

Letters: B batch, C O channels in and out, T frames, H W height and width. Activations are (B, T, H, W, C), contiguous.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mpvideo.kernel_form import SMALL_PLANE
from mpvideo.nn import planes, winograd
from mpvideo.nn.processor import has_onednn, onednn_bfloat16

_ONEDNN = torch.ops.mkldnn

_ROWS = 64
"""For how many rows a matrix is reordered. It suits fewer and more as well: measured from 8 to 16,384."""

_MANY_PLACES = 256
"""From how many on a product in bfloat16 is a convolution to oneDNN, which keeps 0.02 to 0.1 MB of it instead of 0.4 to
0.8. A call takes 13 us longer: for all products of the bundled network, mostly smaller, a twentieth of a pass."""


def _onednn_takes(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not has_onednn():
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and onednn_bfloat16())


class Convolution:
    """3D convolution, (B, T, H, W, C) -> (B, T', H', W', O).

    Args:
        kernel: (O, C, t, h, w).
        shape: T, H and W of the usual input; any other will do.
        stride, padding: along T, H and W.
        reorder: whether oneDNN may reorder the kernel; torch.compile can make nothing of such a one.
    """

    def __init__(
        self,
        kernel: Tensor,
        shape: tuple[int, ...],
        *,
        stride: tuple[int, ...] = (1, 1, 1),
        padding: tuple[int, ...] = (1, 1, 1),
        reorder: bool = True,
    ) -> None:
        # Of one frame and an odd number of channels, oneDNN's bfloat16 convolution by three is garbage (torch 2.13.0).
        self._of_one_frame: Convolution | None = None
        if kernel.shape[2] == 3 and padding[0] == 1 and kernel.shape[1] % 2 and kernel.dtype == torch.bfloat16:
            flat = (0, *padding[1:])
            self._of_one_frame = Convolution(kernel[:, :, 1:2], shape, stride=stride, padding=flat, reorder=reorder)
        self._stride, self._padding = list(stride), list(padding)
        self._onednn = reorder and _onednn_takes(kernel)
        if self._onednn:
            usual = [1, kernel.shape[1], *shape]
            self._kernel = _ONEDNN._reorder_convolution_weight(kernel, self._padding, self._stride, [1, 1, 1], 1, usual)
        else:
            self._kernel = kernel.contiguous(memory_format=torch.channels_last_3d)

    def __call__(self, x: Tensor, *, times: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
        """Convolves, and multiplies by `times` (B, 1, 1, 1, O) or adds to `plus`, which the result may overwrite."""
        if self._of_one_frame is not None and x.shape[1] == 1:
            return self._of_one_frame(x, times=times, plus=plus)
        x = x.permute(0, 4, 1, 2, 3)
        if self._onednn:
            y = self._by_onednn(x, times, plus)
            return y.permute(0, 2, 3, 4, 1).contiguous()
        y = F.conv3d(x, self._kernel, stride=self._stride, padding=self._padding).permute(0, 2, 3, 4, 1).contiguous()
        if times is not None:
            return y * times
        return y if plus is None else y + plus

    def _by_onednn(self, x: Tensor, times: Tensor | None, plus: Tensor | None) -> Tensor:
        how = (self._kernel, None, self._padding, self._stride, [1, 1, 1], 1)
        y: Tensor
        if times is not None:
            scale = times.permute(0, 4, 1, 2, 3)
            y = _ONEDNN._convolution_pointwise.binary(x, scale, *how, "mul", None, None, [], None)
        elif plus is not None:
            total = plus.permute(0, 4, 1, 2, 3)
            y = _ONEDNN._convolution_pointwise_.binary(total, x, *how, "add", None, None, [], None)
        else:
            y = _ONEDNN._convolution_pointwise.default(x, *how, "none", [], None)
        return y


class Product:
    """Product with a matrix (O, C), (..., C) -> (..., O): what a 1x1x1 convolution is where channels are last.

    Args:
        matrix: (O, C).
        reorder: as of `Convolution`.
    """

    def __init__(self, matrix: Tensor, *, reorder: bool = True) -> None:
        # In float32 the ordinary product is as fast.
        self._onednn = reorder and matrix.dtype == torch.bfloat16 and _onednn_takes(matrix)
        self._matrix = _ONEDNN._reorder_linear_weight(matrix, _ROWS) if self._onednn else matrix

    def __call__(self, x: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """Multiplies, and adds `plus`."""
        y: Tensor
        if not self._onednn:
            y = F.linear(x, self._matrix)
            return y if plus is None else y.add_(plus)
        if plus is None:
            y = _ONEDNN._linear_pointwise.default(x, self._matrix, None, "none", [], None)
        else:
            y = _ONEDNN._linear_pointwise.binary(x, plus, self._matrix, None, "add")
        return y


def pointwise(matrix: Tensor, shape: tuple[int, ...], *, reorder: bool = True) -> Convolution | Product:
    """1x1x1 convolution by a matrix (O, C), of places of T, H and W of `shape`, or any others."""
    if reorder and matrix.dtype == torch.bfloat16 and math.prod(shape) >= _MANY_PLACES and _onednn_takes(matrix):
        return Convolution(matrix.view(*matrix.shape, 1, 1, 1), shape, padding=(0, 0, 0))
    return Product(matrix, reorder=reorder)


class SmallPlaneConvolution:
    """3x3x3 convolution with zero padding of planes of at most 2x2 places, see `mpvideo.nn.planes`.

    Args:
        kernel: (O, C, 3, 3, 3).
        size: H and W.
        reorder: as of `Convolution`.
    """

    def __init__(self, kernel: Tensor, size: int, *, reorder: bool = True) -> None:
        self._product = Product(planes.kernel_matrix(kernel, (size, size)), reorder=reorder)

    def __call__(self, x: Tensor, *, times: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
        """As `Convolution`."""
        three = planes.three_planes(x)
        y = self._product(three, plus=None if plus is None else plus.flatten(2)).view(*x.shape[:4], -1)
        return y if times is None else y.mul_(times)


class WinogradConvolution:
    """3x3x3 convolution with zero padding of planes of tiles of 2x2 or 4x4 places, see `mpvideo.nn.winograd`.

    Args:
        kernel: (O, C, 3, 3, 3).
        height: of the planes, as of `winograd.kernel_points`.
        keep_points: whether to keep what is made of it, four times as large for 4x4; else each call makes it.
    """

    def __init__(self, kernel: Tensor, height: int, *, keep_points: bool) -> None:
        taps = winograd.kernel_taps(kernel)
        self._in_points = keep_points
        self._kept = winograd.kernel_points(taps, height) if keep_points else taps

    def __call__(self, x: Tensor, *, times: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
        """As `Convolution`."""
        y = winograd.convolve(x, self._kept, in_points=self._in_points)
        if times is not None:
            return y.mul_(times)
        return y if plus is None else y.add_(plus)


class FramePairConvolution:
    """3x3x3 convolution with zero padding that makes two frames at once of two thirds of the products.

    Source: Lavin and Gray, arXiv 1509.09308: F(2, 3), here along time. Frames d0 to d3 become sums at four points where
    kernels convolve height and width, and sums of these are the two frames in the middle. The rounding error is about
    twice that of `Convolution`.

    Args:
        kernel: (O, C, 3, 3, 3), best in float32 or better.
        shape: T, H and W of the usual input; any other will do.
        dtype: what to convolve in.
    """

    def __init__(self, kernel: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        first, middle, last = kernel.to(torch.promote_types(kernel.dtype, torch.float32)).unbind(2)
        points = first, (first + middle + last) / 2, (first - middle + last) / 2, last
        pairs = (math.ceil(shape[0] / 2), *shape[1:])
        self._points = [Convolution(point.unsqueeze(2).to(dtype), pairs, padding=(0, 1, 1)) for point in points]

    def __call__(self, x: Tensor, *, times: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
        """As `Convolution`."""
        B, T = x.shape[:2]
        if T % 2:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, 1))
        # The frames in the middle of each pair's four, d1 and d2; the others are d2 and d1 of its neighbours.
        d1, d2 = x[:, 0::2], x[:, 1::2]
        odd, difference = self._points[1](d1 + d2), self._points[2](d2 - d1)
        even = odd + difference
        odd -= difference
        del difference
        even = self._points[0](_changes(d2, before=True), plus=even)
        odd = self._points[3](_changes(d1, before=False), plus=odd)
        y = even.new_empty(B, T, *even.shape[2:]) if plus is None else plus
        for start, frames in enumerate((even, odd)):
            place = y[:, start::2]
            frames = frames[:, : place.shape[1]]
            if times is not None:
                torch.mul(frames, times, out=place)
            elif plus is not None:
                place += frames
            else:
                place.copy_(frames)
        return y


def _changes(x: Tensor, *, before: bool) -> Tensor:
    """Each frame of (B, T, ...) subtracted from the one before it, or else after it, which are zeros at the ends."""
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    if before:
        torch.neg(x[:, :1], out=result[:, :1])
        torch.sub(x[:, :-1], x[:, 1:], out=result[:, 1:])
    else:
        torch.sub(x[:, 1:], x[:, :-1], out=result[:, :-1])
        torch.neg(x[:, -1:], out=result[:, -1:])
    return result


class StackedConvolution:
    """3x3x3 convolution with zero padding to few channels, whose taps along time are channels out of one frame each.

    oneDNN computes as many channels at once as a vector has values, wanted or not: with AVX-512, which has 16, three
    frames' at once are a third of the work. They are rounded before they are added up: in bfloat16 an error of 0.28 %
    instead of 0.17.

    Args:
        kernel: (O, C, 3, 3, 3).
        shape: T, H and W of the usual input; any other will do.
    """

    def __init__(self, kernel: Tensor, shape: tuple[int, ...]) -> None:
        stacked = kernel.permute(2, 0, 1, 3, 4).flatten(0, 1).unsqueeze(2)
        self._frame = Convolution(stacked.contiguous(), shape, padding=(0, 1, 1))

    def __call__(self, x: Tensor, *, times: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
        """As `Convolution`."""
        # Channels before places while they are summed: few at a time would be slow.
        for_next, y, for_last = self._frame(x).movedim(-1, 1).contiguous().chunk(3, dim=1)
        y[:, :, 1:].add_(for_next[:, :, :-1])
        y[:, :, :-1].add_(for_last[:, :, 1:])
        y = y.movedim(1, -1).contiguous()
        if times is not None:
            return y.mul_(times)
        return y if plus is None else y.add_(plus)


SameConvolution = Convolution | SmallPlaneConvolution | WinogradConvolution | FramePairConvolution | StackedConvolution
"""A 3x3x3 convolution with zero padding."""


def convolution(
    kernel: Tensor, shape: tuple[int, ...], *, dtype: torch.dtype | None = None, reorder: bool = True
) -> SameConvolution:
    """3x3x3 convolution with zero padding by the form that suits T, H and W, in the kernel's dtype or another."""
    dtype = dtype or kernel.dtype
    form = winograd.form(kernel, shape, dtype)
    if reorder and form == "pairs":
        return FramePairConvolution(kernel, shape, dtype)
    kernel = kernel.to(dtype)
    if form == "planes" or (not reorder and max(shape[1:]) <= SMALL_PLANE):
        return SmallPlaneConvolution(kernel, shape[1], reorder=reorder)
    # What may not be reordered is for torch.compile, which makes nothing of these forms.
    if reorder and form == "stacked":
        return StackedConvolution(kernel, shape)
    if reorder and form in ("points", "taps"):
        return WinogradConvolution(kernel, shape[1], keep_points=form == "points")
    return Convolution(kernel, shape, reorder=reorder)


def shrinking(matrix: Tensor, factors: tuple[int, ...], shape: tuple[int, ...], *, reorder: bool = True) -> Convolution:
    """The mean over `factors` places, T, H and W, and a product with `matrix` (O, C) after it, as one convolution."""
    kernel = (matrix / math.prod(factors)).view(*matrix.shape, 1, 1, 1).repeat(1, 1, *factors)
    return Convolution(kernel, shape, stride=factors, padding=(0, 0, 0), reorder=reorder)

"""3D convolution as the layers use it, and as a CPU computes it and its gradients fast.

Letters: B batch, C channels in, D channels out, T frames, H W height and width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mpvideo.kernel_form import gradients_by_points
from mpvideo.nn import planes, winograd
from mpvideo.nn.function import Function

_TO_TAPS = torch.tensor(((1, 0.5, 0.5, 0), (0, 0.5, -0.5, 0), (0, 0.5, 0.5, 1)), dtype=torch.float32, device="cpu")
"""Gradients of three taps from those of a kernel at the four points of F(2, 3): the paper's G, transposed."""

_TO_TAPS_OF_BOTH = torch.kron(_TO_TAPS, _TO_TAPS)
"""The same along two axes: (9, 16)."""

_WIDEST_ROW = 4
"""Width up to which the gradient of a 3x3x3 kernel in bfloat16 is made of products, each of all places in two rows: the
longer these are, the more pairs of their places are too far apart for a tap."""


def conv3d_same(x: Tensor, weight: Tensor) -> Tensor:
    """Convolution with 'same' zero padding: x (B, C, T, H, W), weight (D, C, k, k, k), k odd -> (B, D, T, H, W).

    In bfloat16 on a CPU the result is laid out channels last, as the fast kernels there want it. Where weights learn on
    a CPU it may be a function of our own, which has no forward-mode derivative and takes no batches of gradients.
    """
    ours = x.dtype in (torch.float32, torch.bfloat16) and weight.shape[-1] <= 3
    if not ours or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return _library(x, weight)
    learning = torch.is_grad_enabled() and weight.requires_grad
    return _in_float32(x, weight, learning) if x.dtype == torch.float32 else _in_bfloat16(x, weight, learning)


def _library(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv3d(x, weight, padding=weight.shape[-1] // 2)


def _in_float32(x: Tensor, weight: Tensor, learning: bool) -> Tensor:
    if not learning or torch.compiler.is_compiling():  # it makes code for the library's alone
        return _library(x, weight)
    if weight.shape[-1] == 1:
        return _as_product(_channels_last(x), weight)
    form = winograd.form(weight, x.shape[2:])
    if form == "planes":
        return _by_planes(_channels_last(x), weight)
    if not gradients_by_points(weight.shape[1], weight.shape[0], len(x), tuple(x.shape[2:])):
        return _library(x, weight)
    by_points = form in ("points", "taps")
    result: Tensor = _ByPoints.apply(_channels_last(x), weight, by_points)
    return result


def _in_bfloat16(x: Tensor, weight: Tensor, learning: bool) -> Tensor:
    x = _channels_last(x)
    if weight.shape[-1] == 3 and x.shape[2] == 1:
        # Of one frame and an odd number of channels, the convolution by three is garbage (oneDNN in torch 2.13.0).
        return F.conv3d(x, weight[:, :, 1:2], padding=(0, 1, 1))
    if learning and weight.shape[-1] == 1:
        return _as_product(x, weight)
    if learning and x.shape[-1] <= _WIDEST_ROW and not torch.compiler.is_compiling():
        if winograd.form(weight, x.shape[2:]) == "planes":
            return _by_planes(x, weight)
        result: Tensor = _ByProducts.apply(x, weight)
        return result
    if learning and x.shape[2] == 2:
        # With two frames, padded by it, oneDNN's bfloat16 gradient of the weight is garbage (torch 2.13.0).
        return F.conv3d(F.pad(x, (0, 0, 0, 0, 1, 1)), weight, padding=(0, 1, 1))
    return _library(x, weight)


def _as_product(x: Tensor, weight: Tensor) -> Tensor:
    """A 1x1x1 convolution of x, channels last in memory, which takes torch half as long to call as the library's."""
    return _channels_second(F.linear(_places_first(x), weight.flatten(1)))


def _by_planes(x: Tensor, weight: Tensor) -> Tensor:
    """A 3x3x3 convolution of x, channels last in memory, by `mpvideo.nn.planes`."""
    return _channels_second(planes.convolve(_places_first(x), weight))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


def _places_first(x: Tensor) -> Tensor:
    """(B, C, T, H, W) as (B, T, H, W, C), which is contiguous where channels are last in memory."""
    return x.permute(0, 2, 3, 4, 1)


def _channels_second(x: Tensor) -> Tensor:
    return x.permute(0, 4, 1, 2, 3)


class _OwnGradients(Function):
    """A function of x and the weight, which it keeps for its gradients."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])


class _ByProducts(_OwnGradients):
    """3x3x3 convolution whose gradient of the weight is made of matrix products.

    oneDNN's own takes 1.4 to 1.7 times as long (8 to 32 clips, 64 to 128 channels to 64 on 4x4, bfloat16 with AVX-512),
    though 0.6 times for a single clip.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return _library(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable_gradients(gradient, x, weight, *ctx.needs_input_grad)
        gradient = _channels_last(gradient)
        of_x = _library_gradients(gradient, x, weight, True, False)[0] if ctx.needs_input_grad[0] else None
        return of_x, weight_gradient(x, gradient)


class _ByPoints(_OwnGradients):
    """Convolution whose gradients are made by `mpvideo.nn.winograd`, and itself if `by_points`."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, by_points: bool) -> Tensor:
        if not by_points:
            return _library(x, weight)
        return _channels_second(winograd.convolve(_places_first(x), _kernel_points(weight, x)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_differentiable_gradients(gradient, x, weight, *ctx.needs_input_grad[:2]), None
        points = _kernel_points(weight, x) if ctx.needs_input_grad[0] else None
        of_x, of_weight = winograd.gradients(_places_first(x), _places_first(_channels_last(gradient)), points)
        return None if of_x is None else _channels_second(of_x), of_weight, None


def _differentiable_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, of_x: bool, of_weight: bool
) -> tuple[Tensor | None, ...]:
    """Gradients that have gradients, as results written in place have not.

    In float32: of two frames oneDNN's bfloat16 gradient of the weight is garbage (torch 2.13.0).
    """
    gradients = _library_gradients(gradient.float(), x.float(), weight.float(), of_x, of_weight)
    return tuple(each if each is None else each.to(x.dtype) for each in gradients)


def _library_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, of_x: bool, of_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    padding = [weight.shape[-1] // 2] * 3
    by_x, by_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1] * 3, padding, [1] * 3, False, [0] * 3, 1, [of_x, of_weight, False]
    )
    return by_x, by_weight


def _kernel_points(weight: Tensor, x: Tensor) -> Tensor:
    return winograd.kernel_points(winograd.kernel_taps(weight), height=x.shape[3])


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient (D, C, 3, 3, 3) of the weight, from the input x (B, C, T, H, W) and that of the output (B, D, T, H, W).

    Along time and height it is Winograd's method (Lavin and Gray, arXiv 1509.09308), the gradient of F(2, 3): four
    products for two places and three taps, not six. Along width whole rows are multiplied, and those pairs of their
    places added up that a tap connects: in rows of four more than a third is of no use, but rows lie together as they
    are. The error in bfloat16 is 0.6 % for oneDNN's 0.17, of white noise; in float64 it is that of float32. It has no
    gradient of its own: autograd must not record it.
    """
    (_, C, T, H, W), D = x.shape, gradient.shape[1]
    odd_T, odd_H = T % 2, H % 2
    # What a product sums over lies one after the other: (H, T, B, W, channels).
    inputs = _between_zeros(x.permute(3, 2, 0, 4, 1), (1, 1 + odd_T), (1, 1 + odd_H))
    outputs = gradient.permute(3, 2, 0, 4, 1)
    if odd_T or odd_H:
        outputs = _between_zeros(outputs, (0, odd_T), (0, odd_H))
    # Points along time, points along height, pairs of rows, of frames, B, W, channels.
    inputs, outputs = _input_points(_input_points(inputs, 0), 2), _output_points(_output_points(outputs, 0), 2)
    inputs, outputs = (points.flatten(0, 1).flatten(1, 3).flatten(2) for points in (inputs, outputs))
    pairs = torch.bmm(outputs.mT, inputs).view(16, W, D, W, C)
    columns = torch.stack([pairs.diagonal(tap, 1, 3).sum(-1, dtype=torch.float32) for tap in (-1, 0, 1)])
    taps = (_TO_TAPS_OF_BOTH @ columns.flatten(2)).view(3, 3, 3, D, C)
    # Laid out as the weight is where it learns, or whatever is done with it afterwards takes several times as long.
    return _channels_last(taps.permute(3, 4, 1, 2, 0).to(x.dtype))


def _input_points(x: Tensor, axis: int) -> Tensor:
    """The input, between zeros along an axis, at the four points of F(2, 3), which are a new first axis.

    The n + 2 places along the axis, n even, become n / 2 pairs.
    """
    before, first, second, after = _every_other(x, axis, 4)
    points = x.new_empty(4, *first.shape)
    torch.sub(before, second, out=points[0])
    torch.add(first, second, out=points[1])
    torch.sub(second, first, out=points[2])
    torch.sub(first, after, out=points[3])
    return points


def _output_points(gradient: Tensor, axis: int) -> Tensor:
    """The same of the gradient of the output: the n places along the axis, n even, become n / 2 pairs."""
    first, second = _every_other(gradient, axis, 2)
    points = gradient.new_empty(4, *first.shape)
    points[0] = first
    torch.add(first, second, out=points[1])
    torch.sub(first, second, out=points[2])
    torch.neg(second, out=points[3])
    return points


def _between_zeros(x: Tensor, frames: tuple[int, int], rows: tuple[int, int]) -> Tensor:
    """(H, T, B, W, channels) between so many frames and rows of zeros."""
    return F.pad(x, (0, 0, 0, 0, 0, 0, *frames, *rows))


def _every_other(x: Tensor, axis: int, count: int) -> list[Tensor]:
    """`count` equally long views of every other place along an axis: from the first on, from the second on..."""
    length = x.shape[axis] - count + 2  # the last one ends with the last place
    return [x[(slice(None),) * axis + (slice(k, k + length, 2),)] for k in range(count)]

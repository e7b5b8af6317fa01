"""3D convolution as the layers use it, and as a CPU computes it and its gradients fast.

Letters: B batch, C channels in, D channels out, T frames, H W height and width.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mpvideo.kernel_form import gradients_by_points
from mpvideo.nn import planes, winograd
from mpvideo.nn.function import Function

_TO_TAPS = torch.tensor(((1, 0.5, 0.5, 0), (0, 0.5, -0.5, 0), (0, 0.5, 0.5, 1)), dtype=torch.float32, device="cpu")
"""Gradients of three taps from those of a kernel at the four points of F(2, 3): the paper's G, transposed."""

_WIDEST_ROW = 4
"""Width up to which the gradient of a 3x3x3 kernel in bfloat16 is made of products: much of such a plane is border, of
which only they make use."""


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

    oneDNN's own takes 1.4 times as long (64 or 128 to 64 channels on 4x4, bfloat16 with AVX-512, one thread).
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

    Sums over places are products of whole rows of places. Along time it is Winograd's method (Lavin and Gray, arXiv
    1509.09308), the gradient of F(2, 3): four products for two frames and three taps, not six. The error in bfloat16 is
    0.4 % for oneDNN's 0.17; in float64 it is that of float32.
    """
    # What a product sums over lies one after the other: (H, T, B, W, channels).
    inputs, outputs = _input_points(x.permute(3, 2, 0, 4, 1)), _output_points(gradient.permute(3, 2, 0, 4, 1))
    taps = _TO_TAPS @ torch.stack(_products_of_rows(inputs, outputs)).flatten(2)
    # Laid out as the weight is where it learns, or whatever is done with it afterwards takes several times as long.
    D, C = gradient.shape[1], x.shape[1]
    return _channels_last(taps.view(3, 3, 3, D, C).permute(3, 4, 2, 0, 1).to(x.dtype))


def _input_points(x: Tensor) -> Tensor:
    """The input (H, T, ...) at the four points of F(2, 3), of its N pairs of frames: (4, H, N, ...)."""
    before, first, second, after = _every_other(_between_frames(x, 1, 1 + x.shape[1] % 2), 4)
    points = x.new_empty(4, *first.shape)
    torch.sub(before, second, out=points[0])
    torch.add(first, second, out=points[1])
    torch.sub(second, first, out=points[2])
    torch.sub(first, after, out=points[3])
    return points


def _output_points(gradient: Tensor) -> Tensor:
    """The same of the gradient of the output."""
    odd = gradient.shape[1] % 2
    first, second = _every_other(_between_frames(gradient, 0, 1) if odd else gradient, 2)
    points = gradient.new_empty(4, *first.shape)
    points[0] = first
    torch.add(first, second, out=points[1])
    torch.sub(first, second, out=points[2])
    torch.neg(second, out=points[3])
    return points


def _between_frames(x: Tensor, before: int, after: int) -> Tensor:
    """(H, T, ...) between so many frames of zeros."""
    return F.pad(x, (*(0, 0) * (x.ndim - 2), before, after))


def _every_other(x: Tensor, count: int) -> list[Tensor]:
    """`count` equally long views of every other frame of (H, T, ...): from the first on, from the second on..."""
    length = x.shape[1] - count + 2  # the last one ends with the last frame
    return [x[:, k : k + length : 2] for k in range(count)]


def _products_of_rows(inputs: Tensor, outputs: Tensor) -> list[Tensor]:
    """For each tap of a plane the sums (4, D, C), in float32, over the pairs of places that it connects.

    Products of whole rows have all pairs of their places, of which those of a tap are added up. In rows of four more
    than a third is of no use; but rows lie together as they are, and the places of one tap do not.

    Args:
        inputs: (4, H, N, B, W, C), N the pairs of frames.
        outputs: (4, H, N, B, W, D).
    """
    _, H, _, _, W, C = inputs.shape
    products = []
    for seen_rows, rows in _connected(H):
        seen, by = (part.flatten(1, 3).flatten(2) for part in (inputs[:, seen_rows], outputs[:, rows]))
        # One by one, for in one call torch copies them where they are some rows of all.
        pairs = torch.stack([at_point.mT @ inputs_there for at_point, inputs_there in zip(by, seen, strict=True)])
        pairs = pairs.view(4, W, outputs.shape[-1], W, C)
        for offset in (-1, 0, 1):
            products.append(pairs.diagonal(offset, 1, 3).sum(-1, dtype=torch.float32))
    return products


def _connected(size: int) -> Iterator[tuple[slice, slice]]:
    """For each of three taps along an axis of `size` places: those of the input and of the output that it connects."""
    for offset in (-1, 0, 1):
        low, high = max(0, offset), size + min(0, offset)
        yield slice(low, high), slice(low - offset, high - offset)

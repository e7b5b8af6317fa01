"""Magnitude-preserving operations and layers.

Source: Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), arXiv 2312.02696,
in the 3D form of the package denoising-diffusion-pytorch. Equation numbers are the paper's.

Letters: B batch, C channels, T frames, H W height and width, N tokens, D head width. Layers compute in the dtype of
their input; weights are stored, and normalised, in the dtype of the module.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from mpvideo.nn.convolution import conv3d_same
from mpvideo.nn.function import Function

EPS = 1e-4
"""Lower bound of every norm that is divided by."""

MP_SILU_SCALE = 0.596
"""Root mean square of silu(x) for standard normal x (eq. 81)."""

RESIDUAL_BALANCE = 0.3
"""Weight of the main path in the residual sum of every block; its branch gets 0.7.

Deviation: the paper gives the branch 0.3. The published 3D network has it the other way round, and so its weights.
"""


def normalize(weight: Tensor) -> Tensor:
    """Scales each output unit (first axis) of a weight to root mean square 1 (eq. 66)."""
    return weight / _row_norms(weight)


def pixel_norm(x: Tensor, dim: int) -> Tensor:
    """Scales x to root mean square 1 along axis `dim` (eq. 30). The norm is taken in float32 or better.

    Where x learns, the result is kept for the gradient, and must not be changed in place.
    """
    if not x.requires_grad:
        return x * _unit_scale(x, dim)[0]
    result: Tensor
    result, _, _ = _PixelNorm.apply(x, dim)
    return result


def _unit_scale(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """What `pixel_norm` multiplies x with, and where it is held constant: where the norm is below EPS."""
    accurate = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=accurate)
    # For almost nothing the scale is beyond float16, and infinity times zero would not be zero.
    scale = (math.sqrt(x.shape[dim]) / norm.clamp(min=EPS)).clamp(max=torch.finfo(x.dtype).max)
    return scale.to(x.dtype), norm < EPS


class _PixelNorm(Function):
    """`pixel_norm`, and its `_unit_scale`; its gradient autograd would compute in three times as many steps."""

    @staticmethod
    def forward(x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
        scale, constant = _unit_scale(x, dim)
        return x * scale, scale, constant

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, ctx.dim = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, *output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor | None) -> tuple[Tensor, None]:
        """(g - y <g, y>) * scale: the part of g along the result y changes nothing, unless the scale is constant."""
        x, y, scale, constant = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients of gradients go through the scale
            scale, constant = _unit_scale(x, ctx.dim)
            y = x * scale
        along = (gradient * y).mean(ctx.dim, keepdim=True).masked_fill(constant, 0)
        return torch.addcmul(gradient, y, along, value=-1) * scale, None


def mp_silu(x: Tensor) -> Tensor:
    """SiLU that keeps the magnitude of standard normal input (eq. 81)."""
    return F.silu(x) * (1 / MP_SILU_SCALE)


def mp_sum(a: Tensor, b: Tensor, balance: float) -> Tensor:
    """Sum of a, weighing 1 - balance, and b, weighing balance, that keeps the magnitude (eq. 88)."""
    of_a, of_b = sum_scales(balance)
    return torch.add(a * of_a, b, alpha=of_b)


def sum_scales(balance: float) -> tuple[float, float]:
    """What `mp_sum` multiplies either part with."""
    norm = math.hypot(1 - balance, balance)
    return (1 - balance) / norm, balance / norm


def mp_cat(a: Tensor, b: Tensor, balance: float, dim: int = 1) -> Tensor:
    """Concatenation on channels, axis `dim`, in which a and b contribute 1 - balance and balance (eq. 103)."""
    Na, Nb = a.shape[dim], b.shape[dim]
    norm = math.sqrt((Na + Nb) / ((1 - balance) ** 2 + balance**2))
    scales = norm * (1 - balance) / math.sqrt(Na), norm * balance / math.sqrt(Nb)
    # They are 1 for equal widths and balance 0.5.
    parts = [part if math.isclose(scale, 1.0) else part * scale for part, scale in zip((a, b), scales, strict=True)]
    return torch.cat(parts, dim=dim)


class ForcedWeightNorm(nn.Module):
    """Base of the layers whose weight has root mean square 1 per output unit, by force (algorithm 1).

    Args:
        shape: shape of the weight, output units first.
        fan_in: what the magnitude of the result is scaled by; inputs to one output unit.
    """

    def __init__(self, shape: tuple[int, ...], fan_in: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.fan_in = fan_in

    def effective_weight(self, dtype: torch.dtype, gain: float = 1.0) -> Tensor:
        """The weight that acts: normalised, divided by sqrt(fan_in), times gain, in `dtype`.

        In training mode the stored weight is first overwritten by its normalised self, without gradient.
        """
        if self.training:
            with torch.no_grad():
                self.weight.div_(_row_norms(self.weight))
        norm = None if self.training else _row_norms(self.weight.detach())
        weight: Tensor = _Normalized.apply(self.weight, norm, gain / math.sqrt(self.fan_in), dtype)
        return weight


def _row_norms(weight: Tensor) -> Tensor:
    """Root mean square of each output unit of a weight, as a column that divides it, EPS being the least norm."""
    inputs = tuple(range(1, weight.ndim))
    norm: Tensor = torch.linalg.vector_norm(weight, dim=inputs, keepdim=True)
    return norm.clamp(min=EPS) / math.sqrt(_num_inputs(weight))


def _num_inputs(weight: Tensor) -> int:
    """Number of inputs to an output unit."""
    return math.prod(weight.shape[1:])


class _Normalized(Function):
    """scale * weight / norm in another dtype; norm is the `_row_norms` of the weight, None of one divided by them.

    What autograd makes of the same formula passes over the weight three times as often: a tenth of a training step.
    """

    @staticmethod
    def forward(weight: Tensor, norm: Tensor | None, scale: float, dtype: torch.dtype) -> Tensor:
        return (weight * (scale if norm is None else scale / norm)).to(dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor | None, float, torch.dtype], output: Tensor) -> None:
        weight, norm, ctx.scale, _ = inputs
        ctx.save_for_backward(weight, norm)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """(g - w <g, w>) * scale, with the normalised weight w: the part of g along w changes nothing."""
        weight, norm = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients of gradients go through it
            norm = _row_norms(weight)
        if norm is not None:
            weight = weight / norm
        scale = ctx.scale if norm is None else ctx.scale / norm
        gradient = gradient.to(weight.dtype)
        along = (gradient * weight).sum(tuple(range(1, weight.ndim)), keepdim=True) * (scale / _num_inputs(weight))
        return (gradient * scale).addcmul_(weight, along, value=-1), None, None, None


class MPLinear(ForcedWeightNorm):
    """Linear layer without bias: (..., dim_in) -> (..., dim_out)."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__((dim_out, dim_in), fan_in=dim_in)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer."""
        return F.linear(x, self.effective_weight(x.dtype))


class MPConv3d(ForcedWeightNorm):
    """3D convolution without bias and with 'same' zero padding: (B, dim_in, T, H, W) -> (B, dim_out, T, H, W).

    Args:
        dim_in, dim_out: channels.
        kernel_size: an odd number.
        concat_ones: whether the weight has one more input channel, the first, that sees ones.
            Deviation: fan_in does not count it, the paper's 2D network does.
        legacy_fan_in: scale by kernel_size**2 instead of kernel_size**3, as weights from before 28 February 2024 need.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        kernel_size: int,
        *,
        concat_ones: bool = False,
        legacy_fan_in: bool = False,
    ) -> None:
        super().__init__(
            (dim_out, dim_in + concat_ones, *(kernel_size,) * 3),
            fan_in=dim_in * kernel_size ** (2 if legacy_fan_in else 3),
        )
        self.concat_ones = concat_ones

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Applies the layer; gain is a constant factor of the result, which costs nothing here."""
        if self.concat_ones:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0), value=1.0)
        return conv3d_same(x, self.effective_weight(x.dtype, gain))


class MPSiLU(nn.Module):
    """`mp_silu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Applies the activation."""
        return mp_silu(x)


class PixelNorm(nn.Module):
    """`pixel_norm` over channels (axis 1) as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises x of shape (B, C, ...)."""
        return pixel_norm(x, dim=1)


class Gain(nn.Module):
    """Multiplies by a learned scalar that starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Scales x."""
        return x * self.gain.to(x.dtype)


class MPFourier(nn.Module):
    """Random Fourier features of the noise level (eq. 75): (B,) -> (B, dim), in the dtype of the module."""

    weights: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.randn(dim // 2))

    def forward(self, c: Tensor) -> Tensor:
        """Embeds c; sine features first."""
        angles = 2 * math.pi * c.to(self.weights.dtype).unsqueeze(1) * self.weights
        return math.sqrt(2) * torch.cat((angles.sin(), angles.cos()), dim=1)


_LONGEST_WITHOUT_FUSION = 1024
"""Number of tokens up to which all their pairs' weights are kept in memory."""

AttentionAxes = Literal["joint", "space", "time"]

_TOKENS: dict[AttentionAxes, str] = {
    "joint": "b heads (t h w) d",
    "space": "(b t) heads (h w) d",
    "time": "(b h w) heads t d",
}
"""Which axes are a sequence's positions, and which are batch."""


class MPAttention(nn.Module):
    """Cosine attention with memory and a residual sum: (B, C, T, H, W) -> the same shape.

    Queries, keys and values have root mean square 1 per head; learned memory key/value pairs come before the others.

    Args:
        dim: C.
        heads, dim_head: number and width of heads; their product may differ from C.
        balance: weight of the input in the residual sum.
        axes: what a position attends to: everything ('joint'), its frame ('space') or its place in time ('time').
        num_memory: number of memory pairs.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        dim_head: int,
        balance: float = 0.3,
        axes: AttentionAxes = "joint",
        num_memory: int = 4,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.balance = balance
        self.axes: AttentionAxes = axes
        self.mem_kv = nn.Parameter(torch.randn(2, heads, num_memory, dim_head))
        self.to_qkv = MPConv3d(dim, 3 * heads * dim_head, 1)
        self.to_out = MPConv3d(heads * dim_head, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Attends and adds."""
        _, _, T, H, W = x.shape
        tokens = _TOKENS[self.axes]
        qkv = rearrange(self.to_qkv(x), f"b (n heads d) t h w -> n {tokens}", n=3, heads=self.heads)
        qkv = qkv.contiguous()  # the fused kernels want D laid out last; without them N * N weights would be stored
        qkv = pixel_norm(qkv, dim=-1)
        memory = pixel_norm(repeat(self.mem_kv, "n heads m d -> n b heads m d", b=qkv.shape[1]), dim=-1)
        q, (k, v) = qkv[0], torch.cat((memory.to(qkv.dtype), qkv[1:]), dim=-2)
        out = _attend(q, k, v)
        out = rearrange(out, f"{tokens} -> b (heads d) t h w", t=T, h=H, w=W)
        of_out, of_x = sum_scales(self.balance)
        return torch.add(self.to_out(out, of_out), x, alpha=of_x)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v."""
    # Trained in bfloat16 on a CPU, the fused kernel takes twice to four times as long as its parts (torch 2.13.0).
    learning = q.requires_grad and torch.is_grad_enabled()
    if learning and q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.shape[-2] <= _LONGEST_WITHOUT_FUSION:
        weights: Tensor = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(dim=-1)
        return weights @ v
    return F.scaled_dot_product_attention(q, k, v)


class MPFeedForward(nn.Module):
    """Position-wise network with a residual sum: (B, C, T, H, W) -> the same shape.

    Args:
        dim: C.
        mult: width of the hidden layer, in C.
        balance: weight of the input in the residual sum.
    """

    def __init__(self, dim: int, *, mult: int = 4, balance: float = 0.3) -> None:
        super().__init__()
        self.balance = balance
        self.net = nn.Sequential(PixelNorm(), MPConv3d(dim, dim * mult, 1), MPSiLU(), MPConv3d(dim * mult, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Transforms and adds."""
        return mp_sum(self.net(x), x, self.balance)

"""The inference form of KarrasUnet3D: the same function, with everything done once that does not depend on the input.

`mpvideo.nn.unet3d` is the reference, to which the tests hold this form. What differs:

- Weights are normalised once, and hold every constant factor that comes before or after them.
- The scales that noise level and class give to each block's channels are one product for all blocks, and for several
  noise levels of a schedule at once where they are known beforehand.
- Channels are last in memory: 1x1x1 convolutions can be matrix products, and the fused attention needs no copies.
- Convolutions and products run by `mpvideo.nn.kernels`, with the scales and sums that follow them.
- The residual 1x1x1 convolution comes before upsampling, with which it commutes, on an eighth of the places.
- On a CPU a batch of large clips goes through in parts.

Letters: B batch, C O channels in and out, T frames, H W height and width, N tokens, D head width, E embedding width.
Activations are (B, T, H, W, C), contiguous.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mpvideo.architecture import BlockPlan, attention_heads, clips_at_once, network_plan, network_shapes
from mpvideo.config import ModelConfig
from mpvideo.nn import winograd
from mpvideo.nn.attention import cosine_attention
from mpvideo.nn.compilation import CompiledBlocks, CudaGraph
from mpvideo.nn.kernels import Convolution, Product, SameConvolution, convolution, pointwise, shrinking
from mpvideo.nn.layers import (
    EPS,
    MP_SILU_SCALE,
    RESIDUAL_BALANCE,
    AttentionAxes,
    mp_cat,
    normalize,
    pixel_norm,
    sum_scales,
)
from mpvideo.nn.memory import FOR_PASSES, give_back_memory, keep_freed_memory
from mpvideo.nn.unet3d import check_input, label_rows
from mpvideo.text import first_ten

_NARROW = 16
"""Width from which on the first blocks compute in the dtype asked for, and below which in float32 or better.

Their errors come to the output by the skips, in few channels with little to average them out: in the package's example,
of width 8, they were half of the error in bfloat16. There units for bfloat16, made for 32 channels, gain little.
"""


class InferenceUnet3D:
    """KarrasUnet3D, ready to sample: (B, C, T, H, W) and a noise embedding -> (B, C, T, H, W).

    Args:
        model: the architecture.
        tensors: the weights by their names in KarrasUnet3D's state dict. They are taken out one by one, so that the
            network is never held twice.
        legacy_fan_in: whether they were trained with a release from before 28 February 2024.
        device, dtype: where and in what to compute; the embedding is computed in float32 or better.
        compiled: whether torch.compile makes code for each kind of block at its first call, and on CUDA a graph of the
            whole: up to minutes before the first result, which is the same up to rounding.
        keep_freed: whether after each pass the C library is asked to keep freed memory for the next, see
            `mpvideo.nn.memory`.

    Raises:
        ValueError: tensors are missing or left over.
    """

    def __init__(
        self,
        model: ModelConfig,
        tensors: dict[str, Tensor],
        *,
        legacy_fan_in: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        keep_freed: bool = False,
    ) -> None:
        if wrong := network_shapes(model).keys() ^ tensors.keys():
            raise ValueError(
                f"tensors must be just those of the network, missing or left over: {first_ten(sorted(wrong))}"
            )
        self.config, self.dtype, self._keep_freed = model, dtype, keep_freed
        weights = Weights(
            tensors, torch.device(device), dtype, kernel_power=2 if legacy_fan_in else 3, reorder=not compiled
        )
        shape = (model.frames, model.image_size, model.image_size)
        first = weights.accurately() if model.dim < _NARROW else weights
        self._input = first.convolution("input_block", shape, unseen=1)
        self._blocks: list[Block] = []
        for block in network_plan(model):
            narrow = (block.kind, block.dim_in) == ("encoder", model.dim)
            self._blocks.append(Block(block, model, first if narrow else weights))
            give_back_memory()  # of the weights that it was made of: what comes next seldom fits in their places
        self._embedding = _Embedding(model, weights, [block.dtype for block in self._blocks])
        self._output = weights.convolution("output_block.0", shape, scale=weights.gain("output_block.1"))
        self._tables: list[_Table] = []
        self._apply: Callable[[Block, Tensor, Tensor], Tensor] = (
            CompiledBlocks(Block.__call__) if compiled else Block.__call__
        )
        self._evaluate: Callable[..., Tensor] = self._run
        # Compiled code is for one size of batch: parts of other sizes would be compiled anew.
        self._in_parts = not compiled and weights.device.type == "cpu"
        if compiled and weights.device.type == "cuda":
            self._evaluate = CudaGraph(self._run)

    @torch.inference_mode()
    def prepare(self, *calls: tuple[Tensor, Tensor | None]) -> None:
        """Tabulates the embeddings of all noise levels and labels that will be asked for; forgets those of before.

        It changes no result. Calls with other levels or other labels (another tensor) compute their embedding anew.
        A shallow copy (`copy.copy`) shares the weights and has tables of its own.

        Args:
            calls: noise embeddings ln(sigma) / 4 (N,), and the class_labels that will be given with them; one pair for
                each tensor of labels.
        """
        self._tables = [_Table(self._embedding, times, class_labels) for times, class_labels in calls]

    @torch.inference_mode()
    def __call__(
        self, x: Tensor, time: Tensor, *, self_cond: Tensor | None = None, class_labels: Tensor | None = None
    ) -> Tensor:
        """Evaluates the network; arguments, result and errors are those of `KarrasUnet3D.forward`."""
        model = self.config
        check_input(model, x, time, self_cond)
        scales = self._scales(time, class_labels)
        if model.self_condition:
            x = torch.cat((torch.zeros_like(x) if self_cond is None else self_cond.to(x), x), dim=1)
        y = self._by_parts(x, scales) if len(x) > 1 and self._in_parts else self._evaluate(x, *scales)
        if self._keep_freed:  # not before the first pass: see `return_freed_memory`
            keep_freed_memory(FOR_PASSES)
        return y

    def _by_parts(self, x: Tensor, scales: list[Tensor]) -> Tensor:
        at_once = clips_at_once(self.config, self.dtype.itemsize, x.shape[2])
        parts = [slice(start, start + at_once) for start in range(0, len(x), at_once)]
        # Where nothing depends on the clip there is one row of scales for all.
        return torch.cat(
            [self._evaluate(x[part], *(scale[part] if len(scale) > 1 else scale for scale in scales)) for part in parts]
        )

    def _run(self, x: Tensor, *scales: Tensor) -> Tensor:
        """The network, of what was checked and tabulated."""
        first = self._blocks[0].dtype
        x = self._input(F.pad(x.to(first).permute(0, 2, 3, 4, 1), (1, 0), value=1.0))
        skips = [x]
        for block, scale in zip(self._blocks, scales, strict=True):
            x = x.to(block.dtype)
            if block.plan.skip_dim:
                x = mp_cat(x, skips.pop().to(block.dtype), self.config.mp_cat_t, dim=-1)
            x = self._apply(block, x, scale)
            if block.plan.kind == "encoder":
                skips.append(x)
        return self._output(x).permute(0, 4, 1, 2, 3)

    @torch.inference_mode()
    def class_embedding(self, class_labels: Tensor) -> Tensor:
        """What rows of labels (B, num_classes) add to the embedding, (B, E) in float32 or better.

        Raises:
            ValueError: the network has no classes, or the rows are misshapen.
        """
        return self._embedding.of_class(class_labels, len(class_labels))

    def _scales(self, time: Tensor, class_labels: Tensor | None) -> list[Tensor]:
        """What each block multiplies its channels with: (B, 1, 1, 1, O) each."""
        level = time[0].item()
        table = next((table for table in self._tables if table.class_labels is class_labels), None)
        fits = class_labels is None or len(class_labels) == len(time)
        if table is not None and fits and level in table and bool((time == level).all()):
            return table[level]
        return self._embedding(time, class_labels)


class Weights:
    """Hands out the weights of a state dict, normalised and in the dtype and on the device to compute with.

    Args:
        tensors: the state dict; what is handed out is taken out of it.
        device, dtype: where and in what to compute.
        kernel_power: which power of a kernel's size its fan-in counts.
        reorder: whether convolutions and products may have them reordered, see `mpvideo.nn.kernels`.
    """

    ROWS = 64
    """How many output units are normalised at once."""

    def __init__(
        self,
        tensors: dict[str, Tensor],
        device: torch.device,
        dtype: torch.dtype,
        *,
        kernel_power: int = 3,
        reorder: bool = True,
    ) -> None:
        self._tensors = tensors
        self._kernel_power, self._reorder = kernel_power, reorder
        self.device, self.dtype = device, dtype
        self.accurate = torch.promote_types(dtype, torch.float32)

    def accurately(self) -> "Weights":
        """The same weights, handed out in float32 or better."""
        return Weights(
            self._tensors, self.device, self.accurate, kernel_power=self._kernel_power, reorder=self._reorder
        )

    def convolution(self, name: str, shape: tuple[int, ...], *, scale: float = 1.0, unseen: int = 0) -> SameConvolution:
        """A 3x3x3 convolution, usually of T, H and W of `shape`; the rest as in `take`."""
        # For pairs of frames its taps are added up first: rounded before it as well as after, they would lose more.
        form = winograd.form(self._tensors[f"{name}.weight"], shape, self.dtype, self.device)
        kernel = self.take(name, scale=scale, unseen=unseen, accurate=self._reorder and form == "pairs")
        return convolution(kernel, shape, dtype=self.dtype, reorder=self._reorder)

    def shrinking(self, name: str, factors: tuple[int, ...], shape: tuple[int, ...]) -> Convolution:
        """The mean over `factors` places, and a 1x1x1 convolution after it."""
        return shrinking(self.take(name).flatten(1), factors, shape, reorder=self._reorder)

    def pointwise(self, name: str, shape: tuple[int, ...], *, scale: float = 1.0) -> Convolution | Product:
        """A 1x1x1 convolution; arguments as of `convolution`."""
        return pointwise(self.take(name, scale=scale).flatten(1), shape, reorder=self._reorder)

    def plain(self, name: str) -> Tensor:
        """A tensor as it is, in float32 or better."""
        return self._tensors.pop(name).to(self.device, self.accurate)

    def gain(self, name: str) -> float:
        """A learned scalar."""
        return self._tensors.pop(f"{name}.gain").item()

    def take(self, name: str, *, scale: float = 1.0, unseen: int = 0, accurate: bool = False) -> Tensor:
        """The weight of a convolution or linear layer as it acts, times `scale`.

        Args:
            name: of the layer.
            scale: a constant that the layer's input or output is multiplied with.
            unseen: how many of its input channels its fan-in does not count.
            accurate: whether to keep it in float32 or better.
        """
        weight = self._tensors.pop(f"{name}.weight")
        fan_in = (weight.shape[1] - unseen) * (weight.shape[-1] ** self._kernel_power if weight.ndim == 5 else 1)
        acting = torch.empty_like(weight, device=self.device, dtype=self.accurate if accurate else self.dtype)
        # By parts, so that of a network's largest weights no float32 copies are made beside it.
        for rows, part in zip(torch.split(weight, self.ROWS), torch.split(acting, self.ROWS), strict=True):
            part.copy_(normalize(rows.to(self.device, self.accurate)).mul_(scale / math.sqrt(fan_in)))
        return acting


class _Embedding:
    """Noise level and class to what each block multiplies its channels with: (N,) and labels -> (N, 1, 1, 1, O) each.

    Args:
        model, weights: the network.
        dtypes: what each block computes in.
    """

    def __init__(self, model: ModelConfig, weights: Weights, dtypes: list[torch.dtype]) -> None:
        self.num_classes = model.num_classes
        self._dtypes = dtypes
        self._widths = [block.dim_out for block in network_plan(model)]
        self._frequencies = weights.plain("to_time_emb.0.weights") * (2 * math.pi)
        of_time, of_class = sum_scales(0.0 if model.num_classes is None else model.mp_add_emb_t)
        self._time = weights.take("to_time_emb.1", scale=math.sqrt(2) * of_time, accurate=True)
        self._class = None
        if model.num_classes is not None:
            of_class *= math.sqrt(model.num_classes)
            self._class = weights.take("to_class_emb", scale=of_class, accurate=True)
        self._blocks = torch.cat(
            [
                weights.take(
                    f"{block.name}.to_emb.0",
                    scale=weights.gain(f"{block.name}.to_emb.1") / MP_SILU_SCALE,
                    accurate=True,
                )
                for block in network_plan(model)
            ]
        )

    def __call__(self, time: Tensor, class_labels: Tensor | None) -> list[Tensor]:
        return self.scales(self.of_level(time) + self.of_class(class_labels, len(time)))

    def of_level(self, time: Tensor) -> Tensor:
        """What the noise levels (N,) add to the embedding: (N, E)."""
        angles = time.to(self._frequencies).unsqueeze(1) * self._frequencies
        return F.linear(torch.cat((angles.sin(), angles.cos()), dim=1), self._time)

    def of_class(self, class_labels: Tensor | None, count: int) -> Tensor:
        """What `count` labels add to the embedding: (count, E), or (1, 1) for a network without classes."""
        rows = label_rows(class_labels, count, self.num_classes)
        if rows is None or self._class is None:
            return self._time.new_zeros(1, 1)
        return F.linear(rows.to(self._class), self._class)

    def scales(self, emb: Tensor) -> list[Tensor]:
        """From the embedding (..., E): (..., 1, 1, 1, O) for each block."""
        rows = 1 + F.linear(F.silu(emb), self._blocks)
        parts = torch.split(rows, self._widths, dim=-1)
        return [
            part.to(dtype).view(*part.shape[:-1], 1, 1, 1, -1) for part, dtype in zip(parts, self._dtypes, strict=True)
        ]


class _Table:
    """The scales of all blocks for the labels of one sampling and all its noise levels.

    Levels and labels meet in a nonlinearity, so that of all levels only their part of the embedding is kept, and the
    scales only of the next few that the sampler comes to.

    Args:
        embedding: what is tabulated.
        times: (N,), noise embeddings in about the order in which they will be asked for.
        class_labels: as the calls will be given them.
    """

    ROWS = 64
    """How many rows are made at once: enough to read the matrix only now and then, and few enough to be small."""

    def __init__(self, embedding: "_Embedding", times: Tensor, class_labels: Tensor | None) -> None:
        self.class_labels = class_labels
        self._embedding = embedding
        self._levels = embedding.of_level(times)
        self._classes = embedding.of_class(class_labels, 1 if class_labels is None else len(class_labels))
        self._places = {time: place for place, time in enumerate(times.tolist())}
        self._few = max(1, self.ROWS // len(self._classes))
        self._first, self._scales = len(times), list[Tensor]()

    def __contains__(self, time: float) -> bool:
        return time in self._places

    def __getitem__(self, time: float) -> list[Tensor]:
        place = self._places[time]
        if not self._first <= place < self._first + self._few:
            near = self._levels[place : place + self._few].unsqueeze(1) + self._classes
            self._first, self._scales = place, self._embedding.scales(near)
        return [scale[place - self._first] for scale in self._scales]


class Block:
    """Residual block of either path, (B, T, H, W, C) -> (B, T', H', W', O); see `mpvideo.nn.unet3d.Block`."""

    def __init__(self, plan: BlockPlan, model: ModelConfig, weights: Weights) -> None:
        self.plan, self.dtype = plan, weights.dtype
        branch, self._straight = sum_scales(RESIDUAL_BALANCE)
        name, shape = plan.name, (plan.frames, plan.image_size, plan.image_size)
        self._conv1 = weights.convolution(f"{name}.block1.1", shape, scale=1 / MP_SILU_SCALE)
        self._conv2 = weights.convolution(f"{name}.block2.2", shape, scale=branch / MP_SILU_SCALE)
        self._shrink = None
        if plan.kind == "encoder" and plan.resamples:
            larger = tuple(size * factor for size, factor in zip(shape, plan.factors, strict=True))
            self._shrink = weights.shrinking(f"{name}.downsample_conv", plan.factors, larger)
        self._residual = None
        if plan.kind == "decoder" and plan.dim_in != plan.dim_out:
            smaller = tuple(size // factor for size, factor in zip(shape, plan.factors, strict=True))
            self._residual = weights.pointwise(f"{name}.res_conv", smaller, scale=self._straight)
        paths: dict[str, dict[str, AttentionAxes]] = {
            "none": {}, "joint": {"attn": "joint"}, "factorized": {"attn.0": "space", "attn.1": "time"}
        }  # fmt: skip
        self._attention = [
            _Attention(f"{name}.{path}", axes, plan, model, weights) for path, axes in paths[plan.attention].items()
        ]

    def __call__(self, x: Tensor, scale: Tensor) -> Tensor:
        """Applies the block.

        Args:
            x: the input, overwritten where a skip is part of it.
            scale: what the channels between the convolutions are multiplied with, (B, 1, 1, 1, O).
        """
        activated, straight = self._encode(x) if self.plan.kind == "encoder" else self._decode(x)
        x = self._conv2(F.silu(self._conv1(activated, times=scale), inplace=True), plus=straight)
        for attention in self._attention:
            x = attention(x)
        return x

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the branch convolves, and what is added to it in the end."""
        dtype = x.dtype
        if self._shrink is not None:
            x = self._shrink(x)
        # In float32, and so with one rounding instead of three; in bfloat16 it takes no longer.
        x = pixel_norm(x.to(torch.promote_types(dtype, torch.float32)), dim=-1)
        return F.silu(x).to(dtype), x.mul_(self._straight).to(dtype)

    def _decode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `_encode`."""
        straight = None if self._residual is None else self._residual(x)
        # What was made for this block alone is overwritten: memory that is new to a process costs more than the sums.
        mine = self.plan.skip_dim > 0
        if self.plan.resamples:
            x, mine = _upsampled(x, self.plan.factors), True
            straight = None if straight is None else _upsampled(straight, self.plan.factors)
        if straight is None:
            straight = x * self._straight
        return F.silu(x, inplace=mine), straight


class _Attention:
    """Cosine attention with memory; see `mpvideo.nn.layers.MPAttention`."""

    def __init__(self, name: str, axes: AttentionAxes, plan: BlockPlan, model: ModelConfig, weights: Weights) -> None:
        of_out, self._straight = sum_scales(model.attn_res_mp_add_t)
        self._axes = axes
        self._heads = attention_heads(model, plan.dim_out)
        memory = pixel_norm(weights.plain(f"{name}.mem_kv"), dim=-1)
        self._memory = rearrange(memory, "n heads m d -> m n heads d").to(weights.dtype)
        shape = (plan.frames, plan.image_size, plan.image_size)
        self._to_qkv = weights.pointwise(f"{name}.to_qkv", shape)
        self._to_out = weights.pointwise(f"{name}.to_out", shape, scale=of_out)

    def __call__(self, x: Tensor) -> Tensor:
        B, T, H, W, _ = x.shape
        qkv = self._to_qkv(x)
        if self._axes == "time":
            qkv = rearrange(qkv, "b t h w c -> (b h w) t c")
        else:
            qkv = qkv.view(B * T if self._axes == "space" else B, -1, qkv.shape[-1])
        qkv = rearrange(qkv, "b n (three heads d) -> b n three heads d", three=3, heads=self._heads)
        norm = torch.linalg.vector_norm(qkv, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        unit = 1 / norm.clamp_(min=EPS)
        unit[:, :, 1:] *= math.sqrt(qkv.shape[-1])  # queries have length 1: attention's 1 / sqrt(D)
        unit = unit.to(x.dtype)
        # Memory comes before the keys and values: they are normalised to the place behind it, and not copied again.
        M = len(self._memory)
        kv = qkv.new_empty(len(qkv), M + qkv.shape[1], 2, *qkv.shape[3:])
        kv[:, :M] = self._memory
        if torch.compiler.is_compiling():  # it takes no part of a tensor for `out`
            kv[:, M:] = qkv[:, :, 1:] * unit[:, :, 1:]
        else:
            torch.mul(qkv[:, :, 1:], unit[:, :, 1:], out=kv[:, M:])
        q = qkv[:, :, 0] * unit[:, :, 0]
        k, v = kv.unbind(2)
        out = cosine_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        out = out.transpose(1, 2).flatten(2)
        out = rearrange(out, "(b h w) t c -> b t h w c", h=H, w=W) if self._axes == "time" else out.view(B, T, H, W, -1)
        return self._to_out(out, plus=x.mul_(self._straight))


def _upsampled(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Trilinear interpolation to `factors` times as many places, T, H and W."""
    scale = [float(factor) for factor in factors]
    larger = F.interpolate(x.permute(0, 4, 1, 2, 3), scale_factor=scale, mode="trilinear", align_corners=False)
    return larger.permute(0, 2, 3, 4, 1)

"""KarrasUnet3D: the magnitude-preserving U-Net of EDM2 (arXiv 2312.02696, config G, figure 21) in its 3D form.

Weights trained with the package denoising-diffusion-pytorch load unchanged and give the same output: the names of the
modules are its names. The plan of the blocks is `mpvideo.architecture.network_plan`.

Letters: B batch, C channels, T frames, H W height and width, E embedding width = 4 * dim.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpvideo.architecture import NUM_MEMORY_KEY_VALUES, BlockPlan, attention_heads, network_plan
from mpvideo.config import ModelConfig
from mpvideo.nn.layers import (
    MP_SILU_SCALE,
    RESIDUAL_BALANCE,
    AttentionAxes,
    Gain,
    MPAttention,
    MPConv3d,
    MPFourier,
    MPLinear,
    mp_cat,
    mp_silu,
    mp_sum,
    pixel_norm,
    sum_scales,
)


class Block(nn.Module):
    """Residual block: what the encoder's and the decoder's have in common."""

    def __init__(self, plan: BlockPlan, model: ModelConfig, *, legacy_fan_in: bool) -> None:
        super().__init__()
        self.plan = plan
        dim, inner = plan.dim_out, plan.dim_out if plan.kind == "encoder" else plan.dim_in
        self.to_emb = nn.Sequential(MPLinear(4 * model.dim, dim), Gain())
        self.block1 = nn.ModuleList((nn.SiLU(), MPConv3d(inner, dim, 3, legacy_fan_in=legacy_fan_in)))
        self.block2 = nn.ModuleList(
            (nn.SiLU(), nn.Dropout(model.dropout), MPConv3d(dim, dim, 3, legacy_fan_in=legacy_fan_in))
        )

        def attention(axes: AttentionAxes) -> MPAttention:
            return MPAttention(
                dim,
                heads=attention_heads(model, dim),
                dim_head=model.attn_dim_head,
                balance=model.attn_res_mp_add_t,
                axes=axes,
                num_memory=NUM_MEMORY_KEY_VALUES,
            )

        self.attn: nn.Module | None = None
        if plan.attention == "joint":
            self.attn = attention("joint")
        elif plan.attention == "factorized":
            self.attn = nn.Sequential(attention("space"), attention("time"))

    def branch(self, x: Tensor, emb: Tensor) -> Tensor:
        """The residual branch: two convolutions with the embedding's modulation between them.

        The convolutions take along the constant factors: those that make `mp_silu` of SiLU, and that of `mp_sum`.
        """
        silu, convolution = self.block1
        y = convolution(silu(x), 1 / MP_SILU_SCALE)
        scale = (self.to_emb(emb) + 1).to(y.dtype)
        silu, dropout, convolution = self.block2
        y = dropout(silu(y * scale[:, :, None, None, None]))
        return convolution(y, sum_scales(RESIDUAL_BALANCE)[0] / MP_SILU_SCALE)  # type: ignore[no-any-return]

    def merge(self, y: Tensor, x: Tensor) -> Tensor:
        """Adds the branch y to the main path x, then attends, if it does."""
        x = torch.add(y, x, alpha=sum_scales(RESIDUAL_BALANCE)[1])
        return x if self.attn is None else self.attn(x)


class EncoderBlock(Block):
    """Block of the down path: (B, dim_in, T, H, W) -> (B, dim_out, T', H', W')."""

    def __init__(self, plan: BlockPlan, model: ModelConfig, *, legacy_fan_in: bool) -> None:
        super().__init__(plan, model, legacy_fan_in=legacy_fan_in)
        self.downsample_conv = MPConv3d(plan.dim_in, plan.dim_out, 1) if plan.resamples else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Applies the block; emb is (B, E)."""
        if self.downsample_conv is not None:
            # By exactly one half it is the mean of each pair.
            x = self.downsample_conv(_resize(x, [1 / factor for factor in self.plan.factors]))
        x = pixel_norm(x, dim=1)
        return self.merge(self.branch(x, emb), x)


class DecoderBlock(Block):
    """Block of the middle and of the up path: (B, dim_in, T, H, W) -> (B, dim_out, T', H', W')."""

    def __init__(self, plan: BlockPlan, model: ModelConfig, *, legacy_fan_in: bool) -> None:
        super().__init__(plan, model, legacy_fan_in=legacy_fan_in)
        self.res_conv = MPConv3d(plan.dim_in, plan.dim_out, 1) if plan.dim_in != plan.dim_out else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Applies the block; emb is (B, E)."""
        if self.plan.resamples:
            x = _resize(x, [float(factor) for factor in self.plan.factors])
        return self.merge(self.branch(x, emb), x if self.res_conv is None else self.res_conv(x))


def _resize(x: Tensor, scale: list[float]) -> Tensor:
    """Trilinear resizing of (B, C, T, H, W) along T, H and W."""
    return F.interpolate(x, scale_factor=scale, mode="trilinear", align_corners=False)


class KarrasUnet3D(nn.Module):
    """The raw network F of EDM's preconditioning: (B, C, T, H, W) and a noise embedding -> (B, C, T, H, W).

    It computes in the dtype of its input; all sizes are fixed by the constructor, but T may be less: the network is
    convolutions and attention, and training makes use of short clips.

    Args:
        legacy_fan_in: whether the weights were trained with a release from before 28 February 2024.
        **arguments: the fields of `mpvideo.config.ModelConfig`, checked there (ValueError).
    """

    def __init__(self, *, legacy_fan_in: bool = False, **arguments: Any) -> None:
        super().__init__()
        self.config = model = ModelConfig(**arguments)
        E = 4 * model.dim
        plan = network_plan(model)
        channels_in = model.channels * (2 if model.self_condition else 1)
        self.input_block = MPConv3d(channels_in, model.dim, 3, concat_ones=True, legacy_fan_in=legacy_fan_in)
        self.to_time_emb = nn.Sequential(MPFourier(model.fourier_dim), MPLinear(model.fourier_dim, E))
        # Any module of this form will do: training may learn the table in parts.
        self.to_class_emb: nn.Module | None = None
        if model.num_classes is not None:
            self.to_class_emb = MPLinear(model.num_classes, E)
        self.downs = nn.ModuleList(EncoderBlock(block, model, legacy_fan_in=legacy_fan_in) for block in plan.downs)
        self.mids = nn.ModuleList(DecoderBlock(block, model, legacy_fan_in=legacy_fan_in) for block in plan.mids)
        self.ups = nn.ModuleList(DecoderBlock(block, model, legacy_fan_in=legacy_fan_in) for block in plan.ups)
        self.output_block = nn.Sequential(MPConv3d(model.dim, model.channels, 3, legacy_fan_in=legacy_fan_in), Gain())

    def forward(
        self, x: Tensor, time: Tensor, self_cond: Tensor | None = None, class_labels: Tensor | None = None
    ) -> Tensor:
        """Evaluates the network.

        Args:
            x: (B, C, T, H, W), noisy input scaled to unit variance.
            time: (B,), the noise level's c_noise = ln(sigma) / 4, on any device.
            self_cond: (B, C, T, H, W), a previous estimate; zeros when left out. Only with `self_condition`.
            class_labels: (B,) integers, or (B, num_classes) weights: one-hot, a blend, or all zeros for no class.
                Demanded by, and only taken by, a network with classes.

        Raises:
            ValueError: an argument is missing, unwanted, misshapen or out of range.
        """
        check_input(self.config, x, time, self_cond)
        emb = self.embed(time, class_labels)
        if self.config.self_condition:
            x = torch.cat((torch.zeros_like(x) if self_cond is None else self_cond.to(x), x), dim=1)
        x = self.input_block(x)
        skips = [x]
        for block in self.downs:
            x = block(x, emb)
            skips.append(x)
        for block in self.mids:
            x = block(x, emb)
        for block in self.ups:
            if block.plan.skip_dim:  # type: ignore[union-attr]
                x = mp_cat(x, skips.pop(), self.config.mp_cat_t)
            x = block(x, emb)
        return self.output_block(x)  # type: ignore[no-any-return]

    def embed(self, time: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Embedding (B, E) of the noise level and the class; arguments as in `forward`.

        Raises:
            ValueError: labels missing, unwanted, misshapen or out of range.
        """
        emb: Tensor = self.to_time_emb(time.to(self.input_block.weight.device))
        rows = label_rows(class_labels, len(time), self.config.num_classes)
        if rows is not None and self.to_class_emb is not None:
            class_emb = self.to_class_emb(rows.to(emb) * math.sqrt(rows.shape[1]))
            emb = mp_sum(emb, class_emb, self.config.mp_add_emb_t)
        return mp_silu(emb)


def label_rows(labels: Tensor | None, batch: int, num_classes: int | None) -> Tensor | None:
    """Class labels as weights of the classes, (batch, num_classes), however they are given; None without classes.

    Raises:
        ValueError: labels missing, unwanted, misshapen or out of range.
    """
    if num_classes is None:
        if labels is not None:
            raise ValueError("class_labels must be None for a network without classes (num_classes is None)")
        return None
    if labels is None:
        raise ValueError(f"class_labels must be given: the network has {num_classes} classes")
    if labels.is_floating_point():
        if labels.shape != (batch, num_classes):
            raise ValueError(
                f"class_labels must have the shape {(batch, num_classes)} as weights, got {tuple(labels.shape)}"
            )
        return labels
    if labels.shape != (batch,):
        raise ValueError(f"class_labels must have the shape {(batch,)} as integers, got {tuple(labels.shape)}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f"class_labels must be in 0..{num_classes - 1}, got {low if low < 0 else high}")
    return F.one_hot(labels.long(), num_classes)


def check_input(model: ModelConfig, x: Tensor, time: Tensor, self_cond: Tensor | None) -> None:
    """Makes sure that tensors fit a network.

    Raises:
        ValueError: they do not.
    """
    C, T, S = model.channels, model.frames, model.image_size
    if x.ndim != 5 or x.shape[0] < 1 or (x.shape[1], *x.shape[3:]) != (C, S, S):
        raise ValueError(f"x must have the shape (B, {C}, {T}, {S}, {S}), got {tuple(x.shape)}")
    if not 0 < x.shape[2] <= T or x.shape[2] % model.frames_multiple:
        multiple = f", a multiple of {model.frames_multiple}," if model.frames_multiple > 1 else ""
        raise ValueError(f"x must have up to {T} frames{multiple} in its shape, got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"x must be floating point, got {x.dtype}")
    if time.shape != x.shape[:1]:
        raise ValueError(f"time must have the shape {tuple(x.shape[:1])}, got {tuple(time.shape)}")
    if self_cond is None:
        return
    if not model.self_condition:
        raise ValueError("self_cond must be None for a network without self_condition")
    if self_cond.shape != x.shape:
        raise ValueError(f"self_cond must have the shape of x, {tuple(x.shape)}, got {tuple(self_cond.shape)}")

"""The inference form of KarrasUnet3D: the same function, with everything done once that does not depend on the input.

`mpvideo.nn.unet3d` is the reference, to which the tests hold this form. What differs:

- Weights are normalised once, and hold every constant factor that comes before or after them.
- The scales that noise level and class give to each block's channels are one product for all blocks, and for all
  noise levels of a schedule where they are known beforehand.
- Channels are last in memory: 1x1x1 convolutions are matrix products, and attention needs no copies.
- The residual 1x1x1 convolution comes before upsampling, with which it commutes, on an eighth of the places.
- On planes of at most 2x2 places a 3x3x3 convolution is one product over whole planes, with fewer operations than 27
  taps: none of them falls on the padding.

Letters: B batch, C O channels in and out, T frames, H W height and width, N tokens, D head width, E embedding width.
Activations are (B, T, H, W, C), contiguous.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mpvideo.architecture import BlockPlan, attention_heads, network_plan, network_shapes
from mpvideo.config import ModelConfig
from mpvideo.nn.layers import EPS, MP_SILU_SCALE, RESIDUAL_BALANCE, AttentionAxes, normalize, pixel_norm
from mpvideo.nn.unet3d import check_input, label_rows
from mpvideo.text import first_ten

_WIDEST_WHOLE_PLANE = 2
"""Side of the largest plane that is multiplied as a whole."""


class InferenceUnet3D:
    """KarrasUnet3D, ready to sample: (B, C, T, H, W) and a noise embedding -> (B, C, T, H, W).

    Args:
        model: the architecture.
        tensors: the weights by their names in KarrasUnet3D's state dict. They are taken out one by one, so that the
            network is never held twice.
        legacy_fan_in: whether they were trained with a release from before 28 February 2024.
        device, dtype: where and in what to compute; the embedding is computed in float32 or better.

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
    ) -> None:
        if wrong := network_shapes(model).keys() ^ tensors.keys():
            raise ValueError(
                f"tensors must be just those of the network, missing or left over: {first_ten(sorted(wrong))}"
            )
        self.config = model
        weights = _Weights(tensors, 2 if legacy_fan_in else 3, torch.device(device), dtype)
        self.dtype = dtype
        self._embedding = _Embedding(model, weights)
        plan = network_plan(model)
        self._input = _convolution(weights.take("input_block", unseen=1), model.image_size)
        self._blocks = [_Block(block, model, weights) for block in plan]
        self._output = _convolution(
            weights.take("output_block.0", scale=weights.gain("output_block.1")), model.image_size
        )
        self._tables: list[tuple[Tensor | None, dict[float, Tensor]]] = []

    @torch.inference_mode()
    def prepare(self, *calls: tuple[Tensor, Tensor | None]) -> None:
        """Tabulates the embeddings of all noise levels and labels that will be asked for; forgets those of before.

        It changes no result. Calls with other levels or other labels (another tensor) compute their embedding anew.

        Args:
            calls: noise embeddings ln(sigma) / 4 (N,), and the class_labels that will be given with them; one pair for
                each tensor of labels.
        """
        self._tables = [(class_labels, self._table(times, class_labels)) for times, class_labels in calls]

    def _table(self, times: Tensor, class_labels: Tensor | None) -> dict[float, Tensor]:
        """The scales of all blocks side by side, (B, all O together), for each of the times."""
        count = 1 if class_labels is None else len(class_labels)
        rows = None if class_labels is None else class_labels.repeat(len(times), *(1,) * (class_labels.ndim - 1))
        table = self._embedding(times.repeat_interleave(count), rows).view(len(times), count, -1).to(self.dtype)
        return dict(zip(times.tolist(), table, strict=True))

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
        x = self._input(F.pad(x.to(self.dtype).permute(0, 2, 3, 4, 1), (1, 0), value=1.0))
        skips = [x]
        for block, scale in zip(self._blocks, scales, strict=True):
            if block.plan.skip_dim:
                x = _mp_cat(x, skips.pop(), model.mp_cat_t)
            x = block(x, scale)
            if block.plan.kind == "encoder":
                skips.append(x)
        return self._output(x).permute(0, 4, 1, 2, 3)

    def _scales(self, time: Tensor, class_labels: Tensor | None) -> tuple[Tensor, ...]:
        """What each block multiplies its channels with: (B, 1, 1, 1, O) each."""
        level = time[0].item()
        table = next((table for labels, table in self._tables if labels is class_labels), {})
        if level in table and bool((time == level).all()):
            rows = table[level]
        else:
            rows = self._embedding(time, class_labels).to(self.dtype)
        rows = rows.view(len(rows), 1, 1, 1, -1)
        return torch.split(rows, [block.plan.dim_out for block in self._blocks], dim=-1)


class _Weights:
    """Hands out the weights of a state dict, normalised and in the dtype and on the device to compute with."""

    def __init__(self, tensors: dict[str, Tensor], kernel_power: int, device: torch.device, dtype: torch.dtype) -> None:
        self._tensors = tensors
        self._kernel_power = kernel_power
        self.device, self.dtype = device, dtype
        self.accurate = torch.promote_types(dtype, torch.float32)

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
        weight = self.plain(f"{name}.weight")
        fan_in = (weight.shape[1] - unseen) * (weight.shape[-1] ** self._kernel_power if weight.ndim == 5 else 1)
        acting = normalize(weight) * (scale / math.sqrt(fan_in))
        return acting if accurate else acting.to(self.dtype)

    def matrix(self, name: str, *, scale: float = 1.0) -> Tensor:
        """The weight of a 1x1x1 convolution as a matrix (O, C)."""
        return self.take(name, scale=scale).flatten(1)


class _Embedding:
    """Noise level and class to the scales of all blocks side by side: (N,) and labels -> (N, all O together)."""

    def __init__(self, model: ModelConfig, weights: _Weights) -> None:
        self.num_classes = model.num_classes
        self._frequencies = weights.plain("to_time_emb.0.weights") * (2 * math.pi)
        balance, class_scale = model.mp_add_emb_t, 0.0
        norm = math.hypot(1 - balance, balance)
        if model.num_classes is not None:
            class_scale = math.sqrt(model.num_classes) * balance / norm
        time_scale = math.sqrt(2) * (1.0 if model.num_classes is None else (1 - balance) / norm)
        self._time = weights.take("to_time_emb.1", scale=time_scale, accurate=True)
        self._class = None
        if model.num_classes is not None:
            self._class = weights.take("to_class_emb", scale=class_scale, accurate=True)
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

    def __call__(self, time: Tensor, class_labels: Tensor | None) -> Tensor:
        angles = time.to(self._frequencies).unsqueeze(1) * self._frequencies
        emb = F.linear(torch.cat((angles.sin(), angles.cos()), dim=1), self._time)
        rows = label_rows(class_labels, len(time), self.num_classes)
        if rows is not None and self._class is not None:
            emb = emb + F.linear(rows.to(emb), self._class)
        return 1 + F.linear(F.silu(emb), self._blocks)


def _convolution(kernel: Tensor, size: int) -> "_Convolution | _PlaneProduct":
    """3x3x3 convolution with zero padding, (B, T, H, W, C) -> (B, T, H, W, O), by the form that suits H and W."""
    return _PlaneProduct(kernel, size) if size <= _WIDEST_WHOLE_PLANE else _Convolution(kernel)


class _Convolution:
    """Convolution by its kernel (O, C, 3, 3, 3), or another one with its stride and padding."""

    def __init__(self, kernel: Tensor, *, stride: tuple[int, ...] = (1, 1, 1), padding: int = 1) -> None:
        self._kernel = kernel.contiguous(memory_format=torch.channels_last_3d)
        self._stride, self._padding = stride, (padding,) * 3
        # ATen would take its own, slow convolution for a batch of one in float32; in other dtypes it chooses well.
        self._onednn = kernel.device.type == "cpu" and kernel.dtype == torch.float32 and torch._C._has_mkldnn

    def __call__(self, x: Tensor) -> Tensor:
        x = x.permute(0, 4, 1, 2, 3)
        if self._onednn:
            y = torch.mkldnn_convolution(x, self._kernel, None, self._padding, self._stride, (1, 1, 1), 1)
        else:
            y = F.conv3d(x, self._kernel, stride=self._stride, padding=self._padding)
        return y.permute(0, 2, 3, 4, 1).contiguous()


def _shrinking(matrix: Tensor, factors: tuple[int, ...]) -> _Convolution:
    """The mean over `factors` places, T, H and W, and a product with `matrix` (O, C) after it, as one convolution."""
    kernel = (matrix / math.prod(factors)).view(*matrix.shape, 1, 1, 1).repeat(1, 1, *factors)
    return _Convolution(kernel, stride=factors, padding=0)


class _PlaneProduct:
    """Convolution by one product over three whole planes, one after the other in time, for each plane.

    Args:
        kernel: (O, C, 3, 3, 3).
        size: H and W, at most 2: of larger planes, pairs of places that no tap connects would be most of the work.
    """

    def __init__(self, kernel: Tensor, size: int) -> None:
        self._matrix = _plane_matrix(kernel, size)

    def __call__(self, x: Tensor) -> Tensor:
        planes = F.pad(x.flatten(2), (0, 0, 1, 1))
        three = torch.cat((planes[:, :-2], planes[:, 1:-1], planes[:, 2:]), dim=2)
        return F.linear(three, self._matrix).view(*x.shape[:4], -1)


def _plane_matrix(kernel: Tensor, size: int) -> Tensor:
    """A kernel as the matrix from three planes one after the other to one plane: (H * W * O, 3 * H * W * C).

    The place Y sees the place y through the tap y - Y + 1, and so along x.
    """
    rows = torch.stack([kernel[:, :, :, 1 - Y : 1 - Y + size] for Y in range(size)])
    places = torch.stack([rows[..., 1 - X : 1 - X + size] for X in range(size)])
    return rearrange(places, "X Y o c t y x -> (Y X o) (t y x c)")


class _Block:
    """Residual block of either path; see `mpvideo.nn.unet3d.Block`."""

    def __init__(self, plan: BlockPlan, model: ModelConfig, weights: _Weights) -> None:
        self.plan = plan
        norm = math.hypot(1 - RESIDUAL_BALANCE, RESIDUAL_BALANCE)
        self._straight = RESIDUAL_BALANCE / norm
        size, name = plan.image_size, plan.name
        self._conv1 = _convolution(weights.take(f"{name}.block1.1", scale=1 / MP_SILU_SCALE), size)
        self._conv2 = _convolution(
            weights.take(f"{name}.block2.2", scale=(1 - RESIDUAL_BALANCE) / norm / MP_SILU_SCALE), size
        )
        self._shrink: _Convolution | None = None
        if plan.kind == "encoder" and plan.resamples:
            self._shrink = _shrinking(weights.matrix(f"{name}.downsample_conv"), plan.factors)
        self._residual = None
        if plan.kind == "decoder" and plan.dim_in != plan.dim_out:
            self._residual = weights.matrix(f"{name}.res_conv", scale=self._straight)
        paths: dict[str, dict[str, AttentionAxes]] = {
            "none": {}, "joint": {"attn": "joint"}, "factorized": {"attn.0": "space", "attn.1": "time"}
        }  # fmt: skip
        self._attention = [
            _Attention(f"{name}.{path}", axes, plan, model, weights) for path, axes in paths[plan.attention].items()
        ]

    def __call__(self, x: Tensor, scale: Tensor) -> Tensor:
        if self.plan.kind == "encoder":
            x = pixel_norm(x if self._shrink is None else self._shrink(x), dim=-1)
        straight, alpha = x, self._straight
        if self._residual is not None:
            straight, alpha = F.linear(x, self._residual), 1.0
        if self.plan.kind == "decoder" and self.plan.resamples:
            own = straight is not x
            x = _upsampled(x, self.plan.factors)
            straight = _upsampled(straight, self.plan.factors) if own else x
        # What was made for this block alone is overwritten: memory that is new to a process costs more than the sums.
        y = self._conv1(F.silu(x, inplace=straight is not x and (self.plan.skip_dim > 0 or self.plan.resamples)))
        y = self._conv2(F.silu(y.mul_(scale), inplace=True))
        x = y.add_(straight, alpha=alpha)
        for attention in self._attention:
            x = attention(x)
        return x


class _Attention:
    """Cosine attention with memory; see `mpvideo.nn.layers.MPAttention`."""

    def __init__(self, name: str, axes: AttentionAxes, plan: BlockPlan, model: ModelConfig, weights: _Weights) -> None:
        balance = model.attn_res_mp_add_t
        norm = math.hypot(1 - balance, balance)
        self._straight = balance / norm
        self._axes = axes
        self._heads = attention_heads(model, plan.dim_out)
        memory = pixel_norm(weights.plain(f"{name}.mem_kv"), dim=-1)
        self._memory = rearrange(memory, "n heads m d -> m n heads d").to(weights.dtype)
        self._to_qkv = weights.matrix(f"{name}.to_qkv")
        self._to_out = weights.matrix(f"{name}.to_out", scale=(1 - balance) / norm)

    def __call__(self, x: Tensor) -> Tensor:
        B, T, H, W, _ = x.shape
        qkv = F.linear(x, self._to_qkv)
        if self._axes == "time":
            qkv = rearrange(qkv, "b t h w c -> (b h w) t c")
        else:
            qkv = qkv.view(B * T if self._axes == "space" else B, -1, qkv.shape[-1])
        qkv = rearrange(qkv, "b n (three heads d) -> b n three heads d", three=3, heads=self._heads)
        norm = torch.linalg.vector_norm(qkv, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        unit = (math.sqrt(qkv.shape[-1]) / norm.clamp_(min=EPS)).to(x.dtype)
        # Memory comes before the keys and values: they are normalised to the place behind it, and not copied again.
        M = len(self._memory)
        kv = qkv.new_empty(len(qkv), M + qkv.shape[1], 2, *qkv.shape[3:])
        kv[:, :M] = self._memory
        torch.mul(qkv[:, :, 1:], unit[:, :, 1:], out=kv[:, M:])
        q = qkv[:, :, 0] * unit[:, :, 0]
        k, v = kv.unbind(2)
        out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        out = F.linear(out.transpose(1, 2).flatten(2), self._to_out)
        out = rearrange(out, "(b h w) t c -> b t h w c", h=H, w=W) if self._axes == "time" else out.view_as(x)
        return torch.add(out, x, alpha=self._straight)


def _mp_cat(a: Tensor, b: Tensor, balance: float) -> Tensor:
    """`mpvideo.nn.layers.mp_cat` on the last axis; the scales are 1 for equal widths and balance 0.5."""
    Na, Nb = a.shape[-1], b.shape[-1]
    norm = math.sqrt((Na + Nb) / ((1 - balance) ** 2 + balance**2))
    scales = norm * (1 - balance) / math.sqrt(Na), norm * balance / math.sqrt(Nb)
    parts = [part if math.isclose(scale, 1.0) else part * scale for part, scale in zip((a, b), scales, strict=True)]
    return torch.cat(parts, dim=-1)


def _upsampled(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Trilinear interpolation to `factors` times as many places, T, H and W."""
    scale = [float(factor) for factor in factors]
    larger = F.interpolate(x.permute(0, 4, 1, 2, 3), scale_factor=scale, mode="trilinear", align_corners=False)
    return larger.permute(0, 2, 3, 4, 1)

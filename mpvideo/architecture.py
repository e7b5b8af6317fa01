"""The plan of the networks: which blocks, of what width, at what resolution; and the tensors that follow from it.

`mpvideo.nn` builds its modules from this plan and the checkpoint reader checks a file's tensors against it, so the
architecture is described once, and without torch.

Letters: T frames, H height = width, E embedding width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod
from typing import Any, Literal

from mpvideo.config import AutoencoderConfig, CheckpointConfig, ModelConfig

Shape = tuple[int, ...]
Attention = Literal["none", "joint", "factorized"]

NUM_MEMORY_KEY_VALUES = 4
"""Learned key/value pairs that every attention carries."""


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """One residual block.

    Attributes:
        name: its module path, e.g. 'downs.3'.
        kind: 'encoder' (down path) or 'decoder' (middle and up path).
        dim_in: channels that come in, those of the skip included.
        dim_out: channels that go out.
        skip_dim: channels of the skip concatenated before it, 0 for none.
        factors: (T, H, W) factors by which it downsamples (encoder) or upsamples (decoder).
        attention: none, over space and time at once, or over space and then over time.
        frames, image_size: T and H of its output.
    """

    name: str
    kind: Literal["encoder", "decoder"]
    dim_in: int
    dim_out: int
    skip_dim: int = 0
    factors: Shape = (1, 1, 1)
    attention: Attention = "none"
    frames: int
    image_size: int

    @property
    def resamples(self) -> bool:
        """Whether it changes the resolution."""
        return self.factors != (1, 1, 1)

    @property
    def positions(self) -> int:
        """T * H * W of its output."""
        return self.frames * self.image_size**2


@dataclass(frozen=True)
class NetworkPlan:
    """All blocks of a KarrasUnet3D in the order in which they run."""

    downs: tuple[BlockPlan, ...]
    mids: tuple[BlockPlan, ...]
    ups: tuple[BlockPlan, ...]

    def __iter__(self) -> Iterator[BlockPlan]:
        yield from (*self.downs, *self.mids, *self.ups)


@dataclass(frozen=True)
class _Level:
    """One resolution of the network, and how its blocks come about."""

    model: ModelConfig
    width: int
    frames: int
    image_size: int
    blocks: int  # plain ones on the way down
    factors: Shape  # by which it is smaller than the level above

    def attention(self, *, resamples: bool = False) -> Attention:
        """Which attention a block has whose output is of this level."""
        if self.image_size not in self.model.attn_res:
            return "none"
        return "factorized" if resamples and self.model.factorize_space_time_attn else "joint"

    def block(self, name: str, *, dim_in: int, skip_dim: int = 0, **rest: Any) -> BlockPlan:
        """A block whose output is of this level; `dim_in` does not count the skip."""
        return BlockPlan(
            name=name,
            kind="encoder" if name.startswith("downs") else "decoder",
            dim_in=dim_in + skip_dim,
            dim_out=self.width,
            skip_dim=skip_dim,
            frames=self.frames,
            image_size=self.image_size,
            **rest,
        )


def _levels(model: ModelConfig) -> list[_Level]:
    first = _Level(model, model.dim, model.frames, model.image_size, model.stage_blocks[0], (1, 1, 1))
    levels = [first]
    for word, blocks in zip(model.stage_types, model.stage_blocks[1:], strict=True):
        above = levels[-1]
        time, space = (1 if word == "image" else 2), (1 if word == "frame" else 2)
        width = min(2 * above.width, model.dim_max)
        factors = (time, space, space)
        levels.append(_Level(model, width, above.frames // time, above.image_size // space, blocks, factors))
    return levels


def attention_heads(model: ModelConfig, width: int) -> int:
    """Number of heads of an attention on `width` channels."""
    return max(ceil(width / model.attn_dim_head), 2)


def network_plan(model: ModelConfig) -> NetworkPlan:
    """Lays out the blocks of a network (EDM2, arXiv 2312.02696, figure 21, in its published 3D form)."""
    levels = _levels(model)
    first, bottom = levels[0], levels[-1]

    downs = [first.block(f"downs.{index}", dim_in=first.width) for index in range(first.blocks)]
    for above, level in pairwise(levels):
        attention = level.attention(resamples=True)
        downs.append(level.block(f"downs.{len(downs)}", dim_in=above.width, factors=level.factors, attention=attention))
        for _ in range(level.blocks):
            downs.append(level.block(f"downs.{len(downs)}", dim_in=level.width, attention=level.attention()))

    mids = [bottom.block(f"mids.{index}", dim_in=bottom.width, attention=bottom.attention()) for index in range(2)]

    skips = [model.dim, *(block.dim_out for block in downs)]
    ups: list[BlockPlan] = []
    for depth, level in reversed(list(enumerate(levels))):
        for _ in range(level.blocks + 1):
            attention = level.attention() if depth else "none"
            ups.append(level.block(f"ups.{len(ups)}", dim_in=level.width, skip_dim=skips.pop(), attention=attention))
        if depth:
            above = levels[depth - 1]
            attention = above.attention(resamples=True)
            ups.append(above.block(f"ups.{len(ups)}", dim_in=level.width, factors=level.factors, attention=attention))
    return NetworkPlan(tuple(downs), tuple(mids), tuple(ups))


def _block_shapes(model: ModelConfig, block: BlockPlan) -> dict[str, Shape]:
    """Tensors of one block, without its name in front."""
    encoder = block.kind == "encoder"
    d, inner = block.dim_out, block.dim_out if encoder else block.dim_in
    shapes: dict[str, Shape] = {
        "to_emb.0.weight": (d, 4 * model.dim),
        "to_emb.1.gain": (),
        "block1.1.weight": (d, inner, 3, 3, 3),
        "block2.2.weight": (d, d, 3, 3, 3),
    }
    if encoder and block.resamples:
        shapes["downsample_conv.weight"] = (d, block.dim_in, 1, 1, 1)
    if not encoder and block.dim_in != d:
        shapes["res_conv.weight"] = (d, block.dim_in, 1, 1, 1)
    heads = attention_heads(model, d)
    for path in {"none": (), "joint": ("attn",), "factorized": ("attn.0", "attn.1")}[block.attention]:
        shapes[f"{path}.mem_kv"] = (2, heads, NUM_MEMORY_KEY_VALUES, model.attn_dim_head)
        shapes[f"{path}.to_qkv.weight"] = (3 * heads * model.attn_dim_head, d, 1, 1, 1)
        shapes[f"{path}.to_out.weight"] = (d, heads * model.attn_dim_head, 1, 1, 1)
    return shapes


def network_shapes(model: ModelConfig) -> dict[str, Shape]:
    """Names and shapes of every tensor of a KarrasUnet3D's state dict."""
    E, channels = 4 * model.dim, model.channels
    shapes: dict[str, Shape] = {
        "input_block.weight": (model.dim, channels * (2 if model.self_condition else 1) + 1, 3, 3, 3),
        "to_time_emb.0.weights": (model.fourier_dim // 2,),
        "to_time_emb.1.weight": (E, model.fourier_dim),
        "output_block.0.weight": (channels, model.dim, 3, 3, 3),
        "output_block.1.gain": (),
    }
    if model.num_classes is not None:
        shapes["to_class_emb.weight"] = (E, model.num_classes)
    for block in network_plan(model):
        shapes |= {f"{block.name}.{name}": shape for name, shape in _block_shapes(model, block).items()}
    return shapes


@dataclass(frozen=True)
class ConvPlan:
    """One 3x3 convolution of the autoencoder; `factor` 2 halves (encoder) or first doubles (decoder) the image.

    `residual` ones see SiLU of their input and add their output to it.
    """

    name: str
    dim_in: int
    dim_out: int
    factor: int = 1
    residual: bool = False


def autoencoder_plan(config: AutoencoderConfig) -> tuple[tuple[ConvPlan, ...], tuple[ConvPlan, ...]]:
    """Convolutions of the encoder and of the decoder.

    Both ends work on 2x2 pixels as channels (12 of them), so the first halving costs nothing.
    """
    widths = [config.width * 2**level for level in range(config.num_downsamples)]
    z = config.latent_channels
    encoder = [(12, widths[0], 1, False)]
    for above, width in pairwise(widths):
        encoder += [(above, width, 2, False), (width, width, 1, True)]
    encoder += [(widths[-1], z, 1, False)]
    decoder = [(z, widths[-1], 1, False), (widths[-1], widths[-1], 1, True)]
    for width, above in pairwise(reversed(widths)):
        decoder += [(width, above, 2, False), (above, above, 1, True)]
    decoder += [(widths[0], 12, 1, False)]
    return (
        tuple(ConvPlan(f"encoder.{index}", *entry) for index, entry in enumerate(encoder)),
        tuple(ConvPlan(f"decoder.{index}", *entry) for index, entry in enumerate(decoder)),
    )


def autoencoder_shapes(config: AutoencoderConfig) -> dict[str, Shape]:
    """Names and shapes of every tensor of an Autoencoder's state dict."""
    shapes: dict[str, Shape] = {"mean": (config.latent_channels,), "std": (config.latent_channels,)}
    for half in autoencoder_plan(config):
        for conv in half:
            shapes[f"{conv.name}.weight"] = (conv.dim_out, conv.dim_in, 3, 3)
            shapes[f"{conv.name}.bias"] = (conv.dim_out,)
    return shapes


def checkpoint_shapes(config: CheckpointConfig) -> dict[str, Shape]:
    """Names and shapes of every tensor that a checkpoint with this config holds."""
    shapes = network_shapes(config.model)
    if config.video.autoencoder is not None:
        inner = autoencoder_shapes(config.video.autoencoder)
        shapes |= {f"codec.{name}": shape for name, shape in inner.items()}
    return shapes


def network_flops(model: ModelConfig) -> int:
    """Floating-point operations of one pass for one sample: convolutions (direct) and attention."""
    top = model.frames * model.image_size**2
    shapes = network_shapes(model)
    total = top * 2 * (prod(shapes["input_block.weight"]) + prod(shapes["output_block.0.weight"]))
    for block in network_plan(model):
        per_position = sum(prod(shape) for shape in _block_shapes(model, block).values() if len(shape) == 5)
        total += 2 * per_position * block.positions
        inner = attention_heads(model, block.dim_out) * model.attn_dim_head
        tokens: dict[str, Shape] = {
            "none": (),
            "joint": (block.positions,),
            "factorized": (block.image_size**2, block.frames),
        }
        total += sum(4 * block.positions * (count + NUM_MEMORY_KEY_VALUES) * inner for count in tokens[block.attention])
    return total


def activation_bytes(model: ModelConfig, bytes_per_value: int = 4) -> int:
    """About how much memory the tensors alive at the network's fattest point take, for one sample.

    Counts the skips waiting for their decoder block and, inside a block, four tensors of its wider side (input,
    residual, activation, result) and six times the width of an attention's heads: queries, keys and values before and
    after they are normalised.
    """
    waiting = model.dim * model.frames * model.image_size**2
    pending: list[int] = [waiting]
    peak = 0
    for block in network_plan(model):
        if block.skip_dim:
            waiting -= pending.pop()
        inner = attention_heads(model, block.dim_out) * model.attn_dim_head if block.attention != "none" else 0
        peak = max(peak, waiting + block.positions * (4 * max(block.dim_in, block.dim_out) + 6 * inner))
        if block.kind == "encoder":
            pending.append(block.dim_out * block.positions)
            waiting += pending[-1]
    return peak * bytes_per_value


_TOGETHER = 48 * 2**20
"""Bytes of activations up to which clips go through the network together, see `clips_at_once`."""


def clips_at_once(model: ModelConfig, bytes_per_value: int = 4, frames: int | None = None) -> int:
    """How many clips of `frames`, or else the model's, go through the network together on a CPU.

    As many as have activations of 48 MiB: larger ones take about as long one after the other, and less memory. (On two
    cores up to 3 % longer in networks 32 and 64 wide, 7 where the weights are large beside the clips.)
    """
    of_clip = activation_bytes(model, bytes_per_value) * (frames or model.frames) // model.frames
    return max(1, _TOGETHER // max(1, of_clip))

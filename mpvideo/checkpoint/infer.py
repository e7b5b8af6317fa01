"""The architecture of a KarrasUnet3D, told from the names and shapes of its tensors alone.

Shapes tell widths, blocks, attention, heads and classes. They do not tell the size of the videos, which axes a stage
halves, or any of the balances; `mpvideo.checkpoint.completion` asks for those by name and says what fits. Only the
standard library is imported.

Letters: S downsampling stages, level 0 the first, level S the bottom.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from mpvideo.architecture import Shape, network_shapes
from mpvideo.checkpoint.fit import misfits
from mpvideo.checks import check_int
from mpvideo.config import AutoencoderConfig, DownsampleType, ModelConfig
from mpvideo.errors import CheckpointError
from mpvideo.text import counted, printable

NEVER_TOLD = ("attn_flash", "mp_cat_t", "mp_add_emb_t", "attn_res_mp_add_t", "resnet_mp_add_t", "dropout")
"""Fields that no shape depends on and that have a default."""

TYPES: tuple[DownsampleType, ...] = ("all", "image", "frame")
"""What a stage may halve; the package's default first."""

DEFAULT_ATTN_RES = (16, 8)
"""The package's default."""

_DEFAULT_DIM_MAX = 768


@dataclass(frozen=True, kw_only=True)
class Inference:
    """What the shapes of a network's tensors say.

    Attributes:
        determined: fields of `ModelConfig` that only one value fits. `num_blocks_per_stage` is given as one number
            where all levels have the same, else as S + 1 of them.
        widths: of the S + 1 levels.
        attention: whether each of the S + 1 levels has attention.
        least_dim_max: the least `dim_max` that fits, where it is free.
    """

    determined: Mapping[str, Any]
    widths: tuple[int, ...]
    attention: tuple[bool, ...]
    least_dim_max: int

    @property
    def num_stages(self) -> int:
        """S."""
        return len(self.widths) - 1

    @property
    def free(self) -> tuple[str, ...]:
        """Fields of `ModelConfig` that more than one value fits, in its order."""
        return tuple(name for name in ModelConfig.__dataclass_fields__ if name not in self.determined)

    @property
    def stage_types(self) -> tuple[tuple[DownsampleType, ...], ...]:
        """What each stage may halve: where attention begins or ends, height and width must change."""
        return tuple(TYPES if above == below else TYPES[:2] for above, below in pairwise(self.attention))

    def defaults(self) -> dict[str, Any]:
        """Canonical values of the free fields that have one: the package's default, if it fits."""
        canonical: dict[str, Any] = {}
        if "dim_max" in self.free:
            canonical["dim_max"] = max(self.least_dim_max, _DEFAULT_DIM_MAX)
        fields = ModelConfig.__dataclass_fields__
        names = ("attn_dim_head", "factorize_space_time_attn", *NEVER_TOLD)
        return canonical | {name: fields[name].default for name in names if name in self.free}

    def levels(self, size: int, types: Sequence[DownsampleType]) -> list[int]:
        """Heights of the levels, from that of the first."""
        return list(accumulate(types, lambda above, word: above if word == "frame" else above // 2, initial=size))

    def attn_res(self, size: int, types: Sequence[DownsampleType]) -> tuple[int, ...] | None:
        """The heights at which there is attention; None if two levels of one height differ in it."""
        levels = self.levels(size, types)
        attending = {height for height, attends in zip(levels, self.attention, strict=True) if attends}
        if any(height in attending for height, attends in zip(levels, self.attention, strict=True) if not attends):
            return None
        return tuple(sorted(attending, reverse=True))

    def image_sizes(self, attn_res: Iterable[int], types: Sequence[DownsampleType]) -> list[int]:
        """The image sizes at which exactly the levels that have attention have a height in `attn_res`.

        Empty as well where no level has attention, for then no list would be complete.
        """
        heights = set(attn_res)
        found = set()
        for depth, attends in enumerate(self.attention):
            if attends:
                found |= {height * space_factor(types[:depth]) for height in heights}
        return sorted(
            size
            for size in found
            if size % space_factor(types) == 0
            and tuple(height in heights for height in self.levels(size, types)) == self.attention
        )


def infer_architecture(shapes: Mapping[str, Shape]) -> Inference:
    """Infers everything about a network that the shapes of its tensors tell.

    Args:
        shapes: of exactly the tensors of one KarrasUnet3D, under its own names.

    Raises:
        CheckpointError: they are not those of any KarrasUnet3D; the message names tensors.
    """
    channels, dim = _of(shapes, "output_block.0.weight", 5)[:2]
    inputs = _of(shapes, "input_block.weight", 5)[1] - 1
    if channels < 1 or inputs not in (channels, 2 * channels):
        raise CheckpointError(
            f"input_block.weight must have {channels} or, with self_condition, {2 * channels} inputs and one of ones, "
            f"for the {channels} outputs of output_block.0.weight; it has {inputs + 1}"
        )
    widths, blocks = _levels(shapes, dim)
    attention = _attention(shapes, blocks)
    determined: dict[str, Any] = {
        "dim": dim,
        "num_classes": _of(shapes, "to_class_emb.weight", 2)[1] if "to_class_emb.weight" in shapes else None,
        "channels": channels,
        "num_downsamples": len(blocks) - 1,
        "num_blocks_per_stage": blocks[0] if len(set(blocks)) == 1 else tuple(blocks),
        "fourier_dim": _of(shapes, "to_time_emb.1.weight", 2)[1],
        "self_condition": inputs == 2 * channels,
    }
    capped = [below for above, below in pairwise(widths) if below != 2 * above]
    if capped:
        determined["dim_max"] = capped[0]
    if memories := [name for name in shapes if name.endswith(".mem_kv")]:
        determined["attn_dim_head"] = _of(shapes, memories[0], 4)[3]
    if any(attention) and len(blocks) > 1:
        determined["factorize_space_time_attn"] = any(".attn.0." in name for name in shapes)
    found = Inference(determined=determined, widths=widths, attention=attention, least_dim_max=max(widths[1:] or (1,)))
    _check(found, shapes)
    return found


def infer_network(shapes: Mapping[str, Shape]) -> Inference:
    """`infer_architecture`, with an autoencoder's tensors, under `codec.`, left aside."""
    return infer_architecture({name: shape for name, shape in shapes.items() if not name.startswith("codec.")})


def infer_autoencoder(shapes: Mapping[str, Shape]) -> AutoencoderConfig | None:
    """The autoencoder whose tensors stand under `codec.`; None if there are none. Misfits show when all is compared.

    Raises:
        CheckpointError: they are not those of any.
    """
    inner = {name.removeprefix("codec."): shape for name, shape in shapes.items() if name.startswith("codec.")}
    if not inner:
        return None
    halves = sum(name.startswith("encoder.") and name.endswith(".weight") for name in inner) // 2
    try:
        return AutoencoderConfig(
            width=_of(inner, "encoder.0.weight", 4)[0], latent_channels=_of(inner, "mean", 1)[0], num_downsamples=halves
        )
    except ValueError as error:
        raise CheckpointError(f"the tensors under codec. are of no autoencoder known here: {error}") from None


def attending_words(found: Inference) -> str:
    """Which levels have attention, the first being 1."""
    depths = [str(depth + 1) for depth, attends in enumerate(found.attention) if attends]
    return f"attention at level {', '.join(depths)}" if depths else "no attention"


def space_factor(types: Sequence[DownsampleType]) -> int:
    """By how much stages of these types shrink height and width."""
    return int(2 ** sum(word != "frame" for word in types))


def describe_inference(found: Inference) -> str:
    """The architecture in one line."""
    told = found.determined
    blocks = told["num_blocks_per_stage"]
    head = f", heads of {told['attn_dim_head']}" if "attn_dim_head" in told else ""
    split = ", over space then time where it resamples" if told.get("factorize_space_time_attn") else ""
    classes = told["num_classes"]
    parts = [
        counted(told["channels"], "channel") + (" and as many of self-conditioning" if told["self_condition"] else ""),
        "no classes" if classes is None else counted(classes, "class"),
        f"levels of width {', '.join(map(str, found.widths))}",
        counted(blocks, "block") + " a level" if isinstance(blocks, int) else f"{', '.join(map(str, blocks))} blocks",
        attending_words(found) + head + split,
        f"{told['fourier_dim']} Fourier features",
    ]
    return "; ".join(parts)


def _of(shapes: Mapping[str, Shape], name: str, rank: int) -> Shape:
    if name not in shapes:
        raise CheckpointError(f"the tensors are not those of a KarrasUnet3D: {name} is missing")
    if len(shapes[name]) != rank:
        raise CheckpointError(f"{name} must have {rank} axes, got the shape {printable(shapes[name], 80)}")
    return shapes[name]


def _levels(shapes: Mapping[str, Shape], dim: int) -> tuple[tuple[int, ...], list[int]]:
    """Width and number of plain blocks of each level, read from the way down."""
    numbers = {name.split(".")[1] for name in shapes if name.startswith("downs.")}
    widths, blocks = [dim], [0]
    for index in range(len(numbers)):
        name = f"downs.{index}.downsample_conv.weight"
        if name in shapes:
            widths.append(_of(shapes, name, 5)[0])
            blocks.append(0)
        else:
            blocks[-1] += 1
    return tuple(widths), blocks


def _attention(shapes: Mapping[str, Shape], blocks: Sequence[int]) -> tuple[bool, ...]:
    """Whether each level has attention; of the first, only the block that comes back up to it, or the middle, tells."""
    attending = {".".join(name.split(".")[:2]) for name in shapes if ".attn." in name}
    below, index = [], blocks[0]
    for count in blocks[1:]:
        below.append(f"downs.{index}" in attending)
        index += 1 + count
    # On the way up each level below the first has n + 1 blocks and the one that leads to the level above.
    last_upsampling = sum(count + 2 for count in blocks[1:]) - 1
    first = f"ups.{last_upsampling}" if below else "mids.0"
    return (first in attending, *below)


def _check(found: Inference, shapes: Mapping[str, Shape]) -> None:
    """Makes sure that a network of this architecture has just these tensors."""
    S = found.num_stages
    try:
        check_int("num_downsamples", S, 0, 16)
        model = ModelConfig(
            image_size=2**S,
            frames=2**S,
            **{
                **found.defaults(),
                **found.determined,
                "attn_res": tuple(2 ** (S - depth) for depth, attends in enumerate(found.attention) if attends),
            },
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"the tensors are not those of a KarrasUnet3D: {printable(error, 300)}") from None
    if problems := misfits(network_shapes(model), shapes):
        raise CheckpointError(
            f"the tensors are not those of a KarrasUnet3D ({describe_inference(found)}): {'; '.join(problems)}"
        )


def described(found: Inference) -> dict[str, Any]:
    """What shapes tell as JSON has it: see `inferred` in `mpvideo.checkpoint.report`."""
    return {"fields": dict(found.determined), "widths": list(found.widths), "attention": list(found.attention)}

"""The architecture of a KarrasUnet3D, told from the names and shapes of its tensors alone.

Shapes tell widths, blocks, attention, heads and classes. They do not tell the size of the videos, which axes a stage
halves, or any of the balances; `complete` asks for those by name and says what fits. Only the standard library is
imported.

Letters: S downsampling stages, level 0 the first, level S the bottom.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from typing import Any, NamedTuple

from mpvideo.architecture import Shape, network_shapes
from mpvideo.checkpoint.opening import misfits
from mpvideo.checks import check_int
from mpvideo.config import AutoencoderConfig, DownsampleType, ModelConfig
from mpvideo.errors import CheckpointError
from mpvideo.text import counted, printable

NEVER_TOLD = ("attn_flash", "mp_cat_t", "mp_add_emb_t", "attn_res_mp_add_t", "resnet_mp_add_t", "dropout")
"""Fields that no shape depends on and that have a default."""

_TYPES: tuple[DownsampleType, ...] = ("all", "image", "frame")
_DEFAULT_DIM_MAX, _DEFAULT_ATTN_RES = 768, (16, 8)
_MAX_LISTED_STAGES = 4
_MAX_LISTED_TYPES = 9


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
        return tuple(_TYPES if above == below else _TYPES[:2] for above, below in pairwise(self.attention))

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


class Question(NamedTuple):
    """A field that the tensors leave open and that has no default: its path, what fits, and one value that does."""

    field: str
    candidates: str
    example: object


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


def complete(found: Inference, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Question]]:
    """Puts the `model` part of a config together: what was given, what the shapes tell, canonical values for the rest.

    Args:
        found: the inference.
        given: fields that the user or a config gives, as JSON has them.

    Returns:
        The fields known, and the questions that are open. `attn_res` is made from the image size where it is not
        given. Whether everything given is legal is for `ModelConfig` to say.

    Raises:
        CheckpointError: what was given contradicts the shapes.
    """
    for name, value in found.determined.items():
        if name in given and name != "num_blocks_per_stage" and given[name] != value:
            raise CheckpointError(
                f"model.{name} must be {_word(value)} by the shapes of the tensors, got {printable(given[name], 40)}",
                hint="Leave it out: it is inferred.",
            )
    model = {**found.defaults(), **found.determined, **given}
    types, question = _types(found, given)
    questions = [question] if question else []
    if not question and types:
        model.setdefault("downsample_types", types[0] if len(set(types)) == 1 else types)
    size = model.get("image_size")
    if size is None:
        questions.append(_image_size_question(found, given, types))
    elif question or not _is_count(size):
        pass  # what attn_res would be depends on the answer, or the config's own check will say what is wrong
    elif "attn_res" not in given:
        model["attn_res"] = found.attn_res(size, types)
        if model["attn_res"] is None:
            raise CheckpointError(_same_height(found, size, types))
    else:
        _check_attn_res(found, given["attn_res"], size, types)
    if model.get("frames") is None:
        multiple = _time_factor(types)
        questions.append(Question("model.frames", _multiple(multiple), multiple * -(-16 // multiple)))
    return model, questions


def space_factor(types: Sequence[DownsampleType]) -> int:
    """By how much stages of these types shrink height and width."""
    return int(2 ** sum(word != "frame" for word in types))


def _time_factor(types: Sequence[DownsampleType]) -> int:
    return int(2 ** sum(word != "image" for word in types))


def _types(found: Inference, given: Mapping[str, Any]) -> tuple[tuple[DownsampleType, ...], Question | None]:
    """What the stages halve, and the question if that has to be asked; until it is answered, the package's default."""
    S = found.num_stages
    default = _TYPES[:1] * S
    if (told := given.get("downsample_types")) is not None:
        each = tuple(told) if isinstance(told, list | tuple) else (told,) * S
        # What is not a list of them, the config's own check refuses.
        return (each if len(each) == S and all(word in _TYPES for word in each) else default), None
    fitting = _fitting_types(found, given.get("image_size"), given.get("frames"))
    if not S or (fitting is not None and not fitting):
        return default, None  # nothing fits: the config's own check says by what the sizes must be divisible
    if fitting is not None and len(fitting) == 1:
        return fitting[0], None
    listed = fitting is not None and len(fitting) <= _MAX_LISTED_TYPES
    words = " or ".join(map(_type_words, fitting or ())) if listed else f"a list of {S} of {', '.join(_TYPES)}"
    likely = default if fitting is None or default in fitting else fitting[0]
    return default, Question("model.downsample_types", f"{words}; the package's default is all", _type_words(likely))


def _fitting_types(found: Inference, size: Any, frames: Any) -> list[tuple[DownsampleType, ...]] | None:
    """All types that attention and divisibility allow; None where there are too many to list."""
    if found.num_stages > _MAX_LISTED_STAGES:
        return None
    return [
        types
        for types in product(*found.stage_types)
        if (not _is_count(size) or (size % space_factor(types) == 0 and found.attn_res(size, types) is not None))
        and (not _is_count(frames) or frames % _time_factor(types) == 0)
    ]


def _image_size_question(found: Inference, given: Mapping[str, Any], types: Sequence[DownsampleType]) -> Question:
    multiple = space_factor(types)
    heights = given.get("attn_res", _DEFAULT_ATTN_RES)
    heights = heights if isinstance(heights, list | tuple) and all(map(_is_count, heights)) else ()
    fitting = found.image_sizes(heights, types)
    words = _multiple(multiple)
    if fitting and "attn_res" in given:
        words = " or ".join(map(str, fitting))
    elif fitting:
        words += f"; {' or '.join(map(str, fitting))} if attn_res was the package's default, 16 and 8"
    return Question("model.image_size", words, fitting[0] if fitting else multiple * -(-32 // multiple))


def _multiple(factor: int) -> str:
    return "any" if factor == 1 else f"a multiple of {factor}"


def _check_attn_res(found: Inference, heights: Any, size: int, types: Sequence[DownsampleType]) -> None:
    """Has the user's `attn_res` give attention to just the levels that have it."""
    heights = (heights,) if _is_count(heights) else heights
    if not isinstance(heights, list | tuple) or size % space_factor(types):
        return  # the config's own check says it better
    levels = found.levels(size, types)
    if tuple(height in heights for height in levels) != found.attention:
        wanted = found.attn_res(size, types)
        raise CheckpointError(
            f"model.attn_res {printable(list(heights), 80)} does not fit the tensors at image_size {size}: levels of "
            f"height {', '.join(map(str, levels))} have {_attending_words(found)}",
            hint=f"At this image_size it is {list(wanted)}: leave attn_res out, or give another image_size."
            if wanted is not None
            else "Give another image_size or other downsample_types.",
        )


def _same_height(found: Inference, size: int, types: Sequence[DownsampleType]) -> str:
    return (
        f"model.downsample_types {printable(', '.join(types), 80)} do not fit the tensors at image_size {size}: levels "
        f"of the same height, {', '.join(map(str, found.levels(size, types)))}, differ in their attention "
        f"({_attending_words(found)})"
    )


def _attending_words(found: Inference) -> str:
    depths = [str(depth + 1) for depth, attends in enumerate(found.attention) if attends]
    return f"attention at level {', '.join(depths)}" if depths else "no attention"


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
        _attending_words(found) + head + split,
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


def _type_words(types: Sequence[str]) -> str:
    """As the command line takes them."""
    if len(set(types)) == 1:
        return types[0]
    return "[" + ",".join(f'"{word}"' for word in types) + "]"


def _word(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0

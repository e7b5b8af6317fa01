"""What a config leaves open, filled in from what the tensors tell; and what has to be asked for, with what fits.

Only the standard library is imported.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from mpvideo.architecture import Shape
from mpvideo.checkpoint.infer import (
    DEFAULT_ATTN_RES,
    TYPES,
    Inference,
    attending_words,
    infer_autoencoder,
    space_factor,
)
from mpvideo.checkpoint.merging import inside, merged
from mpvideo.config import DownsampleType
from mpvideo.errors import CheckpointError
from mpvideo.text import counted, printable

_MAX_LISTED_STAGES = 4
_MAX_LISTED_TYPES = 9

_RGBA = "rgba; latents cannot be shown, for the file holds no autoencoder under codec."


class Question(NamedTuple):
    """A field that the tensors leave open and that has no default: its path, what fits, and one value that does."""

    field: str
    candidates: str
    example: object


class OpenConfigError(CheckpointError):
    """A config lacks fields that the tensors do not tell.

    Attributes:
        questions: the fields, and what fits.
    """

    def __init__(self, path: Path, questions: Sequence[Question]) -> None:
        message, hint = unanswered(path, questions)
        super().__init__(message, hint=hint)
        self.questions = tuple(questions)


class Completion(NamedTuple):
    """A config put together.

    Attributes:
        whole: all of it that is known, as JSON has it.
        inferred: paths of the fields that only the tensors tell.
        questions: what is open.
    """

    whole: dict[str, Any]
    inferred: frozenset[str]
    questions: list[Question]


def complete_config(
    found: Inference, shapes: Mapping[str, Shape], given: Mapping[str, Any], *, declared: bool = False
) -> Completion:
    """Puts a config together: what was given, what the tensors tell, canonical values for the rest of the network.

    Args:
        found: what the shapes of the network's tensors tell.
        shapes: of all tensors, an autoencoder's under `codec.` among them.
        given: the config as far as it is given.
        declared: whether a config gives it that says the sizes; what such a one leaves out has its default.

    Raises:
        CheckpointError: what was given contradicts the shapes, or is a codec whose tensors are missing.
    """
    told = given.get("model", {})
    if not isinstance(told, Mapping):
        raise CheckpointError(f"model must be an object, got {printable(told, 80)}")
    model, inferred, questions = complete(found, told, declared=declared)
    whole = merged(given, {"model": model})
    paths = frozenset(f"model.{name}" for name in inferred)
    if (autoencoder := infer_autoencoder(shapes)) is None:
        return Completion(whole, paths, questions + _codec_question(found, given))
    if inside(given, "video.codec") in (None, "latent"):
        parts = vars(autoencoder)
        whole = merged({"video": {"codec": "latent", "autoencoder": parts}}, whole)
        paths |= {"video.codec", *(f"video.autoencoder.{name}" for name in parts)}
    return Completion(whole, paths, questions)


def complete(
    found: Inference, given: Mapping[str, Any], *, declared: bool = False
) -> tuple[dict[str, Any], frozenset[str], list[Question]]:
    """Puts the `model` part of a config together: what was given, what the shapes tell, canonical values for the rest.

    Args:
        found: the inference.
        given: fields that the user or a config gives, as JSON has them.
        declared: whether what they leave out, and shapes do not tell, has its default without being asked for.

    Returns:
        The fields known; the names of those that the shapes tell; and the questions that are open. `attn_res` is made
        from the image size where it is not given. Whether everything given is legal is for `ModelConfig` to say.

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
    inferred = set(found.determined) - set(given)
    types, question = _types(found, given, declared=declared)
    questions = [question] if question else []
    if not question and types and "downsample_types" not in given:
        model["downsample_types"] = types[0] if len(set(types)) == 1 else types
        if not declared or model["downsample_types"] != TYPES[0]:
            inferred.add("downsample_types")
    size = model.get("image_size")
    if size is None:
        questions.append(_image_size_question(found, given, types))
    elif question or not _is_count(size):
        pass  # what attn_res would be depends on the answer, or the config's own check will say what is wrong
    elif "attn_res" not in given:
        if (heights := found.attn_res(size, types)) is None:
            raise CheckpointError(_same_height(found, size, types))
        model["attn_res"] = heights
        inferred.add("attn_res")
    else:
        _check_attn_res(found, given["attn_res"], size, types)
    if model.get("frames") is None:
        multiple = _time_factor(types)
        questions.append(Question("model.frames", _multiple(multiple), multiple * -(-16 // multiple)))
    return model, frozenset(inferred), questions


def unanswered(path: Path, questions: Sequence[Question]) -> tuple[str, str]:
    """The message and the hint for fields that are open."""
    asked = "; ".join(f"{question.field} ({question.candidates})" for question in questions)
    hint = f"Add what it was trained with, for example {as_flags(questions)}."
    fields = {question.field for question in questions}
    if fields & {"model.image_size", "model.frames"}:
        hint += " Sizes are those of the tensor that the network sees"
        hint += (
            "; those that fit are for the type all until model.downsample_types is given."
            if "model.downsample_types" in fields
            else "."
        )
    return (
        f"{printable(path.name)} does not tell {counted(len(questions), 'field')} of its config, which must be given: "
        f"{asked}",
        hint,
    )


def as_flags(questions: Sequence[Question]) -> str:
    """An answer to each question, as the command line takes them."""
    return " ".join(f"--set {question.field}={_quoted(question.example)}" for question in questions)


def _codec_question(found: Inference, given: Mapping[str, Any]) -> list[Question]:
    """The question for the codec of a network without an autoencoder."""
    channels, codec = found.determined["channels"], inside(given, "video.codec")
    if codec == "latent" or (codec is None and channels not in (1, 3, 4)):
        raise CheckpointError(
            f"its {channels} channels are latents, and the file does not hold the autoencoder that makes pixels of "
            "them (tensors under codec.)"
            if codec is None
            else "video.codec latent needs the autoencoder's tensors under codec., which the file does not hold",
            hint="Pixels have 1 channel (gray), 3 (rgb) or 4 (rgba); an autoencoder in a file of its own cannot be "
            "used yet.",
        )
    return [Question("video.codec", _RGBA, "rgba")] if codec is None and channels == 4 else []


def _time_factor(types: Sequence[DownsampleType]) -> int:
    return int(2 ** sum(word != "image" for word in types))


def _types(
    found: Inference, given: Mapping[str, Any], *, declared: bool
) -> tuple[tuple[DownsampleType, ...], Question | None]:
    """What the stages halve, and the question if that has to be asked; until it is answered, the package's default."""
    S = found.num_stages
    default = TYPES[:1] * S
    if (told := given.get("downsample_types")) is not None:
        each = tuple(told) if isinstance(told, list | tuple) else (told,) * S
        # What is not a list of them, the config's own check refuses.
        return (each if len(each) == S and all(word in TYPES for word in each) else default), None
    fitting = _fitting_types(found, given.get("image_size"), given.get("frames"))
    if not S or (fitting is not None and not fitting):
        return default, None  # nothing fits: the config's own check says by what the sizes must be divisible
    if declared and (fitting is None or default in fitting):
        return default, None
    if fitting is not None and len(fitting) == 1:
        return fitting[0], None
    listed = fitting is not None and len(fitting) <= _MAX_LISTED_TYPES
    words = " or ".join(map(_type_words, fitting or ())) if listed else f"a list of {S} of {', '.join(TYPES)}"
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
    heights = given.get("attn_res", DEFAULT_ATTN_RES)
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
            f"height {', '.join(map(str, levels))} have {attending_words(found)}",
            hint=f"At this image_size it is {list(wanted)}: leave attn_res out, or give another image_size."
            if wanted is not None
            else "Give another image_size or other downsample_types.",
        )


def _same_height(found: Inference, size: int, types: Sequence[DownsampleType]) -> str:
    return (
        f"model.downsample_types {printable(', '.join(types), 80)} do not fit the tensors at image_size {size}: levels "
        f"of the same height, {', '.join(map(str, found.levels(size, types)))}, differ in their attention "
        f"({attending_words(found)})"
    )


def _type_words(types: Sequence[str]) -> str:
    """As the command line takes them."""
    if len(set(types)) == 1:
        return types[0]
    return "[" + ",".join(f'"{word}"' for word in types) + "]"


def _quoted(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) and value.startswith("[") else str(value)


def _word(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0

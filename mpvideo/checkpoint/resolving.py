"""A checkpoint's config from all that is said of it, and where each field comes from: flag > file > header > inferred.

Only the standard library is imported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mpvideo.architecture import Shape
from mpvideo.checkpoint.completion import OpenConfigError, complete_config
from mpvideo.checkpoint.cures import common_prefix
from mpvideo.checkpoint.header import Header
from mpvideo.checkpoint.infer import infer_network
from mpvideo.checkpoint.merging import config_over, inside
from mpvideo.checkpoint.reading import read_json
from mpvideo.config import FORMAT, CheckpointConfig, check_format
from mpvideo.errors import CheckpointError
from mpvideo.text import printable

_GROUPS = ("model", "video", "edm", "sampling")


class Layer(NamedTuple):
    """One word on a config.

    Attributes:
        source: who says it.
        where: the file that says it, printable, for messages.
        content: all or part of a config, as JSON has it.
    """

    source: Literal["flag", "config file", "header"]
    where: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Resolution:
    """A config, and what it was put together from.

    Attributes:
        config: the config, checked.
        layers: what was declared, the lowest first.
        inferred: paths of the fields that only the tensors told.
    """

    config: CheckpointConfig
    layers: tuple[Layer, ...]
    inferred: frozenset[str] = frozenset()


def resolve_config(
    header: Header, *, config_file: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> CheckpointConfig:
    """Puts a checkpoint's config together: overrides > config file > header > what the tensors tell.

    The objects are merged field by field before anything is checked, so each may give a part. As in JSON merge patches
    (RFC 7386) a null takes a field away, so that what the tensors tell holds, or else its default.

    Args:
        header: the checkpoint.
        config_file, overrides: as for `config_layers`.

    Raises:
        CheckpointError: a part cannot be read, has an unknown format, or the whole is incomplete or wrong.
    """
    return resolve(header, config_layers(header, config_file=config_file, overrides=overrides)).config


def config_layers(
    header: Header | None, *, config_file: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[Layer, ...]:
    """What is said about a checkpoint's config, the lowest first.

    Args:
        header: the checkpoint; None for a file that is no safetensors.
        config_file: a JSON file with a config or a part of one; it takes the place of a config.json beside the weights.
            One of another program, as folders often have it, is passed over.
        overrides: what the user's flags say, nested like the config, without `format`.

    Raises:
        CheckpointError: a part cannot be read or has an unknown format.
    """
    layers: list[Layer] = []
    if header is not None and (own := header.config) is not None:
        layers.append(Layer("header", printable(header.path), own))
    if config_file is not None:
        layers.append(Layer("config file", printable(Path(config_file)), read_json(Path(config_file))))
    elif header is not None and header.sidecar is not None and _is_ours(beside := read_json(header.sidecar)):
        layers.append(Layer("config file", printable(header.sidecar), beside))
    for layer in layers:
        check_format(layer.content, layer.where)
    return (*layers, Layer("flag", "flags", overrides)) if overrides else tuple(layers)


def together(layers: Sequence[Layer]) -> dict[str, Any]:
    """All layers merged, without `format`."""
    whole: dict[str, Any] = {}
    for layer in layers:
        whole = config_over(whole, layer.content)
    whole.pop("format", None)
    return whole


def declares_sizes(layers: Sequence[Layer]) -> bool:
    """Whether a config, and not only flags, says the sizes of the video: then it is a whole one, by its defaults."""
    whole = together([layer for layer in layers if layer.source != "flag"])
    return all(inside(whole, path) is not None for path in ("model.image_size", "model.frames"))


def resolve(header: Header, layers: tuple[Layer, ...]) -> Resolution:
    """Puts a config together from what is declared and what the tensors tell.

    What is declared may contradict the tensors: then it is taken at its word, and `find_problems` says what differs.

    Raises:
        OpenConfigError: it lacks fields that the tensors do not tell.
        CheckpointError: it is wrong.
    """
    shown, whole = printable(header.path), together(layers)
    where = "config from " + " and ".join(layer.where for layer in reversed(layers)) if layers else f"config of {shown}"
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    try:
        found = infer_network(shapes)
    except CheckpointError as error:
        try:
            if "model" in whole:
                return Resolution(checked_config(whole, where), layers)
        except CheckpointError:
            if any("model" in layer.content for layer in layers if layer.source != "flag"):
                raise
        raise _unknown(shown, whole, shapes, error) from None
    try:
        completion = complete_config(found, shapes, whole, declared=declares_sizes(layers))
    except CheckpointError as contradiction:
        try:
            return Resolution(checked_config(whole, where), layers)
        except CheckpointError:
            # What is no part of a config at all is not a matter of the file.
            subject = shown if isinstance(whole.get("model", {}), Mapping) else where
            raise CheckpointError(f"{subject}: {contradiction.message}", hint=contradiction.hint) from None
    if completion.questions:
        raise OpenConfigError(header.path, completion.questions)
    return Resolution(checked_config(completion.whole, where), layers, completion.inferred)


def _unknown(
    shown: str, whole: Mapping[str, Any], shapes: Mapping[str, Shape], error: CheckpointError
) -> CheckpointError:
    """The error for a checkpoint of which neither a config nor the tensors tell the architecture."""
    prefix = common_prefix(shapes)
    why = error.message if prefix is None else f"the names of its tensors begin with {printable(prefix)!r}"
    none = "" if "model" in whole else "no config gives `model`, and "
    return CheckpointError(
        f"{shown} does not say which architecture it has: {none}{why}",
        hint="`mpvideo inspect` with --tensors lists what the file holds."
        if prefix is None
        else "`mpvideo convert` takes that off.",
    )


def checked_config(whole: Mapping[str, Any], where: str) -> CheckpointConfig:
    """Checks a config that has been put together, its codec filled in where the channels leave no doubt.

    Raises:
        CheckpointError: it is incomplete or wrong; `where` begins the message.
    """
    try:
        return CheckpointConfig.from_dict(_with_codec({**whole, "format": FORMAT}, where), where)
    except CheckpointError as error:
        raise CheckpointError(printable(error.message, 1000), hint=error.hint) from None


def _is_ours(content: Mapping[str, Any]) -> bool:
    """Whether a config.json is meant for mpvideo; one that forgets its `format` is, and will be told so."""
    return "format" in content or any(isinstance(content.get(group), Mapping) for group in _GROUPS)


def _with_codec(whole: dict[str, Any], where: str) -> dict[str, Any]:
    """The config with `video.codec` where the channels leave one reading; asks where they leave two."""
    model, video = whole.get("model"), whole.get("video", {})
    if not isinstance(model, Mapping) or not isinstance(video, Mapping):
        return whole
    if "codec" in video:
        return {**whole, "video": {"autoencoder": {}, **video}} if video["codec"] == "latent" else whole
    channels = model.get("channels", 4)
    if "autoencoder" in video:
        codec = "latent"
    elif channels in (1, 3) and type(channels) is int:
        codec = "gray" if channels == 1 else "rgb"
    elif channels == 4 and type(channels) is int:
        raise CheckpointError(
            f"{where}: video.codec must be given for 4 channels, which may be rgba pixels or latents",
            hint="Say --set video.codec=rgba or --set video.codec=latent, or give it in a --config FILE.",
        )
    else:
        raise CheckpointError(
            f"{where}: video.codec must be given: no pixel codec has {printable(channels, 40)} channels "
            "(gray 1, rgb 3, rgba 4)",
            hint="If they are latents, give video.codec latent and video.autoencoder with --config FILE.",
        )
    return {**whole, "video": {**video, "codec": codec}}

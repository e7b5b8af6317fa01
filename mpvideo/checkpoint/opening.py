"""From a path to a checked config: where each setting comes from, and whether the tensors fit it.

Only the standard library is imported, so everything that can be wrong with a checkpoint, short of its weights, is known
before torch is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpvideo.architecture import Shape, checkpoint_shapes
from mpvideo.checkpoint.container import WEIGHT_DTYPES
from mpvideo.checkpoint.header import Header, read_header
from mpvideo.checkpoint.reading import read_json
from mpvideo.config import FORMAT, CheckpointConfig, check_format
from mpvideo.errors import CheckpointError
from mpvideo.text import counted, first_ten, printable

_EXAMPLE = '{"format": 1, "model": {"image_size": 64, "frames": 32, "channels": 3}, "video": {"codec": "rgb"}}'


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose config is known and whose tensors fit it; its weights have not been read.

    Attributes:
        header: where its tensors lie.
        config: what it is.
    """

    header: Header
    config: CheckpointConfig

    @property
    def path(self) -> Path:
        """The file or folder that was asked for."""
        return self.header.path

    @property
    def name(self) -> str:
        """Its last part only, fit for a record that others will read."""
        return self.header.name


def open_checkpoint(
    path: Path, *, config_file: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Reads and checks everything about a checkpoint except its weights.

    Args: as for `read_header` and `resolve_config`.

    Raises:
        CheckpointError: it cannot be read, its config is incomplete or wrong, or its tensors do not fit the config.
    """
    header = read_header(path)
    config = resolve_config(header, config_file=config_file, overrides=overrides)
    if problems := find_problems(header, config):
        raise CheckpointError(
            f"{printable(header.path)} does not fit its config: {'; '.join(problems)}",
            hint="`mpvideo inspect` with --tensors lists what the file holds.",
        )
    return Checkpoint(header, config)


def bundled_checkpoint() -> Path:
    """Path of the weights that come with the package.

    Raises:
        CheckpointError: this installation lacks them.
    """
    path = Path(__file__).parents[1] / "assets" / "menagerie.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"this installation of mpvideo lacks its bundled weights: {printable(path)} does not exist",
            hint="Reinstall mpvideo from a wheel, or give a checkpoint of your own.",
        )
    return path


def resolve_config(
    header: Header, *, config_file: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> CheckpointConfig:
    """Puts a checkpoint's config together: overrides > config file > header.

    The objects are merged field by field before anything is checked, so each may give a part. As in JSON merge patches
    (RFC 7386) a null takes a field away, so that its default holds. A codec that the channels leave no doubt about (1
    gray, 3 rgb, an autoencoder's are latents) is filled in; so are the autoencoder's defaults for latents without one.

    Args:
        header: the checkpoint.
        config_file: a JSON file with a config or a part of one; it takes the place of a config.json beside the weights.
        overrides: what the user's flags say, nested like the config, without `format`.

    Raises:
        CheckpointError: a part cannot be read, has an unknown format, or the whole is incomplete or wrong.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if (own := header.config) is not None:
        layers.append((printable(header.path), own))
    if (sidecar := config_file or header.sidecar) is not None:
        layers.append((printable(sidecar), read_json(sidecar)))
    for where, layer in layers:
        check_format(layer, where)
    if overrides:
        layers.append(("flags", overrides))
    whole: dict[str, Any] = {}
    for _, layer in layers:
        whole = merged(whole, layer)
    whole["format"] = FORMAT
    where = "config from " + " and ".join(where for where, _ in reversed(layers))
    if "model" not in whole:
        raise CheckpointError(
            f"{printable(header.path)} does not say which architecture it has: no config gives `model`",
            hint=f"Give it with --set model.FIELD=VALUE or with --config FILE, a JSON file such as {_EXAMPLE}.",
        )
    return checked_config(whole, where)


def checked_config(whole: dict[str, Any], where: str) -> CheckpointConfig:
    """Checks a config that has been put together, its codec filled in where the channels leave no doubt.

    Raises:
        CheckpointError: it is incomplete or wrong; `where` begins the message.
    """
    try:
        _fill_codec(whole, where)
        return CheckpointConfig.from_dict(whole, where)
    except CheckpointError as error:
        raise CheckpointError(printable(error.message, 1000), hint=error.hint) from None


def find_problems(header: Header, config: CheckpointConfig) -> list[str]:
    """What keeps a checkpoint's tensors from being the ones its config asks for; empty if nothing does.

    One sentence for each kind: missing, left over, misshapen, of a dtype that weights cannot have. Each names the first
    ten tensors with their shapes.
    """
    present = header.tensors
    problems = misfits(checkpoint_shapes(config), {name: tensor.shape for name, tensor in present.items()})
    mistyped = [f"{name} ({tensor.dtype})" for name, tensor in present.items() if tensor.dtype not in WEIGHT_DTYPES]
    if mistyped:
        allowed = ", ".join(WEIGHT_DTYPES.values())
        problems.append(f"{counted(len(mistyped), 'tensor')} not of dtype {allowed}: {first_ten(mistyped)}")
    return problems


def misfits(wanted: Mapping[str, Shape], present: Mapping[str, Shape]) -> list[str]:
    """How the tensors that are there differ from those wanted: missing, left over, misshapen, a sentence each."""
    missing = [f"{name} {_words(shape)}" for name, shape in wanted.items() if name not in present]
    extra = [f"{name} {_words(shape)}" for name, shape in present.items() if name not in wanted]
    misshapen = [
        f"{name} {_words(present[name])} instead of {_words(shape)}"
        for name, shape in wanted.items()
        if name in present and present[name] != shape
    ]
    problems = []
    if missing:
        problems.append(f"{counted(len(missing), 'tensor')} missing: {first_ten(missing)}")
    if extra:
        problems.append(f"{counted(len(extra), 'tensor')} left over: {first_ten(extra)}")
    if misshapen:
        problems.append(f"{counted(len(misshapen), 'tensor')} misshapen: {first_ten(misshapen)}")
    return problems


def _words(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One object over another, field by field; a null takes the field away (RFC 7386)."""
    both = dict(below)
    for key, value in above.items():
        if value is None:
            both.pop(key, None)
        elif isinstance(value, Mapping):
            beneath = both.get(key)
            both[key] = merged(beneath if isinstance(beneath, Mapping) else {}, value)
        else:
            both[key] = value
    return both


def _fill_codec(whole: dict[str, Any], where: str) -> None:
    """Fills in `video.codec` where the channels leave one reading, and asks where they leave two."""
    model, video = whole["model"], whole.get("video", {})
    if not isinstance(model, Mapping) or not isinstance(video, Mapping):
        return
    if "codec" in video:
        if video["codec"] == "latent":
            whole["video"] = {"autoencoder": {}, **video}
        return
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
    whole["video"] = {**video, "codec": codec}

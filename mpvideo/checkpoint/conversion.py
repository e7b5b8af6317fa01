"""What a conversion would make: which network of a file, and with which config. No torch is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpvideo.architecture import checkpoint_shapes
from mpvideo.checkpoint.contents import READABLE_DTYPES, Contents, Network, choose_network, read_contents
from mpvideo.checkpoint.infer import (
    NEVER_TOLD,
    Inference,
    Question,
    complete,
    describe_inference,
    infer_architecture,
    infer_autoencoder,
)
from mpvideo.checkpoint.opening import checked_config, merged, misfits
from mpvideo.checkpoint.reading import read_json
from mpvideo.config import FORMAT, CheckpointConfig, check_format
from mpvideo.errors import CheckpointError, UsageError
from mpvideo.files import reason
from mpvideo.text import counted, first_ten, printable

_RGBA = "rgba, the one codec of 4 channels that needs no autoencoder, and the file holds none under codec."


@dataclass(frozen=True)
class Source:
    """What is converted.

    Attributes:
        contents: what the file holds.
        network: the network that is taken.
        found: what the shapes of its tensors tell.
    """

    contents: Contents
    network: Network
    found: Inference

    @property
    def step(self) -> int | None:
        """The training step that the file says it is of; ema_pytorch keeps it in a tensor, which only reading tells."""
        step = self.contents.values.get("step")
        return step if type(step) is int else None

    def lines(self) -> list[str]:
        """What was found and taken, for the user."""
        lines = [self._taken(), f"architecture, by the shapes: {describe_inference(self.found)}"]
        others = [other.shown or "no prefix" for other in self.contents.networks if other != self.network]
        if rest := len(self.contents.tensors) - len(self.network.names):
            among = f", among them the networks under {first_ten(others)}" if others else ""
            lines.append(f"left out: {counted(rest, 'other tensor')}{among}")
        if self.network.prefix and (beside := self.contents.beside(self.network)):
            lines.append(f"left out under the same prefix: {first_ten(beside)}")
        return lines

    def _taken(self) -> str:
        step = f" of step {self.step:,}" if self.step is not None else ""
        what = f"the average of the weights (EMA){step}" if self.network.is_average else f"the weights{step}"
        if not self.network.is_average and any(other.is_average for other in self.contents.networks):
            what = f"the raw weights{step}, not their average"
        prefix = f", prefix {printable(self.network.prefix)!r} dropped" if self.network.prefix else ""
        return f"{printable(self.contents.path.name)}: {what}{prefix}"


@dataclass(frozen=True)
class Plan:
    """A conversion that can be made.

    Attributes:
        source: what is converted.
        config: of the checkpoint to be written.
        given: the config as far as the user, a config file or the source's header gave it.
    """

    source: Source
    config: CheckpointConfig
    given: Mapping[str, Any]

    @property
    def assumed(self) -> dict[str, Any]:
        """Fields that change what is computed or shown and that neither shapes nor anybody gave, and their defaults."""
        names = [name for name in NEVER_TOLD if name not in ("attn_flash", "resnet_mp_add_t")]
        fields = {f"model.{name}": getattr(self.config.model, name) for name in names}
        fields |= {f"edm.{name}": value for name, value in vars(self.config.edm).items()}
        fields["video.fps"] = self.config.video.fps
        return {path: value for path, value in fields.items() if _inside(self.given, path) is None}

    def line(self) -> str:
        """What was taken without being known, for the user."""
        words = ", ".join(f"{path}={_shown(value)}" for path, value in self.assumed.items())
        return f"not told by shapes and not given, so left at the defaults: {words or 'nothing'}"


def find_source(path: Path, *, ema: bool | None = None, prefix: str | None = None) -> Source:
    """Finds the network to convert and infers its architecture.

    Args:
        path: as for `read_contents`.
        ema, prefix: as for `choose_network`.

    Raises:
        CheckpointError: the file cannot be read, or holds no network of this kind.
        UsageError: it holds not the one that was asked for, or several.
    """
    contents = read_contents(path)
    network = choose_network(contents, ema=ema, prefix=prefix)
    wrong = [
        f"{name} ({contents.tensors[name].dtype})"
        for name in network.names.values()
        if contents.tensors[name].dtype not in READABLE_DTYPES
    ]
    if wrong:
        allowed = ", ".join(sorted(READABLE_DTYPES))
        raise CheckpointError(f"{printable(path)}: weights must be {allowed}; got {first_ten(wrong)}")
    values, size = sum(tensor.count for tensor in contents.tensors.values()), sum(map(_bytes, contents.files))
    if contents.files and values > size:  # elements that repeat, or compressed ones: torch writes neither by itself
        raise CheckpointError(
            f"{printable(path)} must have a byte for each value of its tensors, it has {size:,} for {values:,}",
            hint="Save the state dict's tensors contiguous, or do not trust the file.",
        )
    shapes = contents.shapes(network)
    try:
        found = infer_architecture({name: shape for name, shape in shapes.items() if not name.startswith("codec.")})
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error.message}", hint=error.hint) from None
    return Source(contents, network, found)


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{printable(file)} cannot be read: {reason(error)}") from None


def plan_conversion(
    source: Source, *, config_file: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Plan:
    """Completes the config of the checkpoint to be written.

    Args:
        source: what is converted.
        config_file: a JSON file with a config or a part of one.
        overrides: what the user's flags say, nested like the config. They override the config file, which overrides
            the source's own header; what the shapes tell, none of them may contradict.

    Raises:
        CheckpointError: a config is bad, or contradicts the shapes.
        UsageError: a field that shapes do not tell is missing; the message says which, and what fits.
    """
    contents, shapes = source.contents, source.contents.shapes(source.network)
    path, given = contents.path, _given(contents, config_file, overrides)
    told = given.get("model", {})
    if not isinstance(told, Mapping):
        raise CheckpointError(f"{printable(path)}: model must be an object, got {printable(told, 80)}")
    model, questions = complete(source.found, told)
    whole = merged({**given, "format": FORMAT}, {"model": model})
    if (autoencoder := infer_autoencoder(shapes)) is not None:
        whole = merged({"video": {"codec": "latent", "autoencoder": vars(autoencoder)}}, whole)
    else:
        questions += _codec_question(contents, source.found, given)
    if questions:
        raise _missing(path, questions)
    config = checked_config(whole, f"config of {printable(path)}")
    if problems := misfits(checkpoint_shapes(config), shapes):
        raise CheckpointError(f"{printable(path)} does not fit its config: {'; '.join(problems)}")
    return Plan(source, config, given)


def _given(contents: Contents, config_file: Path | None, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """The config as far as it is given; a config.json of other programs, as folders often have one, is passed over."""
    header = contents.header
    given: dict[str, Any] = {}
    if header is not None and (own := header.config) is not None:
        check_format(own, printable(header.path))
        given = merged(given, own)
    if config_file is not None:
        layer = read_json(config_file)
        check_format(layer, printable(config_file))
        given = merged(given, layer)
    elif header is not None and header.sidecar is not None and "format" in (layer := read_json(header.sidecar)):
        check_format(layer, printable(header.sidecar))
        given = merged(given, layer)
    return merged(given, overrides or {})


def _codec_question(contents: Contents, found: Inference, given: Mapping[str, Any]) -> list[Question]:
    channels, codec = found.determined["channels"], _inside(given, "video.codec")
    if codec == "latent" or (codec is None and channels not in (1, 3, 4)):
        raise CheckpointError(
            f"{printable(contents.path)}: {channels} channels are latents, and the file does not hold the autoencoder "
            "that makes pixels of them (tensors under codec.)"
            if codec is None
            else f"{printable(contents.path)}: video.codec latent needs the autoencoder's tensors under codec., which "
            "the file does not hold",
            hint="Pixels have 1 channel (gray), 3 (rgb) or 4 (rgba).",
        )
    return [Question("video.codec", _RGBA, "rgba")] if codec is None and channels == 4 else []


def _missing(path: Path, questions: list[Question]) -> UsageError:
    asked = "; ".join(f"{question.field} ({question.candidates})" for question in questions)
    flags = " ".join(f"--set {question.field}={_quoted(question.example)}" for question in questions)
    return UsageError(
        f"{printable(path.name)} does not tell {counted(len(questions), 'field')} of its config, which must be given: "
        f"{asked}",
        hint=f"Add what it was trained with, for example {flags}. Sizes are those of the tensor that the network sees; "
        "those that fit are for the type all until model.downsample_types is given.",
    )


def _inside(given: Mapping[str, Any], path: str) -> Any:
    value: Any = given
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _quoted(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) and value.startswith("[") else str(value)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

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
from mpvideo.text import counted, first_ten, printable

_RGBA = "rgba, the one codec of 4 channels that needs no autoencoder, and the file holds none under codec."


@dataclass(frozen=True)
class Plan:
    """A conversion that can be made.

    Attributes:
        contents: what the file holds.
        network: the network that is taken.
        config: of the checkpoint to be written.
        found: what the shapes told.
        given: the config as far as the user, a config file or the source's header gave it.
    """

    contents: Contents
    network: Network
    config: CheckpointConfig
    found: Inference
    given: Mapping[str, Any]

    @property
    def step(self) -> int | None:
        """The training step that the file says it is of; ema_pytorch keeps it in a tensor, which only reading tells."""
        step = self.contents.values.get("step")
        return step if type(step) is int else None

    def lines(self) -> list[str]:
        """What was found and taken, for the user."""
        lines = [self._taken(), f"architecture, by the shapes: {describe_inference(self.found)}"]
        others = [other.shown or "none" for other in self.contents.networks if other != self.network]
        beside = self.contents.beside(self.network)
        rest = len(self.contents.tensors) - len(self.network.names)
        if rest:
            words = f"left out: {counted(rest, 'other tensor')}"
            lines.append(words + (f", among them networks under {first_ten(others)}" if others else ""))
        if beside and self.network.prefix:
            lines.append(f"left out beside the network: {first_ten(beside)}")
        lines.append(f"not told by shapes and not given, so as the package has them: {self._defaults()}")
        return lines

    def _taken(self) -> str:
        what = "the average of the weights (EMA)" if self.network.is_average else "the weights"
        if not self.network.is_average and any(other.is_average for other in self.contents.networks):
            what = "the raw weights, not their average"
        step = f" of step {self.step:,}" if self.step is not None else ""
        prefix = f", prefix {printable(self.network.prefix)!r} dropped" if self.network.prefix else ""
        return f"{printable(self.contents.path.name)}: {what}{step}{prefix}"

    def _defaults(self) -> str:
        """The fields that neither the shapes nor anybody gave and that change what is computed."""
        fields = [(f"model.{name}", getattr(self.config.model, name)) for name in self._assumed()]
        fields += [(f"edm.{name}", value) for name, value in vars(self.config.edm).items()]
        fields += [("video.fps", self.config.video.fps)]
        open_ones = [(path, value) for path, value in fields if not _is_given(self.given, path)]
        return ", ".join(f"{path}={_shown(value)}" for path, value in open_ones) or "nothing"

    def _assumed(self) -> list[str]:
        names = [name for name in NEVER_TOLD if name not in ("attn_flash", "resnet_mp_add_t")]
        return [*(["downsample_types"] if self.found.num_stages else []), *names]


def plan_conversion(
    path: Path,
    *,
    ema: bool | None = None,
    prefix: str | None = None,
    config_file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Plan:
    """Finds out what would be converted, and how.

    Args:
        path: as for `read_contents`.
        ema, prefix: as for `choose_network`.
        config_file: a JSON file with a config or a part of one.
        overrides: what the user's flags say, nested like the config; they override the config file, which overrides
            the source's own header, which overrides what the shapes tell by default.

    Raises:
        CheckpointError: the file, its network or a config is bad, or they contradict each other.
        UsageError: a field that shapes do not tell is missing; the message says which, and what fits.
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
    shapes = contents.shapes(network)
    found = infer_architecture({name: shape for name, shape in shapes.items() if not name.startswith("codec.")})
    given = _given(contents, config_file, overrides)
    told = given.get("model", {})
    if not isinstance(told, Mapping):
        raise CheckpointError(f"{printable(path)}: model must be an object, got {printable(told, 80)}")
    model, questions = complete(found, told)
    whole = merged({**given, "format": FORMAT}, {"model": model})
    if (autoencoder := infer_autoencoder(shapes)) is not None:
        whole = merged({"video": {"codec": "latent", "autoencoder": vars(autoencoder)}}, whole)
    else:
        questions += _codec_question(contents, found, given)
    if questions:
        raise _missing(path, questions)
    config = checked_config(whole, f"config of {printable(path)}")
    if problems := misfits(checkpoint_shapes(config), shapes):
        raise CheckpointError(f"{printable(path)} does not fit its config: {'; '.join(problems)}")
    return Plan(contents, network, config, found, given)


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
        hint=f"Add what it was trained with, for example: {flags}",
    )


def _inside(given: Mapping[str, Any], path: str) -> Any:
    value: Any = given
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _is_given(given: Mapping[str, Any], path: str) -> bool:
    return _inside(given, path) is not None


def _quoted(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) and value.startswith("[") else str(value)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""What a conversion would make: which network of a file, and with which config. No torch is imported."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpvideo.architecture import checkpoint_shapes
from mpvideo.checkpoint.completion import Completion, Question, complete_config, unanswered
from mpvideo.checkpoint.contents import READABLE_DTYPES, Contents, Network, choose_network, read_contents
from mpvideo.checkpoint.fit import misfits
from mpvideo.checkpoint.header import is_folder
from mpvideo.checkpoint.infer import NEVER_TOLD, Inference, describe_inference, infer_network
from mpvideo.checkpoint.merging import inside
from mpvideo.checkpoint.resolving import checked_config, config_layers, declares_sizes, together
from mpvideo.checkpoint.state_folder import contents_of_state, has_one_model, state_files
from mpvideo.config import CheckpointConfig
from mpvideo.errors import CheckpointError, UsageError
from mpvideo.files import reason
from mpvideo.text import counted, first_ten, printable


@dataclass(frozen=True)
class Source:
    """What is converted.

    Attributes:
        contents: what the file holds.
        network: the network that is taken.
        found: what the shapes of its tensors tell.
        passed_over: other files of a folder, and why, in words.
        files: what was read to find it, those passed over included.
    """

    contents: Contents
    network: Network
    found: Inference
    passed_over: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

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
        lines += [f"left out: {words}" for words in self.passed_over]
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
        inferred: paths of the fields that only the shapes told.
    """

    source: Source
    config: CheckpointConfig
    given: Mapping[str, Any]
    inferred: frozenset[str]

    @property
    def assumed(self) -> dict[str, Any]:
        """Fields that change what is computed or shown and that neither shapes nor anybody gave, and their defaults."""
        names = ["downsample_types", *(name for name in NEVER_TOLD if name not in ("attn_flash", "resnet_mp_add_t"))]
        fields = {f"model.{name}": getattr(self.config.model, name) for name in names}
        fields |= {f"edm.{name}": value for name, value in vars(self.config.edm).items()}
        fields["video.fps"] = self.config.video.fps
        return {
            path: value
            for path, value in fields.items()
            if inside(self.given, path) is None and path not in self.inferred
        }

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
    if is_folder(path) and not has_one_model(files := state_files(path)):
        contents, network, passed_over = contents_of_state(path, files, ema=ema, prefix=prefix)
        return replace(_source(contents, network), passed_over=tuple(passed_over), files=tuple(files))
    return source_in(read_contents(path), ema=ema, prefix=prefix)


def source_in(contents: Contents, *, ema: bool | None = None, prefix: str | None = None) -> Source:
    """`find_source` in a file that has been read."""
    return _source(contents, choose_network(contents, ema=ema, prefix=prefix))


def _source(contents: Contents, network: Network) -> Source:
    path = contents.path
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
        found = infer_network(shapes)
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error.message}", hint=error.hint) from None
    files = contents.files if contents.header is None else contents.header.files
    return Source(contents, network, found, files=files)


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
    completion, given = _complete(source, config_file, overrides)
    path = source.contents.path
    if completion.questions:
        message, hint = unanswered(path, completion.questions)
        raise UsageError(message, hint=hint)
    config = checked_config(completion.whole, f"config of {printable(path)}")
    if problems := misfits(checkpoint_shapes(config), source.contents.shapes(source.network)):
        raise CheckpointError(f"{printable(path)} does not fit its config: {'; '.join(problems)}")
    return Plan(source, config, given, completion.inferred)


def open_questions(source: Source) -> list[Question]:
    """What a conversion would have to be told.

    Raises:
        CheckpointError: a config in the source is bad, or contradicts the shapes.
    """
    return _complete(source, None, None)[0].questions


def _complete(
    source: Source, config_file: Path | None, overrides: Mapping[str, Any] | None
) -> tuple[Completion, dict[str, Any]]:
    """The config as far as it is known, and as far as it is given."""
    contents = source.contents
    layers = config_layers(contents.header, config_file=config_file, overrides=overrides)
    given, declared = together(layers), declares_sizes(layers)
    try:
        return complete_config(source.found, contents.shapes(source.network), given, declared=declared), given
    except CheckpointError as error:
        raise CheckpointError(f"{printable(contents.path)}: {error.message}", hint=error.hint) from None


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

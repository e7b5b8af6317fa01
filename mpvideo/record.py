"""How a video was made: the record that every file carries, and from which the video can be made again.

In a file it is one JSON object; `mpvideo.video.metadata` says where it stands in each kind. Its keys stay:

    format          1; a reader refuses any other
    mpvideo, torch  versions that made it
    command         for a POSIX shell: makes this video alone. It wants only an --out, and leaves out what the
                    checkpoint says itself
    checkpoint      name: its file or folder, without those above it, or hf:owner/repo...;
                    sha256: of its tensors, as `mpvideo.checkpoint.load.load_tensors` takes it
    guide           name and sha256 of a second checkpoint that guided it; null for none
    config          what the checkpoint was taken to be: model, video and edm, with the fields that weights.md describes
    class           index; [[index, weight], ...] for a blend of classes; null for a network without classes
    class_name      its name in the checkpoint, of a blend name:weight+name:weight, or null
    seed            number, or [[number, weight], [number, weight]] for a place between two
    frames          how many of its frames were kept
    sampling        all fields of `mpvideo.config.SamplingConfig`
    clamp           whether denoised estimates were clamped
    encoding        all fields of `mpvideo.formats.Encoding`, format null where the suffix says it; null if not written
    exact           whether it was sampled so that the batch it was in cannot show, not even in rounding
    dtype           what the network computed in: float32, bfloat16 or float16
    device          kind of the device: cpu, cuda or mps
    compiled        whether torch.compile made the code that ran

No folder, user or host is named in it. Keys that are added later have defaults that mean what was done before, so older
records stay readable; keys that are not known are refused, because a video made from the rest would be another one.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any, Self, get_args

from mpvideo import __version__
from mpvideo.blend import Blend, to_json
from mpvideo.checkpoint import Checkpoint, bundled_checkpoint, resolve_config
from mpvideo.checks import build, check_bool, check_choice, check_int
from mpvideo.command import CONFIG_PARTS, command_line, trusted_command
from mpvideo.config import FORMAT as CONFIG_FORMAT
from mpvideo.config import MAX_NAME, CheckpointConfig, DeviceName, DtypeName, SamplingConfig
from mpvideo.errors import CheckpointError, MPVideoError
from mpvideo.formats import FORMATS, Encoding, format_of
from mpvideo.hub import find_reference
from mpvideo.job import check_seed, numbers_of
from mpvideo.text import printable
from mpvideo.video.metadata import read_record

FORMAT = 1

_NOT_SETTINGS = frozenset(
    {"format", "mpvideo", "torch", "command", "checkpoint.name", "guide.name", "class_name", "device", "compiled"}
)
_VERSION = re.compile(r"[\w.+-]{1,64}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Which weights a video comes from.

    Attributes:
        name: of the file or folder, without those above it, or a name on the hub (hf:owner/repo...).
        sha256: of the tensors, in hex; see `mpvideo.checkpoint.load.load_tensors`.
    """

    name: str
    sha256: str

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        if not _is_file_name(self.name) and find_reference(self.name) is None:
            raise ValueError(f"name must be of a file, without folders, got {printable(self.name)!r}")
        _check_form("sha256", self.sha256, _SHA256, "64 hexadecimal digits")


@dataclass(frozen=True, kw_only=True)
class Record:
    """How one video was made; see the module for what each part is called in a file.

    Attributes:
        checkpoint: the weights.
        guide: those of the network that guided it, if that was another.
        config: what they were taken to be: `model`, `video` and `edm` of the config given. The video does not depend
            on the other parts; they are dropped.
        class_index, class_name: its class, or a blend; None for a network without classes, and for classes without
            names.
        seed: decides all that is random; or a blend of two.
        frames: how many frames were kept, from the first.
        sampling: settings of the sampler.
        clamp: whether denoised estimates were clamped to [-1, 1].
        encoding: how it was written; None if it was not. Its format is left out where a file's suffix says it.
        exact: whether it was sampled in a batch of its own.
        dtype: what the network computed in.
        device: the kind of device.
        compiled: whether torch.compile made the code that ran.
        mpvideo, torch: versions.
        command: what makes it again; see `mpvideo.command`.

    Raises:
        ValueError: a value out of its range.
    """

    checkpoint: Weights
    guide: Weights | None = None
    config: CheckpointConfig
    class_index: int | Blend | None
    class_name: str | None
    seed: int | Blend
    frames: int
    sampling: SamplingConfig
    clamp: bool
    encoding: Encoding | None
    exact: bool = False
    dtype: str
    device: str
    compiled: bool = False
    mpvideo: str = __version__
    torch: str
    command: str = ""

    def __post_init__(self) -> None:
        parts = CheckpointConfig(model=self.config.model, video=self.config.video, edm=self.config.edm)
        object.__setattr__(self, "config", parts)
        if self.encoding is not None:
            object.__setattr__(self, "encoding", _without_usual_format(self.encoding))
        model = self.config.model
        if model.num_classes is None and self.class_index is not None:
            raise ValueError(f"class must be null for a network without classes, got {self.class_index}")
        if model.num_classes is not None:
            for index in numbers_of(self.class_index):
                check_int("class", index, 0, model.num_classes - 1)
        if self.class_name is not None:
            _check_text("class_name", self.class_name)
        check_seed(self.seed)
        check_int("frames", self.frames, 1, model.frames)
        check_bool("clamp", self.clamp)
        check_bool("exact", self.exact)
        check_bool("compiled", self.compiled)
        check_choice("dtype", self.dtype, get_args(DtypeName)[1:])
        check_choice("device", self.device, get_args(DeviceName)[1:])
        for name in ("mpvideo", "torch"):
            _check_form(name, getattr(self, name), _VERSION, "a version")
        if not isinstance(self.command, str):
            raise ValueError(f"command must be text, got {printable(self.command)}")

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        config = self.config.to_dict()
        encoding = None if self.encoding is None else dataclasses.asdict(self.encoding)
        if encoding is not None:
            fps = encoding["fps"]
            encoding["fps"] = str(fps) if isinstance(fps, Fraction) else float(fps)
        return {
            "format": FORMAT,
            "mpvideo": self.mpvideo,
            "torch": self.torch,
            "command": self.command,
            "checkpoint": dataclasses.asdict(self.checkpoint),
            "guide": None if self.guide is None else dataclasses.asdict(self.guide),
            "config": {key: config[key] for key in CONFIG_PARTS},
            "class": to_json(self.class_index),
            "class_name": self.class_name,
            "seed": to_json(self.seed),
            "frames": self.frames,
            "sampling": dataclasses.asdict(self.sampling),
            "clamp": self.clamp,
            "encoding": encoding,
            "exact": self.exact,
            "dtype": self.dtype,
            "device": self.device,
            "compiled": self.compiled,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> Self:
        """Checks and builds a record.

        A command that is not one this version would write for these settings is replaced by that one: what is shown
        to be pasted into a shell is never a stranger's text.

        Args:
            data: the JSON object.
            where: the file that it came from, printable, for messages.

        Raises:
            MPVideoError: another format, an unknown or missing key, or a value out of its range.
        """
        where = f"{where}: the record of how it was made"
        if (version := data.get("format")) != FORMAT or isinstance(version, bool):
            raise MPVideoError(
                f"{where} must have the format {FORMAT}, got {printable(repr(version), 80)}",
                hint="It was made by another version of mpvideo." if isinstance(version, int) else None,
            )
        try:
            record = build(cls, _parts(data, where), where)
        except (MPVideoError, TypeError, OverflowError) as error:  # the last two from values of another type
            words = error.message if isinstance(error, MPVideoError) else f"{where} does not hold together: {error}"
            raise MPVideoError(
                printable(words, 1000), hint="It was made by a newer mpvideo, or changed since."
            ) from None
        return dataclasses.replace(record, command=trusted_command(record))

    def differences(self, other: "Record") -> dict[str, tuple[Any, Any]]:
        """The settings in which two records differ: by key (`sampling.steps`), this one's value and the other's.

        Blends whose weights are in the same proportion are the same.

        Names, versions, device, compiled and command are no settings: the video depends on them in rounding at most.
        """
        ours, theirs = flattened(self.to_dict()), flattened(other.to_dict())
        alike = {
            key
            for key, our, their in (("class", self.class_index, other.class_index), ("seed", self.seed, other.seed))
            if isinstance(our, Blend) and our.is_like(their)
        }
        return {
            key: (ours.get(key), theirs.get(key))
            for key in {**ours, **theirs}
            if key not in _NOT_SETTINGS | alike and ours.get(key) != theirs.get(key)
        }


def settings_in(data: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record's JSON object that decides the video; what `Record.differences` compares."""
    settings = {key: value for key, value in data.items() if key not in _NOT_SETTINGS}
    for key in ("checkpoint", "guide"):
        if isinstance(weights := settings.get(key), Mapping):
            settings[key] = weights.get("sha256")
    return settings


class Recorder:
    """Writes the records of what one checkpoint makes.

    Args:
        checkpoint: the checkpoint, with its config as it is used.
        name: what it is called in records, where that is not the name of its file: hf:owner/repo...
        sha256: of its tensors.
        dtype, device: what the network computes in, and on which kind of device.
        compiled: whether by code of torch.compile's.
        torch: torch's version.
        guide: the network that guides it, if that is another.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        name: str | None = None,
        sha256: str,
        dtype: str,
        device: str,
        torch: str,
        compiled: bool = False,
        guide: Weights | None = None,
    ) -> None:
        self._weights = Weights(name=name or checkpoint.name, sha256=sha256)
        self._guide = guide
        self._bundled = _is_bundled(checkpoint.path)
        self._names = checkpoint.config.classes
        self._config = checkpoint.config
        self._made: dict[str, Any] = {"dtype": dtype, "device": device, "compiled": compiled, "torch": torch}
        try:
            self._own: CheckpointConfig | None = resolve_config(checkpoint.header)
        except CheckpointError:  # it says nothing, or not enough: flags do
            self._own = None

    def record(
        self,
        *,
        seed: int | Blend,
        class_index: int | Blend | None,
        frames: int,
        sampling: SamplingConfig,
        clamp: bool,
        encoding: Encoding | None = None,
        exact: bool = False,
    ) -> Record:
        """The record of one video; its arguments are the attributes of `Record`."""
        record = Record(
            checkpoint=self._weights,
            guide=None if sampling.guidance == 1 else self._guide,
            config=self._config,
            class_index=class_index,
            class_name=class_name(class_index, self._names),
            seed=seed,
            frames=frames,
            sampling=sampling,
            clamp=clamp,
            encoding=encoding,
            exact=exact,
            **self._made,
        )
        return dataclasses.replace(record, command=self.command(record))

    def command(
        self, record: Record, *, ckpt: str | None = None, guide: str | None = None, extra: Sequence[str] = ()
    ) -> str:
        """The command that makes one of these videos again.

        Args:
            record: of the video.
            ckpt, guide: where the checkpoints are; None for their names alone, as they stand in records.
            extra: words to end with.
        """
        where = None if self._bundled else ckpt or self._weights.name
        return command_line(record, self._own, ckpt=where, guide=guide, extra=extra)


def class_name(class_index: int | Blend | None, names: Sequence[str] | None) -> str | None:
    """What a class is called, or a blend of them (name:weight+name:weight); None if they have no names."""
    if names is None or class_index is None:
        return None
    if not isinstance(class_index, Blend):
        return names[class_index]
    return "+".join(f"{names[index]}:{weight:.4g}" for index, weight in class_index.parts)[:MAX_NAME]


def load_record(path: str | Path) -> Record:
    """Reads how a video was made.

    Args:
        path: a video that `mpvideo` wrote, in any format.

    Raises:
        UsageError: its name does not end like a video's.
        MPVideoError: it is missing, damaged, carries no record, or one that `Record.from_dict` refuses.
    """
    path = Path(path)
    data = read_record(path)
    if data is None or "mpvideo" not in data:
        raise MPVideoError(
            f"{printable(path)} does not say how it was made",
            hint="A grid or sheet of several videos never does; else mpvideo did not make it, or with --no-metadata, "
            "or another program has stripped it.",
        )
    return Record.from_dict(data, printable(path))


def _is_bundled(path: Path) -> bool:
    try:
        return path == bundled_checkpoint()
    except CheckpointError:  # this installation has none
        return False


def flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested object as one of dotted keys; lists and empty objects are values."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        flat |= flattened(item, f"{name}.") if isinstance(item, Mapping) and item else {name: item}
    return flat


def _parts(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of `Record` in a JSON object, its inner objects built."""
    parts = {key: value for key, value in data.items() if key != "format"}
    if "class_index" in parts or "class" not in parts:
        raise MPVideoError(f"{where} must have the key class")
    parts["class_index"] = parts.pop("class")
    for key in ("class_index", "seed"):
        if isinstance(parts.get(key), list):
            try:
                parts[key] = Blend.from_list(parts[key])
            except ValueError as error:
                raise MPVideoError(f"{where}: {key.removesuffix('_index')}: {error}") from None
    inner = (("checkpoint", Weights), ("guide", Weights), ("sampling", SamplingConfig), ("encoding", Encoding))
    for key, part in inner:
        if key in parts and not (key in ("guide", "encoding") and parts[key] is None):
            value = _with_rate(parts[key]) if key == "encoding" else parts[key]
            parts[key] = build(part, value, f"{where}: {key}")
    if "config" in parts:
        config = parts["config"]
        if not isinstance(config, Mapping) or set(config) != set(CONFIG_PARTS):
            raise MPVideoError(f"{where}: config must be an object of {', '.join(CONFIG_PARTS)}")
        parts["config"] = CheckpointConfig.from_dict({"format": CONFIG_FORMAT, **config}, f"{where}: config")
    return parts


def _with_rate(encoding: Any) -> Any:
    """An encoding whose frames per second, if a fraction in a string, are one."""
    if not isinstance(encoding, Mapping) or not isinstance(fps := encoding.get("fps"), str):
        return encoding
    found = re.fullmatch(r"([0-9]{1,9})/([1-9][0-9]{0,8})", fps)
    return {**encoding, "fps": Fraction(int(found[1]), int(found[2]))} if found else encoding


def _without_usual_format(encoding: Encoding) -> Encoding:
    """Leaves the format out where a file's suffix says it: it makes no difference whether --format said it too."""
    kind = None if encoding.format is None else FORMATS[encoding.format]
    usual = kind is not None and any(format_of(Path(f"x{suffix}")) == kind for suffix in kind.suffixes)
    return dataclasses.replace(encoding, format=None) if usual else encoding


def _is_file_name(name: str) -> bool:
    """Whether a name stays in its folder here. A file system that takes colons and backslashes has such checkpoints."""
    return name != ".." and "\0" not in name and PurePath(name).name == name


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise ValueError(f"{name} must be text of 1 to {MAX_NAME} characters, got {printable(repr(value), 80)}")


def _check_form(name: str, value: object, form: re.Pattern[str], words: str) -> None:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"{name} must be {words}, got {printable(repr(value), 80)}")

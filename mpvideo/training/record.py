"""RUN/run.json, which says what a run was begun with, and the lock of the call that is at work in its folder."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any, get_args

import mpvideo
from mpvideo.checkpoint.header import RUN_FILE, WEIGHTS_FILE
from mpvideo.errors import MPVideoError, UsageError, naming
from mpvideo.files import atomic_path, file_key, irregular, make_folder, reason, remove_abandoned, write_error
from mpvideo.text import printable
from mpvideo.training.recipe import PRESETS, PresetName, Recipe, TrainingDtype

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_GROUPS = ("source", "video", "model", "recipe")
"""Of a run's record."""

_OPTIONS = {
    "source.data": "DATA",
    **{f"source.{name}": f"--{name}" for name in ("size", "frames", "stride", "init")},
    "video.codec": "--codec",
    "model.self_condition": "--self-condition",
    **{f"recipe.{field.name}": f"--{field.name.replace('_', '-')}" for field in fields(Recipe)},
    "recipe.P_mean": "--p-mean",
    "recipe.P_std": "--p-std",
    "recipe.peak_rate": "--rate",
    "recipe.warmup_steps": "--warmup",
    "recipe.decay_steps": "--decay",
}
"""What of a run's record options of `mpvideo train` give."""

_SIZES = ("dim", "dim_max", "num_blocks_per_stage", "attn_dim_head")
"""Of the network, which a preset gives and no option."""

_CUTTING = ("source.data", "source.size", "source.frames", "source.stride", "video.codec", "recipe.seed")
"""What else than other videos changes the fingerprint of a folder's clips."""

_FILES = ("snapshot.pt", WEIGHTS_FILE, "autoencoder.safetensors", "autoencoder.pt", "log.jsonl", "loss.png")
_FOLDERS = ("ema", "sheets")
"""What a run writes after its record; `latents-*.npy` besides. See `mpvideo.training.run`."""

_LOOK = 0.5
"""Seconds for which a lock may be held by somebody who only looks whether it is: many times what that takes."""

_SHOWN = 5
"""Differences that a message names."""


def belongs_to_run(path: Path, folder: Path) -> bool:
    """Whether a path, links followed, is where a training in a folder keeps something, or is to."""
    target = Path(file_key(path))
    own = [*(folder / name for name in (RUN_FILE, *_FILES, *_FOLDERS, ".lock")), *folder.glob("latents-*.npy")]
    return not {target, *target.parents}.isdisjoint(Path(file_key(each)) for each in own)


@contextmanager
def alone_in(folder: Path, *subfolders: str) -> Iterator[None]:
    """Makes a run's folder, and keeps other calls of a training out of it until the block ends.

    Raises:
        UsageError: another call is at work there.
        OutputError: the folder cannot be written to.
    """
    folders = [folder, *(folder / name for name in subfolders)]
    with naming("--out", folder):
        for each in folders:
            make_folder(each)
        try:
            lock = (folder / ".lock").open("w")
        except OSError as error:
            raise write_error(folder, error) from error
    with lock:
        _lock(lock, folder)
        for each in folders:
            remove_abandoned(each)
        yield


def check_alone(folder: Path) -> None:
    """Makes sure that no call of a training is at work in a folder now: before hours of decoding, see `alone_in`.

    Raises:
        UsageError: one is.
    """
    try:
        lock = (folder / ".lock").open("rb")
    except OSError:  # there is none; or `alone_in` will tell why
        return
    with lock:
        _lock(lock, folder, shared=True)


def _lock(lock: IO[Any], folder: Path, *, shared: bool = False) -> None:
    """Takes a run's lock, which the system lets go of however this process ends; shared with others that only look."""
    if fcntl is None:
        return
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if not shared and time.monotonic() - began < _LOOK:  # another one may only be looking
                time.sleep(0.02)
                continue
            raise UsageError(
                f"{printable(folder)} is being trained in by another process",
                hint="Wait for it or stop it; or give --out another folder.",
            ) from None
        except OSError:
            pass  # a file system without locks
        return


def check_files(folder: Path) -> None:
    """Makes sure that there is no file which a run would take for its own, or replace, unless it is known of which run.

    Raises:
        UsageError: there is, but no record; or there is a checkpoint, and nothing to go on from; or what is in the
            place of a file or a folder is none.
    """
    try:
        own = [*(folder / name for name in (RUN_FILE, *_FILES, ".lock")), *folder.glob("latents-*.npy")]
        kinds = {path: irregular(path) for path in own}
        no_folders = [path for name in _FOLDERS if (path := folder / name).exists() and not path.is_dir()]
    except OSError as error:
        raise UsageError(f"{printable(folder)} cannot be looked at: {reason(error)}") from error
    for path, kind in (*kinds.items(), *((path, "a file") for path in no_folders)):
        if kind is not None:
            wanted = "folder" if path in no_folders else "regular file"
            raise UsageError(
                f"{printable(path)} must be a {wanted}, but is {kind}",
                hint="Move it away; or give --out another folder.",
            )
    files = [
        *(folder / name for name in _FILES),
        *(path for name in _FOLDERS for path in (folder / name).glob("[!.]*")),
    ]
    found = next((path for path in files if path.exists()), None)
    if found is not None and not (folder / RUN_FILE).exists():  # looked for last, as it is written first
        raise UsageError(
            f"{printable(folder)} has {printable(found.relative_to(folder))}, but no {RUN_FILE} that says of which run "
            "that is",
            hint=f"Give --out another folder; or put the run's {RUN_FILE} back.",
        )
    if (folder / WEIGHTS_FILE).exists() and not (folder / "snapshot.pt").exists():
        raise UsageError(
            f"{printable(folder)} has {WEIGHTS_FILE}, but no snapshot.pt to go on from",
            hint="Put it back; or give --out another folder, and --init this one to begin with its weights.",
        )


def check_record(folder: Path, now: dict[str, Any]) -> dict[str, Any]:
    """Writes down what a new run is begun with, or makes sure that one goes on with the same.

    Returns:
        What it was begun with: of weights to begin with, more is known then than in a later call.

    Raises:
        UsageError: something differs, and what; or the record is none.
        MPVideoError: it cannot be read.
        OutputError: it cannot be written.
    """
    path = folder / RUN_FILE
    if (before := _recorded(folder)) is not None:
        _check_same(folder, before, {group: {**dict.fromkeys(before[group]), **now[group]} for group in now})
        return {group: {**now[group], **before[group]} for group in now}
    try:
        with atomic_path(path, overwrite=True) as aside:
            aside.write_text(json.dumps({"version": mpvideo.__version__, **now}, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise write_error(path, error) from error
    return now


def check_settings(folder: Path, now: Mapping[str, Mapping[str, Any]]) -> None:
    """Makes sure that a run, if one was begun in a folder, was begun with these settings.

    Args:
        folder: RUN.
        now: a part of what `check_record` takes, as far as it is known before videos are decoded, which may take hours.

    Raises:
        UsageError, MPVideoError: as `check_record`.
    """
    if (before := _recorded(folder)) is not None:
        _check_same(folder, before, json.loads(json.dumps(now)))


def _recorded(folder: Path) -> dict[str, dict[str, Any]] | None:
    """What a run was begun with, by groups; None if none was.

    Raises:
        UsageError: the record is none.
        MPVideoError: it cannot be read.
    """
    path = folder / RUN_FILE
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MPVideoError(f"{printable(path)} cannot be read: {reason(error)}") from error
    try:
        before = json.loads(text)
        return {group: dict(before[group].items()) for group in _GROUPS}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{printable(path)} is not the record of a run", hint="Give --out a new folder, or put the file back."
        ) from error


def _check_same(folder: Path, before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> None:
    """Makes sure that what `now` has was so before."""
    different = {
        f"{group}.{name}": (before[group].get(name), value)
        for group, values in now.items()
        for name, value in values.items()
        if before[group].get(name) != value
    }
    if None in different.get("source.init_sha256", ()):  # not read, or by an older version not recorded
        del different["source.init_sha256"]
    if changed := _in_options(different):
        raise UsageError(
            f"{printable(folder)} was begun with other settings: {'; '.join(changed[:_SHOWN])}",
            hint="Give the options and the data that it was begun with; or --out another folder, and --init this one "
            "to begin with its weights.",
        )


def _in_options(changed: dict[str, tuple[Any, Any]]) -> list[str]:
    """Differences in the words of whoever gives options, without those that only follow from others.

    Args:
        changed: values before and now, by group and name.
    """
    said = []
    explained = any(name in changed for name in _CUTTING)
    if (preset := _preset_of(changed)) is not None:
        said.append(f"--preset was {preset}")
        own = {"source.size": PRESETS[preset].size, "source.frames": PRESETS[preset].frames}
        own |= {f"recipe.{name}": value for name, value in asdict(Recipe(**PRESETS[preset].recipe)).items()}
        # What the preset itself gives comes with its name.
        changed = {name: values for name, values in changed.items() if name not in own or own[name] != values[0]}
    if "video.codec" in changed:
        changed = {name: values for name, values in changed.items() if name != "recipe.autoencoder_steps"}
    for name, (was, now) in changed.items():
        if (option := _OPTIONS.get(name)) is not None:
            said.append(f"{option} is {_word(now)}, was {_word(was)}")
    if "source.fingerprint" in changed and not explained:
        said.append("DATA has other videos or classes than then")
    if "source.init_sha256" in changed and "source.init" not in changed:
        said.append("--init has other weights than then")
    # What no option names: another version may have chosen otherwise.
    return said or [f"{name} is {printable(now)}, was {printable(was)}" for name, (was, now) in changed.items()]


def _preset_of(changed: Mapping[str, tuple[Any, Any]]) -> PresetName | None:
    """The preset that a run was begun with, if it is another one now."""
    if not any(f"model.{size}" in changed for size in _SIZES):
        return None
    for name, preset in PRESETS.items():
        if all(changed[f"model.{size}"][0] == getattr(preset, size) for size in _SIZES if f"model.{size}" in changed):
            return name
    return None


def _word(value: object) -> str:
    return "not given" if value is None else printable(value)


def recorded_dtype(folder: Path) -> TrainingDtype | None:
    """The dtype that a run was begun with, or None if there is no such run."""
    try:
        dtype = json.loads((folder / RUN_FILE).read_text("utf-8"))["recipe"]["dtype"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return dtype if dtype in get_args(TrainingDtype) else None

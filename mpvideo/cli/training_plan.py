"""What the options of `train` ask for: a recipe, and what to train by it on what."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpvideo.checkpoint.header import RUN_FILE
from mpvideo.cli.hub import hub_name, located
from mpvideo.cli.options import usage_errors
from mpvideo.config import MIN_FPS, ModelConfig, VideoConfig
from mpvideo.errors import UsageError, naming
from mpvideo.files import check_writable, file_key
from mpvideo.text import printable
from mpvideo.training.recipe import Preset, Recipe, TrainedCodec, codec_config
from mpvideo.training.record import check_alone, check_files, check_settings

if TYPE_CHECKING:
    from mpvideo.processes import Processes
    from mpvideo.training import Say
    from mpvideo.training.plan import Plan

MENAGERIE = "menagerie"


def recipe_of(
    preset: Preset, *, codec: TrainedCodec, init: Path | None, autoencoder_steps: int | None, **given: Any
) -> Recipe:
    """The preset's recipe with the settings of the command line in their place.

    Args:
        preset: of --preset.
        codec, init, autoencoder_steps: of the options. Only for latents there is an autoencoder; that of --init stays
            as it is, unless steps are given.
        given: the other fields by their names; None stands for what was not given.

    Raises:
        UsageError: a setting is out of range.
    """
    names = {
        "P_mean": "p_mean", "P_std": "p_std", "peak_rate": "rate", "warmup_steps": "warmup", "decay_steps": "decay"
    }  # fmt: skip
    given["autoencoder_steps"] = autoencoder_steps
    given = {name: value for name, value in given.items() if value is not None}
    if "batch_size" in given and "micro_batch" not in given:
        given["micro_batch"] = min(given["batch_size"], Recipe(**preset.recipe).micro_batch)
    try:
        recipe = Recipe(**{**preset.recipe, **given})
    except ValueError as error:
        field, words = str(error).split(" ", 1)
        raise UsageError(f"--{names.get(field, field).replace('_', '-')} {words}") from None
    if codec != "latent" or (init is not None and autoencoder_steps is None):
        return dataclasses.replace(recipe, autoencoder_steps=0)
    if init is None and autoencoder_steps == 0:
        raise UsageError("--autoencoder-steps must be at least 1 without --init, got 0")
    return recipe


def check_out(out: Path, data: str) -> None:
    """Makes sure that a run's folder is none of DATA, where its pictures would be read as videos, nor has other files.

    Raises:
        UsageError: it is or has, or there is a file of that name.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder, got {printable(out)}, which is a file")
    place, videos = (Path(file_key(path)) for path in (out, data))
    inside = data != MENAGERIE and place.is_relative_to(videos)
    if inside and not any(part.startswith(".") for part in place.relative_to(videos).parts):  # hidden: passed over
        raise UsageError(
            f"--out must not be in the folder of videos, got {printable(out)}, which is in {printable(data)}",
            hint="What a run writes would be read as videos: "
            + ("move it out, and it goes on there." if (out / RUN_FILE).exists() else "give a folder beside it."),
        )
    check_files(out)


def check_place(out: Path) -> None:
    """Makes sure, before hours of decoding, that a run's folder can be written to, or made: by writing, see
    `mpvideo.files.check_writable`.

    Raises:
        UsageError: another call is at work in it.
        OutputError: it cannot.
    """
    check_alone(out)
    target = out / RUN_FILE
    while not target.parent.is_dir() and target != target.parent:
        target = target.parent
    with naming("--out", out):
        check_writable(target, overwrite=target.is_file())


def check_data(data: str, *, codec: TrainedCodec, size: int | None, frames: int | None, stride: int) -> None:
    """Makes sure that DATA is a folder; or the menagerie, and nothing set that is fixed in it.

    Raises:
        UsageError: it is neither, or such is set.
    """
    if data == MENAGERIE:
        _refuse_for_menagerie(codec=codec, size=size, frames=frames, stride=stride)
    elif not Path(data).is_dir():
        raise UsageError(
            f"DATA must be a folder of videos or the word menagerie, got {printable(data)}",
            hint="A folder with a subfolder of MP4, WebM, GIF or PNG frames for each class, for example.",
        )


def _refuse_for_menagerie(*, codec: TrainedCodec, size: int | None, frames: int | None, stride: int) -> None:
    if codec == "gray":
        raise UsageError("--codec must be rgb or latent for the menagerie, whose classes are colours; got gray")
    for name, value in (("size", size), ("frames", frames), ("stride", None if stride == 1 else stride)):
        if value is not None:
            raise UsageError(
                f"--{name} cannot be set for the menagerie, whose videos are 32 frames of 64x64; got {value}"
            )


def plan_of(
    data: str,
    preset: Preset,
    recipe: Recipe,
    processes: "Processes",
    *,
    codec: TrainedCodec,
    size: int | None,
    frames: int | None,
    stride: int,
    cache: Path | None,
    init: Path | None,
    steps: int | None,
    self_condition: bool,
    out: Path,
    dry_run: bool,
    say: "Say",
) -> "Plan":
    """What to train on what.

    A folder's videos are decoded here, unless they are in the cache.

    Args:
        data: a folder, or the menagerie.
        preset: of the network.
        recipe: how to train it; in the dtype of --dtype, or else the run's, if there is one.
        processes: those that train together.
        codec, stride, cache, init: of the options.
        size, frames, steps: of the options, or the menagerie's; the preset's where they are None.
        self_condition: whether the network is given its previous estimate.
        out: the run's folder. Once the network has a snapshot there, nothing of `init` is wanted any more but its name.
        dry_run: whether nothing is to be trained: then the run there may be of other settings.
        say: told how decoding goes.

    Raises:
        UsageError: the settings do not fit together, or are others than the run was begun with, the folder has no
            usable videos, or `init` is of something else.
        MPVideoError: `init` cannot be read, or fetched from the hub.
        OutputError: the cache cannot be written.
    """
    from mpvideo.training.folder import ClipFormat
    from mpvideo.training.initial import InitialWeights
    from mpvideo.training.plan import Plan
    from mpvideo.training.sources import open_source, source_settings
    from mpvideo.training.trainer import check_shares, clips_per_sample

    size, frames = size or preset.size, frames or preset.frames

    def network(fps: float, num_classes: int | None) -> "tuple[VideoConfig, ModelConfig]":
        video = codec_config(codec, fps)
        return video, preset.model(
            video, size=size, frames=frames, num_classes=num_classes, self_condition=self_condition
        )

    with usage_errors("size", "frames", "stride", "clip_frames", "batch_size"):
        check_shares(recipe, processes)
        clip = ClipFormat(size=size, frames=frames, stride=stride, channels=1 if codec == "gray" else 3)
        _, model = network(MIN_FPS, None)
        clips_per_sample(recipe, model)
    named = {} if init is None else {"init": _recorded_name(init)}
    known = {
        "source": {**source_settings(data, clip), "init": None, **named},
        "video": {"codec": codec},
        "model": {name: value for name, value in vars(model).items() if name != "num_classes"},
        "recipe": vars(recipe),
    }
    if not dry_run:
        check_settings(out, known)  # before hours of decoding
    with processes.one_after_another():  # the first decodes, the others find it done
        with naming("--init", init):
            weights = None if init is None or (out / "snapshot.pt").exists() else located(init)
        source = open_source(data, clip, cache=cache, seed=recipe.seed, say=say)
    source.record.update(named)
    classes = source.data.classes
    with usage_errors("size", "frames"):
        video, model = network(source.data.fps, None if classes is None else len(classes))
    initial = None if weights is None else InitialWeights(weights, model, video)
    if initial is not None and initial.classes is not None and classes is not None:
        other = [names for names in zip(initial.classes, classes, strict=True) if names[0] != names[1]]
        if other:
            theirs, ours = map(printable, other[0])
            say(f"warning: --init has other classes, and begins each with that in its place: {ours} with {theirs}")
    return Plan(
        data=source.data,
        source=source.record,
        video=video,
        model=model,
        recipe=recipe,
        steps=steps or preset.steps,
        sampling=source.sampling,
        title=source.title,
        license=source.license,
        description=source.description,
        initial=initial,
    )


def _recorded_name(init: Path) -> str:
    """What the run's record calls the weights that it was begun with."""
    return hub_name(init) or Path(os.path.abspath(init)).name  # noqa: PTH100 - resolve() follows links

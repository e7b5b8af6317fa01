"""`mpvideo sample`: make videos."""

import dataclasses
import json
import re
import shlex
import string
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpvideo import __version__
from mpvideo.checkpoint import Checkpoint, bundled_checkpoint, open_checkpoint
from mpvideo.classes import find_class
from mpvideo.cli.options import AsJson, ConfigFile, Quiet, Settings, parse_settings
from mpvideo.cli.progress import progress
from mpvideo.config import MAX_SEED, DeviceName, DtypeName, Sampler, SamplingConfig
from mpvideo.errors import UsageError
from mpvideo.text import printable

if TYPE_CHECKING:
    from mpvideo.device import Placement
    from mpvideo.generate import Job, Video
    from mpvideo.video import Encoding

MAX_VIDEOS = 100_000


def sample(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The video to write, .mp4 or .gif. In its name {class} stands for the class index and {seed} for the "
            "seed; {seed:06d} pads with zeros.",
        ),
    ],
    ckpt: Annotated[
        Path | None,
        typer.Option(
            "--ckpt",
            metavar="PATH",
            help="A safetensors file, or a folder with one or its shards. Without it, the weights that come with "
            "mpvideo.",
        ),
    ] = None,
    class_text: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="Index, name, or words that fit one name: 207, 'golden dog trots'. Without it, the seed chooses.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Decides all that is random.")] = 0,
    num: Annotated[int, typer.Option("--num", metavar="N", help="How many videos, of consecutive seeds.")] = 1,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", help="Keep the first N frames; all by default.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Steps from noise to video.")] = None,
    sampler: Annotated[
        Sampler | None,
        typer.Option("--sampler", help="euler: one evaluation a step. heun: two, better."),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            metavar="X",
            help="Strength of classifier-free guidance; 1 is none, all others take twice the time.",
        ),
    ] = None,
    sigma_min: Annotated[float | None, typer.Option("--sigma-min", metavar="X", help="Lowest noise level.")] = None,
    sigma_max: Annotated[float | None, typer.Option("--sigma-max", metavar="X", help="Highest noise level.")] = None,
    rho: Annotated[
        float | None, typer.Option("--rho", metavar="X", help="Greater spends more steps at low noise levels.")
    ] = None,
    s_churn: Annotated[
        float | None, typer.Option("--s-churn", metavar="X", help="Noise put back while sampling; 0 is none.")
    ] = None,
    s_tmin: Annotated[
        float | None, typer.Option("--s-tmin", metavar="X", help="Lowest noise level to put noise back at.")
    ] = None,
    s_tmax: Annotated[
        float | None, typer.Option("--s-tmax", metavar="X", help="Highest noise level to put noise back at.")
    ] = None,
    s_noise: Annotated[
        float | None, typer.Option("--s-noise", metavar="X", help="Scale of the noise put back; theory says 1.")
    ] = None,
    clamp: Annotated[
        bool | None,
        typer.Option("--clamp/--no-clamp", help="Clamp estimates to [-1, 1]; by default as the checkpoint says."),
    ] = None,
    fps: Annotated[
        float | None, typer.Option("--fps", metavar="X", help="Frames a second; by default as the checkpoint says.")
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            "--scale", metavar="N", help="Make every pixel N x N; by default small videos grow to 256 pixels."
        ),
    ] = None,
    crf: Annotated[
        int | None, typer.Option("--crf", metavar="N", help="Quality of an MP4: 1 best, 51 smallest.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-y", help="Replace existing files.")] = False,
    device: Annotated[DeviceName, typer.Option("--device", help="Where to compute.")] = "auto",
    dtype: Annotated[
        DtypeName,
        typer.Option("--dtype", help="What the network computes in; auto is float32."),
    ] = "auto",
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", help="Videos sampled at once.")] = 4,
    config: ConfigFile = None,
    settings: Settings = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Sample videos from a checkpoint.

    The paths of finished files go to standard output, everything else to standard error. The same command makes the
    same video again.

    \b
    mpvideo sample --class 207 --frames 32 --out dog.mp4
    mpvideo sample --class "red cat hops" --num 4 --out "cat-{seed}.gif"
    """
    began = time.monotonic()
    given: dict[str, Any] = {
        "sampler": sampler, "steps": steps, "sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho,
        "s_churn": s_churn, "s_tmin": s_tmin, "s_tmax": s_tmax, "s_noise": s_noise, "guidance": guidance,
    }  # fmt: skip
    _check_range("--num", num, 1, MAX_VIDEOS)
    _check_range("--seed", seed, 0, MAX_SEED - num + 1)
    _check_range("--batch-size", batch_size, 1, 65536)
    checkpoint = open_checkpoint(ckpt or bundled_checkpoint(), config_file=config, overrides=parse_settings(settings))
    about = checkpoint.config
    order = _Order(
        checkpoint=checkpoint,
        sampling=_sampling(about.sampling, {name: value for name, value in given.items() if value is not None}),
        clamp=about.edm.clamp if clamp is None else clamp,
        frames=_frames(frames, about.model.frames),
        encoding=_encoding(about.video.fps if fps is None else fps, scale, crf),
        overwrite=overwrite,
        quiet=quiet,
        as_json=as_json,
        flags={
            **given, "clamp": clamp, "frames": frames, "fps": fps, "scale": scale, "crf": crf,
            "dtype": None if dtype == "auto" else dtype, "set": settings,
        },
        ckpt=ckpt,
        config_file=config,
    )  # fmt: skip
    class_index = _class_index(class_text, checkpoint)
    if about.model.num_classes is None and order.sampling.guidance != 1:
        raise UsageError(f"--guidance must be 1 for a network without classes, got {order.sampling.guidance:g}")
    names = _Names(out, num)

    # Everything that can be wrong is known to be right before torch, which takes a second, is imported.
    from mpvideo.device import choose_placement
    from mpvideo.generate import Job, drawn_class, generate, load_model
    from mpvideo.video import check_destination, enlargement, warnings_about

    jobs = [Job(seed=value, class_index=class_index) for value in range(seed, seed + num)]
    num_classes = about.model.num_classes
    if class_index is None and num_classes is not None:
        jobs = [dataclasses.replace(job, class_index=drawn_class(job.seed, num_classes)) for job in jobs]
    paths = [names.path(job) for job in jobs]
    for path in paths:
        check_destination(path, overwrite=overwrite)
        enlargement(path, width=about.pixel_size, height=about.pixel_size, encoding=order.encoding)
    for warning in warnings_about(paths[0], channels=about.video.pixel_channels, encoding=order.encoding):
        _tell(f"warning: {warning}", quiet=quiet)
    placement = choose_placement(device, dtype)
    model = load_model(checkpoint, placement)
    _tell(f"{checkpoint.name} on {placement}", quiet=quiet)
    total = order.sampling.num_evaluations * len(jobs)
    with progress("sampling", total, "evaluations", quiet=quiet) as advance:
        videos = generate(model, jobs, order.sampling, clamp=order.clamp, batch_size=batch_size, on_evaluation=advance)
        for path, video in zip(paths, videos, strict=True):
            order.write(path, video, placement)
    _tell(f"done in {time.monotonic() - began:.1f} s", quiet=quiet)


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What was asked for, apart from which videos; and how to hand one over."""

    checkpoint: Checkpoint
    sampling: SamplingConfig
    clamp: bool
    frames: int
    encoding: "Encoding"
    overwrite: bool
    quiet: bool
    as_json: bool
    flags: Mapping[str, Any]
    ckpt: Path | None
    config_file: Path | None

    def write(self, path: Path, video: "Video", placement: "Placement") -> None:
        """Writes one video's file and says so."""
        from mpvideo.video import VideoWriter

        frames = video.frames[: self.frames]
        _, height, width, channels = frames.shape
        writer = VideoWriter(
            path,
            width=width,
            height=height,
            channels=channels,
            encoding=self.encoding,
            record=self.record(path, video, placement),
            overwrite=self.overwrite,
        )
        with writer:
            writer.write(frames)
        self._announce(path, video, writer.size, placement)

    def record(self, path: Path, video: "Video", placement: "Placement") -> dict[str, Any]:
        """How a video was made. Names of files only: what is shared should not tell whose folders it came from."""
        import torch

        return {
            "mpvideo": __version__,
            "command": self.command(path, video, names_only=True),
            "checkpoint": {"name": self.checkpoint.name, "sha256": self.checkpoint.sha256},
            "class": video.class_index,
            "class_name": self._class_name(video),
            "seed": video.seed,
            "frames": self.frames,
            "sampling": dataclasses.asdict(self.sampling),
            "clamp": self.clamp,
            "device": placement.device_name,
            "dtype": placement.dtype_name,
            "torch": torch.__version__,
        }

    def command(self, path: Path, video: "Video", *, names_only: bool) -> str:
        """The command that makes one video again."""
        words = ["mpvideo", "sample"]
        for flag, file in (("--ckpt", self.ckpt), ("--config", self.config_file)):
            if file is not None:
                words += [flag, file.name if names_only else str(file)]
        if video.class_index is not None:
            words += ["--class", str(video.class_index)]
        words += ["--seed", str(video.seed)]
        for name, value in self.flags.items():
            flag = f"--{name.replace('_', '-')}"
            if isinstance(value, bool):
                words.append(flag if value else f"--no-{name}")
            elif isinstance(value, list):
                words += [word for item in value for word in (flag, item)]
            elif value is not None:
                words += [flag, str(value)]
        return shlex.join([*words, "--out", path.name if names_only else str(path)])

    def _class_name(self, video: "Video") -> str | None:
        names = self.checkpoint.config.classes
        return None if names is None or video.class_index is None else names[video.class_index]

    def _announce(self, path: Path, video: "Video", size: tuple[int, int], placement: "Placement") -> None:
        seconds = self.frames / self.encoding.rate
        if self.as_json:
            record = self.record(path, video, placement)
            line = {"path": str(path), "width": size[0], "height": size[1], "fps": float(self.encoding.rate)}
            print(json.dumps({**line, **record, "command": self.command(path, video, names_only=False)}), flush=True)
        else:
            print(path, flush=True)
        name = self._class_name(video)
        _tell(
            f"{printable(path)}: {f'{printable(name)}, ' if name else ''}{self.frames} frames of {size[0]}x{size[1]}, "
            f"{float(seconds):.1f} s\nagain: {self.command(path, video, names_only=False)}",
            quiet=self.quiet,
        )


class _Names:
    """The paths of the videos, made from --out."""

    def __init__(self, template: Path, num: int) -> None:
        self.template = str(template)
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None]
        except ValueError as error:
            raise UsageError(
                f"--out has a stray brace, got {printable(template)!r}: {error}",
                hint="Write {{ and }} for braces in a name.",
            ) from None
        for name in fields:
            if name not in ("class", "seed"):
                raise UsageError(f"--out may have the fields {{class}} and {{seed}}, got {{{printable(name)}}}")
        if num > 1 and "seed" not in fields:
            raise UsageError(
                f"--out must contain {{seed}} for --num {num}, or the videos would replace each other; "
                f"got {printable(template)!r}",
                hint=f"For example {template.stem}-{{seed}}{template.suffix}.",
            )

    def path(self, job: "Job") -> Path:
        """The path of one job's video."""
        if job.class_index is None and "{class" in self.template:
            raise UsageError("--out cannot contain {class}: the checkpoint has no classes")
        try:
            return Path(self.template.format(**{"class": job.class_index, "seed": job.seed}))
        except ValueError as error:
            raise UsageError(
                f"--out has a format that does not fit, got {printable(self.template)!r}: {error}"
            ) from None


def _sampling(base: SamplingConfig, given: Mapping[str, Any]) -> SamplingConfig:
    """The checkpoint's settings with those of the command line in their place."""
    try:
        return dataclasses.replace(base, **given)
    except ValueError as error:
        raise UsageError(_as_flags(str(error), [field.name for field in dataclasses.fields(base)])) from None


def _as_flags(message: str, names: Sequence[str]) -> str:
    """The message of a config's check with its fields named as the user gave them."""
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: f"--{found[0].replace('_', '-')}", message)


def _encoding(fps: float, scale: int | None, crf: int | None) -> "Encoding":
    from mpvideo.video import Encoding

    try:
        return Encoding(fps, scale) if crf is None else Encoding(fps, scale, crf)
    except ValueError as error:
        raise UsageError(_as_flags(str(error), ["fps", "scale", "crf"])) from None


def _frames(asked: int | None, made: int) -> int:
    if asked is None:
        return made
    _check_range("--frames", asked, 1, 2**31)
    if asked > made:
        raise UsageError(
            f"--frames must be at most {made}, which is what this checkpoint makes, got {asked}",
            hint="Longer videos than the model was trained for are not supported.",
        )
    return asked


def _class_index(text: str | None, checkpoint: Checkpoint) -> int | None:
    if text is None:
        return None
    model = checkpoint.config.model
    if model.num_classes is None:
        raise UsageError(
            f"--class cannot be given: {printable(checkpoint.name)} has no classes, got {printable(text)!r}",
            hint="Leave --class out.",
        )
    return find_class(text, model.num_classes, checkpoint.config.classes)


def _check_range(flag: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        bound = f"at least {low}" if value < low else f"at most {high}"
        raise UsageError(f"{flag} must be {bound}, got {value}")


def _tell(line: str, *, quiet: bool) -> None:
    if not quiet:
        with suppress(OSError):  # nobody listens any more: the videos still count
            print(line, file=sys.stderr, flush=True)

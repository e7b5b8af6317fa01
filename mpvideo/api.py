"""The front door for Python: from a checkpoint and jobs to videos with their records, by the program's own road."""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from mpvideo.checkpoint import Checkpoint, bundled_checkpoint, open_checkpoint
from mpvideo.checks import check_int
from mpvideo.config import DeviceName, DtypeName
from mpvideo.device import choose_placement
from mpvideo.generation import AnyJob, OnEvaluation, OnFailure, OnSmallerBatch, Video
from mpvideo.generation import generate as generate_by
from mpvideo.job import BATCH_SIZE
from mpvideo.model import Model, load_model


def generate(
    checkpoint: str | Path | Checkpoint | Model | None,
    jobs: Iterable[AnyJob | None],
    *,
    guide: str | Path | Checkpoint | None = None,
    device: DeviceName = "auto",
    dtype: DtypeName = "auto",
    batch_size: int = BATCH_SIZE,
    on_evaluation: OnEvaluation | None = None,
    on_smaller_batch: OnSmallerBatch | None = None,
    on_failure: OnFailure[AnyJob] | None = None,
) -> Iterator[Video[AnyJob]]:
    """Samples videos, as `mpvideo sample` does, and yields them in the order of the jobs.

    The checkpoint is loaded before this returns; the videos are made as they are asked for. However many jobs there
    are, memory holds one batch. A seed gives the same video as on the command line.

    Args:
        checkpoint: a safetensors file or a folder with one; one that `open_checkpoint` has opened, with a config of
            your own; a model that is loaded already, for another call; or None for the weights that come with mpvideo.
        jobs: what to make, any iterable; see `Job`, and `mpvideo.generation.generate` for None among them.
        guide: the checkpoint of a second network to guide it with; not with a loaded model, which has its own.
        device, dtype: see `mpvideo.device.choose_placement`, whose warnings are given as a UserWarning each; not with
            a loaded model, whose are settled.
        batch_size: how many videos are sampled at once; fewer where memory does not suffice. With 1, a video does not
            depend in its last bits on those beside it.
        on_evaluation, on_smaller_batch, on_failure: are told how it goes, see `mpvideo.generation.generate`. In all,
            `mpvideo.generation.count_passes` says how many passes of the network a job takes.

    Returns:
        Videos: `frames` (T, H, W, C) uint8, decoded when they are asked for, or some at a time from `chunks()`;
        `record()`, how it was made, with the command that makes it again; `job`, the very object.

    Raises:
        ValueError: batch_size is out of range; guide, device or dtype is given with a loaded model.
        CheckpointError, DeviceError: the checkpoint cannot be read, or the device cannot be used.
    """
    check_int("batch_size", batch_size, 1)
    if isinstance(checkpoint, Model):
        for name, value, settled in (("guide", guide, None), ("device", device, "auto"), ("dtype", dtype, "auto")):
            if value != settled:
                raise ValueError(
                    f"{name} must be {settled} for a model that is loaded already, got {value!r}: it was settled by "
                    "load_model"
                )
        model = checkpoint
    else:
        opened = _opened(bundled_checkpoint() if checkpoint is None else checkpoint)
        placement = choose_placement(device, dtype)
        for warning in placement.warnings:
            warnings.warn(warning, stacklevel=2)
        model = load_model(opened, placement, guide=None if guide is None else _opened(guide))
    return generate_by(
        model,
        jobs,
        batch_size=batch_size,
        on_evaluation=on_evaluation,
        on_smaller_batch=on_smaller_batch,
        on_failure=on_failure,
    )


def _opened(checkpoint: str | Path | Checkpoint) -> Checkpoint:
    return checkpoint if isinstance(checkpoint, Checkpoint) else open_checkpoint(checkpoint)

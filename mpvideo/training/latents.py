"""From numbered samples to the tensors that the network is trained on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from mpvideo.errors import CheckpointError
from mpvideo.files import atomic_path, reason, write_error
from mpvideo.text import printable
from mpvideo.training import Say
from mpvideo.training.data import Dataset
from mpvideo.training.folder import FolderData
from mpvideo.training.trainer import Batches
from mpvideo.video.codec import Codec, LatentCodec

_FRAMES_AT_ONCE = 256


def encoded_batches(data: Dataset, codec: Codec, device: torch.device) -> Batches:
    """The samples as the codec encodes them, each time anew, on the device that the codec is on."""

    @torch.no_grad()
    def batches(numbers: Sequence[int], frames: int | None) -> tuple[Tensor, Tensor]:
        pixels, labels = data.batch(numbers, frames, device=device)
        return codec.encode(pixels), labels

    return batches


def cached_batches(data: FolderData, path: Path, device: torch.device, shape: tuple[int, int, int]) -> Batches:
    """The samples of a folder, cut out of the latents that `cache_latents` wrote.

    Args:
        data: the folder.
        path: the latents.
        device: where samples are wanted.
        shape: Z, h and w of a frame's.

    Raises:
        CheckpointError: the file is damaged; so say the samples, too, where it has values that are no numbers.
    """

    def damaged(error: Exception) -> CheckpointError:
        words = f"{printable(path)} is not the latents of this run: {reason(error)}"
        return CheckpointError(words, hint="Remove it to have them made anew.")

    try:
        latents = np.load(path, mmap_mode="r")
        found = getattr(latents, "shape", None), getattr(latents, "dtype", None)  # an archive has neither
        if found != (wanted := (len(data.frames), *shape), np.dtype(np.float16)):
            raise ValueError(f"it should have the shape {wanted} in float16, got {found[0]} in {found[1]}")
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise damaged(error) from error

    def batches(numbers: Sequence[int], frames: int | None) -> tuple[Tensor, Tensor]:
        clips, labels = data.clips(numbers, frames)
        x = torch.from_numpy(np.stack([latents[clip] for clip in clips]))
        if not x.isfinite().all():
            raise damaged(ValueError("it has NaN or infinity"))
        return x.to(device, torch.float32).transpose(1, 2).contiguous(), labels

    return batches


@torch.no_grad()
def cache_latents(
    data: FolderData,
    codec: LatentCodec,
    path: Path,
    device: torch.device,
    *,
    say: Say,
    stopping: Callable[[], bool],
) -> bool:
    """Encodes every frame of a folder once, into one file; where that is there, nothing is done.

    The file is numpy's: (frames, Z, h, w) float16, the frames as the folder's cache has them.

    Returns:
        Whether it is there; not if `stopping` said so before.

    Raises:
        OutputError: it cannot be written; nothing is left half written.
        CheckpointError: the codec gives what is no number.
    """
    if path.exists():
        return True
    say(f"encoding {len(data.frames):,} frames")
    try:
        for outdated in path.parent.glob("latents-*.npy"):
            outdated.unlink(missing_ok=True)
        # Not mapped for writing: a full disk would then end the process instead of a write.
        with atomic_path(path, overwrite=True) as aside, aside.open("wb") as file:
            for start in range(0, len(data.frames), _FRAMES_AT_ONCE):
                if stopping():
                    raise _Stopped
                pixels = torch.from_numpy(np.array(data.frames[start : start + _FRAMES_AT_ONCE])).to(device)
                part = codec.encode(pixels.unsqueeze(1)).squeeze(2).to(torch.float16).cpu().numpy()
                if not np.isfinite(part).all():
                    raise CheckpointError(
                        "the run's autoencoder makes NaN or infinity of a frame, in float16",
                        hint="Train in another folder; with --codec rgb there is no autoencoder.",
                    )
                if not start:
                    shape = (len(data.frames), *part.shape[1:])
                    np.lib.format.write_array_header_1_0(
                        file, {"descr": part.dtype.str, "fortran_order": False, "shape": shape}
                    )
                file.write(part.tobytes())
    except _Stopped:
        return False
    except OSError as error:
        raise write_error(path, error) from error
    return True


class _Stopped(Exception):
    """Encoding was told to stop; raised so that the file in the making is discarded."""

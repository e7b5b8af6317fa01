"""A contact sheet: videos as rows of frames. Layout: B videos, T frames, H rows, W columns, C channels."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from mpvideo.training.lettering import FAINT, INK, drawable, font, shortened, wrapped

SMALL_SIDE = 128  # frames are enlarged until their longer side has this many pixels, or more,
LARGE_SIDE = 256  # and reduced until it has this many, or fewer
MARGIN = 16  # around everything, and between captions and frames
GAP = 4  # between frames
HEAD = 20  # the line with the frames' numbers
CAPTION = 120  # width of the captions' column

_TEXT = 13  # size of letters
_LINE = 17  # from one line of text to the next


def contact_sheet(videos: Tensor, captions: Sequence[str], *, frames_shown: int = 8) -> Image.Image:
    """Shows each video as a row of frames, its caption at their left, and above them their numbers, from 1.

    Args:
        videos: (B, T, H, W, C) uint8, C = 1 (gray) or 3 (RGB), on any device.
        captions: one for each video; long ones are wrapped and shortened, signs that the font lacks become '?'.
        frames_shown: how many frames of each, evenly spread from the first to the last; all if there are fewer.

    Returns:
        An RGB picture, in which each pixel of a frame is a square of `enlargement(H, W)` pixels; frames of more than
        256 pixels are reduced by a whole factor instead.

    Raises:
        ValueError: another shape or dtype, nothing to show, or not as many captions as videos.
    """
    _check(videos, captions, frames_shown)
    shown = frame_numbers(videos.shape[1], frames_shown)
    pixels = videos[:, torch.tensor(shown, device=videos.device)].cpu().numpy()
    rows = [[_tile(frame) for frame in frames] for frames in pixels]
    width, height = rows[0][0].size
    left, top = 2 * MARGIN + CAPTION, MARGIN + HEAD
    columns = [left + index * (width + GAP) for index in range(len(shown))]
    right, bottom = columns[-1] + width, top + len(rows) * (height + GAP) - GAP
    sheet = Image.new("RGB", (right + MARGIN, bottom + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    small = font(_TEXT)
    draw.text((MARGIN, MARGIN), "frame", FAINT, small)
    for x, number in zip(columns, shown, strict=True):
        draw.text((x, MARGIN), shortened(str(number + 1), small, width), FAINT, small)
    for index, (tiles, caption) in enumerate(zip(rows, captions, strict=True)):
        y = top + index * (height + GAP)
        for number, line in enumerate(wrapped(drawable(caption), small, CAPTION, lines=max(1, height // _LINE))):
            draw.text((MARGIN, y + number * _LINE), line, INK, small)
        for x, tile in zip(columns, tiles, strict=True):
            sheet.paste(tile, (x, y))
    return sheet


def frame_numbers(frames: int, shown: int) -> list[int]:
    """Which of `frames` frames to show, from 0: the first, the last, and evenly between; one alone is the first."""
    shown = min(shown, frames)
    return [round(index * (frames - 1) / max(shown - 1, 1)) for index in range(shown)]


def enlargement(height: int, width: int) -> int:
    """The smallest whole factor that brings the longer side to at least 128 pixels."""
    return -(-SMALL_SIDE // max(height, width))


def _check(videos: Tensor, captions: Sequence[str], frames_shown: int) -> None:
    if videos.ndim != 5 or videos.shape[-1] not in (1, 3) or videos.numel() == 0:
        raise ValueError(
            f"videos must have the shape (B, T, H, W, C), C = 1 or 3, and pixels, got {tuple(videos.shape)}"
        )
    if videos.dtype != torch.uint8:
        raise ValueError(f"videos must be uint8, got {videos.dtype}")
    if len(captions) != len(videos):
        raise ValueError(f"there must be a caption for each of {len(videos)} videos, got {len(captions)}")
    if frames_shown < 1:
        raise ValueError(f"frames_shown must be at least 1, got {frames_shown}")


def _tile(frame: npt.NDArray[np.uint8]) -> Image.Image:
    """A frame (H, W, C) in the size it is shown in."""
    height, width, channels = frame.shape
    factor = enlargement(height, width)
    image = Image.fromarray(frame[..., 0] if channels == 1 else frame)
    large = image.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    return large.reduce(-(-max(large.size) // LARGE_SIDE))

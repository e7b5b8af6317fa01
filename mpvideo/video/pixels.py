"""Frames made fit for a file: larger, or in other channels. Layout: H rows, W columns, C channels."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from mpvideo.formats import Filter

Frame = npt.NDArray[np.uint8]

_OPAQUE = 128  # where transparency is on or off, opaque from here on


def enlarged(frame: Frame, scale: int, how: Filter) -> Frame:
    """A frame `scale` times as high and wide: pixels as blocks, or Lanczos' kernel, which is smooth and overshoots.

    Args:
        frame: (H, W, C) uint8, C = 1, 3 or 4.
        scale: at least 1.
        how: by blocks, or smoothly.

    Returns:
        (scale * H, scale * W, C) uint8. With Lanczos' kernel a pixel weighs by its alpha, so that colours nobody sees
        do not bleed into others.
    """
    if scale == 1:
        return frame
    if how == "nearest":
        return frame.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width, channels = frame.shape
    image = Image.fromarray(frame[..., 0] if channels == 1 else np.ascontiguousarray(frame))
    large = image.resize((width * scale, height * scale), Image.Resampling.LANCZOS)
    return np.asarray(large).reshape(height * scale, width * scale, channels)


def rgb_over_black(frame: Frame) -> Frame:
    """A frame (H, W, C) as (H, W, 3): gray three times, RGBA laid over black."""
    channels = frame.shape[-1]
    if channels == 3:
        return frame
    if channels == 1:
        return np.repeat(frame, 3, axis=-1)
    alpha = frame[..., 3:].astype(np.uint16)
    return ((frame[..., :3] * alpha + 127) // 255).astype(np.uint8)


def rgb_or_cut_out(frame: Frame) -> Frame:
    """A frame (H, W, C) as (H, W, 3), or RGBA as (H, W, 4) whose pixels are opaque, or transparent and black."""
    if frame.shape[-1] != 4:
        return rgb_over_black(frame)
    opaque = frame[..., 3:] >= _OPAQUE
    # Colours nobody sees would still claim their share of a palette.
    return np.concatenate([frame[..., :3] * opaque, opaque * np.uint8(255)], axis=-1)

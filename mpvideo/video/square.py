"""The middle square of a frame, in the size that a network wants."""

from typing import Literal

import numpy as np
from PIL import Image

from mpvideo.video.decode import Frames


def square_frame(frame: Frames, size: int, channels: Literal[1, 3]) -> Frames:
    """Cuts the middle square out of a frame and resizes it.

    By a whole factor it is made smaller by the mean of blocks, so that the enlarged videos which this program writes
    come back as they were; otherwise it is resized with a triangle filter, which is bilinear where it is made larger
    and as wide as need be against aliasing where it is made smaller. Neither overshoots.

    Args:
        frame: (H, W, 3) uint8, RGB.
        size: the side of the result in pixels.
        channels: 3, or 1 for gray (luma after ITU-R BT.601).

    Returns:
        (size, size, channels) uint8.
    """
    height, width, _ = frame.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = Image.fromarray(frame[top : top + side, left : left + side])
    if side != size:
        # Pillow's box takes pixels in whole or not at all: right for blocks, jagged for anything else.
        image = image.resize((size, size), Image.Resampling.BILINEAR if side % size else Image.Resampling.BOX)
    return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(size, size, channels)

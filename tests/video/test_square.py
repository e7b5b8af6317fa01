"""The middle square of a frame, resized."""

import numpy as np
import pytest

from mpvideo.video.square import square_frame


@pytest.mark.parametrize("factor", [2, 3, 8])
@pytest.mark.parametrize("shape", ["wide", "tall", "square"])
def test_shrinking_by_whole_factors_is_the_mean_of_blocks(factor: int, shape: str) -> None:
    side = 5 * factor
    height, width = side + 9 * (shape == "tall"), side + 9 * (shape == "wide")
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    middle = frame[top : top + side, left : left + side].astype(float)
    wanted = middle.reshape(5, factor, 5, factor, 3).mean((1, 3))
    assert np.abs(square_frame(frame, 5, 3) - wanted).max() <= 1


@pytest.mark.parametrize(("side", "size"), [(5, 3), (50, 32), (9, 8)])
def test_shrinking_by_other_factors_weighs_with_a_triangle(side: int, size: int) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    scale = side / size
    centres = (np.arange(size)[:, None] + 0.5) * scale
    weights = np.clip(1 - np.abs(np.arange(side) + 0.5 - centres) / scale, 0, None)
    weights /= weights.sum(1, keepdims=True)
    wanted = np.einsum("ih,jw,hwc->ijc", weights, weights, frame)
    assert np.abs(square_frame(frame, size, 3) - wanted).max() <= 1.1  # rounded twice, after rows and after columns


def test_our_own_enlarged_videos_come_back_exactly() -> None:
    frame = np.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(square_frame(frame.repeat(4, 0).repeat(4, 1), 16, 3), frame)
    assert np.array_equal(square_frame(frame, 16, 3), frame)


def test_enlarging_is_bilinear() -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[:, 1] = 200
    assert square_frame(frame, 4, 3)[0, :, 0].tolist() == [0, 50, 150, 200]


def test_gray_is_bt601() -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 0], frame[0, 1], frame[1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    assert square_frame(frame, 2, 1)[..., 0].tolist() == [[76, 150], [29, 0]]

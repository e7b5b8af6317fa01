from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mpvideo.video.contact_sheet import CAPTION, GAP, HEAD, MARGIN, contact_sheet, enlargement, frame_numbers
from tests.video.conftest import Frames

LEFT, TOP = 2 * MARGIN + CAPTION, MARGIN + HEAD


def noise(*shape: int) -> Frames:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image)


def captions_of(image: Image.Image) -> npt.NDArray[np.uint8]:
    return pixels(image)[TOP:, : LEFT - 1]


@pytest.mark.parametrize(
    ("frames", "shown", "expected"),
    [(32, 8, [0, 4, 9, 13, 18, 22, 27, 31]), (9, 3, [0, 4, 8]), (4, 8, [0, 1, 2, 3]), (5, 1, [0]), (1, 8, [0])],
)
def test_frames_are_evenly_spread(frames: int, shown: int, expected: list[int]) -> None:
    assert frame_numbers(frames, shown) == expected


def test_frames_of_any_length_differ() -> None:
    for frames in range(1, 40):
        found = frame_numbers(frames, 8)
        assert found == sorted(set(found))
        assert len(found) == min(frames, 8)
        assert found[0] == 0
        assert found[-1] == frames - 1


@pytest.mark.parametrize(
    ("side", "factor"), [(1, 128), (8, 16), (32, 4), (48, 3), (64, 2), (100, 2), (128, 1), (500, 1)]
)
def test_enlargement(side: int, factor: int) -> None:
    assert enlargement(side, side) == enlargement(side, 1) == enlargement(1, side) == factor


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width", "factor"), [(32, 32, 4), (48, 64, 2), (130, 128, 1)])
def test_every_pixel_is_in_its_place(channels: int, height: int, width: int, factor: int) -> None:
    videos = noise(2, 9, height, width, channels)
    image = contact_sheet(videos, ["a", "b"], frames_shown=3)
    assert image.mode == "RGB"
    right = LEFT + 3 * width * factor + 2 * GAP
    bottom = TOP + 2 * height * factor + GAP
    assert image.size == (right + MARGIN, bottom + MARGIN)
    sheet = pixels(image)
    for row in range(2):
        for column, frame in enumerate((0, 4, 8)):
            y, x = TOP + row * (height * factor + GAP), LEFT + column * (width * factor + GAP)
            tile = sheet[y : y + height * factor, x : x + width * factor]
            enlarged = videos[row, frame].repeat(factor, 0).repeat(factor, 1)
            assert (tile == enlarged).all()  # gray: one channel against three equal ones
            assert (sheet[y : y + height * factor, x - GAP : x] == 255).all()
    assert (sheet[TOP + height * factor : TOP + height * factor + GAP, LEFT:] == 255).all()
    assert (sheet[bottom:] == 255).all()
    assert (sheet[TOP:, right:] == 255).all()


def test_large_frames_are_reduced_by_means() -> None:
    videos = noise(1, 1, 300, 513, 3)
    image = contact_sheet(videos, ["a"])
    assert image.size == (LEFT + 171 + MARGIN, TOP + 100 + MARGIN)
    means = videos[0, 0].astype(np.float64).reshape(100, 3, 171, 3, 3).mean((1, 3))
    assert np.abs(pixels(image)[TOP : TOP + 100, LEFT : LEFT + 171] - means).max() <= 1


def test_captions_are_drawn_at_their_rows() -> None:
    videos = noise(2, 2, 64, 64, 3)
    blank, one, two = (
        captions_of(contact_sheet(videos, captions)) for captions in (["", ""], ["dog", ""], ["dog", "cat"])
    )
    row = 128 + GAP
    assert (blank == 255).all()
    assert (one[:row] < 128).any()
    assert (one[row:] == 255).all()
    assert (two[:row] == one[:row]).all()
    assert (two[row : row + 128] < 128).any()
    assert (two[row : row + 128] != one[:128]).any(), "another caption"


def test_numbers_above_the_frames() -> None:
    def head(frames: int) -> list[npt.NDArray[np.uint8]]:
        sheet = pixels(contact_sheet(noise(1, frames, 64, 64, 1), ["a"], frames_shown=3))
        return [sheet[MARGIN:TOP, LEFT + index * (128 + GAP) :][:, :128] for index in range(3)]

    five, nine = head(5), head(9)  # 1 3 5 and 1 5 9
    assert all((part < 160).any() for part in five)
    assert (five[0] == nine[0]).all()
    assert (five[2] == nine[1]).all()
    assert (five[1] != nine[1]).any()


@pytest.mark.parametrize(
    "caption",
    ["x" * 5000, "word " * 500, "\x1b[2J\n\r\t\x00", "\udc80\u202e\U0001f600", "Ünïcode 狗", " ", "%s {} <b> &amp; \\"],
)
@pytest.mark.parametrize("side", [1, 8, 40])
def test_no_caption_breaks_anything(caption: str, side: int) -> None:
    """Nothing is drawn outside of its column and row."""
    videos = noise(2, 1, side, side, 3)
    plain, drawn = (contact_sheet(videos, [text, ""]) for text in ("", caption))
    assert plain.size == drawn.size
    different = (pixels(plain) != pixels(drawn)).any(2)
    ys, xs = np.nonzero(different)
    assert different.any() == bool(caption.strip())
    if caption.strip():
        assert xs.min() >= MARGIN - 2 and xs.max() <= MARGIN + CAPTION
        assert ys.min() >= TOP and ys.max() < TOP + enlargement(side, side) * side + GAP


@pytest.mark.parametrize(
    ("videos", "captions", "options", "message"),
    [
        (noise(1, 2, 8, 8), ["a"], {}, r"a video must have the shape .*, got \(2, 8, 8\)"),
        (noise(1, 2, 8, 8, 2), ["a"], {}, r"C = 1, 3 or 4, .* got \(2, 8, 8, 2\)"),
        (noise(1, 0, 8, 8, 3), ["a"], {}, r"and pixels, got \(0, 8, 8, 3\)"),
        (noise(0, 2, 8, 8, 3), [], {}, "must have at least one video, got none"),
        (noise(1, 2, 8, 8, 3).astype(np.float32), ["a"], {}, r"a video must be uint8, got float32"),
        (noise(2, 2, 8, 8, 3), ["a"], {}, "a caption for each of 2 videos, got 1"),
        (noise(1, 2, 8, 8, 3), ["a"], {"frames_shown": 0}, "frames_shown must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_shown(videos: Frames, captions: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contact_sheet(videos, captions, **options)

"""The built-in world: same bits in any batch, sprites inside the frame, classes that can be told apart."""

import pytest
import torch
from torch import Tensor

from mpvideo import menagerie
from mpvideo.sprites import SPRITES


def _of_motion(motion: int, count: int) -> tuple[Tensor, Tensor]:
    seeds = torch.arange(count) * 7919 - 3
    return (seeds.abs() % 100) * 10 + motion, seeds


def _guess_motion(centre: Tensor, side: Tensor) -> str:
    """Name a motion from nothing but its track: centre (32, 2) and side (32,)."""
    dx, dy = (centre.amax(0) - centre.amin(0)).tolist()
    arm, speed = centre - centre.mean(0), centre.roll(-1, 0) - centre.roll(1, 0)
    turn = arm[:, 0] * speed[:, 1] - arm[:, 1] * speed[:, 0]  # positive is clockwise: y points down
    if side.max() - side.min() > 0.1:
        return "grows and shrinks"
    if dx < 0.01 and dy < 0.01:
        return "rests"
    if dy < 0.01:
        steps = centre[1:, 0] - centre[:-1, 0]
        if steps.min() * steps.max() < 0:
            return "trots"
        return "walks right" if steps.min() > 0 else "walks left"
    if dx < 0.01:
        lows = (centre[:, 1] > centre[:, 1].max() - 1e-4).sum()
        return "hops" if lows == 8 else "bobs"
    if turn.min() * turn.max() < 0:
        return "loops in an eight"
    return "circles clockwise" if turn.min() > 0 else "circles anticlockwise"


def test_names_and_indices() -> None:
    names = menagerie.class_names()
    assert len(names) == len(set(names)) == menagerie.NUM_CLASSES
    assert not any("," in name for name in names)
    assert names[207] == "golden dog trots"
    assert names[menagerie.class_index(9, 4, 6)] == "white rabbit circles anticlockwise"
    assert len({frozenset(name.split()) for name in names}) == 1000


@pytest.mark.parametrize("bad", [(-1, 0, 0), (0, 10, 0), (0, 0, 10)])
def test_class_index_checks(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"must be 0\.\.9, got"):
        menagerie.class_index(*bad)


def test_art_is_square_and_known() -> None:
    assert len(SPRITES) == 10
    for first, second in SPRITES.values():
        assert first != second
        for frame in (first, second):
            assert len(frame) == 22
            assert all(len(row) == 22 and set(row) <= set(".omslweap") for row in frame)


def test_same_bits_in_any_batch() -> None:
    classes, seeds = torch.arange(0, 1000, 45), torch.arange(23) * 3
    together = menagerie.render(classes, seeds)
    assert together.shape == (23, 32, 64, 64, 3)
    assert together.dtype == torch.uint8
    order = torch.arange(23).flip(0)
    assert torch.equal(menagerie.render(classes[order], seeds[order]), together[order])
    for i in (0, 7, 22):
        assert torch.equal(menagerie.render(classes[i : i + 1], seeds[i : i + 1])[0], together[i])


def test_the_world_does_not_change() -> None:
    """The bundled weights were trained on these pixels; changing them needs new weights."""
    video = menagerie.render(torch.tensor([207]), torch.tensor([0]))
    weights = torch.arange(video.numel()) % 8191
    assert int((video.flatten().long() * weights).sum()) == 276203483677


def test_frame_indices_choose_frames() -> None:
    classes, seeds = torch.tensor([207, 355]), torch.tensor([1, 2])
    video = menagerie.render(classes, seeds)
    assert torch.equal(menagerie.render(classes, seeds, frame_indices=torch.tensor([5, 0])), video[:, [5, 0]])
    each = menagerie.render(classes, seeds, frame_indices=torch.tensor([[3], [31]]))
    assert torch.equal(each[:, 0], torch.stack((video[0, 3], video[1, 31])))


@pytest.mark.parametrize("motion", range(10))
def test_sprite_stays_inside(motion: int) -> None:
    classes, seeds = _of_motion(motion, 400)
    world = menagerie.scene(classes, seeds)
    half = world.side[..., None] / 2
    assert (world.centre - half).min() >= 0.019
    assert (world.centre + half).max() <= 0.981
    video = menagerie.render(classes[:12], seeds[:12], frame_indices=torch.arange(0, 32, 3))
    # A row of the background is one colour, so the border must be the colour that its row starts with.
    assert (video == video[..., :1, :]).all(-1)[..., [0, 63]].all()
    assert (video[..., [0, 63], :, :] == video[..., [0, 63], :1, :]).all()
    assert not (video == video[..., :1, :]).all()
    assert (video[..., 0, :] == video[:, :1, :, 0]).all(), "the background moves"


@pytest.mark.parametrize("motion", range(10))
def test_motions_are_told_apart_by_their_tracks(motion: int) -> None:
    world = menagerie.scene(*_of_motion(motion, 200))
    for centre, side in zip(world.centre, world.side, strict=True):
        assert _guess_motion(centre, side) == menagerie.MOTIONS[motion]


def test_amplitudes_are_large() -> None:
    spans = []
    for motion in range(10):
        centre = menagerie.scene(*_of_motion(motion, 500)).centre
        spans.append((centre.amax(1) - centre.amin(1)).amin(0))
    x, y = torch.stack(spans).unbind(1)
    assert x[[1, 2]].min() > 1 / 3
    assert x[7] > 0.3
    assert x[[5, 6, 8]].min() > 0.25
    assert y[[4, 5, 6]].min() > 0.25
    assert y[3] > 0.19


def test_facing_follows_the_motion() -> None:
    assert (menagerie.scene(*_of_motion(1, 50)).facing == 1).all()
    assert (menagerie.scene(*_of_motion(2, 50)).facing == -1).all()
    assert menagerie.scene(*_of_motion(0, 50)).facing.unique().tolist() == [-1, 1]
    assert all(f.unique().numel() == 2 for f in menagerie.scene(*_of_motion(7, 20)).facing)


def test_gait_moves_unless_resting() -> None:
    for motion in range(10):
        gait = menagerie.scene(*_of_motion(motion, 20)).gait
        assert ((gait.amin(1) != gait.amax(1)) == (motion != 0)).all()
    resting = menagerie.render(torch.tensor([200]), torch.tensor([5]))
    assert (resting == resting[:, :1]).all()


def test_coats_and_animals_differ() -> None:
    """One seed puts all in one place; there, any two coats of the fish and any two animals lie far apart."""
    seed = torch.full((10,), 11)
    still = torch.tensor([0])
    for step in (10, 100):
        video = menagerie.render(torch.arange(10) * step, seed, frame_indices=still).float().flatten(1)
        ink = (video - video.roll(1, 0)).ne(0).any(0)
        apart = torch.cdist(video[:, ink], video[:, ink]) / ink.sum().sqrt()
        assert apart[~torch.eye(10, dtype=torch.bool)].min() > 15


def test_sprite_contrasts_with_any_background() -> None:
    """Even where a coat comes near the sky's colour, its outline does not."""
    classes = torch.arange(0, 1000, 10)
    video = menagerie.render(classes, classes * 31, frame_indices=torch.tensor([0])).float()
    away = (video - video[..., :1, :]).abs().amax(-1).flatten(1)
    assert (away > 50).sum(1).min() > 60


def test_seeds_differ_and_negative_ones_count() -> None:
    seeds = torch.tensor([0, 1, 2, -1, 2**62, -(2**63)])
    video = menagerie.render(torch.full((6,), 207), seeds, frame_indices=torch.tensor([0]))
    assert len({v.numpy().tobytes() for v in video}) == 6


@pytest.mark.parametrize("size", [16, 48, 128])
def test_other_sizes(size: int) -> None:
    video = menagerie.render(torch.tensor([207]), torch.tensor([0]), size=size)
    assert video.shape == (1, 32, size, size, 3)


def test_no_samples() -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert menagerie.render(none, none).shape == (0, 32, 64, 64, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": torch.tensor([1000])}, r"classes must be 0\.\.999, got 1000"),
        ({"classes": torch.tensor([-1])}, r"classes must be 0\.\.999, got -1"),
        ({"classes": torch.tensor([1.0])}, r"classes must be int64, got torch.float32"),
        ({"classes": torch.tensor([[1]])}, r"classes must be \(B,\), got \(1, 1\)"),
        ({"seeds": torch.tensor([1, 2])}, r"seeds must be as many as classes, 1, got 2"),
        ({"seeds": torch.tensor([1], dtype=torch.int32)}, r"seeds must be int64, got torch.int32"),
        ({"frame_indices": torch.tensor([32])}, r"frame_indices must be 0\.\.31, got 32"),
        ({"frame_indices": torch.tensor([0.0])}, r"frame_indices must be int64, got torch.float32"),
        ({"frame_indices": torch.zeros(2, 3).long()}, r"frame_indices must be \(T,\) or \(1, T\), got"),
        ({"size": 4}, r"size must be at least 8, got 4"),
    ],
)
def test_bad_arguments(change: dict[str, Tensor], message: str) -> None:
    arguments = {"classes": torch.tensor([0]), "seeds": torch.tensor([0])} | change
    with pytest.raises(ValueError, match=message):
        menagerie.render(arguments.pop("classes"), arguments.pop("seeds"), **arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_draws_the_same_bits() -> None:
    classes, seeds = torch.arange(0, 1000, 9), torch.arange(112)
    assert torch.equal(menagerie.render(classes.cuda(), seeds.cuda()).cpu(), menagerie.render(classes, seeds))

"""The menagerie: a procedural world of 1,000 classes of small videos, to regenerate and to judge exactly.

A class is an animal, a coat and a motion (index = 100·animal + 10·coat + motion); a seed decides the rest.

Letters: B samples, T frames, H W pixels, N frames of several samples laid end to end, J = 24 texels of a
sprite's side. Lengths are fractions of the frame's side, x to the right and y downwards, unless they are said
to be pixels.

Two things make a sample the same to the bit in any batch and on any device. Traits come from a counter-based
integer hash of the seed, and motions from tables written by Python's `math`, so no draw and no sine depends
on its neighbours. And the matrix products that place a sprite multiply small integers, which float32 (and
TF32) adds without rounding in whatever order a BLAS chooses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

from mpvideo.sprites import SPRITES

ANIMALS: tuple[str, ...] = tuple(SPRITES)
"""The ten animals, in class order."""

MOTIONS: tuple[str, ...] = (
    "rests",
    "walks right",
    "walks left",
    "hops",
    "bobs",
    "circles clockwise",
    "circles anticlockwise",
    "trots",
    "loops in an eight",
    "grows and shrinks",
)
"""The ten motions as verbs, in class order."""

NUM_CLASSES = 1000
FRAMES = 32
SIZE = 64
FPS = 8

_RESTS, _RIGHT, _LEFT, _HOPS, _BOBS, _CLOCKWISE, _ANTICLOCKWISE, _TROTS, _EIGHT, _GROWS = range(10)

_RGB = tuple[int, int, int]

# coat, its shade, its light
_COATS: dict[str, tuple[_RGB, _RGB, _RGB]] = {
    "golden": ((246, 180, 30), (206, 134, 14), (255, 224, 112)),
    "red": ((218, 40, 40), (160, 22, 36), (246, 104, 88)),
    "green": ((52, 158, 56), (30, 110, 46), (124, 206, 94)),
    "blue": ((46, 86, 216), (28, 54, 152), (104, 150, 248)),
    "white": ((244, 245, 248), (200, 204, 216), (255, 255, 255)),
    "black": ((44, 44, 52), (22, 22, 28), (72, 72, 86)),
    "pink": ((252, 112, 178), (212, 70, 138), (255, 176, 214)),
    "purple": ((134, 56, 192), (92, 32, 140), (178, 116, 228)),
    "cyan": ((20, 208, 222), (10, 152, 172), (136, 240, 242)),
    "brown": ((126, 74, 38), (86, 48, 24), (168, 112, 68)),
}
COATS: tuple[str, ...] = tuple(_COATS)
"""The ten coats, in class order."""

_OUTLINE: _RGB = (30, 24, 36)
_AROUND_BLACK: _RGB = (228, 230, 238)  # a dark line would be lost against a black coat
_WITHIN_BLACK: _RGB = (122, 122, 138)  # dimmer than the line around it, or the coat would look grey
_PAINTS: dict[str, _RGB] = {  # what no coat changes
    "w": (255, 255, 255),
    "e": (24, 20, 30),
    "a": (246, 140, 28),
    "p": (255, 150, 170),
}

_TEXELS = 24
_MARGIN = 0.02  # what every sprite keeps from the frame's edge


@dataclass(frozen=True)
class Scene:
    """All that seeds and classes decide about B samples: enough to draw them, or to judge videos by.

    Colours are float32 in 0..255 holding whole numbers; lengths are fractions of the frame's side.
    """

    animal: Tensor
    """(B,) int64, 0..9."""
    coat: Tensor
    """(B,) int64, 0..9."""
    motion: Tensor
    """(B,) int64, 0..9."""
    sky: Tensor
    """(B, 3) the sky's colour at the top of the frame; it pales towards the horizon."""
    ground: Tensor
    """(B, 3) the ground's colour at the horizon; it darkens a little towards the bottom."""
    horizon: Tensor
    """(B,) height of the horizon, 0.55..0.75 from the top."""
    scale: Tensor
    """(B,) the sprite's largest side, 1/3..1/2 (0.42..0.5 for what grows and shrinks)."""
    place: Tensor
    """(B, 2) x and y of the point that the motion goes around."""
    reach: Tensor
    """(B, 2) how far the centre goes from `place` in x and y."""
    phase: Tensor
    """(B,) int64, 0..31: the frames by which a periodic motion is ahead."""
    centre: Tensor
    """(B, 32, 2) x and y of the sprite's centre in every frame."""
    side: Tensor
    """(B, 32) the sprite's side in every frame."""
    facing: Tensor
    """(B, 32) int64, +1 looks right, -1 looks left."""
    gait: Tensor
    """(B, 32) int64, which of the two gait frames is shown."""


def class_names() -> tuple[str, ...]:
    """Return the 1,000 names in class order, such as "golden dog trots"; none holds a comma."""
    return tuple(f"{coat} {animal} {motion}" for animal, coat, motion in product(ANIMALS, COATS, MOTIONS))


def class_index(animal: int, coat: int, motion: int) -> int:
    """Return 100·animal + 10·coat + motion; each of the three is 0..9, or ValueError."""
    for name, value in (("animal", animal), ("coat", coat), ("motion", motion)):
        if not 0 <= value <= 9:
            raise ValueError(f"{name} must be 0..9, got {value}")
    return 100 * animal + 10 * coat + motion


def scene(classes: Tensor, seeds: Tensor) -> Scene:
    """Work out what the seeds decide.

    classes: (B,) int64 in 0..999. seeds: (B,) int64, any value, on the same device. The seed alone fixes sky,
    ground, horizon and phase, so that one seed shows different classes in the same place. ValueError for
    anything else.
    """
    _check_pairs(classes, seeds)
    animal, coat, motion = classes // 100, classes // 10 % 10, classes % 10
    u = _uniforms(seeds, 16)
    grows = motion == _GROWS
    # What shrinks to 0.6 of its size starts large, or it would end up too small to read.
    scale = torch.where(grows, 0.42 + 0.08 * u[:, 0], 1 / 3 + (1 / 6) * u[:, 0])
    horizon = 0.55 + 0.2 * u[:, 1]
    reach = _reach(motion, scale, u[:, 2])
    place = _place(motion, scale, horizon, reach, u[:, 3], u[:, 4])
    phase = (u[:, 5] * FRAMES).long()

    frames = torch.arange(FRAMES, device=classes.device)
    one_way = (motion == _RIGHT) | (motion == _LEFT)
    step = (frames + torch.where(one_way, 0, phase)[:, None]) % FRAMES
    unit, growth, heading, air = (table[motion[:, None], step] for table in _tracks(classes.device))
    chosen = torch.where(u[:, 6] < 0.5, 1, -1)[:, None]
    gait_period = torch.tensor((64, 2, 2, 2, 4, 2, 2, 2, 2, 4), device=classes.device)[motion]
    stride = (frames + (u[:, 7] * 4).long()[:, None]) // gait_period[:, None] % 2
    return Scene(
        animal=animal,
        coat=coat,
        motion=motion,
        sky=_pastel(u[:, 8], 0.10 + 0.16 * u[:, 9], 0.78 + 0.10 * u[:, 10]),
        ground=_pastel(0.06 + 0.56 * u[:, 11], 0.14 + 0.16 * u[:, 12], 0.60 + 0.10 * u[:, 13]),
        horizon=horizon,
        scale=scale,
        place=place,
        reach=reach,
        phase=phase,
        centre=place[:, None] + reach[:, None] * unit,
        side=scale[:, None] * growth,
        facing=torch.where(heading == 0, chosen, heading),
        gait=torch.where((motion == _HOPS)[:, None], air, stride),
    )


def render(classes: Tensor, seeds: Tensor, *, frame_indices: Tensor | None = None, size: int = SIZE) -> Tensor:
    """Draw samples of the world.

    classes: (B,) int64 in 0..999. seeds: (B,) int64, on the same device. frame_indices: (T,) or (B, T) int64
    in 0..31, all 32 in order by default. size: the frame's side in pixels, at least 8. Returns uint8 (B, T,
    size, size, 3), 0..255 RGB, on the device of `classes`. A sample's pixels depend on its own class, seed
    and frame alone, to the bit. ValueError for a wrong dtype, shape, class, frame or size.
    """
    world = scene(classes, seeds)
    B = len(classes)
    if size < 8:
        raise ValueError(f"size must be at least 8, got {size}")
    index = _frame_table(frame_indices, B, classes.device)
    T = index.shape[1]
    look = (world.animal * 10 + world.coat)[:, None] * 4 + world.gait * 2 + (world.facing < 0)
    look, side = look.gather(1, index), world.side.gather(1, index)
    corner = world.centre.gather(1, index[..., None].expand(B, T, 2)) - side[..., None] / 2
    backdrop = _backdrop(world, size)
    video = torch.empty(B, T, size, size, 3, dtype=torch.uint8, device=classes.device)
    # Chunks only bound the memory (and keep a CPU's cache warm); they cannot change a pixel.
    frames_at_once = 64 if classes.device.type == "cpu" else 16384
    chunk = max(1, frames_at_once * SIZE * SIZE // (size * size * max(T, 1)))
    for a in range(0, B, chunk):
        part = slice(a, a + chunk)
        sprite = _draw(look[part].flatten(), corner[part].flatten(0, 1), side[part].flatten(), size)
        sprite = sprite.view(-1, T, size, size, 4)
        behind = 1 - sprite[..., 3:] * (1 / 65280)
        shown = sprite[..., :3] * (1 / 256) + behind * backdrop[part, None, :, None] + 0.5
        video[part] = shown.to(torch.uint8)
    return video


def _draw(look: Tensor, corner: Tensor, side: Tensor, size: int) -> Tensor:
    """Place N sprites: look (N,) rows of the atlas, corner (N, 2), side (N,) → (N, H, W, 4), premultiplied.

    Each output pixel is the mean of the sprite over its own square, taken along x and then along y. The
    values are whole numbers: colours and alpha in 0..255, times 256.
    """
    N = len(look)
    atlas = _atlas(look.device)[look]
    across, down = _overlaps(corner[:, 0], side, size), _overlaps(corner[:, 1], side, size)
    rows = torch.bmm(across, atlas.view(N, _TEXELS, _TEXELS * 4))
    rows = (rows * (1 / 256)).round_()  # back to 8 bits, so that the second product is exact too
    rows = rows.view(N, size, _TEXELS, 4).transpose(1, 2).reshape(N, _TEXELS, size * 4)
    return torch.bmm(down, rows).view(N, size, size, 4)


def _overlaps(start: Tensor, side: Tensor, size: int) -> Tensor:
    """Return (N, size, J): how much of each pixel each texel covers, in whole 256ths, from `start` on.

    Differences of rounded running sums, so that the texels of a covered pixel add up to 256 exactly.
    """
    edges = torch.arange(_TEXELS + 1, device=start.device, dtype=torch.float32) * (1 / _TEXELS)
    bounds = (start[:, None] + side[:, None] * edges) * (size * 256)
    pixels = torch.arange(size, device=start.device, dtype=torch.float32) * 256
    covered = (bounds.round()[:, None] - pixels[:, None]).clamp_(0, 256)
    return covered[..., 1:] - covered[..., :-1]


def _backdrop(world: Scene, size: int) -> Tensor:
    """Return (B, H, 3) in 0..255: sky over ground, the same in every column and frame."""
    y = (torch.arange(size, device=world.sky.device, dtype=torch.float32) + 0.5) * (1 / size)
    line = world.horizon[:, None]
    depth = ((y - line) / (1 - line)).clamp(0, 1)[..., None]
    height = (y / line).clamp(0, 1)[..., None]
    sky = world.sky[:, None] + (235 - world.sky[:, None]) * (0.35 * height)
    ground = world.ground[:, None] * (1 - 0.12 * depth)
    above = ((line - y) * size + 0.5).clamp(0, 1)[..., None]
    return (ground + (sky - ground) * above).round()


def _reach(motion: Tensor, scale: Tensor, u: Tensor) -> Tensor:
    """Return (B, 2): how far each motion takes the centre from its place, within the room there is."""
    room = (1 - scale) / 2 - _MARGIN  # 0.23 for the largest sprite, 0.31 for the smallest
    wide = room * (0.85 + 0.15 * u)
    radius = 0.14 + 0.06 * u
    trot = torch.minimum(wide, 0.22 + 0.04 * u)
    nil = torch.zeros_like(u)
    hop = 0.1 + 0.03 * u  # half a hop's height
    x = torch.stack((nil, wide, wide, nil, nil, radius, radius, trot, wide, nil), 1)
    y = torch.stack((nil, nil, nil, hop, radius, radius, radius, nil, 0.5 * wide, nil), 1)
    return torch.stack((x, y), 2)[torch.arange(len(motion), device=motion.device), motion]


def _place(motion: Tensor, scale: Tensor, horizon: Tensor, reach: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return (B, 2): where the motion is centred: feet on the ground, or anywhere for what flies."""
    room = ((1 - scale) / 2 - _MARGIN)[:, None] - reach
    x = 0.5 + room[:, 0] * (2 * u - 1)
    flying = 0.5 + room[:, 1] * (2 * v - 1)
    highest = torch.maximum(horizon + 0.05, scale + 2 * reach[:, 1] + _MARGIN)
    feet = highest + (1 - _MARGIN - highest) * v
    standing = feet - reach[:, 1] - scale / 2
    flies = (motion >= _BOBS) & (motion != _TROTS) & (motion != _GROWS)
    return torch.stack((x, torch.where(flies, flying, standing)), 1)


def _pastel(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Turn HSV (B,) each in 0..1 into RGB (B, 3), whole numbers in 0..255."""
    k = (torch.tensor((5.0, 3.0, 1.0), device=hue.device) + hue[:, None] * 6) % 6
    dip = torch.minimum(k, 4 - k).clamp(0, 1)
    return (255 * value[:, None] * (1 - saturation[:, None] * dip)).round()


def _signed(word: int) -> int:
    """Return the int64 with the bits of a 64-bit word."""
    return word - (1 << 64) if word >> 63 else word


def _splitmix64(x: Tensor) -> Tensor:
    """Return the output function of splitmix64 (Steele, Lea, Flood 2014) of int64 x; int64 products wrap."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _uniforms(seeds: Tensor, count: int) -> Tensor:
    """Return (B, count) float32 in [0, 1), multiples of 2^-24: the splitmix64 stream keyed by each seed."""
    gamma = _signed(0x9E3779B97F4A7C15)
    # Hashing the seed first keeps the streams of neighbouring seeds from being one stream, shifted.
    key = _splitmix64(seeds + gamma)[:, None]
    counter = torch.arange(1, count + 1, device=seeds.device) * gamma
    return ((_splitmix64(key + counter) >> 40) & 0xFFFFFF).float() * 2.0**-24


def _unit_track(motion: int, step: float) -> tuple[float, float, float]:
    """Return x and y in -1..1 and the growth in 0.6..1 of a motion, `step` frames into its period of 32."""
    angle = 2 * math.pi * step / FRAMES
    match motion:
        case 1 | 2:
            x = 2 * step / (FRAMES - 1) - 1
            return (x if motion == _RIGHT else -x), 0.0, 1.0
        case 3:  # four hops: two frames on the ground, six in the air
            u = max(0.0, (step % 8 - 1) / 7)
            return 0.0, 1 - 8 * u * (1 - u), 1.0
        case 4:
            return 0.0, math.sin(2 * angle), 1.0
        case 5 | 6:  # y points down, so a growing angle goes clockwise
            return math.cos(angle), math.sin(angle if motion == _CLOCKWISE else -angle), 1.0
        case 7:
            return math.sin(2 * angle), 0.0, 1.0
        case 8:
            return math.sin(angle), math.sin(2 * angle), 1.0
        case 9:
            return 0.0, 0.0, 0.8 + 0.2 * math.cos(2 * angle)
    return 0.0, 0.0, 1.0


@lru_cache(maxsize=8)
def _tracks(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return tables by motion and step: unit track (10, 32, 2); growth, heading, in the air (10, 32).

    The heading is +1 or -1 where the motion moves in x, and 0 where the seed may choose.
    """
    pairs = list(product(range(10), range(FRAMES)))
    track = torch.tensor([_unit_track(m, s) for m, s in pairs], dtype=torch.float32).view(10, FRAMES, 3)
    # Taken half a step on: on the very step of a turning point the sign would be rounding noise.
    speed = [_unit_track(m, s + 0.75)[0] - _unit_track(m, s + 0.25)[0] for m, s in pairs]
    heading = torch.tensor([(v > 0) - (v < 0) for v in speed]).view(10, FRAMES)
    air = (track[..., 1] < 1).long()
    growth = track[..., 2].contiguous()
    return track[..., :2].contiguous().to(device), growth.to(device), heading.to(device), air.to(device)


@lru_cache(maxsize=8)
def _atlas(device: torch.device) -> Tensor:
    """Return (400, J across, J down, 4) float32: premultiplied RGBA, whole numbers in 0..255.

    Row ((10·animal + coat)·2 + gait)·2 + mirrored.
    """
    symbols = ".oOmsl" + "".join(_PAINTS)  # O is the line around the animal, which the art leaves to us
    palettes = []
    for name, coat in _COATS.items():
        lines = (_WITHIN_BLACK, _AROUND_BLACK) if name == "black" else (_OUTLINE, _OUTLINE)
        palettes.append([(0, 0, 0, 0)] + [(*rgb, 255) for rgb in (*lines, *coat, *_PAINTS.values())])
    frames = [frame for pair in SPRITES.values() for frame in pair]
    art = torch.tensor([[[symbols.index(c) for c in row] for row in frame] for frame in frames])
    inked = torch.nn.functional.pad(art.view(-1, 2, _TEXELS - 2, _TEXELS - 2), (1, 1, 1, 1))
    solid = inked > 0
    near = solid.clone()
    for axis, shift in product((2, 3), (-1, 1)):  # the padding keeps what rolls over the edge empty
        near |= solid.roll(shift, axis)
    inked = torch.where(near & ~solid, symbols.index("O"), inked)
    looks = torch.stack((inked, inked.flip(3)), 2)  # (animal, gait, mirrored, down, across)
    painted = torch.tensor(palettes, dtype=torch.float32)[:, looks]  # (coat, animal, gait, mirrored, ...)
    painted = painted.transpose(0, 1).flatten(0, 3)
    return painted.transpose(1, 2).contiguous().to(device)


def _frame_table(frame_indices: Tensor | None, count: int, device: torch.device) -> Tensor:
    """Return the wanted frames of `count` samples as (B, T) int64 on `device`."""
    if frame_indices is None:
        frame_indices = torch.arange(FRAMES)
    if frame_indices.dtype != torch.int64:
        raise ValueError(f"frame_indices must be int64, got {frame_indices.dtype}")
    if frame_indices.ndim not in (1, 2) or (frame_indices.ndim == 2 and len(frame_indices) != count):
        raise ValueError(f"frame_indices must be (T,) or ({count}, T), got {tuple(frame_indices.shape)}")
    _check_range("frame_indices", frame_indices, FRAMES - 1)
    return frame_indices.to(device).expand(count, -1)


def _check_pairs(classes: Tensor, seeds: Tensor) -> None:
    """Raise ValueError unless classes and seeds are (B,) int64 on one device, with classes that exist."""
    for name, value in (("classes", classes), ("seeds", seeds)):
        if value.dtype != torch.int64:
            raise ValueError(f"{name} must be int64, got {value.dtype}")
        if value.ndim != 1:
            raise ValueError(f"{name} must be (B,), got {tuple(value.shape)}")
    if classes.shape != seeds.shape:
        raise ValueError(f"seeds must be as many as classes, {len(classes)}, got {len(seeds)}")
    if classes.device != seeds.device:
        raise ValueError(f"seeds must be on the device of classes, {classes.device}, got {seeds.device}")
    _check_range("classes", classes, NUM_CLASSES - 1)


def _check_range(name: str, value: Tensor, last: int) -> None:
    """Raise ValueError, naming the first offender, unless every value is 0..last."""
    wrong = value[(value < 0) | (value > last)]
    if wrong.numel():
        raise ValueError(f"{name} must be 0..{last}, got {int(wrong[0])}")

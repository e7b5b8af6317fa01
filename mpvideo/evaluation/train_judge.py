"""Trains the judge: `python -m mpvideo.evaluation.train_judge --out judge.safetensors`, about 12 minutes on one core.

It sees fresh renderings of the menagerie in every step, from seeds that nothing else uses. Half of them are spoilt
(blurred, noisy, of another brightness or contrast), so that it reads imperfect videos sensibly, too.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from mpvideo import menagerie
from mpvideo.errors import MPVideoError
from mpvideo.evaluation.judge import ATTRIBUTES, Judge
from mpvideo.files import atomic_path
from mpvideo.video.codec import to_unit

FIRST_SEED = 2**44
"""Generators learn from seeds upwards of 0, autoencoders of 2**40, or both of 2**47: the judge sees none of these."""

_PEAK_RATE = 3e-3


def spoil(videos: Tensor, generator: torch.Generator) -> Tensor:
    """Returns videos (B, T, H, W, 3) in [-1, 1] of which about half are imperfect, each for its whole length.

    A spoilt one is blurred by up to three passes of a (1, 2, 1) filter, gets noise of standard deviation up to 0.2, a
    contrast of 0.75 to 1.25 and a brightness of -0.2 to 0.2: each of these with probability one half.
    """
    B = len(videos)
    spoilt = torch.rand(B, generator=generator) < 0.5
    happens = (torch.rand(4, B, generator=generator) < 0.5) & spoilt
    u = torch.rand(4, B, generator=generator)
    contrast = torch.where(happens[0], 0.75 + 0.5 * u[0], 1.0).view(B, 1, 1, 1, 1)
    brightness = torch.where(happens[1], 0.4 * u[1] - 0.2, 0.0).view(B, 1, 1, 1, 1)
    videos = videos * contrast + brightness
    for index in happens[2].nonzero().flatten().tolist():
        for _ in range(1 + int(3 * u[2, index])):
            videos[index] = _blur(videos[index])
    for index in happens[3].nonzero().flatten().tolist():
        noise = torch.randn(videos.shape[1:], generator=generator)
        videos[index] += 0.2 * u[3, index] * noise
    return videos.clamp_(-1, 1)


def _blur(video: Tensor) -> Tensor:
    """One video (T, H, W, 3) after a (1, 2, 1) / 4 filter along height and width; edges are repeated."""
    for dim in (1, 2):
        first, last = video.narrow(dim, 0, 1), video.narrow(dim, video.shape[dim] - 1, 1)
        padded = torch.cat((first, video, last), dim)
        size = video.shape[dim]
        video = (padded.narrow(dim, 0, size) + 2 * video + padded.narrow(dim, 2, size)) / 4
    return video


def train_judge(steps: int, *, batch: int = 32, seed: int = 0) -> Judge:
    """Trains a judge; Adam's rate rises quickly and then falls linearly to zero.

    Every third step sees `batch` whole videos, for all three answers. The others see four times as many of 8 frames
    each, for animal and coat only: looks take longer to learn than motions, and many animals teach them better than
    many frames.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge()
    optimizer = torch.optim.Adam(judge.parameters(), lr=_PEAK_RATE, fused=True)
    warmup = min(50, steps // 10 + 1)
    next_seed, began, shown = FIRST_SEED, time.monotonic(), [0.0, 0.0, 0.0]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _PEAK_RATE * min((step + 1) / warmup, (steps - step) / steps)
        whole = step % 3 == 0
        videos, wanted = _batch(batch if whole else 4 * batch, next_seed, whole=whole, generator=generator)
        next_seed += len(videos)
        scores = judge(videos)[:3] if whole else judge.looks(videos)
        losses = [F.cross_entropy(score, truth) for score, truth in zip(scores, wanted, strict=False)]
        optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for index, loss in enumerate(losses):
            shown[index] = loss.item() if step < 3 else 0.9 * shown[index] + 0.1 * loss.item()
        if step % 50 == 49:
            losses_now = ", ".join(f"{name} {loss:.4f}" for name, loss in zip(ATTRIBUTES, shown, strict=True))
            say(f"step {step + 1} of {steps}, {time.monotonic() - began:.0f} s: {losses_now}")
    return judge.eval().requires_grad_(False)


def _batch(
    size: int, first_seed: int, *, whole: bool, generator: torch.Generator
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Videos, whole or 8 frames of each, as the judge takes them, with their animals, coats and motions."""
    classes = torch.randint(menagerie.NUM_CLASSES, (size,), generator=generator)
    frames = None if whole else torch.randint(menagerie.FRAMES, (size, 8), generator=generator)
    drawn = menagerie.render(classes, first_seed + torch.arange(size), frame_indices=frames)
    return spoil(to_unit(drawn), generator), (classes // 100, classes // 10 % 10, classes % 10)


def save_judge(path: Path, judge: Judge, about: dict[str, object]) -> None:
    """Writes a judge in float16, with what is to be known about it in the header; an existing file is replaced."""
    tensors = {
        name: value.half().contiguous()
        for name, value in judge.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    data = save(tensors, metadata={"mpvideo_judge": json.dumps(about)})
    with atomic_path(path, overwrite=True) as aside:
        aside.write_bytes(data)


def say(line: str) -> None:
    """Prints a line to standard error."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(
        prog="python -m mpvideo.evaluation.train_judge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="what to write")
    parser.add_argument("--steps", type=int, default=700, metavar="N", help="batches; default: %(default)s")
    options = parser.parse_args()
    if options.steps < 1:
        parser.error(f"--steps must be at least 1, got {options.steps}")
    try:
        judge = train_judge(options.steps)
        about = {"data": "mpvideo.menagerie", "first_seed": FIRST_SEED, "steps": options.steps}
        save_judge(options.out, judge, about)
    except MPVideoError as error:
        say(f"error: {error.message}")
        sys.exit(error.exit_code)
    say(f"{options.out}: {options.steps} steps")


if __name__ == "__main__":
    main()

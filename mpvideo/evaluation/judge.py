"""The judge: a small network that reads animal, coat and motion back from a video of the menagerie.

It has seen renderings of `mpvideo.menagerie` only, some of them blurred, noisy or faded, and nothing that a generator
or its autoencoder made (see `mpvideo.evaluation.train_judge`): a judge of a model has to know nothing of it. It is
right about 99.8% of unseen renderings.

    judge = load_judge()
    reading = judge.read(frames)  # frames: (B, 32, 64, 64, 3) uint8
    reading.classes  # (B,) int64, comparable with menagerie's class index

Letters: B videos, T frames, N = B·T images.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

from mpvideo.errors import CheckpointError
from mpvideo.files import reason
from mpvideo.menagerie import ANIMALS, COATS, FRAMES, MOTIONS, SIZE
from mpvideo.text import printable
from mpvideo.video.codec import to_unit

JUDGE_PATH = Path(__file__).parents[1] / "assets" / "judge.safetensors"
"""The trained judge that comes with the package, in float16."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {"animal": ANIMALS, "coat": COATS, "motion": MOTIONS}
"""What the judge reads, and the values that each can have."""

NUM_FEATURES = 128

_LOOK, _TRACK = 64, 64


@dataclass(frozen=True)
class Reading:
    """What the judge makes of B videos, on the CPU.

    Attributes:
        animal: (B,) int64, 0..9.
        coat: (B,) int64, 0..9.
        motion: (B,) int64, 0..9.
        features: (B, 128) float32, what its three answers are linear in; for Fréchet distances, precision and recall.
    """

    animal: Tensor
    coat: Tensor
    motion: Tensor
    features: Tensor

    @property
    def classes(self) -> Tensor:
        """The three as class indices of the menagerie: (B,) int64."""
        return 100 * self.animal + 10 * self.coat + self.motion

    def __len__(self) -> int:
        return len(self.animal)

    def rows(self, which: slice) -> "Reading":
        """What was read from some of the videos."""
        return Reading(self.animal[which], self.coat[which], self.motion[which], self.features[which])

    @staticmethod
    def cat(readings: Iterable["Reading"]) -> "Reading":
        """Joins readings of several batches."""
        parts = list(readings)
        return Reading(
            animal=torch.cat([part.animal for part in parts]),
            coat=torch.cat([part.coat for part in parts]),
            motion=torch.cat([part.motion for part in parts]),
            features=torch.cat([part.features for part in parts]),
        )


class Judge(nn.Module):
    """Strided convolutions over each image, then convolutions over time; 0.6 M parameters, 12 MFLOP an image.

    Animal and coat are read from what each filter sees at its strongest, anywhere in the image, on average over time:
    neither place nor order matters to them. The motion is read from what each image shows where, less the mean over
    time, so that it cannot be guessed from the looks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(
            *_stage(nn.Conv2d(3, 48, 6, stride=4, padding=1, bias=False), nn.BatchNorm2d(48)),
            *_stage(nn.Conv2d(48, 96, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(96)),
        )
        self.whole = nn.Sequential(
            *_stage(nn.Conv2d(96, 128, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(128)),
        )
        self.place = nn.Sequential(
            nn.Flatten(), *_stage(nn.Linear(128 * (SIZE // 16) ** 2, 96, bias=False), nn.BatchNorm1d(96))
        )
        self.look = nn.Sequential(
            *_stage(nn.Linear(96 + 128, 128), nn.BatchNorm1d(128)), nn.Linear(128, _LOOK), nn.ReLU()
        )
        self.track = nn.Sequential(
            *_stage(nn.Conv1d(96, 96, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(96)),
            *_stage(nn.Conv1d(96, 96, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(96)),
            nn.Flatten(),
            nn.Linear(96 * FRAMES // 4, _TRACK),
            nn.ReLU(),
        )
        self.animal = nn.Linear(_LOOK, len(ANIMALS))
        self.coat = nn.Linear(_LOOK, len(COATS))
        self.motion = nn.Linear(_TRACK, len(MOTIONS))

    def looks(self, videos: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of animals and coats, (B, 10) each, for videos (B, T, H, W, 3) in [-1, 1] of any length."""
        look, _ = self._look(videos)
        return self.animal(look), self.coat(look)

    def forward(self, videos: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scores of animals, coats and motions, (B, 10) each, and features, of videos (B, 32, H, W, 3) in [-1, 1]."""
        look, whole = self._look(videos)
        place = self.place(whole).view(*videos.shape[:2], -1)
        moves = place - place.mean(1, keepdim=True)
        track = self.track(moves.transpose(1, 2))
        return self.animal(look), self.coat(look), self.motion(track), torch.cat((look, track), 1)

    def _look(self, videos: Tensor) -> tuple[Tensor, Tensor]:
        """How the animals look, (B, 64), and the last map of every image, (N, 128, H / 16, W / 16)."""
        parts = self.parts(videos.flatten(0, 1).permute(0, 3, 1, 2))
        whole = self.whole(parts)
        seen = torch.cat((parts.amax((2, 3)), whole.amax((2, 3))), 1)
        return self.look(seen.view(*videos.shape[:2], -1).mean(1)), whole

    @torch.inference_mode()
    def read(self, frames: Tensor, *, videos_at_once: int = 4) -> Reading:
        """Reads videos.

        Args:
            frames: (B, 32, 64, 64, 3) uint8, 0..255 RGB, B at least 1, on any device.
            videos_at_once: bounds the memory; it changes nothing but rounding.

        Raises:
            ValueError: frames have another shape or dtype.
        """
        if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[1:] != (FRAMES, SIZE, SIZE, 3):
            raise ValueError(
                f"frames must be uint8 of (B, {FRAMES}, {SIZE}, {SIZE}, 3), got {frames.dtype} of {tuple(frames.shape)}"
            )
        if not len(frames):
            raise ValueError("frames must hold at least one video, got none")
        device = next(self.parameters()).device
        parts = []
        for part in torch.split(frames, videos_at_once):
            animal, coat, motion, features = (output.cpu() for output in self(to_unit(part.to(device))))
            parts.append(Reading(animal.argmax(1), coat.argmax(1), motion.argmax(1), features))
        return Reading.cat(parts)


def _stage(layer: nn.Module, norm: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module]:
    return layer, norm, nn.ReLU(inplace=True)


def load_judge(path: Path = JUDGE_PATH) -> Judge:
    """Reads a judge: on the CPU, in float32 and evaluation mode.

    Raises:
        CheckpointError: the file is missing or is no judge.
    """
    try:
        tensors = load(path.read_bytes())
        judge = Judge()
        # What BatchNorm counts is of no use once training is over, and is not kept.
        counters = {name: value for name, value in judge.state_dict().items() if name.endswith("num_batches_tracked")}
        judge.load_state_dict({name: value.float() for name, value in tensors.items()} | counters)
    except OSError as error:
        raise CheckpointError(
            f"the judge {printable(path)} cannot be read: {reason(error)}", hint="Reinstall mpvideo from a wheel."
        ) from error
    except Exception as error:  # safetensors' own kinds, and torch's RuntimeError for tensors that do not fit
        raise CheckpointError(f"{printable(path)} is no judge: {printable(error)}") from error
    return judge.eval().requires_grad_(False)


@lru_cache(maxsize=4)
def judge_sha256(path: Path = JUDGE_PATH) -> str:
    """The file's SHA-256 in hex, to stand beside every number that the judge gives."""
    return sha256(path.read_bytes()).hexdigest()

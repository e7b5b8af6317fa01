"""What one video is to be, as far as its sampling goes."""

from dataclasses import dataclass
from typing import TypeVar

from mpvideo.blend import Blend
from mpvideo.checks import check_bool, check_int
from mpvideo.config import MAX_SEED, CheckpointConfig, SamplingConfig

Number = TypeVar("Number")

BATCH_SIZE = 4
"""Videos that are sampled at once where nobody says how many."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One video to make.

    Attributes:
        seed: decides every random draw, 0 to 2**63 - 1; or a blend of two, see `mpvideo.diffusion.SeededNoise`.
        class_index: its class, or a blend of classes; None lets the seed choose where the network has classes.
        sampling: settings of the sampler; None for those of the checkpoint.
        clamp: whether denoised estimates are clamped to [-1, 1]; None for what the checkpoint says.

    Raises:
        ValueError: seed or clamp out of range, or sampling something else.
    """

    seed: int | Blend
    class_index: int | Blend | None = None
    sampling: SamplingConfig | None = None
    clamp: bool | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not isinstance(self.sampling, SamplingConfig | None):
            raise ValueError(f"sampling must be a SamplingConfig or None, got {self.sampling!r}")
        if self.clamp is not None:
            check_bool("clamp", self.clamp)

    def check(self, config: CheckpointConfig, *, guided: bool = False) -> None:
        """Makes sure that a checkpoint can do the job.

        Args:
            config: what it says of itself.
            guided: whether a second network guides it.

        Raises:
            ValueError: its network has no such class, or nothing to guide away from.
        """
        num_classes, sampling = config.model.num_classes, self.sampling or config.sampling
        if num_classes is not None:
            for index in () if self.class_index is None else numbers_of(self.class_index):
                check_int("class_index", index, 0, num_classes - 1)
            return
        if self.class_index is not None:
            raise ValueError(f"class_index must be None for a network without classes, got {self.class_index!r}")
        check_guidance(config, sampling, guided=guided)


def check_seed(seed: int | Blend) -> None:
    """Makes sure that a seed is one, or a place between two.

    Raises:
        ValueError: it is out of range, or a blend of more.
    """
    numbers = numbers_of(seed)
    if len(numbers) > 2:
        raise ValueError(f"seed must be between two seeds, got {seed}")
    for number in numbers:
        check_int("seed", number, 0, MAX_SEED)


def check_guidance(config: CheckpointConfig, sampling: SamplingConfig, *, guided: bool) -> None:
    """Makes sure that there is something to guide away from, if there is guidance.

    Args:
        config: what a checkpoint says of itself.
        sampling: how it is sampled.
        guided: whether a second network guides it.

    Raises:
        ValueError: its network has no classes.
    """
    if config.model.num_classes is None and sampling.guidance != 1 and not guided:
        raise ValueError(f"guidance must be 1 for a network without classes, got {sampling.guidance:g}")


def numbers_of(value: Number | Blend) -> tuple[Number | int, ...]:
    """The numbers of a blend; or of anything else, that alone."""
    return value.numbers if isinstance(value, Blend) else (value,)

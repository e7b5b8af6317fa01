"""What a job may ask for."""

import pytest

from mpvideo.blend import Blend
from mpvideo.config import SamplingConfig
from mpvideo.job import Job
from tests.checkpoints import tiny_config

WITHOUT_CLASSES = tiny_config(num_classes=None)


def test_a_seed_is_checked_at_once() -> None:
    assert Job(seed=2**63 - 1).seed == 2**63 - 1
    for seed, words in ((-1, "at least 0, got -1"), (2**63, "at most"), (1.0, "a whole number, got 1.0")):
        with pytest.raises(ValueError, match=f"seed must be {words}"):
            Job(seed=seed)  # type: ignore[arg-type]
    assert Job(seed=Blend(((3, 1.0), (8, 0.5)))).seed == Blend(((3, 1.0), (8, 0.5)))
    with pytest.raises(ValueError, match=r"^seed must be between two seeds, got 3:1\+8:0\.5\+9:1$"):
        Job(seed=Blend(((3, 1.0), (8, 0.5), (9, 1.0))))
    with pytest.raises(ValueError, match="clamp must be true or false"):
        Job(seed=0, clamp=1)  # type: ignore[arg-type]


def test_what_a_checkpoint_cannot_do_is_refused() -> None:
    Job(seed=0, class_index=2).check(tiny_config())
    Job(seed=0).check(WITHOUT_CLASSES)
    with pytest.raises(ValueError, match=r"^class_index must be at most 2, got 3$"):
        Job(seed=0, class_index=3).check(tiny_config())
    with pytest.raises(ValueError, match="class_index must be None for a network without classes, got 0"):
        Job(seed=0, class_index=0).check(WITHOUT_CLASSES)
    with pytest.raises(ValueError, match=r"guidance must be 1 for a network without classes, got 1\.5"):
        Job(seed=0, sampling=SamplingConfig(guidance=1.5)).check(WITHOUT_CLASSES)

import pytest
import torch

from mpvideo import menagerie
from mpvideo.training.factored import FactoredClassEmbedding
from mpvideo.training.world import FACTORS, MenagerieData

DATA = MenagerieData()


def test_a_sample_is_a_function_of_its_number() -> None:
    frames, classes = DATA.batch([7, 3, 2**40, 2**61])
    assert frames.shape == (4, 32, 64, 64, 3)
    assert frames.dtype == torch.uint8
    assert classes.shape == (4,)
    assert classes.dtype == torch.int64
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for number, index in ((3, 1), (2**61, 3)):  # in any company, and at any time
        alone, (one,) = DATA.batch(range(number, number + 1))
        assert torch.equal(alone[0], frames[index])
        assert one == classes[index]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sample_is_the_rendering_of_its_class_and_seed() -> None:
    numbers = [0, 5, 2**40 + 3]
    frames, classes = DATA.batch(numbers)
    assert torch.equal(frames, menagerie.render(classes, torch.tensor(numbers)))
    assert len({frame.numpy().tobytes() for frame in frames[:, 0]}) == 3


def test_frames_are_where_they_are_wanted_and_labels_on_the_cpu() -> None:
    frames, classes = DATA.batch([3, 5], 4, device="meta")
    assert frames.is_meta and frames.shape == (2, 4, 64, 64, 3)
    assert torch.equal(classes, DATA.batch([3, 5], 4)[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_renders_the_same() -> None:
    frames, classes = DATA.batch([3, 2**61], 8, device="cuda")
    assert frames.is_cuda and not classes.is_cuda
    assert torch.equal(frames.cpu(), DATA.batch([3, 2**61], 8)[0])


def test_clips_are_windows_of_the_whole() -> None:
    numbers = range(20, 44)
    whole, classes = DATA.batch(numbers)
    for length in (1, 8, 31, 32):
        clips, same = DATA.batch(numbers, length)
        assert clips.shape == (24, length, 64, 64, 3)
        assert torch.equal(same, classes)
        starts = [
            [start for start in range(33 - length) if torch.equal(clip, video[start : start + length])]
            for clip, video in zip(clips, whole, strict=True)
        ]
        assert all(starts)
        if length == 8:
            found = {start[0] for start in starts if len(start) == 1}  # all windows of an animal at rest are one
            assert len(found) > 8
            assert min(found) < 6
            assert max(found) > 18


def test_all_classes_come_and_none_more_than_others() -> None:
    """Of 4,000 samples' classes, read off without rendering them: chi-square over the values of each factor."""
    real, asked = menagerie.render, []

    def noted(classes: torch.Tensor, seeds: torch.Tensor, frame_indices: torch.Tensor) -> torch.Tensor:
        asked.append(frame_indices[:, 0])
        return torch.empty(0)

    try:
        menagerie.render = noted  # type: ignore[assignment]
        _, classes = DATA.batch(range(4000), 17)
    finally:
        menagerie.render = real
    assert 0 <= classes.min() <= classes.max() < 1000
    assert classes.unique().numel() > 950  # 982 are expected
    for values in (classes // 100, classes // 10 % 10, classes % 10):
        counts = values.bincount(minlength=10).double()
        assert ((counts - 400) ** 2 / 400).sum() < 33.7  # 9 degrees of freedom: one seed in ten thousand exceeds it
    starts = asked[0].bincount(minlength=16).double()
    assert len(starts) == 16
    assert ((starts - 250) ** 2 / 250).sum() < 44.3  # 15 degrees of freedom


def test_factors_are_those_of_the_class_index() -> None:
    assert FACTORS == (10, 10, 10) == DATA.factors
    design = FactoredClassEmbedding(FACTORS, 1).design
    assert design[:, 207].nonzero().flatten().tolist() == [2, 10 + 0, 20 + 7]
    assert DATA.classes is not None
    assert DATA.classes[207] == "golden dog trots"
    assert len(DATA.classes) == 1000
    assert DATA.fps == 8.0

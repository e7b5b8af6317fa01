import math

import pytest
import torch

from mpvideo.blend import Blend
from mpvideo.config import MAX_SEED
from mpvideo.diffusion import SeededNoise, slerp

SHAPE = (4, 3, 5, 5)


def states(noise: SeededNoise) -> list[bytes]:
    return [generator.get_state().numpy().tobytes() for generator in noise.generators]


@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 2, 3)], ids=["large", "below 16 elements"])
def test_a_sample_does_not_depend_on_its_batch(shape):
    alone, batch = SeededNoise([7]), SeededNoise([3, 7, 0])
    assert alone.random_classes(1000)[0] == batch.random_classes(1000)[1]
    for _ in range(3):
        torch.testing.assert_close(alone.randn(*shape)[0], batch.randn(*shape)[1], rtol=0, atol=0)


def test_the_class_draw_is_made_whether_asked_for_or_not():
    asked, not_asked = SeededNoise([5, 6]), SeededNoise([5, 6])
    asked.random_classes(10)
    asked.random_classes(1000)
    torch.testing.assert_close(asked.randn(*SHAPE), not_asked.randn(*SHAPE), rtol=0, atol=0)


def test_random_classes_are_uniform():
    classes = SeededNoise(range(5000)).random_classes(10)
    assert classes.dtype == torch.int64
    counts = classes.bincount(minlength=10)
    assert len(counts) == 10
    assert ((counts - 500) ** 2 / 500).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001


def test_one_class_is_class_zero():
    assert SeededNoise([1, 2, 3]).random_classes(1).tolist() == [0, 0, 0]


def test_draws_are_standard_normal():
    draws = SeededNoise([0, 1]).randn(8, 16, 32, 32)
    assert abs(draws.mean()) < 0.005
    assert abs(draws.std() - 1) < 0.005
    assert abs((draws[0] * draws[1]).mean()) < 0.01


def test_seeds_differ_also_above_32_bits():
    seeds = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**62, MAX_SEED]
    noise = SeededNoise(seeds).randn(*SHAPE)
    for i in range(len(seeds)):
        for j in range(i):
            assert not torch.equal(noise[i], noise[j]), (seeds[i], seeds[j])


def test_draws_are_the_same_in_any_dtype():
    single, double = SeededNoise([4]), SeededNoise([4])
    assert double.randn_like(torch.zeros(1, *SHAPE, dtype=torch.float64)).dtype == torch.float64
    torch.testing.assert_close(single.randn(*SHAPE).double(), SeededNoise([4]).randn(*SHAPE, dtype=torch.float64))


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    SeededNoise([0]).randn(*SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_goes_to_its_device():
    noise = SeededNoise([0], device="meta")
    assert noise.randn(*SHAPE).device.type == "meta"
    assert noise.random_classes(3).device.type == "meta"


# Between two seeds


def test_slerp_turns_evenly_from_one_end_to_the_other():
    a, b = SeededNoise([3, 8]).randn(*SHAPE).double()
    ends = (slerp(a, b, 0.0), slerp(a, b, 1.0))
    assert torch.equal(ends[0], a)
    assert torch.equal(ends[1], b)
    x, y = torch.tensor([2.0, 0.0]).double(), torch.tensor([0.0, 2.0]).double()
    for share in (0.25, 0.5, 0.9):
        angle = share * torch.pi / 2
        expected = torch.tensor([2 * math.cos(angle), 2 * math.sin(angle)]).double()
        torch.testing.assert_close(slerp(x, y, share), expected)
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    torch.testing.assert_close(slerp(x, -x, 0.25), x / 2)
    assert not slerp(0 * a, 0 * a, 0.5).any()


def test_a_place_between_two_seeds_is_noise_like_any_other():
    blends = [Blend(((3, 1 - share), (8, share))) for share in (0.0, 0.25, 0.5, 1.0)]
    noise, ends = SeededNoise([*blends, 7]), SeededNoise([3, 8, 7])
    assert len(noise) == 5
    for _ in range(2):  # the start noise, and what churn puts back
        draws, own = noise.randn(8, 16, 16, 16), ends.randn(8, 16, 16, 16)
        assert torch.equal(draws[0], own[0])
        assert torch.equal(draws[3], own[1])
        assert torch.equal(draws[4], own[2])
        assert (draws.flatten(1).std(1) - 1).abs().max() < 0.02  # a straight line has 0.71 in the middle
        torch.testing.assert_close(draws[2], slerp(own[0], own[1], 0.5))
    assert noise.random_classes(1000)[:4].tolist() == [ends.random_classes(1000)[0].item()] * 4


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "seeds must be at least one, got none"),
        ([0, -1], "seeds must be whole numbers from 0 to 9223372036854775807, got -1"),
        ([2**63], "got 9223372036854775808"),
        ([True], "got True"),
        ([Blend(((1, 1), (2, 1), (3, 1)))], r"seeds must be blends of two, got 1:1\+2:1\+3:1"),
        ([1.5], "got 1.5"),
    ],
)
def test_bad_seeds(seeds, message):
    with pytest.raises(ValueError, match=message):
        SeededNoise(seeds)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        SeededNoise([0]).random_classes(0)
    noise = SeededNoise([0, 1])
    before = states(noise)
    with pytest.raises(ValueError, match="x must have 2 samples, one for each seed, got 3"):
        noise.randn_like(torch.zeros(3, *SHAPE))
    assert states(noise) == before

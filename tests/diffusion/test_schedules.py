import math

import pytest
import torch

from mpvideo.diffusion import cosine_sigmas, exponential_sigmas, karras_sigmas, linear_sigmas


@pytest.mark.parametrize("num_steps", [2, 3, 18, 32, 1000])
@pytest.mark.parametrize("rho", [0.01, 1.0, 7.0, 100.0])
def test_descends_from_sigma_max_over_sigma_min_to_zero(num_steps, rho):
    sigmas = karras_sigmas(num_steps, sigma_min=0.002, sigma_max=80.0, rho=rho)
    assert sigmas.dtype == torch.float64
    assert sigmas.device.type == "cpu"
    assert sigmas.shape == (num_steps + 1,)
    assert sigmas[0].item() == 80.0  # exactly
    assert sigmas[-2].item() == 0.002
    assert sigmas[-1].item() == 0.0
    assert bool((sigmas.diff() < 0).all())


def test_one_step_is_sigma_max_to_zero():
    assert karras_sigmas(1, sigma_min=0.002, sigma_max=80.0).tolist() == [80.0, 0.0]


def test_roots_are_evenly_spaced():
    roots = karras_sigmas(10, sigma_min=0.01, sigma_max=50.0, rho=7.0)[:-1] ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(9), rtol=1e-12, atol=0)


def test_rho_one_is_linear():
    sigmas = karras_sigmas(5, sigma_min=1.0, sigma_max=5.0, rho=1.0)
    assert sigmas.tolist() == pytest.approx([5, 4, 3, 2, 1, 0], rel=1e-14)


def test_published_values():
    """Two of the middle levels of the paper's defaults, worked out by hand from eq. 5."""
    sigmas = karras_sigmas(18, sigma_min=0.002, sigma_max=80.0)
    for i in (1, 9):
        root = 80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))
        assert math.isclose(sigmas[i].item(), root**7, rel_tol=1e-13)


OTHERS = [exponential_sigmas, linear_sigmas, cosine_sigmas]


@pytest.mark.parametrize("num_steps", [1, 2, 3, 18, 1000])
@pytest.mark.parametrize("sigmas_of", OTHERS)
def test_the_others_descend_between_the_same_ends(sigmas_of, num_steps):
    sigmas = sigmas_of(num_steps, sigma_min=0.002, sigma_max=80.0)
    assert sigmas.dtype == torch.float64
    assert sigmas.shape == (num_steps + 1,)
    assert (sigmas[0].item(), sigmas[-1].item()) == (80.0, 0.0)
    assert num_steps == 1 or sigmas[-2].item() == 0.002
    assert bool((sigmas.diff() < 0).all())


def test_what_is_even_in_each():
    for sigmas_of, even in ((exponential_sigmas, torch.log), (linear_sigmas, torch.clone), (cosine_sigmas, torch.atan)):
        spacing = even(sigmas_of(12, sigma_min=0.02, sigma_max=50.0)[:-1]).diff()
        torch.testing.assert_close(spacing, spacing.mean().expand(11), rtol=1e-10, atol=0)


def test_exponential_is_karras_for_a_great_rho():
    karras = karras_sigmas(9, sigma_min=0.02, sigma_max=50.0, rho=1e6)
    torch.testing.assert_close(exponential_sigmas(9, sigma_min=0.02, sigma_max=50.0), karras, rtol=1e-5, atol=0)


@pytest.mark.parametrize("sigmas_of", OTHERS)
def test_the_others_check_alike(sigmas_of):
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        sigmas_of(0, 0.1, 1.0)
    with pytest.raises(ValueError, match=r"sigma_min < sigma_max, got 2.0 and 1.0"):
        sigmas_of(4, 2.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.1, 1.0, 7.0), "num_steps must be at least 1, got 0"),
        ((-1, 0.1, 1.0, 7.0), "num_steps must be at least 1, got -1"),
        ((4, 0.0, 1.0, 7.0), "sigma_min < sigma_max, got 0.0 and 1.0"),
        ((4, 2.0, 1.0, 7.0), "sigma_min < sigma_max, got 2.0 and 1.0"),
        ((4, 0.1, math.inf, 7.0), "sigma_min < sigma_max, got 0.1 and inf"),
        ((4, math.nan, 1.0, 7.0), "sigma_min < sigma_max, got nan and 1.0"),
        ((4, 0.1, 1.0, 0.0), "rho must be finite and greater than 0, got 0.0"),
        ((4, 0.1, 1.0, math.nan), "rho must be finite and greater than 0, got nan"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        karras_sigmas(*arguments)

"""The multistep samplers' weights against integrals that are known."""

import math

import numpy as np
import pytest

from mpvideo.diffusion.samplers.multistep import deis_rule, dpmpp_2m_rule, dpmpp_3m_rule, ipndm_rule, lms_rule
from mpvideo.diffusion.samplers.weights import adams_weights, exponential_weights, vp_time_weights

LEVELS = (3.0, 4.0, 7.0, 15.0)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_adams_weights_integrate_polynomials_of_sigma(depth):
    levels = LEVELS[:depth]
    for power in range(depth):
        total = sum(w * level**power for w, level in zip(adams_weights(levels, 3.0, 2.0), levels, strict=True))
        assert total == pytest.approx((2.0 ** (power + 1) - 3.0 ** (power + 1)) / (power + 1), rel=1e-12)


def test_adams_weights_of_equal_steps_are_the_classical_ones():
    weights = adams_weights([4.0, 5.0, 6.0, 7.0], 4.0, 3.0)
    assert weights == pytest.approx([-55 / 24, 59 / 24, -37 / 24, 9 / 24], rel=1e-12)
    assert ipndm_rule([4.0, 5.0, 6.0, 7.0], 3.0)[1] == pytest.approx(weights, rel=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("sigma_next", [2.9, 0.3, 1e-3])
def test_exponential_weights_integrate_polynomials_of_lambda(depth, sigma_next):
    """By parts: the integral of exp(u - h) u**k over 0 .. h is h**k - k times that of k - 1."""
    levels = LEVELS[:depth]
    weights = exponential_weights(levels, 3.0, sigma_next)
    h = math.log(3.0 / sigma_next)
    exact = 1 - math.exp(-h)
    for power in range(depth):
        if power:
            exact = h**power - power * exact
        total = sum(w * math.log(3.0 / level) ** power for w, level in zip(weights, levels, strict=True))
        assert total == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_exponential_weights_through_the_end_of_the_step():
    """UniPC's corrector: the polynomial passes through the estimate at the end, too."""
    weights = exponential_weights([2.0, 3.0], 3.0, 2.0)
    h = math.log(1.5)
    first = 1 - math.exp(-h)
    assert sum(weights) == pytest.approx(first, rel=1e-12)
    assert weights[0] * h == pytest.approx(h - first, rel=1e-10)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_vp_time_weights_integrate_polynomials_of_the_process_time(depth):
    """Of t(sigma)**k against a fine trapezium rule."""
    levels = LEVELS[:depth]

    def time(sigma):
        return (math.sqrt(0.1**2 + 2 * 19.9 * math.log(1 + sigma**2)) - 0.1) / 19.9

    assert math.exp(19.9 * time(3.0) ** 2 / 2 + 0.1 * time(3.0)) - 1 == pytest.approx(9.0, rel=1e-12)
    weights = vp_time_weights(levels, 3.0, 1.0)
    n = 20_000
    points = [3 - 2 * (i + 0.5) / n for i in range(n)]
    for power in range(depth):
        exact = -2 / n * sum(time(point) ** power for point in points)
        total = sum(w * time(level) ** power for w, level in zip(weights, levels, strict=True))
        assert total == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("sigma_next", [3.0, 0.1, 0.002, 1e-6])
def test_vp_time_weights_of_long_steps(sigma_next):
    """Two levels: the second weight is the integral of (t - t_0) / (t_1 - t_0), here in a thousand parts."""

    def time(sigma):
        return (np.sqrt(0.1**2 + 2 * 19.9 * np.log1p(sigma**2)) - 0.1) / 19.9

    nodes, masses = np.polynomial.legendre.leggauss(8)
    ends = np.geomspace(5.0, sigma_next, 1001)
    half, middle = np.diff(ends) / 2, (ends[1:] + ends[:-1]) / 2
    points = middle[:, None] + half[:, None] * nodes
    slope = (time(points) - time(5.0)) / (time(80.0) - time(5.0))
    second = (half[:, None] * masses * slope).sum()
    expected = [sigma_next - 5.0 - second, second]
    assert vp_time_weights([5.0, 80.0], 5.0, sigma_next) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("weights", [adams_weights, vp_time_weights, exponential_weights])
def test_weights_are_found_once(weights, monkeypatch):
    found = weights([1.23, 4.56], 1.23, 0.7)
    monkeypatch.setattr("mpvideo.diffusion.samplers.weights._integrals", None)
    assert weights((1.23, 4.56), 1.23, 0.7) == found
    with pytest.raises(TypeError):
        weights([1.23, 4.56], 1.23, 0.8)


def test_rules_start_as_euler():
    """With one value all take the same step: D for D, the slope for the slope."""
    for rule in (dpmpp_2m_rule, dpmpp_3m_rule):
        scale, weights = rule([4.0], 1.0)
        assert [scale, *weights] == pytest.approx([0.25, 0.75], rel=1e-12)
    for rule in (deis_rule, ipndm_rule, lms_rule):
        scale, weights = rule([4.0], 1.0)
        assert [scale, *weights] == pytest.approx([1.0, -3.0], rel=1e-12)


def test_rule_of_dpmpp_2m():
    """With equal steps of lambda: (1 - ratio) (3/2 D_0 - 1/2 D_1)."""
    scale, weights = dpmpp_2m_rule([2.0, 4.0], 1.0)
    assert [scale, *weights] == pytest.approx([0.5, 0.75, -0.25], rel=1e-12)


def test_rule_of_dpmpp_3m_is_that_of_the_paper_with_its_quadratic_term_whole():
    """phi_1 D_0, phi_2 D' and 2 phi_3 D'' / 2, by differences."""
    h, r0, r1 = math.log(2.0), math.log(1.5) / math.log(2.0), math.log(2.0) / math.log(2.0)
    phi_1 = math.expm1(-h)
    phi_2 = phi_1 / h + 1
    phi_3 = phi_2 / h - 0.5
    latest, before, first = 0.3, -0.8, 0.5
    d0, d1 = (latest - before) / r0, (before - first) / r1
    linear, quadratic = d0 + r0 / (r0 + r1) * (d0 - d1), (d0 - d1) / (r0 + r1)
    expected = 0.5 * 7.0 - phi_1 * latest + phi_2 * linear - 2 * phi_3 * quadratic
    scale, weights = dpmpp_3m_rule([2.0, 3.0, 6.0], 1.0)
    assert scale * 7.0 + weights[0] * latest + weights[1] * before + weights[2] * first == pytest.approx(expected)

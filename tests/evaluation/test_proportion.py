"""Wilson's interval."""

import pytest

from mpvideo.evaluation.proportion import Proportion

Z = 1.959963984540054


@pytest.mark.parametrize(("hits", "total"), [(1, 10), (5, 10), (263, 300), (499, 500)])
def test_the_ends_solve_wilson_s_equation(hits: int, total: int) -> None:
    """They are the p whose standard error puts the share seen 1.96 of them away: |p̂ − p| = z √(p(1 − p)/n)."""
    share = Proportion(hits, total)
    for end in share.interval:
        assert abs(share.value - end) == pytest.approx(Z * (end * (1 - end) / total) ** 0.5, rel=1e-9)
    low, high = share.interval
    assert low < share.value < high


def test_none_and_all() -> None:
    """None of n: from 0 to z² / (n + z²), and all of n the mirror of it."""
    assert Proportion(0, 20).interval == pytest.approx((0, Z**2 / (20 + Z**2)), abs=1e-12)
    assert Proportion(20, 20).interval == pytest.approx((20 / (20 + Z**2), 1), abs=1e-12)
    assert 0 <= Proportion(0, 7).interval[0] <= Proportion(7, 7).interval[1] <= 1


def test_json() -> None:
    share = Proportion(3, 4)
    low, high = share.interval
    assert share.to_dict() == {"value": 0.75, "low": low, "high": high, "hits": 3, "total": 4}


@pytest.mark.parametrize(("hits", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_refusals(hits: int, total: int) -> None:
    with pytest.raises(ValueError, match="hits must be"):
        Proportion(hits, total)

"""Which classes are sampled."""

from collections import Counter

from mpvideo.evaluation.classes import balanced_classes


def test_every_class_as_often_as_any_other() -> None:
    counts = Counter(balanced_classes(24, 10, seed=3))
    assert set(counts) == set(range(10))
    assert set(counts.values()) == {2, 3}
    assert len(set(balanced_classes(10, 1000, seed=0))) == 10


def test_the_seed_decides() -> None:
    assert balanced_classes(50, 1000, seed=1) == balanced_classes(50, 1000, seed=1)
    assert balanced_classes(50, 1000, seed=1) != balanced_classes(50, 1000, seed=2)
    assert balanced_classes(50, 1000, seed=1) == balanced_classes(80, 1000, seed=1)[:50]

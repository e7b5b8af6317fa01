import pytest

from mpvideo.kernel_form import gradients_by_points, kernel_form, values_per_tap


@pytest.mark.parametrize(
    ("widths", "shape", "form"),
    [
        ((64, 64), (32, 2, 2), "points"),
        ((64, 64), (1, 2, 2), "points"),
        ((63, 64), (32, 2, 2), "planes"),
        ((64, 63), (32, 2, 2), "planes"),
        ((64, 64), (32, 1, 2), "planes"),
        ((64, 64), (32, 2, 1), "planes"),
        ((64, 64), (32, 1, 1), "planes"),
        ((64, 64), (32, 4, 4), "points"),
        ((128, 64), (32, 4, 4), "points"),
        ((48, 48), (4, 16, 16), "points"),
        ((64, 64), (127, 4, 4), "points"),
        ((64, 64), (128, 4, 4), "taps"),
        ((64, 64), (8, 16, 16), "taps"),
        ((64, 64), (3, 32, 32), "direct"),
        ((64, 64), (31, 4, 4), "direct"),
        ((129, 64), (32, 4, 4), "direct"),
        ((64, 129), (32, 4, 4), "direct"),
        ((47, 64), (32, 4, 4), "direct"),
        ((64, 47), (32, 4, 4), "direct"),
        ((64, 64), (32, 6, 8), "direct"),
        ((64, 64), (32, 8, 6), "direct"),
        ((64, 64), (32, 3, 3), "direct"),
        ((64, 5), (8, 8, 8), "stacked"),
        ((31, 5), (8, 8, 8), "direct"),
        ((64, 6), (8, 8, 8), "direct"),
    ],
)
def test_forms_in_float32(widths, shape, form):
    assert kernel_form(*widths, shape, "float32") == form


@pytest.mark.parametrize(
    ("widths", "batch", "shape", "expected"),
    [
        ((64, 64), 1, (32, 4, 4), True),
        ((64, 64), 1, (128, 4, 4), True),
        ((64, 64), 1, (8, 16, 16), True),
        ((64, 64), 1, (1, 2, 2), True),
        ((63, 64), 16, (32, 2, 2), False),
        ((16, 16), 2, (32, 4, 4), True),
        ((16, 16), 16, (4, 4, 4), True),
        ((16, 16), 1, (63, 4, 4), False),
        ((16, 16), 22, (3, 4, 4), False),
        ((15, 16), 2, (32, 4, 4), False),
        ((16, 15), 2, (32, 4, 4), False),
        ((16, 16), 2, (32, 4, 8), False),
        ((16, 16), 2, (32, 8, 4), False),
    ],
)
def test_whose_gradients_are_made_by_points(widths, batch, shape, expected):
    assert gradients_by_points(*widths, batch, shape) == expected


@pytest.mark.parametrize(
    ("widths", "shape", "form"),
    [
        ((64, 64), (32, 2, 2), "planes"),
        ((64, 32), (8, 32, 32), "pairs"),
        ((64, 32), (8, 31, 32), "direct"),
        ((64, 31), (16, 32, 32), "direct"),
        ((512, 512), (8, 8, 8), "pairs"),
        ((512, 512), (7, 32, 32), "direct"),
        ((64, 64), (32, 4, 4), "direct"),
        ((64, 5), (8, 8, 8), "stacked"),
    ],
)
def test_forms_in_bfloat16(widths, shape, form):
    assert kernel_form(*widths, shape, "bfloat16") == form


def test_other_dtypes_have_no_points():
    for dtype in ("float16", "float64"):
        assert kernel_form(64, 64, (32, 32, 32), dtype) == "direct"
        assert kernel_form(64, 3, (32, 32, 32), dtype) == "direct"
        assert kernel_form(64, 64, (32, 2, 2), dtype) == "planes"


def test_values():
    assert values_per_tap(64, 64, (32, 2, 2), "float32") == 1
    assert values_per_tap(64, 64, (32, 4, 4), "float32") == 4
    assert values_per_tap(64, 64, (8, 16, 16), "float32") == 1
    assert values_per_tap(64, 64, (32, 4, 4), "bfloat16") == 1
    assert values_per_tap(64, 64, (32, 32, 32), "bfloat16") == 36 / 27
    assert values_per_tap(64, 64, (32, 2, 2), "bfloat16") == 48 / 27
    assert values_per_tap(64, 64, (32, 1, 1), "bfloat16") == 3 / 27

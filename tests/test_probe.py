import math

import pytest
import torch
import torch.nn.functional as F

from mpvideo import probe
from mpvideo.nn import planes
from mpvideo.nn.kernels import Convolution, SmallPlaneConvolution, WinogradConvolution
from mpvideo.probe import ERROR_LIMITS, Check, check_block, measure_speedup

EVERYWHERE = ("float32", "bfloat16")  # float16 is not on every CPU


@pytest.fixture(autouse=True)
def forget():
    """Every test measures anew, and leaves nothing measured behind."""
    for measured in (check_block, measure_speedup, probe._reference):
        measured.cache_clear()
    yield
    for measured in (check_block, measure_speedup, probe._reference):
        measured.cache_clear()


@pytest.mark.parametrize("dtype", EVERYWHERE)
def test_a_sound_cpu_passes_and_rounds(dtype):
    check = check_block("cpu", dtype)
    assert check.problem is None
    assert ERROR_LIMITS[dtype] / 10_000 < check.error < ERROR_LIMITS[dtype] / 3


SOUND = Convolution.__call__


def broken_convolution(self, x, **after):
    """Leaves the last frame out, as a kernel with a wrong bound does."""
    out = SOUND(self, x, **after).clone()
    out[:, -1] = 0
    return out


def unscaled_attention(q, k, v):
    return F.softmax(q.shape[-1] ** 0.5 * q @ k.mT, dim=-1) @ v


@pytest.mark.parametrize("dtype", EVERYWHERE)
@pytest.mark.parametrize(
    ("place", "function"),
    [
        ("mpvideo.nn.kernels.Convolution.__call__", broken_convolution),
        ("mpvideo.nn.inference.cosine_attention", unscaled_attention),
    ],
)
def test_wrong_kernels_are_found(monkeypatch, dtype, place, function):
    probe._reference()
    monkeypatch.setattr(place, function)
    check = check_block("cpu", dtype)
    assert check.error is not None and check.error > check.limit
    assert check.problem is not None
    assert check.problem.startswith("is wrong on a test block: relative error ")


def test_wrong_products_of_small_planes_are_found(monkeypatch):
    probe._reference()
    sound = planes.three_planes
    monkeypatch.setattr(planes, "three_planes", lambda x: sound(x.flip(1)).flip(1))
    check = check_block("cpu", "bfloat16")
    assert check.error is not None and check.error > check.limit


@pytest.mark.parametrize("form", [Convolution, SmallPlaneConvolution])
def test_no_finite_result_of_one_of_the_forms(monkeypatch, form):
    probe._reference()
    sound = form.__call__
    monkeypatch.setattr(form, "__call__", lambda self, x, **after: sound(self, x, **after) / 0)
    check = check_block("cpu", "bfloat16")
    assert check == Check("cpu", "bfloat16", None)
    assert check.problem == "gives NaN or infinity on a test block"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("no kernel image\nfor this device"), "no kernel image"),
        (NotImplementedError("slow_conv3d not implemented for 'Half'"), "slow_conv3d not implemented for 'Half'"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "CUDA out of memory. Tried"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_what_cannot_be_computed(monkeypatch, error, words):
    def fail(*_, **__):
        raise error

    probe._reference()
    monkeypatch.setattr(Convolution, "__call__", fail)
    assert check_block("cpu", "float16").problem == f"fails on a test block: {words}"
    assert measure_speedup("cpu") is None


def test_the_timed_block_has_the_method_of_most_of_a_network():
    block = probe.Trial(probe._TIMED_ON_CPU, torch.device("cpu"), torch.float32)._block
    assert isinstance(block._conv1, WinogradConvolution)
    assert isinstance(block._conv2, WinogradConvolution)


def test_it_is_measured_once(monkeypatch):
    first, speedup = check_block("cpu", "float32"), measure_speedup("cpu")
    monkeypatch.setattr("mpvideo.probe.Trial", None)
    assert check_block("cpu", "float32") is first
    assert measure_speedup("cpu") == speedup


def test_speedup(monkeypatch):
    """Of a clock that ticks 6 in float32 and 2 in bfloat16, but for rounds in which something else interferes."""
    late = iter([0, 0, 9, 0, 0, 5] + 50 * [0])
    monkeypatch.setattr("mpvideo.probe._timed", lambda block: (6 if block.dtype == torch.float32 else 2) + next(late))
    assert measure_speedup("cpu") == 3


def test_speedup_of_a_device_that_is_too_slow_is_still_known(monkeypatch):
    monkeypatch.setattr("mpvideo.probe._SECONDS", 0.0)
    speedup = measure_speedup("cpu")
    assert speedup is not None and 0 < speedup < math.inf


def test_nothing_is_left_changed():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        check_block("cpu", "float32")
        measure_speedup("cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.rand(4), expected)
    assert not torch.is_inference_mode_enabled()

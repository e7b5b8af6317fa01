import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mpvideo.nn import planes, winograd
from mpvideo.nn.convolution import conv3d_same, weight_gradient
from mpvideo.nn.processor import onednn_bfloat16


def operands(
    batch: int, dim_in: int, dim_out: int, frames: int, height: int, width: int, k: int
) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(batch, dim_in, frames, height, width, generator=generator, dtype=torch.float64),
        torch.randn(dim_out, dim_in, k, k, k, generator=generator, dtype=torch.float64),
        torch.randn(batch, dim_out, frames, height, width, generator=generator, dtype=torch.float64),
    )


small = st.integers(1, 4)


@settings(max_examples=60, deadline=None)
@given(sizes=st.tuples(small, small, small, small, st.integers(1, 5), st.integers(1, 5)))
def test_weight_gradient_is_autograds(sizes):
    x, weight, gradient = operands(*sizes, 3)
    F.conv3d(x, weight.requires_grad_(), padding=1).backward(gradient)
    torch.testing.assert_close(weight_gradient(x, gradient).double(), weight.grad, atol=1e-4, rtol=1e-4)


def test_error_of_the_weight_gradient_in_bfloat16():
    x, weight, gradient = operands(4, 64, 64, 16, 4, 4, 3)
    x, gradient = x.bfloat16(), gradient.bfloat16()
    F.conv3d(x.double(), weight.requires_grad_(), padding=1).backward(gradient.double())
    error = weight_gradient(x, gradient) - weight.grad
    assert error.norm() < 0.0065 * weight.grad.norm()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 3])
def test_bfloat16_training_is_float32s(size, frames, k):
    x, weight, gradient = operands(3, 16, 24, frames, size, size, k)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()]
        y = conv3d_same(*inputs)
        y.backward(gradient.to(dtype))
        results.append([y.detach().float(), *(value.grad.float() for value in inputs)])
    for exact, rounded in zip(*results, strict=True):
        assert (exact - rounded).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize(("size", "by_products"), [(2, False), (3, True), (4, True), (5, False)])
def test_planes_whose_kernels_learn_by_products(size, by_products):
    x, weight, _ = (value.bfloat16() for value in operands(2, 16, 24, 4, size, size, 3))
    made_by = conv3d_same(x, weight.requires_grad_()).grad_fn
    assert ("_ByProducts" in type(made_by).__name__) == by_products


@pytest.mark.skipif(not onednn_bfloat16(), reason="without oneDNN's bfloat16 kernels the layout is nobody's wish")
def test_bfloat16_is_channels_last():
    x, weight, _ = (value.bfloat16() for value in operands(2, 4, 3, 2, 4, 4, 3))
    assert conv3d_same(x, weight).is_contiguous(memory_format=torch.channels_last_3d)


def test_an_input_without_gradient_gets_none():
    x, weight, gradient = (value.bfloat16() for value in operands(2, 4, 3, 2, 4, 4, 3))
    conv3d_same(x, weight.requires_grad_()).backward(gradient)
    assert x.grad is None
    assert weight.grad is not None


OWN = [(5, 3, 2, 1), (5, 3, 2, 3), (64, 3, 2, 3), (5, 3, 4, 3), (16, 64, 4, 3), (48, 32, 4, 3)]
"""Channels, frames, size and kernel size of convolutions by other means than the library's in some dtype."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("dim", "frames", "size", "k"), OWN)
def test_an_empty_batch(dim, frames, size, k, dtype):
    x, weight, gradient = (value.to(dtype) for value in operands(0, dim, dim + 1, frames, size, size, k))
    y = conv3d_same(x.requires_grad_(), weight.requires_grad_())
    assert y.shape == gradient.shape
    y.backward(gradient)
    assert x.grad.shape == x.shape
    assert not weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("dim", "frames", "size"), [(5, 3, 2), (5, 3, 4), (48, 32, 4)])
def test_larger_kernels(dim, frames, size, dtype):
    x, weight, gradient = (value.to(dtype) for value in operands(1, dim, dim, frames, size, size, 5))
    exact = [value.detach().float().requires_grad_() for value in (x, weight)]
    F.conv3d(*exact, padding=2).backward(gradient.float())
    conv3d_same(x.requires_grad_(), weight.requires_grad_()).backward(gradient)
    for ours, right in zip((x, weight), exact, strict=True):
        assert (ours.grad.float() - right.grad).norm() < (1e-5 if dtype == torch.float32 else 0.02) * right.grad.norm()


@pytest.mark.parametrize(("dim", "by_points"), [(16, False), (48, True)])
def test_which_convolve_by_points_and_which_only_learn_so(monkeypatch, dim, by_points):
    x, weight, gradient = (value.float() for value in operands(2, dim, dim, 32, 4, 4, 3))
    convolve, convolved = winograd.convolve, []
    gradients, made = winograd.gradients, []
    monkeypatch.setattr(winograd, "convolve", lambda *arguments: convolved.append(1) or convolve(*arguments))
    monkeypatch.setattr(winograd, "gradients", lambda *arguments: made.append(1) or gradients(*arguments))
    conv3d_same(x, weight.requires_grad_()).backward(gradient)
    assert (bool(convolved), bool(made)) == (by_points, True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_planes_are_convolved_as_a_whole(monkeypatch, size, dtype):
    x, weight, _ = (value.to(dtype) for value in operands(1, 5, 5, 3, size, size, 3))
    convolve, convolved = planes.convolve, []
    monkeypatch.setattr(planes, "convolve", lambda *arguments: convolved.append(1) or convolve(*arguments))
    conv3d_same(x, weight.requires_grad_())
    assert bool(convolved) == (size <= 2)


def test_an_input_without_gradient_is_given_none_by_points(monkeypatch):
    x, weight, gradient = (value.float() for value in operands(1, 48, 48, 32, 4, 4, 3))
    gradients, made = winograd.gradients, []
    monkeypatch.setattr(winograd, "gradients", lambda *arguments: made.append(gradients(*arguments)) or made[-1])
    for needs in (False, True):
        conv3d_same(x.requires_grad_(needs), weight.requires_grad_()).backward(gradient)
        of_x, _ = made.pop()
        assert (of_x is not None) == needs


@pytest.mark.parametrize(
    ("dim", "frames", "size", "how"),
    [
        (5, 3, 1, "Permute"),
        (5, 1, 2, "Permute"),
        (5, 3, 2, "Permute"),
        (5, 3, 4, "Convolution"),
        (64, 3, 2, "_ByPoints"),
        (48, 33, 4, "_ByPoints"),
        (16, 32, 4, "_ByPoints"),  # its gradients alone
        (16, 31, 4, "Convolution"),
        (48, 9, 8, "_ByPoints"),
        (48, 33, 5, "Convolution"),
    ],
)
@pytest.mark.parametrize("k", [1, 3])
def test_float32_training_is_float64s(dim, frames, size, how, k):
    x, weight, gradient = operands(2, dim, dim + 1, frames, size, size, k)
    results = []
    for dtype in (torch.float64, torch.float32):
        inputs = [value.detach().to(dtype, copy=True).requires_grad_() for value in (x, weight)]
        y = conv3d_same(*inputs)
        y.backward(gradient.to(dtype))
        results.append([y.detach().double(), *(value.grad.double() for value in inputs)])
    assert type(y.grad_fn).__name__.startswith(how if k == 3 else "Permute")
    for exact, rounded in zip(*results, strict=True):
        assert (exact - rounded).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize(
    ("dim", "frames", "size"), [(5, 1, 2), (5, 3, 1), (5, 3, 2), (64, 3, 2), (16, 64, 4), (48, 32, 4)]
)
def test_gradients_of_gradients(dim, frames, size):
    x, weight, gradient = operands(1, dim, dim, frames, size, size, 3)
    results = []
    for dtype in (torch.float64, torch.float32):
        inputs = [value.detach().to(dtype, copy=True).requires_grad_() for value in (x, weight)]
        y = conv3d_same(*inputs)
        first = torch.autograd.grad(y, inputs, gradient.to(dtype), create_graph=True)
        sum(value.square().sum() for value in first).backward()
        results.append([value.grad.double() for value in inputs])
    for exact, rounded in zip(*results, strict=True):
        assert (exact - rounded).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("frames", [2, 3])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_gradients_of_gradients_in_bfloat16(frames, size):
    x, weight, gradient = operands(3, 16, 24, frames, size, size, 3)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [value.detach().to(dtype).requires_grad_() for value in (x, weight)]
        y = conv3d_same(*inputs)
        first = torch.autograd.grad(y, inputs, gradient.to(dtype), create_graph=True)
        sum(value.square().sum() for value in first).backward()
        results.append([value.float() for value in (*first, *(each.grad for each in inputs))])
    for exact, rounded in zip(*results, strict=True):
        assert (exact - rounded).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("dim", "frames", "size"), [(5, 3, 2), (64, 3, 2), (5, 3, 4), (48, 32, 4)])
def test_gradients_of_kernels_lie_as_kernels_do_where_they_learn(dim, frames, size, dtype):
    """Else autograd copies them, or whatever is done with both takes several times as long."""
    x, weight, gradient = (value.to(dtype) for value in operands(2, dim, dim, frames, size, size, 3))
    weight = weight.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    (of_weight,) = torch.autograd.grad(conv3d_same(x, weight), weight, gradient)
    assert of_weight.stride() == weight.stride()


@pytest.mark.parametrize(("dim", "frames", "size", "k"), OWN)
def test_under_autocast_it_is_the_librarys_own(dim, frames, size, k):
    x, weight, gradient = (value.float() for value in operands(1, dim, dim, frames, size, size, k))
    with torch.autocast("cpu", torch.bfloat16):
        y = conv3d_same(x, weight.requires_grad_())
    assert y.dtype == torch.bfloat16
    assert type(y.grad_fn).__name__.startswith("Convolution")
    y.backward(gradient.bfloat16())
    assert weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("dim", "frames", "size"), [(5, 3, 2), (64, 3, 2), (48, 32, 4)])
def test_for_the_compiler_it_is_the_librarys_own(monkeypatch, dim, frames, size, dtype):
    x, weight, _ = (value.to(dtype) for value in operands(1, dim, dim, frames, size, size, 3))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    y = conv3d_same(x, weight.requires_grad_())
    assert type(y.grad_fn).__name__.startswith("Convolution")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [2, 4])
def test_compiled_training(size, dtype):
    x, weight, gradient = (value.to(dtype) for value in operands(2, 5, 6, 3, size, size, 3))
    exact = weight.float().requires_grad_()
    F.conv3d(x.float(), exact, padding=1).backward(gradient.float())
    compiled = torch.compile(conv3d_same, backend="aot_eager", fullgraph=True)
    compiled(x, weight.requires_grad_()).backward(gradient)
    assert (weight.grad - exact.grad).norm() < (1e-5 if dtype == torch.float32 else 0.01) * exact.grad.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("dim", "frames", "size"), [(5, 2, 2), (5, 3, 2), (64, 3, 2), (5, 2, 4), (48, 32, 4)])
def test_functional_gradients(dim, frames, size, dtype):
    x, weight, _ = (value.to(dtype) for value in operands(1, dim, dim, frames, size, size, 3))
    gradient = torch.func.grad(lambda weight: conv3d_same(x, weight).square().sum())(weight)
    exact = weight.float().requires_grad_()
    conv3d_same(x.float(), exact).square().sum().backward()
    assert (gradient - exact.grad).norm() < (1e-5 if dtype == torch.float32 else 0.01) * exact.grad.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_gradient_it_is_the_librarys_own(dtype):
    x, weight, _ = (value.to(dtype) for value in operands(1, 48, 48, 32, 4, 4, 3))
    assert torch.equal(conv3d_same(x, weight), F.conv3d(x, weight, padding=1))

import math

import pytest
import torch

from mpvideo.diffusion import EDMDenoiser, blended_rows, class_rows, preconditioning

SIGMA_DATA = 0.5
SHAPE = (2, 3, 4, 4)


def double(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Preconditioning


def test_preconditioning_limits():
    sigma = torch.tensor([1e-6, SIGMA_DATA, 1e6], dtype=torch.float64)
    c_skip, c_out, c_in, c_noise = preconditioning(sigma, SIGMA_DATA)
    # No noise: D = x. Equal parts: halfway. All noise: D = sigma_data F.
    torch.testing.assert_close(c_skip, torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))
    torch.testing.assert_close(
        c_out, torch.tensor([0.0, SIGMA_DATA / math.sqrt(2), SIGMA_DATA], dtype=torch.float64), atol=2e-6, rtol=1e-9
    )
    torch.testing.assert_close(c_in * (sigma**2 + SIGMA_DATA**2).sqrt(), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close((4 * c_noise).exp(), sigma)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 80.0])
def test_network_input_and_target_have_unit_variance(sigma, sigma_data):
    """EDM's appendix B.6: the reason for these coefficients, from the variances of data and noise."""
    c_skip, c_out, c_in, _ = preconditioning(torch.tensor(sigma, dtype=torch.float64), sigma_data)
    input_variance = c_in**2 * (sigma_data**2 + sigma**2)
    # target = (y - c_skip (y + n)) / c_out, with y and n independent
    target_variance = ((1 - c_skip) ** 2 * sigma_data**2 + c_skip**2 * sigma**2) / c_out**2
    assert input_variance.item() == pytest.approx(1, rel=1e-12)
    assert target_variance.item() == pytest.approx(1, rel=1e-9)


def test_network_zero_is_the_best_linear_denoiser():
    """F = 0 leaves c_skip x: the exact denoiser of Gaussian data with the standard deviation sigma_data."""
    denoiser = EDMDenoiser(lambda x, time, **_: torch.zeros_like(x), sigma_data=2.0)
    denoised, state = denoiser(torch.full((1, *SHAPE), 5.0), 1.0)
    torch.testing.assert_close(denoised, torch.full((1, *SHAPE), 4.0))
    assert state is None


def test_network_sees_scaled_input_and_log_sigma(recording_net):
    x = double(3, *SHAPE)
    EDMDenoiser(recording_net)(x, 2.0)
    (call,) = recording_net.calls
    torch.testing.assert_close(call.x, x / math.sqrt(2.0**2 + SIGMA_DATA**2))
    torch.testing.assert_close(call.time, torch.full((3,), math.log(2.0) / 4, dtype=torch.float64))
    assert call.self_cond is None
    assert call.class_labels is None


def test_float_scalar_and_per_sample_sigma_agree(recording_net):
    x = double(3, *SHAPE)
    denoiser = EDMDenoiser(recording_net)
    by_float, _ = denoiser(x, 0.7)
    by_scalar, _ = denoiser(x, torch.tensor(0.7, dtype=torch.float64))
    torch.testing.assert_close(by_scalar, by_float, rtol=1e-14, atol=0)
    sigma = torch.tensor([0.1, 0.7, 30.0], dtype=torch.float64)
    by_sample, _ = denoiser(x, sigma)
    for i in range(3):
        torch.testing.assert_close(by_sample[i : i + 1], denoiser(x[i : i + 1], sigma[i].item())[0])


def test_dtype_is_the_networks_alone(recording_net):
    x = double(2, *SHAPE).float()
    denoiser = EDMDenoiser(recording_net, dtype=torch.bfloat16, self_condition=True)
    denoised, state = denoiser(x, 1.0)
    assert denoised.dtype == state.dtype == torch.float32
    (call,) = recording_net.calls
    assert call.x.dtype == call.self_cond.dtype == torch.bfloat16
    assert call.time.dtype == torch.float32
    # Everything but the network's output keeps float32: c_skip x + c_out F.
    expected = 0.2 * x + 0.5 / math.sqrt(1.25) * call.out.float()
    torch.testing.assert_close(denoised, expected, rtol=1e-6, atol=1e-6)


def test_clamp():
    def net(x, time, **_):
        return 10 * x

    x = double(2, *SHAPE)
    free, _ = EDMDenoiser(net)(x, 1.0)
    clamped, state = EDMDenoiser(net, clamp=True, self_condition=True)(x, 1.0)
    assert free.abs().max() > 1
    torch.testing.assert_close(clamped, free.clamp(-1, 1))
    assert torch.equal(state, clamped)


def test_differentiable_for_training(conv_net):
    conv_net.requires_grad_(True)
    x = double(2, *SHAPE).float()
    labels = torch.eye(5)[:2]
    denoiser = EDMDenoiser(conv_net, class_labels=labels, self_condition=True)
    denoised, _ = denoiser(x, torch.tensor([0.1, 10.0]), torch.zeros_like(x))
    denoised.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in conv_net.parameters())


def test_images_pass_too(recording_net):
    denoised, _ = EDMDenoiser(recording_net)(double(2, 3, 4, 4), torch.tensor([1.0, 2.0]))
    assert denoised.shape == (2, 3, 4, 4)


# Self-conditioning


def test_self_conditioning_starts_at_zeros_and_returns_the_estimate(recording_net):
    x = double(2, *SHAPE)
    denoiser = EDMDenoiser(recording_net, self_condition=True)
    first, state = denoiser(x, 3.0)
    assert torch.equal(state, first)
    second, _ = denoiser(x, 2.0, state)
    assert torch.equal(recording_net.calls[0].self_cond, torch.zeros_like(x))
    assert torch.equal(recording_net.calls[1].self_cond, first)
    assert not torch.allclose(first, second)


# Labels


def test_class_rows():
    assert class_rows(torch.tensor([2, 0]), 3).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    for bad in (-1, 3):
        with pytest.raises(ValueError, match=f"class_labels must be from 0 to 2, got .*{bad}"):
            class_rows(torch.tensor([0, bad]), 3)


def test_a_blend_has_an_embedding_as_long_as_its_classes():
    """Orthogonal ones would shrink by 1 / sqrt(2), alike ones not at all: neither does."""
    table = torch.tensor([[3.0, 0.0, 3.0, -3.0], [0.0, 4.0, 0.0, 0.0]])  # (E, classes)

    def embed(rows):
        return rows @ table.T

    rows = torch.tensor(
        [[0.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [0.25, 0.75, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]]
    )
    out = blended_rows(rows, embed)
    assert torch.equal(out[0], rows[0])
    torch.testing.assert_close(embed(out).norm(dim=1)[1:4], torch.tensor([3.5, 3.0, 3.75]))
    torch.testing.assert_close(out[1:4] / out[1:4].sum(1, keepdim=True), rows[1:4])
    assert torch.equal(out[4], rows[4])  # nothing is left of it to be scaled
    assert not torch.equal(out, rows)


def test_embeddings_of_a_blend_may_be_on_another_device():
    """As a network's on a GPU are, while the rows are on the CPU."""

    class Elsewhere(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            moved = func is torch.Tensor.to
            tensors = [argument for argument in args if isinstance(argument, torch.Tensor)]
            assert moved or all(isinstance(tensor, cls) for tensor in tensors), "tensors on two devices"
            result = super().__torch_function__(func, types, args, kwargs)
            return result.as_subclass(torch.Tensor) if moved else result

    table = torch.tensor([[3.0, 0.0, 3.0], [0.0, 4.0, 0.0]])
    rows = torch.tensor([[0.5, 0.5, 0.0]])
    out = blended_rows(rows, lambda rows: (rows @ table.T).as_subclass(Elsewhere))
    assert type(out) is torch.Tensor
    assert torch.equal(out, blended_rows(rows, lambda rows: rows @ table.T))


# Bad arguments


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"sigma_data": 0.0}, "sigma_data must be finite and greater than 0, got 0.0"),
        ({"sigma_data": math.nan}, "sigma_data must be finite and greater than 0, got nan"),
    ],
)
def test_bad_attributes(recording_net, attributes, message):
    with pytest.raises(ValueError, match=message):
        EDMDenoiser(recording_net, **attributes)


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (0.0, "sigma must be finite and greater than 0, got 0.0"),
        (math.nan, "sigma must be finite and greater than 0, got nan"),
        (torch.ones(2), r"sigma must have the shape \(\) or \(3,\), got \(2,\)"),
        (torch.ones(3, 1), r"sigma must have the shape \(\) or \(3,\), got \(3, 1\)"),
    ],
)
def test_bad_sigma(recording_net, sigma, message):
    with pytest.raises(ValueError, match=message):
        EDMDenoiser(recording_net)(double(3, *SHAPE), sigma)


def test_arguments_that_do_not_fit_the_batch(recording_net):
    x, rows = double(3, *SHAPE), torch.eye(5)
    with pytest.raises(ValueError, match="class_labels must have 3 rows, one for each sample, got 5"):
        EDMDenoiser(recording_net, class_labels=rows)(x, 1.0)
    denoiser = EDMDenoiser(recording_net, class_labels=rows[:3], self_condition=True)
    with pytest.raises(ValueError, match=r"state must have the shape \(3, 2, 3, 4, 4\), got \(2, 2, 3, 4, 4\)"):
        denoiser(x, 1.0, x[:2])
    assert not recording_net.calls


def test_noise_embeddings_are_what_the_network_is_given():
    seen = []

    def net(x, time, *, self_cond=None, class_labels=None):
        seen.append(time)
        return x

    denoiser = EDMDenoiser(net, sigma_data=0.7)
    levels = [80.0, 1.3, 0.002]
    for sigma in levels:
        denoiser(torch.zeros(2, 1), sigma)
    assert denoiser.noise_embeddings(levels).tolist() == [time[1].item() for time in seen]

"""What holds for every sampler."""

import math
from typing import get_args

import pytest
import torch

from mpvideo.config import SamplingConfig
from mpvideo.diffusion import (
    EDMDenoiser,
    Guidance,
    GuidedDenoiser,
    SeededNoise,
    class_rows,
    evaluated_levels,
    exponential_sigmas,
    linear_sigmas,
    schedule,
    solver,
)
from mpvideo.sampling_config import Sampler
from tests.diffusion.conftest import GaussianDenoiser, RecordingNet
from tests.diffusion.samplers.conftest import DETERMINISTIC, SHAPE, SOLVERS, MixtureDenoiser, sigmas_of

all_samplers = pytest.mark.parametrize("sample", SOLVERS.values(), ids=SOLVERS)
deterministic = pytest.mark.parametrize("sample", DETERMINISTIC.values(), ids=DETERMINISTIC)


def test_these_are_all() -> None:
    assert set(SOLVERS) == set(get_args(Sampler)) - {"auto"}


# Against closed forms


def fitted_order(sample, schedule_of, num_steps, denoiser, sigma_max=80.0, sigma_min=0.002) -> float:
    """Minus the slope of log(error) against log(steps), down to sigma_min > 0."""
    x = sigma_max * torch.randn(8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = denoiser.solution(x, sigma_max, sigma_min)
    sigmas = [schedule_of(n, sigma_min, sigma_max)[:-1] for n in num_steps]
    errors = [(sample(denoiser, x, levels) - exact).square().mean().sqrt() for levels in sigmas]
    log_steps = torch.tensor(num_steps, dtype=torch.float64).log()
    log_errors = torch.stack(errors).log()
    centred = log_steps - log_steps.mean()
    return -(centred @ log_errors / (centred @ centred)).item()


GAUSSIAN = GaussianDenoiser(std=torch.linspace(0.1, 1.5, 16, dtype=torch.float64), mean=torch.tensor(0.3))
ORDERS = {
    "euler": 1,
    "heun": 2,
    "dpmpp-2m": 2,
    "dpmpp-3m": 3,
    "dpmpp-2m-sde": 2,
    "unipc": 3,
    "deis": 4,
    "ipndm": 2,
    "lms": 4,
}


def karras(num_steps, sigma_min, sigma_max):
    return SamplingConfig(steps=num_steps, sigma_min=sigma_min, sigma_max=sigma_max)


@pytest.mark.parametrize("name", ORDERS)
def test_order_on_gaussian_data(name) -> None:
    """At 80 the paths are so straight that the first steps' lower order does not show at these numbers of steps."""
    order = fitted_order(DETERMINISTIC[name], lambda *levels: schedule(karras(*levels)), [64, 128, 256, 512], GAUSSIAN)
    assert order == pytest.approx(ORDERS[name], abs=0.2)


@pytest.mark.parametrize("name", ORDERS)
def test_order_on_a_mixture(name) -> None:
    """Paths that fork, down to a tenth of the narrower part's width."""
    order = fitted_order(
        DETERMINISTIC[name], lambda *levels: schedule(karras(*levels)), [64, 128, 256], MixtureDenoiser(), 80.0, 0.02
    )
    assert order == pytest.approx(ORDERS[name], abs=0.35)


def test_order_of_ipndm_on_equal_steps() -> None:
    order = fitted_order(DETERMINISTIC["ipndm"], linear_sigmas, [1024, 2048, 4096], GAUSSIAN, 80.0, 2.0)
    assert order == pytest.approx(4, abs=0.25)


@pytest.mark.parametrize("name", ["dpmpp-2m", "dpmpp-3m"])
def test_order_on_equal_steps_of_lambda(name) -> None:
    order = fitted_order(DETERMINISTIC[name], exponential_sigmas, [32, 64, 128], MixtureDenoiser(), 1e4, 0.05)
    assert order == pytest.approx(ORDERS[name], abs=0.35)


@all_samplers
@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_a_single_datum_is_reached(sample, num_steps, generator):
    """Data at one point: D is that point, the ODE's paths are straight lines, any number of steps finds it."""
    datum = torch.full((1, *SHAPE), 0.25, dtype=torch.float64)
    x = 80 * torch.randn(1, *SHAPE, dtype=torch.float64, generator=generator)
    out = sample(lambda x, sigma, state: (datum, None), x, sigmas_of(num_steps), noise=torch.zeros_like)
    torch.testing.assert_close(out, datum, rtol=0, atol=1e-12)


@all_samplers
def test_one_step_returns_the_estimate_at_sigma_max(sample):
    denoiser = GaussianDenoiser(std=torch.tensor(0.5, dtype=torch.float64))
    x = torch.full((1, *SHAPE), 90.0, dtype=torch.float64)
    torch.testing.assert_close(sample(denoiser, x, sigmas_of(1)), denoiser(x, 80.0)[0])


# The distribution that sampling ends in


STOCHASTIC = {
    "heun": {},
    "heun with churn": {"sampler": "heun", "s_churn": 40.0},
    "dpmpp-3m": {"sampler": "dpmpp-3m"},
    "dpmpp-2m-sde": {"sampler": "dpmpp-2m-sde"},
    "dpmpp-2m-sde, half": {"sampler": "dpmpp-2m-sde", "eta": 0.5},
    "restarts of heun": {"sampler": "heun", "restarts": 3, "restart_steps": 20},
    "restarts of unipc": {"sampler": "unipc", "restarts": 2, "restart_steps": 20, "restart_max": 5.0},
}


@pytest.mark.parametrize("settings", STOCHASTIC.values(), ids=STOCHASTIC)
def test_gaussian_data_keep_mean_and_covariance(settings, generator):
    """20,000 draws from noise alone must have the mean and the covariance of the data, within sampling error."""
    B = 20_000
    mean = torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64)
    factor = torch.tensor([[0.8, 0.0, 0.0], [0.3, 0.5, 0.0], [-0.4, 0.2, 0.3]], dtype=torch.float64)
    covariance = factor @ factor.T

    def denoiser(x, sigma, state):
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(3, dtype=torch.float64))
        return mean + (x - mean) @ gain.T, None

    def randn_like(x):
        return torch.randn(x.shape, dtype=x.dtype, generator=generator)

    sampling = SamplingConfig(**{"steps": 128, "sampler": "heun", **settings})
    x = 80 * randn_like(torch.empty(B, 3, dtype=torch.float64))
    out = solver(sampling)(denoiser, x, schedule(sampling), noise=randn_like)
    variance = covariance.diagonal()
    assert ((out.mean(0) - mean).abs() < 5 * (variance / B).sqrt()).all()
    sampling_error = ((variance[:, None] * variance + covariance**2) / B).sqrt()
    assert ((out.T.cov() - covariance).abs() < 5 * sampling_error).all()


# Evaluations and state


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize(("num_steps", "restarts"), [(1, 0), (2, 0), (3, 0), (18, 0), (50, 0), (2, 1), (18, 3)])
@pytest.mark.parametrize("name", SOLVERS)
def test_number_of_network_evaluations(name, num_steps, restarts, guidance):
    churn = 3.0 if name in ("euler", "heun") and not restarts else 0.0
    settings = SamplingConfig(sampler=name, steps=num_steps, guidance=guidance, s_churn=churn, restarts=restarts)
    net = RecordingNet()
    denoiser = GuidedDenoiser(EDMDenoiser(net, class_labels=torch.eye(2)), Guidance(strength=guidance))
    noise = SeededNoise([0, 1])
    solver(settings)(denoiser, 80 * noise.randn(*SHAPE), schedule(settings), noise=noise.randn_like)
    assert len(net.calls) == settings.num_evaluations
    assert {len(call.x) for call in net.calls} == {2 if guidance == 1 else 4}


@all_samplers
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_each_call_is_conditioned_on_the_last_ones_estimate(sample, guidance):
    """Zeros at first; Heun's second evaluation gets the first's; the next step gets the last; each branch its own."""
    net, estimates = RecordingNet(), []
    rows = class_rows(torch.tensor([3, 1]), 4)
    main = EDMDenoiser(net, class_labels=rows, self_condition=True)
    denoiser = GuidedDenoiser(main, Guidance(strength=guidance))
    noise = SeededNoise([0, 1])

    def watched(x, sigma, state):
        """Works out anew, from the network's output, what each branch estimated."""
        denoised, state = denoiser(x, sigma, state)
        branches = torch.cat((x, x)) if guidance != 1 else x
        scale = sigma**2 + 0.25
        estimates.append(0.25 / scale * branches + sigma * 0.5 / math.sqrt(scale) * net.calls[-1].out)
        return denoised, state

    x = 80 * noise.randn(*SHAPE, dtype=torch.float64)
    sample(watched, x, sigmas_of(5), noise=noise.randn_like)
    assert len(net.calls) == (9 if sample is SOLVERS["heun"] else 5)
    assert not net.calls[0].self_cond.any()
    for call, previous in zip(net.calls[1:], estimates[:-1], strict=True):
        torch.testing.assert_close(call.self_cond, previous, rtol=1e-12, atol=1e-12)
    if guidance != 1:
        cond, uncond = net.calls[1].self_cond.chunk(2)
        assert not torch.allclose(cond, uncond)


@all_samplers
def test_state_is_opaque_and_threaded(sample):
    """The sampler hands on whatever the denoiser returned, and looks at nothing."""
    given = []

    def denoiser(x, sigma, state):
        given.append(state)
        return torch.zeros_like(x), ("anything", len(given))

    sample(denoiser, torch.ones(1, *SHAPE), sigmas_of(4), noise=torch.zeros_like)
    assert given == [None, *(("anything", i) for i in range(1, len(given)))]


@all_samplers
def test_on_step(sample):
    seen = []
    sigmas = sigmas_of(5)
    noise = SeededNoise([0])
    out = sample(
        GaussianDenoiser(std=torch.tensor(0.5)),
        80 * noise.randn(*SHAPE),
        sigmas,
        noise=noise.randn_like,
        on_step=lambda *arguments: seen.append(arguments),
    )
    assert [step for step, *_ in seen] == [0, 1, 2, 3, 4]
    assert {num_steps for _, num_steps, *_ in seen} == {5}
    assert [sigma for _, _, sigma, _ in seen] == sigmas[:-1].tolist()
    torch.testing.assert_close(seen[-1][3], out)  # the last step goes to its estimate


@deterministic
def test_without_noise_nothing_is_drawn(sample):
    def noise(x):
        raise AssertionError("drawn")

    sample(GaussianDenoiser(std=torch.tensor(0.5)), torch.ones(1, *SHAPE), sigmas_of(6), noise=noise)


# The same video in any company


@all_samplers
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_seed_gives_the_same_video_in_any_batch(sample, guidance, conv_net):
    def videos(seeds):
        noise = SeededNoise(seeds)
        labels = class_rows(noise.random_classes(5), 5)
        main = EDMDenoiser(conv_net, class_labels=labels, self_condition=True, clamp=True)
        denoiser = GuidedDenoiser(main, Guidance(strength=guidance))
        x = 80 * noise.randn(2, 4, 8, 8)
        return sample(denoiser, x, sigmas_of(10), noise=noise.randn_like)

    seeds = [11, 0, 5, 2**40, 7, 42, 3, 1]
    eight = videos(seeds)
    assert (eight[0] - eight[1]).abs().max() > 0.01  # seeds matter
    torch.testing.assert_close(videos(seeds[2:5]), eight[2:5], rtol=0, atol=1e-4)
    torch.testing.assert_close(videos(seeds[::-1]).flip(0), eight, rtol=0, atol=1e-4)
    for i, seed in enumerate(seeds):
        torch.testing.assert_close(videos([seed])[0], eight[i], rtol=0, atol=1e-4)


@all_samplers
def test_input_is_kept_and_no_gradient_recorded(sample, conv_net):
    conv_net.requires_grad_(True)
    x = 80 * SeededNoise([0]).randn(*SHAPE)
    before = x.clone()
    out = sample(EDMDenoiser(conv_net), x, sigmas_of(5), noise=torch.zeros_like)
    assert torch.equal(x, before)
    assert not out.requires_grad
    assert out.dtype == torch.float32


@all_samplers
def test_estimates_are_kept(sample):
    """What the denoiser returned, and may keep as its state, is not written over."""
    kept = []

    def denoiser(x, sigma, state):
        denoised = x / (1 + sigma**2)
        kept.append((denoised, denoised.clone()))
        return denoised, None

    sample(denoiser, 80 * torch.ones(1, *SHAPE), sigmas_of(6), noise=torch.zeros_like)
    assert all(torch.equal(now, then) for now, then in kept)


# Bad arguments


@all_samplers
@pytest.mark.parametrize(
    ("x", "sigmas", "message"),
    [
        (torch.zeros(1, dtype=torch.bfloat16), [1.0, 0.0], "x must be float32 or float64, got torch.bfloat16"),
        (torch.zeros(1), [1.0], r"sigmas must have the shape \(num_steps \+ 1,\), at least 2; got \(1,\)"),
        (torch.zeros(1), [[1.0, 0.0]], r"got \(1, 2\)"),
        (torch.zeros(1), [1.0, 2.0, 0.0], "sigmas must be finite and descend, .* got 1.0, 2.0 at 0, 1"),
        (torch.zeros(1), [1.0, 1.0, 0.0], "sigmas must be finite and descend, .* got 1.0, 1.0 at 0, 1"),
        (torch.zeros(1), [1.0, 0.0, 0.0], "sigmas .* got 0.0, 0.0 at 1, 2"),
        (torch.zeros(1), [1.0, -1.0], "sigmas .* got 1.0, -1.0 at 0, 1"),
        (torch.zeros(1), [math.inf, 0.0], "sigmas .* got inf, 0.0 at 0, 1"),
        (torch.zeros(1), [1.0, math.nan], "sigmas .* got 1.0, nan at 0, 1"),
    ],
)
def test_bad_arguments(sample, x, sigmas, message):
    with pytest.raises(ValueError, match=message):
        sample(GaussianDenoiser(std=torch.tensor(0.5)), x, torch.tensor(sigmas), noise=torch.zeros_like)


# Levels


@pytest.mark.parametrize(
    "settings",
    [
        *({"sampler": name} for name in SOLVERS),
        {"sampler": "heun", "s_churn": 2.0, "s_tmin": 0.1, "s_tmax": 20.0},
        {"sampler": "euler", "s_churn": 2.0},
        {"sampler": "heun", "restarts": 2},
        {"sampler": "lms", "restarts": 1, "schedule": "cosine"},
        {"sampler": "unipc", "sigmas": [50, 3, 0.4, 0.1]},
    ],
    ids=str,
)
def test_evaluated_levels_are_those_that_are_asked_for(settings):
    sampling = SamplingConfig(**{"steps": 6, **settings})
    asked = []

    def denoiser(x, sigma, state):
        asked.append(sigma)
        return torch.sin(x), None

    sigmas, solve = schedule(sampling), solver(sampling)
    solve(denoiser, torch.ones(1, 2), sigmas, noise=torch.randn_like)
    assert evaluated_levels(solve, sigmas) == asked
    assert len(asked) == sampling.num_evaluations

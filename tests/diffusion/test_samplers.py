import math

import pytest
import torch

from mpvideo.config import SamplingConfig
from mpvideo.diffusion import (
    Churn,
    EDMDenoiser,
    Guidance,
    GuidedDenoiser,
    SeededNoise,
    class_rows,
    evaluated_levels,
    karras_sigmas,
    sample_euler,
    sample_heun,
)
from tests.diffusion.conftest import GaussianDenoiser, RecordingNet

SAMPLERS = {"euler": sample_euler, "heun": sample_heun}
SHAPE = (2, 3, 4, 4)

both_samplers = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS)


def sigmas_of(num_steps: int):
    return karras_sigmas(num_steps, sigma_min=0.002, sigma_max=80.0)


# Against closed forms


def fitted_order(sample, num_steps: list[int]) -> float:
    """Minus the slope of log(error) against log(steps) on Gaussian data, down to sigma_min > 0."""
    denoiser = GaussianDenoiser(std=torch.linspace(0.1, 1.5, 16, dtype=torch.float64), mean=torch.tensor(0.3))
    x = 80 * torch.randn(8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = denoiser.solution(x, 80.0, 0.002)
    errors = [(sample(denoiser, x, sigmas_of(n)[:-1]) - exact).square().mean().sqrt() for n in num_steps]
    log_steps = torch.tensor(num_steps, dtype=torch.float64).log()
    log_errors = torch.stack(errors).log()
    centred = log_steps - log_steps.mean()
    return -(centred @ log_errors / (centred @ centred)).item()


@pytest.mark.parametrize(("sample", "order", "tolerance"), [(sample_euler, 1, 0.15), (sample_heun, 2, 0.2)])
def test_order_of_convergence(sample, order, tolerance):
    assert fitted_order(sample, [32, 64, 128, 256, 512]) == pytest.approx(order, abs=tolerance)


def test_heun_is_exact_for_a_slope_linear_in_sigma():
    """With D = x - sigma (a + b sigma) the ODE is dx/dsigma = a + b sigma: two steps or ten make no difference."""
    a, b = 0.7, -0.2

    def denoiser(x, sigma, state):
        return x - sigma * (a + b * sigma), None

    def solve(sample, num_steps):
        return sample(denoiser, torch.ones(1, dtype=torch.float64), torch.linspace(3.0, 1.0, num_steps + 1)).item()

    exact = 1 + a * (1 - 3) + b * (1 - 9) / 2
    for num_steps in (1, 2, 10):
        assert solve(sample_heun, num_steps) == pytest.approx(exact, rel=1e-12)
        assert solve(sample_euler, num_steps) - exact == pytest.approx(exact_euler_error(b, num_steps), rel=1e-9)


def exact_euler_error(b: float, num_steps: int) -> float:
    """Each Euler step of length h misses b h**2 / 2 of a slope linear in sigma."""
    h = -2 / num_steps
    return -num_steps * b * h**2 / 2


@both_samplers
@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_a_single_datum_is_reached(sample, num_steps):
    """Data at one point: D is that point, the ODE's paths are straight lines, any number of steps finds it."""
    datum = torch.full((1, *SHAPE), 0.25, dtype=torch.float64)
    x = 80 * torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = sample(lambda x, sigma, state: (datum, None), x, sigmas_of(num_steps))
    torch.testing.assert_close(out, datum, rtol=0, atol=1e-12)


@both_samplers
def test_one_step_returns_the_estimate_at_sigma_max(sample):
    denoiser = GaussianDenoiser(std=torch.tensor(0.5, dtype=torch.float64))
    x = torch.full((1, *SHAPE), 90.0, dtype=torch.float64)
    torch.testing.assert_close(sample(denoiser, x, sigmas_of(1)), denoiser(x, 80.0)[0])


@pytest.mark.parametrize("s_churn", [0.0, 40.0])
def test_gaussian_data_keep_mean_and_covariance(s_churn, generator):
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

    x = 80 * randn_like(torch.empty(B, 3, dtype=torch.float64))
    out = sample_heun(denoiser, x, sigmas_of(128), churn=Churn(s_churn=s_churn), noise=randn_like)
    variance = covariance.diagonal()
    assert ((out.mean(0) - mean).abs() < 5 * (variance / B).sqrt()).all()
    sampling_error = ((variance[:, None] * variance + covariance**2) / B).sqrt()
    assert ((out.T.cov() - covariance).abs() < 5 * sampling_error).all()


# Churn


def test_gamma():
    churn = Churn(s_churn=8.0, s_tmin=0.1, s_tmax=50.0)
    assert churn.gamma(1.0, num_steps=40) == 0.2
    assert churn.gamma(1.0, num_steps=10) == math.sqrt(2) - 1
    assert [churn.gamma(sigma, 40) for sigma in (0.09, 0.1, 50.0, 51.0)] == [0.0, 0.2, 0.2, 0.0]
    assert Churn(s_churn=8.0).gamma(1e9, 40) == 0.2
    assert Churn().gamma(1.0, 40) == 0.0


@both_samplers
@pytest.mark.parametrize(
    "churn",
    [None, Churn(), Churn(s_churn=0.0, s_noise=1.1), Churn(s_churn=40.0, s_tmin=90.0)],
    ids=["none", "default", "zero", "out of range"],
)
def test_zero_churn_draws_nothing(sample, churn):
    noise = SeededNoise([0, 1])
    x = 80 * noise.randn(*SHAPE)
    before = [generator.get_state() for generator in noise.generators]
    sample(GaussianDenoiser(std=torch.tensor(0.5)), x, sigmas_of(6), churn=churn, noise=noise.randn_like)
    for generator, state in zip(noise.generators, before, strict=True):
        assert torch.equal(generator.get_state(), state)


@both_samplers
def test_churn_draws_once_at_each_level_in_range(sample):
    sigmas = sigmas_of(12)
    churn = Churn(s_churn=5.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003)
    draws = []

    def noise(x):
        draws.append(torch.ones_like(x))
        return draws[-1]

    seen = []

    def denoiser(x, sigma, state):
        seen.append(sigma)
        return x, None  # a slope of zero: only churn moves x

    x = torch.zeros(1, dtype=torch.float64)
    out = sample(denoiser, x, sigmas, churn=churn, noise=noise)
    churned = [sigma for sigma in sigmas.tolist() if 0.05 <= sigma <= 50.0]
    gamma = min(5.0 / 12, math.sqrt(2) - 1)
    assert len(draws) == len(churned) > 0
    assert {sigma * (1 + gamma) for sigma in churned} <= set(seen)
    expected = sum(sigma * math.sqrt((1 + gamma) ** 2 - 1) * 1.003 for sigma in churned)
    assert out.item() == pytest.approx(expected, rel=1e-12)


@both_samplers
def test_churn_needs_noise_only_where_it_acts(sample):
    denoiser = GaussianDenoiser(std=torch.tensor(0.5))
    x = torch.zeros(1, *SHAPE)
    sample(denoiser, x, sigmas_of(4), churn=Churn(s_churn=4.0, s_tmin=100.0))
    with pytest.raises(ValueError, match=r"noise must be given for s_churn 4.0, got None"):
        sample(denoiser, x, sigmas_of(4), churn=Churn(s_churn=4.0))


# Evaluations and state


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 18, 50])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_number_of_network_evaluations(sampler, num_steps, guidance):
    settings = SamplingConfig(sampler=sampler, steps=num_steps, guidance=guidance, s_churn=3.0)
    net = RecordingNet()
    denoiser = GuidedDenoiser(EDMDenoiser(net, class_labels=torch.eye(2)), Guidance(strength=guidance))
    noise = SeededNoise([0, 1])
    sigmas = karras_sigmas(settings.steps, settings.sigma_min, settings.sigma_max, settings.rho)
    churn = Churn(s_churn=settings.s_churn)
    SAMPLERS[sampler](denoiser, 80 * noise.randn(*SHAPE), sigmas, churn=churn, noise=noise.randn_like)
    assert len(net.calls) == settings.num_evaluations
    assert {len(call.x) for call in net.calls} == {2 if guidance == 1 else 4}


@both_samplers
@pytest.mark.parametrize("s_churn", [0.0, 10.0])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_each_call_is_conditioned_on_the_last_ones_estimate(sample, s_churn, guidance):
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
    sample(watched, x, sigmas_of(5), churn=Churn(s_churn=s_churn), noise=noise.randn_like)
    assert len(net.calls) == (5 if sample is sample_euler else 9)
    assert not net.calls[0].self_cond.any()
    for call, previous in zip(net.calls[1:], estimates[:-1], strict=True):
        torch.testing.assert_close(call.self_cond, previous, rtol=1e-12, atol=1e-12)
    if guidance != 1:
        cond, uncond = net.calls[1].self_cond.chunk(2)
        assert not torch.allclose(cond, uncond)


@both_samplers
def test_state_is_opaque_and_threaded(sample):
    """The sampler hands on whatever the denoiser returned, and looks at nothing."""
    given = []

    def denoiser(x, sigma, state):
        given.append(state)
        return torch.zeros_like(x), ("anything", len(given))

    sample(denoiser, torch.ones(1, *SHAPE), sigmas_of(4))
    assert given == [None, *(("anything", i) for i in range(1, len(given)))]


@both_samplers
def test_on_step(sample):
    seen = []
    sigmas = sigmas_of(5)
    x = 80 * SeededNoise([0]).randn(*SHAPE)
    out = sample(GaussianDenoiser(std=torch.tensor(0.5)), x, sigmas, on_step=lambda *arguments: seen.append(arguments))
    assert [step for step, *_ in seen] == [0, 1, 2, 3, 4]
    assert {num_steps for _, num_steps, *_ in seen} == {5}
    assert [sigma for _, _, sigma, _ in seen] == sigmas[:-1].tolist()
    torch.testing.assert_close(seen[-1][3], out)  # the last step goes to its estimate


# The same video in any company


@both_samplers
@pytest.mark.parametrize("s_churn", [0.0, 10.0])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_seed_gives_the_same_video_in_any_batch(sample, s_churn, guidance, conv_net):
    def videos(seeds):
        noise = SeededNoise(seeds)
        labels = class_rows(noise.random_classes(5), 5)
        main = EDMDenoiser(conv_net, class_labels=labels, self_condition=True, clamp=True)
        denoiser = GuidedDenoiser(main, Guidance(strength=guidance))
        x = 80 * noise.randn(2, 4, 8, 8)
        return sample(denoiser, x, sigmas_of(10), churn=Churn(s_churn=s_churn), noise=noise.randn_like)

    seeds = [11, 0, 5, 2**40, 7, 42, 3, 1]
    eight = videos(seeds)
    assert (eight[0] - eight[1]).abs().max() > 0.01  # seeds matter
    torch.testing.assert_close(videos(seeds[2:5]), eight[2:5], rtol=0, atol=1e-4)
    torch.testing.assert_close(videos(seeds[::-1]).flip(0), eight, rtol=0, atol=1e-4)
    for i, seed in enumerate(seeds):
        torch.testing.assert_close(videos([seed])[0], eight[i], rtol=0, atol=1e-4)


@both_samplers
def test_input_is_kept_and_no_gradient_recorded(sample, conv_net):
    conv_net.requires_grad_(True)
    x = 80 * SeededNoise([0]).randn(*SHAPE)
    before = x.clone()
    out = sample(EDMDenoiser(conv_net), x, sigmas_of(3))
    assert torch.equal(x, before)
    assert not out.requires_grad
    assert out.dtype == torch.float32


# Bad arguments


@both_samplers
@pytest.mark.parametrize(
    ("x", "sigmas", "message"),
    [
        (torch.zeros(1, dtype=torch.bfloat16), [1.0, 0.0], "x must be float32 or float64, got torch.bfloat16"),
        (torch.zeros(1), [1.0], r"sigmas must have the shape \(num_steps \+ 1,\), at least 2; got \(1,\)"),
        (torch.zeros(1), [[1.0, 0.0]], r"got \(1, 2\)"),
        (torch.zeros(1), [1.0, 2.0, 0.0], "sigmas must be finite and descend, .* got 1.0, 2.0 at 0, 1"),
        (torch.zeros(1), [1.0, 0.0, 0.0], "sigmas .* got 0.0, 0.0 at 1, 2"),
        (torch.zeros(1), [1.0, -1.0], "sigmas .* got 1.0, -1.0 at 0, 1"),
        (torch.zeros(1), [math.inf, 0.0], "sigmas .* got inf, 0.0 at 0, 1"),
        (torch.zeros(1), [1.0, math.nan], "sigmas .* got 1.0, nan at 0, 1"),
    ],
)
def test_bad_arguments(sample, x, sigmas, message):
    with pytest.raises(ValueError, match=message):
        sample(GaussianDenoiser(std=torch.tensor(0.5)), x, torch.tensor(sigmas))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"s_churn": -1.0}, "s_churn must be at least 0, got -1.0"),
        ({"s_churn": math.nan}, "s_churn must be a finite number, got nan"),
        ({"s_tmin": math.inf}, "s_tmin must be a finite number, got inf"),
        ({"s_tmin": 2.0, "s_tmax": 1.0}, "s_tmax must be at least s_tmin, got 1.0 and 2.0"),
        ({"s_tmax": math.nan}, "s_tmax must be a finite number, got nan"),
        ({"s_noise": 0.0}, "s_noise must be greater than 0, got 0.0"),
    ],
)
def test_bad_churn(attributes, message):
    with pytest.raises(ValueError, match=message):
        Churn(**attributes)


@both_samplers
@pytest.mark.parametrize("churn", [Churn(), Churn(s_churn=2.0, s_tmin=0.1, s_tmax=20.0)])
def test_evaluated_levels_are_those_that_are_asked_for(sample, churn):
    sigmas = karras_sigmas(6, 0.02, 80.0)
    asked = []

    def denoiser(x, sigma, state):
        asked.append(sigma)
        return torch.zeros_like(x), None

    sample(denoiser, torch.zeros(1, 2), sigmas, churn=churn, noise=torch.randn_like)
    assert evaluated_levels(sample, sigmas, churn) == asked
    raised = [step * (1 + churn.gamma(step, 6)) for step in sigmas[:-1].tolist()]
    assert set(raised) <= set(asked)

import math
from functools import partial

import pytest
import torch

from mpvideo.diffusion import (
    Branches,
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
from tests.diffusion.conftest import GaussianNet, RecordingNet

SHAPE = (2, 3, 4, 4)
SIGMAS = karras_sigmas(8, sigma_min=0.002, sigma_max=80.0)
LABELS = [3, 0, 4, 1]


def double(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def guided(net, strength=2.0, labels=LABELS, interval=None, hold=False, **options) -> GuidedDenoiser:
    main = EDMDenoiser(net, class_labels=class_rows(torch.tensor(labels), 5), **options)
    return GuidedDenoiser(main, Guidance(strength=strength, interval=interval, hold=hold))


# Against closed forms


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 3.0])
def test_two_gaussian_classes_are_pushed_apart(strength):
    """Where all Gaussians have one width, the guided denoiser is that of a Gaussian whose mean is moved."""
    means, no_class = double(2, 6), double(6, seed=2)
    net = GaussianNet(0.7, means, no_class)
    main = EDMDenoiser(net, class_labels=torch.eye(2, dtype=torch.float64))
    x = 80 * double(2, 6, seed=3)
    sigmas = karras_sigmas(200, 0.002, 80.0)
    out = sample_heun(GuidedDenoiser(main, Guidance(strength=strength)), x, sigmas)
    expected = net.denoiser(no_class + strength * (means - no_class)).solution(x, 80.0, 0.0)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-3)


def test_an_interval_is_three_flows_one_after_the_other():
    means, no_class = double(2, 6), double(6, seed=2)
    net = GaussianNet(0.7, means, no_class)
    main = EDMDenoiser(net, class_labels=torch.eye(2, dtype=torch.float64))
    x = 80 * double(2, 6, seed=3)
    guidance = Guidance(strength=4.0, interval=(0.3, 5.0))
    out = sample_euler(GuidedDenoiser(main, guidance), x, karras_sigmas(4000, 0.002, 80.0))
    plain, pushed = net.denoiser(means), net.denoiser(no_class + 4 * (means - no_class))
    expected = plain.solution(pushed.solution(plain.solution(x, 80.0, 5.0), 5.0, 0.3), 0.3, 0.0)
    torch.testing.assert_close(out, expected, rtol=0, atol=0.02)
    everywhere = pushed.solution(x, 80.0, 0.0)
    assert (out - everywhere).abs().max() > 1


def test_guidance_that_is_held_is_a_flow_as_well():
    """Of Gaussians of the data's own width: (x - mean) / sqrt(width^2 + sigma^2) then moves by an arc tangent."""
    width, strength, low, high = 0.5, 4.0, 0.3, 5.0
    means, no_class = double(2, 6), double(6, seed=2)
    net = GaussianNet(width, means, no_class)
    main = EDMDenoiser(net, class_labels=torch.eye(2, dtype=torch.float64))
    x = 80 * double(2, 6, seed=3)
    guidance = Guidance(strength=strength, interval=(low, high), hold=True)
    out = sample_euler(GuidedDenoiser(main, guidance), x, karras_sigmas(4000, 0.002, 80.0))

    def held(x, sigma, sigma_end, since):
        difference = since * (means - no_class) / (width * math.sqrt(width**2 + since**2))
        moved = (strength - 1) * difference * (math.atan(sigma / width) - math.atan(sigma_end / width))
        return plain.solution(x, sigma, sigma_end) + moved * math.sqrt(width**2 + sigma_end**2)

    plain, pushed = net.denoiser(means), net.denoiser(no_class + strength * (means - no_class))
    inside = pushed.solution(held(x, 80.0, high, since=80.0), high, low)
    torch.testing.assert_close(out, held(inside, low, 0.0, since=low), rtol=0, atol=0.02)
    assert (out - plain.solution(inside, low, 0.0)).abs().max() > 0.1


def test_an_interval_has_both_its_ends():
    interval = Guidance(interval=(0.3, 5.0))
    assert [interval.covers(sigma) for sigma in (0.29, 0.3, 1.0, 5.0, 5.01)] == [False, True, True, True, False]
    assert Guidance().covers(1e6)


def test_a_guide_that_spreads_too_far_narrows_the_flow():
    """Gaussians of standard deviations s and g: x grows as (s^2 + sigma^2)^(w/2) (g^2 + sigma^2)^((1 - w)/2)."""
    zeros, rows = torch.zeros(2, 6, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    main = EDMDenoiser(GaussianNet(0.5, zeros, zeros[0]), class_labels=rows)
    guide = EDMDenoiser(GaussianNet(0.8, zeros, zeros[0], sigma_data=0.7), sigma_data=0.7, class_labels=rows)
    x, w = 80 * double(2, 6), 1.7
    out = sample_heun(GuidedDenoiser(main, Guidance(strength=w), guide=guide), x, karras_sigmas(200, 0.002, 80.0))
    spread = [(0.25 + sigma**2) ** (w / 2) * (0.64 + sigma**2) ** ((1 - w) / 2) for sigma in (0.0, 80.0)]
    torch.testing.assert_close(out, x * spread[0] / spread[1], rtol=0, atol=1e-3)


# Adaptive projected guidance


def test_projection_takes_away_what_lies_along_the_estimate():
    main, second = double(3, *SHAPE), double(3, *SHAPE, seed=2)

    def added(**settings):
        return (Guidance(**settings).combined(main, second, 4.0) - main).flatten(1) / 3

    plain, unit = (main - second).flatten(1), torch.nn.functional.normalize(main.flatten(1), dim=1)
    along = (plain * unit).sum(1, keepdim=True) * unit
    torch.testing.assert_close(added(), plain)
    torch.testing.assert_close(added(apg_eta=0.0), plain - along)
    torch.testing.assert_close(added(apg_eta=0.25), plain - 0.75 * along)
    length = plain.norm(dim=1)
    bound = length.sort().values[1].item()
    bounded = added(apg_norm=bound)
    torch.testing.assert_close(bounded.norm(dim=1), length.clamp(max=bound))
    torch.testing.assert_close(torch.nn.functional.cosine_similarity(bounded, plain), torch.ones(3).double())
    torch.testing.assert_close(
        added(apg_norm=bound, apg_eta=0.0), bounded - (bounded * unit).sum(1, keepdim=True) * unit
    )
    torch.testing.assert_close(added(apg_norm=1e6), plain)


def test_projection_where_there_is_nothing_to_project_or_to_bound():
    zeros = torch.zeros(2, *SHAPE)
    for settings in ({"apg_eta": 0.0}, {"apg_norm": 1.0}, {"apg_eta": 0.0, "apg_norm": 1.0}):
        assert torch.equal(Guidance(**settings).combined(zeros, zeros, 3.0), zeros)


def test_projection_is_by_sample(recording_net):
    x, strengths = double(4, *SHAPE), [0.0, 1.0, 1.5, 4.0]
    settings = {"apg_eta": 0.3, "apg_norm": 2.0}

    def denoised(part, strength):
        main = EDMDenoiser(recording_net, class_labels=class_rows(torch.tensor(LABELS), 5)[part])
        return GuidedDenoiser(main, Guidance(strength=strength, **settings))(x[part], 1.0)[0]

    mixed = denoised(slice(None), torch.tensor(strengths))
    for i, strength in enumerate(strengths):
        torch.testing.assert_close(mixed[i : i + 1], denoised(slice(i, i + 1), strength), rtol=1e-14, atol=1e-14)


# To the bit


@pytest.mark.parametrize("sample", [sample_euler, sample_heun])
@pytest.mark.parametrize("s_churn", [0.0, 8.0])
def test_nothing_to_guide_is_no_guidance_to_the_bit(sample, s_churn, conv_net):
    def run(denoiser):
        noise = SeededNoise([5, 6, 7, 8])
        x = 80 * noise.randn(2, 4, 8, 8)
        return sample(denoiser, x, SIGMAS, churn=Churn(s_churn=s_churn), noise=noise.randn_like)

    def watched(strength, interval):
        net = RecordingNet(conv_net)
        return run(guided(net, strength, interval=interval, self_condition=True)), [len(call.x) for call in net.calls]

    plain = run(EDMDenoiser(conv_net, class_labels=class_rows(torch.tensor(LABELS), 5), self_condition=True))
    for strength, interval in ((1.0, None), (torch.ones(4), None), (1.0, (0.2, 3.0)), (3.0, (1e5, 1e6))):
        out, batches = watched(strength, interval)
        assert torch.equal(out, plain)
        assert set(batches) == {4}
    full, batches = watched(3.0, None)
    assert set(batches) == {8}
    for interval in ((0.0, 1e6), (0.002, 120.0)):
        out, batches = watched(3.0, interval)
        assert torch.equal(out, full)
        assert set(batches) == {8}
    assert not torch.equal(full, plain)


def test_integer_labels_do_without_guidance(recording_net):
    labels = torch.tensor([0, 4, 2])
    GuidedDenoiser(EDMDenoiser(recording_net, class_labels=labels))(double(3, *SHAPE), 1.0)
    assert recording_net.calls[0].class_labels is labels


# Branches


def test_both_branches_are_one_batch(recording_net):
    x = double(4, *SHAPE)
    denoised, state = guided(recording_net, 2.5)(x, 0.7)
    (call,) = recording_net.calls
    rows = class_rows(torch.tensor(LABELS), 5)
    assert torch.equal(call.class_labels, torch.cat((rows, torch.zeros_like(rows))))
    assert torch.equal(call.x[:4], call.x[4:])
    assert state is None
    cond, _ = EDMDenoiser(recording_net, class_labels=rows)(x, 0.7)
    uncond, _ = EDMDenoiser(recording_net, class_labels=torch.zeros_like(rows))(x, 0.7)
    torch.testing.assert_close(denoised, uncond + 2.5 * (cond - uncond))
    assert torch.equal(guided(recording_net, 0.0)(x, 0.7)[0], uncond)


def test_only_guided_samples_have_a_second_branch(recording_net):
    x, strengths = double(4, *SHAPE), [0.0, 1.0, 1.5, 1.0]
    mixed, _ = guided(recording_net, torch.tensor(strengths))(x, 1.0)
    assert [len(call.x) for call in recording_net.calls] == [6]
    for i, strength in enumerate(strengths):
        alone, _ = guided(recording_net, strength, LABELS[i : i + 1])(x[i : i + 1], 1.0)
        torch.testing.assert_close(mixed[i : i + 1], alone, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("strength", [1.0, 2.0, torch.tensor([2.0, 1.0, 3.0, 1.0])])
@pytest.mark.parametrize("interval", [None, (0.2, 3.0), (1e5, 1e6)])
@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("sample", [sample_euler, sample_heun])
def test_evaluations_are_known_beforehand(sample, hold, interval, strength, recording_net):
    denoiser, churn = guided(recording_net, strength, interval=interval, hold=hold), Churn(s_churn=2.0)
    told = []

    def counted(x, sigma, state):
        told.append(denoiser.passes_at(sigma, 4, state))
        return denoiser(x, sigma, state)

    sample(counted, 80 * double(4, *SHAPE), SIGMAS, churn=churn, noise=torch.randn_like)
    levels = evaluated_levels(partial(sample, churn=churn), SIGMAS)
    assert [len(call.x) for call in recording_net.calls] == told
    more = 0 if denoiser.second is None else len(denoiser.second.class_labels) - 4
    assert told == [4 + more * both for both in denoiser.guidance.evaluated(levels)]
    asked = {
        (each.class_labels.data_ptr(), time)
        for each, its in denoiser.denoisers(levels)
        for time in each.noise_embeddings(its).tolist()
    }
    assert asked == {(call.class_labels.data_ptr(), call.time[0].float().item()) for call in recording_net.calls}


@pytest.mark.parametrize("strength", [2.0, torch.tensor([2.0, 1.0, 3.0, 0.0])])
@pytest.mark.parametrize("interval", [None, (0.5, 3.0), (0.0, 3.0), (0.5, 80.0)])
@pytest.mark.parametrize("hold", [False, True])
def test_each_branch_keeps_its_own_estimate_also_where_it_is_left_out(hold, interval, strength):
    """Zeros before its first evaluation, then its last, however old: noise goes up and down here."""
    net, K = RecordingNet(), 3 if isinstance(strength, torch.Tensor) else 4
    denoiser = guided(net, strength, interval=interval, hold=hold, self_condition=True)
    x = double(4, *SHAPE)
    last = {"main": torch.zeros_like(x), "second": torch.zeros(K, *SHAPE, dtype=torch.float64)}
    state, sizes = None, []
    for sigma in (80.0, 6.0, 2.9, 2.0, 0.4, 0.6, 3.5, 1.0, 0.1):
        _, state = denoiser(x, sigma, state)
        call = net.calls[-1]
        sizes.append(len(call.x))
        estimates = (0.25 * call.x + sigma * 0.5 * call.out) / math.sqrt(sigma**2 + 0.25)
        for name, part in (("main", slice(0, 4)), ("second", slice(4, None))):
            if len(call.x[part]):
                torch.testing.assert_close(call.self_cond[part], last[name], rtol=1e-12, atol=1e-12)
                last[name] = estimates[part]
    assert set(sizes) == ({4, 4 + K} if interval else {4 + K})


@pytest.mark.parametrize("self_condition", [False, True])
@pytest.mark.parametrize("guide", [False, True])
@pytest.mark.parametrize("projection", [{}, {"apg_eta": 0.25, "apg_norm": 3.0}])
def test_what_is_held_is_the_last_difference(projection, guide, self_condition):
    """Evaluated at the first level and in the interval, whichever way the noise goes; of the guided samples alone."""
    net, other, strength = RecordingNet(), RecordingNet(), torch.tensor([2.0, 1.0, 3.0, 0.0])
    rows, on = class_rows(torch.tensor(LABELS), 5), [0, 2, 3]
    main = EDMDenoiser(net, sigma_data=0.7, class_labels=rows, self_condition=self_condition)
    second = EDMDenoiser(other, sigma_data=2.0, class_labels=rows) if guide else None
    guidance = Guidance(strength=strength, interval=(0.5, 3.0), hold=True, **projection)
    denoiser, x, state = GuidedDenoiser(main, guidance, guide=second), double(4, *SHAPE), None

    def estimate(out, x, sigma, sigma_data):
        variance = sigma**2 + sigma_data**2
        return sigma_data**2 / variance * x + sigma * sigma_data / math.sqrt(variance) * out

    for sigma, evaluated in ((80.0, True), (6.0, False), (2.9, True), (0.4, False), (3.5, False), (1.0, True)):
        denoised, state = denoiser(x, sigma, state)
        call = net.calls[-1]
        assert len(call.x) == (7 if evaluated and not guide else 4)
        assert len(other.calls) == (guide and {80.0: 1, 6.0: 1, 2.9: 2, 0.4: 2, 3.5: 2, 1.0: 3}[sigma])
        expected, c_out = estimate(call.out[:4], x, sigma, 0.7), 0.7 * sigma / math.sqrt(sigma**2 + 0.49)
        if evaluated:
            out, sigma_data = (other.calls[-1].out, 2.0) if guide else (call.out[4:], 0.7)
            difference = (expected[on] - estimate(out, x[on], sigma, sigma_data)) / c_out
        column = strength[on].double().view(-1, 1, 1, 1, 1)
        expected[on] = guidance.combined(expected[on], expected[on] - c_out * difference, column)
        torch.testing.assert_close(denoised, expected, rtol=1e-10, atol=1e-10)


def test_what_is_held_is_clamped_as_well(recording_net):
    x = 3 * double(4, *SHAPE)
    denoiser = guided(recording_net, 50.0, interval=(10.0, 100.0), hold=True, clamp=True)
    _, state = denoiser(x, 80.0)
    denoised, _ = denoiser(x, 0.5, state)
    assert denoised.abs().max() == 1


@pytest.mark.parametrize("conditioned", [(True, True), (True, False), (False, True), (False, False)])
def test_a_guide_sees_the_guided_samples_and_its_own_estimates(conditioned):
    net, other = RecordingNet(), RecordingNet()
    labels = torch.tensor(LABELS)  # a guide does without the zero label, and so without rows
    main = EDMDenoiser(net, class_labels=labels, self_condition=conditioned[0])
    its = torch.tensor([1, 2, 0, 3])
    guide = EDMDenoiser(other, sigma_data=2.0, self_condition=conditioned[1], class_labels=its)
    guidance = Guidance(strength=torch.tensor([2.0, 1.0, 3.0, 1.0]), interval=(0.2, 3.0))
    denoiser, x, state = GuidedDenoiser(main, guidance, guide=guide), double(4, *SHAPE), None
    levels = (80.0, 2.0, 5.0, 1.0, 0.1)
    for sigma in levels:
        denoised, state = denoiser(x, sigma, state)
        if sigma in (80.0, 5.0, 0.1):
            call = net.calls[-1]
            torch.testing.assert_close(denoised, (0.25 * call.x + sigma * 0.5 * call.out) / math.sqrt(sigma**2 + 0.25))
    assert [len(call.x) for call in net.calls] == [4] * 5
    assert [call.class_labels.tolist() for call in other.calls] == [[1, 0]] * 2
    assert denoiser.denoisers(levels) == [(main, [*levels]), (denoiser.second, [2.0, 1.0])]
    assert [denoiser.passes_at(sigma, 4) for sigma in levels] == [4, 6, 4, 6, 4]
    torch.testing.assert_close(other.calls[0].x, x[::2] / math.sqrt(2.0**2 + 2.0**2))
    if conditioned[1]:
        first = (4.0 * other.calls[0].x + 4.0 * other.calls[0].out) / math.sqrt(8.0)
        torch.testing.assert_close(other.calls[1].self_cond, first)
    if conditioned[0]:
        assert net.calls[1].self_cond.any()


def test_a_guide_may_do_without_classes(recording_net):
    x = double(2, *SHAPE)
    main, guide = EDMDenoiser(recording_net), EDMDenoiser(RecordingNet(lambda x, time, **_: 0 * x))
    denoised, _ = GuidedDenoiser(main, Guidance(strength=3.0), guide=guide)(x, 1.0)
    torch.testing.assert_close(denoised, 3 * main(x, 1.0)[0] - 2 * guide(x, 1.0)[0])


def test_an_estimate_is_clamped_by_branch_and_together(recording_net):
    x = 3 * double(2, *SHAPE)
    denoised, state = guided(recording_net, 5.0, LABELS[:2], clamp=True, self_condition=True)(x, 0.5)
    cond, uncond, _ = state
    assert cond.abs().max() == uncond.abs().max() == 1
    torch.testing.assert_close(denoised, (uncond + 5 * (cond - uncond)).clamp(-1, 1))


# Bad arguments


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"strength": math.nan}, "strength must be finite, got nan"),
        ({"strength": torch.ones(2, 1)}, r"strength must be a number or have the shape \(B,\), got \(2, 1\)"),
        ({"apg_eta": -0.1}, "apg_eta must be at least 0, got -0.1"),
        ({"apg_norm": 0.0}, "apg_norm must be greater than 0, got 0.0"),
        ({"interval": (3.0, 0.2)}, "interval must have its lowest noise level first, got 3 and 0.2"),
        ({"interval": (0.2,)}, r"interval must be a lowest and a highest noise level, got \(0.2,\)"),
        ({"interval": (-1.0, 2.0)}, "interval must be at least 0, got -1.0"),
        ({"interval": (0.2, math.nan)}, "interval must be a finite number, got nan"),
    ],
)
def test_bad_guidance(attributes, message):
    with pytest.raises(ValueError, match=message):
        Guidance(**attributes)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "strength must be 1 without class_labels and guide, got 2.0"),
        (torch.tensor([1, 2]), r"class_labels must be float rows .* got torch.int64 of shape \(2,\)"),
    ],
)
def test_guidance_without_rows(recording_net, labels, message):
    with pytest.raises(ValueError, match=message):
        GuidedDenoiser(EDMDenoiser(recording_net, class_labels=labels), Guidance(strength=2.0))


def test_strengths_and_states_that_do_not_fit(recording_net):
    strengths = torch.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match=r"strength must have the shape \(\) or \(4,\), got \(2,\)"):
        guided(recording_net, strengths)
    x = double(4, *SHAPE)
    with pytest.raises(ValueError, match=r"state must have the shape \(8, 2, 3, 4, 4\), got \(6, 2, 3, 4, 4\)"):
        guided(recording_net, self_condition=True)(x, 1.0, Branches(x, x[:2]))
    assert not recording_net.calls

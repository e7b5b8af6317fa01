"""What follows from settings of the sampler, and which do not fit together; their ranges are in test_config.py."""

import dataclasses
import math

import pytest

from mpvideo.sampling_config import AUTO_SAMPLERS, SamplingConfig


@pytest.mark.parametrize(
    ("sampler", "steps", "evaluations"),
    [("euler", 1, 1), ("euler", 32, 32), ("heun", 1, 1), ("heun", 2, 3), ("heun", 32, 63), ("unipc", 12, 12)],
)
def test_num_evaluations(sampler, steps, evaluations):
    """That samplers take as many is in tests/diffusion/samplers."""
    assert SamplingConfig(sampler=sampler, steps=steps).num_evaluations == evaluations
    if steps > 1:
        each = 2 if sampler == "heun" else 1
        again = SamplingConfig(sampler=sampler, steps=steps, restarts=3, restart_steps=2)
        assert again.num_evaluations == evaluations + 3 * 2 * each


def test_auto_goes_by_the_number_of_steps():
    for most, name in AUTO_SAMPLERS:
        assert SamplingConfig(steps=most).solver == name
    assert SamplingConfig(steps=1).solver == AUTO_SAMPLERS[0][1]
    assert [SamplingConfig(steps=steps).solver for steps in (12, 13)] == ["deis", "ipndm"]
    assert AUTO_SAMPLERS[-1][0] == 100_000  # the most steps there can be
    assert SamplingConfig(steps=4, s_churn=1.0).solver == "heun"
    assert SamplingConfig(sampler="lms", steps=4).solver == "lms"
    for sampling in (SamplingConfig(steps=8), SamplingConfig(steps=99)):
        named = dataclasses.replace(sampling, sampler=sampling.solver)
        assert named.num_evaluations == sampling.num_evaluations


def test_what_follows_from_sigmas():
    for sigmas in ([80, 4.5, 0.5], (80, 4.5, 0.5, 0), [80, 4.5, 0.5, 0.0]):
        sampling = SamplingConfig(sigmas=sigmas, steps=7, sigma_min=3.0, sampler="heun")
        assert sampling.sigmas == (80, 4.5, 0.5)
        assert (sampling.steps, sampling.sigma_min, sampling.sigma_max) == (3, 0.5, 80)
        assert sampling.num_evaluations == 5
        assert dataclasses.replace(sampling, guidance=2.0).sigmas == sampling.sigmas
    alone = SamplingConfig(sigmas=[7.0])
    assert (alone.steps, alone.sigma_min, alone.sigma_max) == (1, 7.0, 7.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sigmas": []}, "the number of sigmas must be at least 1, got 0"),
        ({"sigmas": 80.0}, "sigmas must be a list of noise levels, got 80.0"),
        ({"sigmas": "80,1"}, "sigmas must be a list of noise levels, got '80,1'"),
        ({"sigmas": [0]}, "sigmas must be at least 1e-08, got 0"),
        ({"sigmas": [80, 1, 1]}, "sigmas must descend, got 1 and 1 at 1 and 2"),
        (
            {"sigmas": [80, math.nextafter(80, 0), 1]},
            "sigmas must descend by at least 1e-06 of each level, got 80 and 79.99999999999999 at 0 and 1",
        ),
        (
            {"sigma_min": math.nextafter(80, 0)},
            "steps, sigma_min, sigma_max and rho must make noise levels at least 1e-06 of each apart, "
            "got 32, 79.99999999999999, 80.0 and 7.0 with the schedule karras",
        ),
        ({"rho": 1e-300}, "steps, sigma_min, sigma_max and rho must make .*"),
        (
            {"schedule": "linear", "sigma_min": 79.999},
            "steps, sigma_min and sigma_max must make noise levels at least 1e-06 of each apart, "
            "got 32, 79.999 and 80.0 with the schedule linear",
        ),
        ({"sigmas": [80, 0, 0]}, "sigmas must be at least 1e-08, got 0"),
        ({"sigmas": [80, math.nan]}, "sigmas must be a finite number, got nan"),
        ({"sigmas": [80, "1"]}, "sigmas must be a finite number, got '1'"),
        ({"sampler": "unipc", "s_churn": 5.0}, "s_churn must be 0 for the sampler unipc, .*euler and heun.*, got 5.0"),
        ({"restarts": 1, "s_churn": 5.0}, "s_churn must be 0 with restarts, got 5.0"),
        ({"restarts": 1, "steps": 1}, "steps with restarts must be at least 2, got 1"),
        ({"restarts": 1, "sigmas": [80]}, "the number of sigmas with restarts must be at least 2, got 1"),
        ({"restarts": 1, "restart_max": 99}, "restart_max must be at most sigma_max, got 99 and 80.0"),
        ({"restarts": 1, "sigmas": [0.3, 0.1]}, "restart_max must be at most the first of sigmas, got 0.4 and 0.3"),
        (
            {"restarts": 1, "restart_max": 0.1 + 1e-9},
            "restart_steps, restart_min and restart_max must make noise levels at least 1e-06 of each apart, got 3, .*",
        ),
        ({"restarts": 1, "sigma_min": 0.2}, "restart_min must be at least sigma_min, got 0.1 and 0.2"),
        ({"restarts": 1, "sigmas": [80, 0.2]}, "restart_min must be at least the last of sigmas, got 0.1 and 0.2"),
        ({"restart_max": 0.05}, "restart_max must be greater than restart_min, got 0.05 and 0.1"),
    ],
)
def test_settings_of_the_sampler_that_do_not_fit(fields, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        SamplingConfig(**fields)

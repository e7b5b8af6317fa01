import itertools
import math

import numpy as np
import pytest
import torch

from mpvideo.config import SamplingConfig
from mpvideo.diffusion import karras_sigmas, schedule, solver
from mpvideo.diffusion.tuning import candidates, follow, shortest, step_errors
from mpvideo.sampling_config import STOCHASTIC
from tests.diffusion.conftest import GaussianDenoiser
from tests.diffusion.samplers.conftest import SOLVERS, MixtureDenoiser

TUNABLE = sorted(set(SOLVERS) - set(STOCHASTIC))
GAUSSIAN = GaussianDenoiser(std=torch.linspace(0.1, 1.5, 16, dtype=torch.float64), mean=torch.tensor(0.3))


def start(num=32):
    return 80 * torch.randn(num, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 7])
def test_the_shortest_path_is_that_of_all(num_steps):
    """Against every choice of levels, with random costs."""
    M, random = 7, np.random.default_rng(num_steps)
    first, last, later = random.random(M), random.random(M), random.random((M, M, M))
    for j, i, k in itertools.product(range(M), repeat=3):
        if not j < i < k:
            later[j, i, k] = math.inf
    first[0] = math.inf

    every = [(0, *rest) for rest in itertools.combinations(range(1, M), num_steps - 1)]

    def total(path):
        steps = first[path[1]] if len(path) > 1 else 0.0
        triples = zip(path, path[1:], path[2:], strict=False)
        return steps + sum(later[triple] for triple in triples) + last[path[-1]]

    assert shortest(first, later, last, num_steps) == min(every, key=total)


@pytest.mark.parametrize("num_steps", [0, 8])
def test_a_path_of_too_many_levels(num_steps):
    with pytest.raises(ValueError, match=f"num_steps must be from 1 to 7, got {num_steps}"):
        shortest(np.zeros(7), np.zeros((7, 7, 7)), np.zeros(7), num_steps)


def test_the_teacher_solves_the_ode():
    x = start()
    end, trajectory = follow(GAUSSIAN, x, karras_sigmas(64, 0.002, 80.0))
    torch.testing.assert_close(end, GAUSSIAN.solution(x, 80.0, 0.002), rtol=0, atol=5e-3)
    assert len(trajectory.sigmas) == 64
    # The inner products are those of x, D and the end.
    gram = trajectory.gram
    assert gram.shape == (129, 129)
    assert gram[0, 0] == pytest.approx(x.square().mean().item(), rel=1e-12)
    assert gram[64, 64] == pytest.approx(GAUSSIAN(x, 80.0)[0].square().mean().item(), rel=1e-9)
    assert gram[128, 128] == pytest.approx(end.square().mean().item(), rel=1e-12)


def test_some_of_the_coordinates_stand_for_all():
    x = start(2000)
    sigmas = karras_sigmas(20, 0.002, 80.0)
    _, whole = follow(GAUSSIAN, x, sigmas)
    _, part = follow(GAUSSIAN, x, sigmas, most=8000)
    np.testing.assert_allclose(np.diag(part.gram), np.diag(whole.gram), rtol=0.1)


@pytest.mark.parametrize("name", ["euler", "dpmpp-2m", "dpmpp-3m", "deis", "ipndm", "lms"])
def test_errors_are_those_of_the_solvers_own_steps(name):
    """From the inner products alone, what running the solver from the teacher's path gives."""
    x, sigmas = start(), karras_sigmas(12, 0.02, 80.0)
    points = []

    def watched(x, sigma, state):
        points.append(x)
        return GAUSSIAN(x, sigma)

    end, trajectory = follow(watched, x, sigmas)
    first, later, last = step_errors(trajectory, name)
    solve = solver(SamplingConfig(sampler=name))

    def missed(levels, to):
        return (solve(GAUSSIAN, points[levels[0]], sigmas[levels]) - to).square().mean().sqrt().item()

    assert first[3] == pytest.approx(missed([0, 3], points[3]), rel=1e-6)
    assert last[5] == pytest.approx(missed([5, 12], end), rel=1e-6)
    if name != "euler":  # with a history whose first step is the teacher's own: from level 0, where paths are straight
        assert later[0, 1, 4] == pytest.approx(missed([0, 1, 4], points[4]), rel=0.1)
    assert math.isinf(first[0]) and math.isinf(later[2, 2, 3]) and math.isinf(later[3, 2, 5])


@pytest.mark.parametrize("name", ["heun", "unipc"])
def test_errors_of_steps_that_look_at_their_end(name):
    """Those take D at the end of the step from the teacher, too."""
    x, sigmas = start(), karras_sigmas(12, 0.02, 80.0).tolist()
    points, estimates = [], []

    def watched(x, sigma, state):
        points.append(x)
        estimates.append(GAUSSIAN(x, sigma)[0])
        return estimates[-1], None

    _, trajectory = follow(watched, x, torch.tensor(sigmas, dtype=torch.float64))
    first, later, _ = step_errors(trajectory, name)

    def end_of_heun(i, k):
        slopes = [(points[a] - estimates[a]) / sigmas[a] for a in (i, k)]
        return points[i] + (sigmas[k] - sigmas[i]) * sum(slopes) / 2

    def end_of_unipc(*known):
        """Weights that are right for 1, u and u**2, of u = ln(sigma_i / sigma): as many as there are estimates."""
        k, i, *_ = known
        at = np.array([math.log(sigmas[i] / sigmas[a]) for a in known])
        h = at[0]
        constant = 1 - math.exp(-h)
        exact = [constant, h - constant, h**2 - 2 * (h - constant)][: len(known)]
        weights = np.linalg.solve(np.vander(at, increasing=True).T, exact)
        return points[i] * sigmas[k] / sigmas[i] + sum(w * estimates[a] for w, a in zip(weights, known, strict=True))

    def missed(end, k):
        return (end - points[k]).square().mean().sqrt().item()

    shorter, longer = (end_of_heun(0, 3), end_of_heun(4, 6)) if name == "heun" else (
        end_of_unipc(3, 0), end_of_unipc(6, 4, 2)
    )  # fmt: skip
    assert first[3] == pytest.approx(missed(shorter, 3), rel=1e-6)
    assert later[2, 4, 6] == pytest.approx(missed(longer, 6), rel=1e-6)


@pytest.mark.parametrize("name", TUNABLE)
def test_candidates_beat_the_schedule_of_karras(name):
    """On a mixture and 5 steps, by the distance to the exact solution, with other noise than they were sought with."""
    denoiser = MixtureDenoiser()
    _, trajectory = follow(denoiser, start(), karras_sigmas(40, 0.002, 80.0))
    paths = list(candidates(trajectory, name, 5, sigma_data=0.5))
    assert len(paths) == len(set(paths)) > 1
    for path in paths:
        assert path[0] == 0 and list(path) == sorted(set(path)) and len(path) == 5 and path[-1] < 40
    x = 80 * torch.randn(64, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = denoiser.solution(x, 80.0, 1e-5)

    def error(**levels):
        sampling = SamplingConfig(sampler=name, **levels)
        return (solver(sampling)(denoiser, x, schedule(sampling)) - exact).square().mean().sqrt().item()

    tuned = min(error(sigmas=[trajectory.sigmas[index] for index in path]) for path in paths)
    assert tuned < 0.9 * error(steps=5)

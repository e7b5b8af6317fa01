import dataclasses
from itertools import product
from pathlib import Path

import pytest

from mpvideo.cli.sampling_settings import astray, clamp_setting, parse_sigmas, sampling_settings
from mpvideo.config import EDMConfig, SamplingConfig
from mpvideo.errors import UsageError
from tests.checkpoints import tiny_config

ABOUT = tiny_config()


def settings(own: SamplingConfig | None = None, **given: object) -> SamplingConfig:
    about = dataclasses.replace(ABOUT, sampling=own or SamplingConfig(sampler="heun", steps=3))
    return sampling_settings(about, **given)  # type: ignore[arg-type]


def test_given_over_preset_over_checkpoint() -> None:
    own = SamplingConfig(sampler="euler", steps=5, s_churn=4.0, guidance=3.0)
    assert settings(own) == own
    package = settings(own, preset="package")
    assert (package.sampler, package.steps, package.s_churn, package.s_tmax, package.guidance) == (
        "heun", 32, 80.0, 50.0, 3.0
    )  # fmt: skip
    mixed = settings(own, preset="package", steps=9, s_churn=0.0, sampler="unipc")
    assert (mixed.sampler, mixed.steps, mixed.s_churn, mixed.s_noise) == ("unipc", 9, 0.0, 1.003)


def test_auto_is_named() -> None:
    for steps in (8, 99):
        sampling = settings(sampler="auto", steps=steps)
        assert sampling.sampler == SamplingConfig(steps=steps).solver != "auto"


def test_lists_of_levels_give_way_to_a_schedule() -> None:
    own = SamplingConfig(sampler="lms", sigmas=(50, 4, 0.5))
    assert settings(own).sigmas == (50, 4, 0.5)
    assert settings(own, guidance=2.0).sigmas == (50, 4, 0.5)
    spaced = settings(own, steps=9)
    assert (spaced.sigmas, spaced.steps, spaced.sigma_max, spaced.sigma_min) == (None, 9, 50, 0.5)
    listed = settings(own, sigmas="9,1")
    assert (listed.sigmas, listed.steps) == ((9, 1), 2)
    with pytest.raises(UsageError) as caught:
        settings(own, sigmas="9,1", sigma_min=0.1)
    assert caught.value.message == "--sigmas and --sigma-min cannot be given together: the list is the whole schedule"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": "unipc", "s_churn": 4.0}, "--s-churn must be 0 for the --sampler unipc, "),
        ({"sigmas": "1,2"}, "--sigmas must descend, got 1.0 and 2.0 at 0 and 1"),
        ({"sigmas": "9,nan"}, "--sigmas must be a finite number, got nan"),
        ({"restarts": 1, "steps": 1}, "--steps with --restarts must be at least 2, got 1"),
        ({"eta": -1.0}, "--eta must be at least 0, got -1.0"),
    ],
)
def test_what_does_not_fit_is_told_as_the_user_calls_it(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(**given)
    assert caught.value.message.startswith(message)


CHURNING = SamplingConfig(sampler="heun", s_churn=40.0)


@pytest.mark.parametrize(
    ("own", "given", "message", "hint"),
    [
        (
            None,
            {"preset": "package", "restarts": 2},
            "--s-churn must be 0 with --restarts, got 80.0 (--s-churn is from --preset package)",
            "Give --s-churn 0 beside it.",
        ),
        (
            CHURNING,
            {"restarts": 2},
            "--s-churn must be 0 with --restarts, got 40.0 (--s-churn is from the checkpoint's config)",
            "Give --s-churn 0 beside it.",
        ),
        (
            CHURNING,
            {"restarts": 2, "s_churn": 40.0, "recorded": {"s_churn"}},
            "--s-churn must be 0 with --restarts, got 40.0 (--s-churn is from the record of --like)",
            "Give --s-churn 0 beside it.",
        ),
        (None, {"restarts": 2, "s_churn": 40.0}, "--s-churn must be 0 with --restarts, got 40.0", None),
        (
            None,
            {"restarts": 2, "sigmas": "5,1"},
            "--restart-min must be at least the last of --sigmas, got 0.1 and 1.0 (--restart-min is so by default)",
            "Give --restart-min beside it.",
        ),
        (
            None,
            {"restarts": 2, "restart_min": 100.0, "restart_max": 200.0},
            "--restart-max must be at most --sigma-max, got 200.0 and 80.0 (--sigma-max is so by default)",
            None,
        ),
    ],
)
def test_where_settings_come_from_that_nobody_gave(
    own: SamplingConfig | None, given: dict[str, object], message: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        settings(own, **given)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    with pytest.raises(UsageError, match=r"got 80.0 \(--s-churn is from --preset package\)$"):
        settings(preset="package", sampler="ipndm")


@pytest.mark.parametrize(
    "text",
    ["80, 9.5,0.1", "80\n9.5\n0.1\n", "[80, 9.5, 0.1]\n", "80 9.5 0.1", "80,9.5,0.1,\n", "\ufeff80\n\n9.5 0.1\n0"],
)
def test_levels_in_a_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "levels.txt"
    path.write_text(text, encoding="utf-8")
    assert parse_sigmas(str(path)) == (80.0, 9.5, 0.1)
    path.write_text(text.replace("9.5", "none"), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"^--sigmas {path}, line \d, must be noise levels with .*, got 'none'$"):
        parse_sigmas(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path} is empty: it must have noise levels"),
        (" \n[]\n", "{path} is empty: it must have noise levels"),
        ("80\n9,,2", "{path}, line 2, must be noise levels with commas or spaces between them, got ''"),
        ("80\n2\n9\n", "{path} must descend, got 2.0 and 9.0 at line 2 and line 3"),
        ("80\nnan\n", "{path}, line 2, must be a finite number, got nan"),
        ("80\n79.99999999\n", "{path} must descend by at least 1e-06 of each level, got .* at line 1 and line 2"),
        ("1" * 4_000_001, "{path} must have at most 4,000,000 characters"),
    ],
)
def test_files_that_are_no_levels(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "levels.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"^--sigmas {message.format(path=path)}$"):
        parse_sigmas(str(path))


def test_paths_that_lead_to_no_levels(tmp_path: Path) -> None:
    for text in ("nowhere.txt", "here/or/there", f"{tmp_path}/x"):
        with pytest.raises(UsageError, match=f"^--sigmas must be noise levels .*, and there is no file {text}$"):
            parse_sigmas(text)
    with pytest.raises(
        UsageError, match=f"^--sigmas must be noise levels or a file of them, got a folder: {tmp_path}$"
    ):
        parse_sigmas(str(tmp_path))


def test_levels_on_the_line() -> None:
    for text in ("80, 9.5,1e-1", "80 9.5 0.1", "[80,9.5,0.1]", " [ 80, 9.5 0.1 ] "):
        assert parse_sigmas(text) == (80.0, 9.5, 0.1)
    for text in ("80,9x", "80,,9", "", "[]", "x" * 5000, "a\0b"):
        with pytest.raises(UsageError, match="--sigmas must be noise levels with commas between them, or a file"):
            parse_sigmas(text)


def test_clamp() -> None:
    for own in (True, False):
        about = dataclasses.replace(ABOUT, edm=EDMConfig(clamp=own))
        assert clamp_setting(about, preset=None, clamp=None) == own
        assert clamp_setting(about, preset="edm", clamp=None) == own
        assert clamp_setting(about, preset="package", clamp=None)
        assert not clamp_setting(about, preset="package", clamp=False)


def test_clamp_of_a_record(tmp_path: Path) -> None:
    """A named preset leaves nothing of it, a file what it does not give."""
    (silent := tmp_path / "silent.json").write_text('{"format": 1, "sampling": {"steps": 3}}')
    (clamped := tmp_path / "clamped.json").write_text('{"format": 1, "sampling": {"steps": 3}, "clamp": true}')
    (loose := tmp_path / "loose.json").write_text('{"format": 1, "sampling": {"steps": 3}, "clamp": false}')
    for own, recorded in product((True, False), repeat=2):
        about = dataclasses.replace(ABOUT, edm=EDMConfig(clamp=own))
        wanted = {None: recorded, "edm": own, "package": True, silent: recorded, clamped: True, loose: False}
        for preset, clamp in wanted.items():
            name = None if preset is None else str(preset)
            assert clamp_setting(about, preset=name, clamp=None, recorded=recorded) == clamp
            assert not clamp_setting(about, preset=name, clamp=False, recorded=recorded)


def test_samplers_with_too_few_evaluations_are_warned_of():
    settings = [
        SamplingConfig(sampler="heun", steps=9),  # 17 evaluations
        SamplingConfig(sampler="heun", steps=8),
        SamplingConfig(sampler="auto", steps=4, s_churn=1.0),
        SamplingConfig(sampler="dpmpp-3m", steps=17),
        SamplingConfig(sampler="dpmpp-3m", steps=18),
        SamplingConfig(sampler="deis", steps=2),
    ]
    assert [*astray(settings)] == [
        "--sampler heun goes astray with 7 evaluations of the denoiser, it wants 17: give more --steps, or another "
        "--sampler",
        "--sampler dpmpp-3m goes astray with 17 evaluations of the denoiser, it wants 18: give more --steps, or "
        "another --sampler",
    ]
    assert [*astray([settings[0], settings[4], settings[5]])] == []

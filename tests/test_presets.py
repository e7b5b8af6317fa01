import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from mpvideo.config import SamplingConfig
from mpvideo.errors import CheckpointError, UsageError
from mpvideo.presets import PRESETS, Preset, find_preset

GUIDANCE = {"guidance": 2.0, "guidance_interval": (0.1, 5.0), "guidance_hold": True, "apg_eta": 0.5, "apg_norm": 9.0}
OWN = SamplingConfig(sampler="euler", sigmas=(9, 1), s_churn=3.0, s_noise=1.1, **GUIDANCE)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_everything_but_guidance(name: str) -> None:
    """Nothing of what a checkpoint says of its sampler stays, so that the name says it all."""
    preset = find_preset(name)
    assert set(preset.sampling) == {field.name for field in fields(SamplingConfig)} - GUIDANCE.keys()
    sampling = replace(OWN, **preset.sampling)
    assert {name: getattr(sampling, name) for name in GUIDANCE} == GUIDANCE
    assert sampling == SamplingConfig(**preset.sampling, **GUIDANCE)


def test_published_settings() -> None:
    def of(name: str) -> SamplingConfig:
        return SamplingConfig(**PRESETS[name].sampling)

    assert of("edm") == SamplingConfig(sampler="heun", steps=18, sigma_min=0.002, sigma_max=80, rho=7)
    assert of("edm").num_evaluations == 35
    assert of("edm2").num_evaluations == 63
    package = SamplingConfig(sampler="heun", steps=32, s_churn=80, s_tmin=0.05, s_tmax=50, s_noise=1.003)
    assert of("package") == package
    assert {name: preset.clamp for name, preset in PRESETS.items() if preset.clamp is not None} == {"package": True}
    assert of("fast").num_evaluations <= 12


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"format": 1, "sampling": {"sampler": "lms", "sigmas": [80, 3, 0.2]}, "tuned": {}}))
    preset = find_preset(str(path))
    assert preset.sampling == {"sampler": "lms", "sigmas": (80, 3, 0.2)}
    assert preset.clamp is None
    path.write_text('{"format": 1, "sampling": {}, "clamp": true}')
    assert find_preset(str(path)).clamp is True
    path.write_text(json.dumps({"format": 1, "sampling": {"steps": 5, "guidance": 1.5}}))
    assert replace(OWN, **find_preset(str(path)).sampling) == replace(OWN, sigmas=None, steps=5, guidance=1.5)


def test_levels_tuned_without_a_guide_are_not_meant_for_one() -> None:
    """Of guidance that is another anyway, one warning will do; without any, a guide has no effect."""
    sampling = SamplingConfig(sampler="deis", sigmas=(80.0, 3.0), guidance=2.0)
    tuned = {"checkpoint": {"name": "a", "sha256": "0"}}
    preset = Preset(sampling={"sigmas": sampling.sigmas, "guidance": 2.0}, file="a.json", tuned=tuned)
    words = "the noise levels of a.json were made for guidance"
    assert [*preset.warnings(sampling, "a", "0", has_guide=True)] == [
        f"{words} away from no class, not from a second checkpoint"
    ]
    assert [*preset.warnings(sampling, "a", "0", has_guide=False)] == []
    unguided, plain = replace(preset, sampling={**preset.sampling, "guidance": 1.0}), replace(sampling, guidance=1.0)
    assert [*unguided.warnings(plain, "a", "0", has_guide=True)] == []
    assert [*unguided.warnings(sampling, "a", "0", has_guide=True)] == [f"{words} 1.0, not 2.0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sampling": {}}, "mine.json: preset format must be 1, got None"),
        ({"format": 1, "sampling": {}, "foo": 1}, "mine.json has unknown fields: foo"),
        ({"format": 1, "sampling": {}, "clamp": 1}, "mine.json: clamp must be true or false, got 1"),
        ({"format": 1, "sampling": {}, "tuned": 1}, "mine.json: tuned must be an object, got 1"),
        ({"format": 1}, "sampling must be an object, got None"),
        ({"format": 1, "sampling": {"order": 3}}, "sampling has unknown fields: order"),
        (
            {"format": 1, "sampling": {"steps": 5, "sigmas": [80, 3]}},
            "mine.json: sampling: steps must be 2 for its sigmas, got 5",
        ),
        ({"format": 1, "sampling": {"steps": 0}}, "sampling: steps must be at least 1, got 0"),
    ],
)
def test_a_wrong_file(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as caught:
        find_preset(str(path))
    assert message in caught.value.message
    assert "config" not in f"{caught.value.message} {caught.value.hint}"


def test_the_example_of_a_file_is_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_preset("fastest")
    assert caught.value.hint is not None
    (path := tmp_path / "mine.json").write_text(caught.value.hint.split(": ", 1)[1].removesuffix("."))
    sampling = SamplingConfig(**find_preset(str(path)).sampling)
    assert sampling == SamplingConfig(**PRESETS["fast"].sampling)


@pytest.mark.parametrize("name", ["fastest", ""])
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_preset(name)
    expected = f"--preset must be one of edm, edm2, package, fast or a JSON file, got {name!r}"
    assert caught.value.message == expected
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Such a file holds settings of the sampler, as `mpvideo tune` writes them: {")


@pytest.mark.parametrize("name", ["nope.json", "./nope", "mine/nope.json"])
def test_a_file_that_is_not_there(name: str) -> None:
    """What can be a file's name alone is told of as such."""
    with pytest.raises(CheckpointError) as caught:
        find_preset(name)
    assert caught.value.message == f"--preset {Path(name)} does not exist"


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(CheckpointError, match=r"^--preset a\\x00b cannot be read: embedded null"):
        find_preset("a\0b")

from pathlib import Path

import pytest

from mpvideo.cli.options import check_config_file, parse_settings, usage_errors
from mpvideo.errors import CheckpointError, UsageError
from tests.cli.conftest import Program


def refused(*settings: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_settings(list(settings))
    assert caught.value.message.startswith("--set ")
    return caught.value


def test_values_are_json_or_words() -> None:
    settings = [
        "video.codec=rgb",
        "video.fps = 12.5",
        "model.attn_res=[8, 16]",
        "edm.clamp=true",
        'title="NaN"',
        "a={1",
    ]
    assert parse_settings(settings) == {
        "video": {"codec": "rgb", "fps": 12.5},
        "model": {"attn_res": [8, 16]},
        "edm": {"clamp": True},
        "title": "NaN",
        "a": "{1",
    }
    assert parse_settings(["s_tmax=null"]) == {"s_tmax": None}
    assert parse_settings(["title=a=b"]) == {"title": "a=b"}
    assert parse_settings(["title="]) == {"title": ""}
    assert parse_settings(None) == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("NaN", "numbers must be finite, got NaN"),
        ("-Infinity", "numbers must be finite, got -Infinity"),
        ("[1, 1e999]", "numbers must be finite, got 1e999"),
        ("1" * 5000, "at most 20 digits, got 5000"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('"\\ud800"', "surrogates not allowed"),
        ("[" * 100 + "]" * 100, "nested at most 64 levels deep"),
        ("[" * 200_000, "nested at most 64 levels deep"),
    ],
)
def test_json_that_is_not_taken_is_refused_not_read_as_a_word(value: str, words: str) -> None:
    error = refused(f"sampling.rho={value}")
    assert error.message.startswith("--set sampling.rho cannot be ") and words in error.message
    assert len(error.message) < 300
    assert "double quotes" in (error.hint or "")


def test_pairs_that_are_none() -> None:
    for setting in ("steps", "=3", "a..b=1", ".=1"):
        assert f"--set must be KEY=VALUE, got {setting!r}" in refused(setting).message
    assert "a was set to a value before" in refused("a=1", "a.b=2").message
    assert "at most 64 fields inside each other, got 2,000" in refused(f"{'.'.join('a' * 2000)}=1").message


def test_parameters_are_called_as_the_user_does() -> None:
    with pytest.raises(UsageError) as caught, usage_errors("s_tmax", "s_tmin", "steps"):
        raise ValueError("s_tmax must be at least s_tmin, in stepsize or steps")
    assert caught.value.message == "--s-tmax must be at least --s-tmin, in stepsize or --steps"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format": 2}', " conf.json: config format must be 1, got 2"),
        ("{}", " conf.json: config format must be 1, got None"),
        ("[]", " conf.json must be a JSON object, got []"),
    ],
)
def test_a_config_file_is_named_by_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf.json").write_text(text)
    with pytest.raises(CheckpointError) as caught:
        check_config_file(Path("conf.json"))
    assert caught.value.message == f"--config{words}"
    Path("conf.json").write_text('{"format": 1}')
    check_config_file(Path("conf.json"))
    check_config_file(None)


@pytest.mark.parametrize("command", [("sample", "--out", "a.mp4"), ("eval", "--num", 4)])
def test_errors_of_a_config_file_are_not_told_as_the_checkpoint_s(
    program: Program, ckpt: Path, command: tuple[object, ...]
) -> None:
    Path("conf.json").write_text('{"format": 2}')
    refused = program(*command, "--ckpt", ckpt, "--config", "conf.json")
    assert refused.code == 3
    assert refused.stderr.startswith("error: --config conf.json: config format must be 1, got 2\n")

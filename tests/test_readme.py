"""The README is true: its commands exist, its table of exit codes is the program's, its Python runs."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main

from mpvideo.architecture import network_shapes
from mpvideo.checkpoint.completion import complete_config
from mpvideo.checkpoint.infer import infer_network
from mpvideo.checkpoint.resolving import checked_config
from mpvideo.cli.app import app
from mpvideo.cli.options import parse_settings
from mpvideo.config import CheckpointConfig, ModelConfig
from mpvideo.errors import ExitCode

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def shell_lines() -> list[str]:
    text = "\n".join(block for kind, block in BLOCKS if kind == "sh")
    words = "|".join(COMMANDS)
    return [line.strip() for line in re.findall(rf"(?:^|\s|/)mpvideo ((?:{words})[^\n|]*)", text)]


def test_every_command_is_described() -> None:
    for name, command in COMMANDS.items():
        assert f"mpvideo {name}" in README
        assert command.help


@pytest.mark.parametrize("line", shell_lines())
def test_every_option_exists(line: str) -> None:
    name, *words = shlex.split(line)
    known = {flag for parameter in COMMANDS[name].params for flag in [*parameter.opts, *parameter.secondary_opts]}
    for word in words:
        if word.startswith("-") and word != "-":  # which is a pipe
            assert word in known


def test_flags_named_in_the_text_exist() -> None:
    known = {
        flag
        for command in [*COMMANDS.values(), typer.main.get_command(app)]
        for parameter in command.params
        for flag in [*parameter.opts, *parameter.secondary_opts]
    }
    named = set(re.findall(r"`(--[a-z-]+)", README))
    assert named <= known


def test_exit_codes() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}
    assert table == {int(code) for code in ExitCode}


def test_the_python_examples_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for example in (block for kind, block in BLOCKS if kind == "python"):  # each goes on where the last one ended
        exec(compile(example, "README.md", "exec"), names)
    printed = [*3 * ["(32, 64, 64, 3) golden dog trots"], "207 8 2.0", "2 (32, 256, 256, 3)"]
    assert capsys.readouterr().out.splitlines() == printed


def test_the_example_config_is_one() -> None:
    text = (Path(__file__).parents[1] / "weights.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    config = CheckpointConfig.from_dict(json.loads(example), "weights.md")
    assert config.video.channels == config.model.channels == 3


def test_the_example_with_settings_is_whole() -> None:
    """What --set gives there and what the tensors of an RGB network tell is all that is wanted."""
    (line,) = (line for line in shell_lines() if line.startswith("sample") and "--set model.image_size" in line)
    words = shlex.split(line)
    settings = [word for flag, word in pairwise(words) if flag == "--set"]
    nested = parse_settings(settings)
    assert list(nested) == ["model"]  # three channels leave no doubt about the codec
    shapes = network_shapes(ModelConfig(**nested["model"], channels=3))
    whole, _, questions = complete_config(infer_network(shapes), shapes, nested)
    assert questions == []
    assert network_shapes(checked_config(whole, "README.md").model) == shapes

"""What weights.md says of the format, held against the code."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from mpvideo.config import (
    AutoencoderConfig,
    CheckpointConfig,
    CodecName,
    EDMConfig,
    ModelConfig,
    SamplingConfig,
    VideoConfig,
)

TEXT = (Path(__file__).parents[1] / "weights.md").read_text()


def names(*kinds: type) -> list[str]:
    return [field.name for kind in kinds for field in fields(kind)]  # type: ignore[arg-type]


def table() -> dict[str, list[str]]:
    """The words in backticks of each row of the field table, by those of its first cell."""
    lines = TEXT.split("| field | meaning |\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    rows = [line.strip("|").split("|", 1) for line in lines]
    return {
        field: re.findall("`([^`]+)`", meaning) for first, meaning in rows for field in re.findall("`(.+?)`", first)
    }


def test_every_field_has_its_row() -> None:
    assert sorted(table()) == sorted(["format", *names(CheckpointConfig)])


@pytest.mark.parametrize(
    ("row", "kinds", "values"),
    [
        ("model", (ModelConfig,), ()),
        ("video", (VideoConfig, AutoencoderConfig), get_args(CodecName)),
        ("edm", (EDMConfig,), ()),
        ("sampling", (SamplingConfig,), ()),
    ],
)
def test_each_part_names_exactly_its_fields(row: str, kinds: tuple[type, ...], values: tuple[str, ...]) -> None:
    assert sorted(table()[row]) == sorted([*names(*kinds), *values])

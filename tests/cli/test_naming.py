from pathlib import Path

import pytest

from mpvideo.cli.naming import Names, literal
from mpvideo.errors import UsageError
from mpvideo.generation import Job


def names(template: str, *seeds: int, class_index: int | None = 7) -> list[str]:
    found = Names(Path(template), num=len(seeds), has_classes=class_index is not None)
    return [str(path) for path in found.paths([Job(seed=seed, class_index=class_index) for seed in seeds])]


def test_fields() -> None:
    assert names("a.mp4", 3) == ["a.mp4"]
    assert names("{class:03d}/{seed:x}.gif", 9, 10) == ["007/9.gif", "007/a.gif"]
    assert names("{{class}}{{{seed}}}.gif", 1, class_index=None) == ["{class}{1}.gif"]
    assert names("{seed!r:>3}.gif", 2**63 - 1) == ["9223372036854775807.gif"]


def test_a_path_as_a_template_is_itself() -> None:
    for path in ("a.mp4", "{seed}/{{x}.mp4", "}{"):
        assert names(literal(Path(path)), 0) == [path]


@pytest.mark.parametrize(
    ("template", "seeds", "words"),
    [
        ("x{seed:.0e}.gif", (100, 101, 102), "the seeds 100 and 101 both give 'x1e+02.gif'"),
        ("{seed!s:.1}.gif", (8, 9, 10, 11, 80), "the seeds 10 and 11 both give '1.gif'"),
        ("{seed:c}.gif", (2**40,), "a format that does not fit, got '{seed:c}.gif'"),
        ("{seed:c}.gif", (2**63 - 1,), "a format that does not fit"),
        ("{seed:s}.gif", (1,), "a format that does not fit"),
        ("{seed!z}.gif", (1,), "a format that does not fit"),
        ("{seed:09999999999d}{seed}.gif", (1,), "a width has at most 3 digits"),
        ("{class:0{seed}d}.gif", (1,), "a format has no fields of its own"),
        ("{}.gif", (1,), "may have the fields {class} and {seed}, got {}"),
        ("{0}.gif", (1,), "may have the fields {class} and {seed}, got {0}"),
        ("{seed[0]}.gif", (1,), "got {seed[0]}"),
        ("seed}.gif", (1,), "has a stray brace"),
        ("{{seed}}.gif", (1, 2), "must contain {seed} for 2 seeds"),
    ],
)
def test_what_is_refused(template: str, seeds: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        names(template, *seeds)
    assert caught.value.message.startswith("--out ")
    assert words in caught.value.message


def test_no_class() -> None:
    with pytest.raises(UsageError, match=r"cannot contain \{class\}: the checkpoint has no classes"):
        names("{class}.gif", 1, class_index=None)

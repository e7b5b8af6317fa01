"""Names of files from a template."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from mpvideo.batch.names import Names, Taken, literal, safe
from mpvideo.blend import Blend
from mpvideo.errors import UsageError

VALUES = {
    "class": 7, "class_name": "red cat", "seed": 3, "index": 0, "guidance": 1.5, "steps": 18, "sampler": "heun",
    "ckpt": "menagerie",
}  # fmt: skip


def name(template: str, **values: object) -> str:
    return str(Names(Path(template)).path(**{**VALUES, **values}))


def test_fields() -> None:
    assert name("a.mp4") == "a.mp4"
    assert name("{class:03d}/{seed:x}.gif", seed=10) == "007/a.gif"
    assert name("{ckpt}/{class_name}-{index}-{guidance}-{steps}-{sampler}.mp4") == "menagerie/red-cat-0-1.5-18-heun.mp4"
    assert name("{{class}}{{{seed}}}.gif") == "{class}{3}.gif"
    assert name("{seed!r:>3}.gif", seed=2**63 - 1) == "9223372036854775807.gif"


@pytest.mark.parametrize(
    ("text", "fitting"),
    [
        ("golden dog trots", "golden-dog-trots"),
        ("../../etc/passwd", "etc-passwd"),
        ('a/b\\c:d*e?f"g<h>i|j', "a-b-c-d-e-f-g-h-i-j"),
        (".hidden", "hidden"),
        ("\x1b[2J\n", "2J"),
        ("größe_1.5+x", "größe_1.5+x"),
        ("..", "-"),
        ("", "-"),
        ("x" * 500, "x" * 80),
    ],
)
def test_characters_that_do_not_fit_are_replaced(text: str, fitting: str) -> None:
    assert safe(text) == fitting
    assert name("runs/{class_name}.mp4", class_name=text) == f"runs/{fitting}.mp4"


def test_a_path_as_a_template_is_itself() -> None:
    for path in ("a.mp4", "{seed}/{{x}.mp4", "}{"):
        assert name(literal(Path(path))) == path


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{seed:s}.gif", "a format that does not fit, got '{seed:s}.gif'"),
        ("{seed:c}.gif", "c makes characters of numbers"),
        ("{seed:/>9}.gif", "a format has no folders"),
        ("{seed!z}.gif", "a format that does not fit"),
        ("{seed:09999999999d}{seed}.gif", "a width has at most 3 digits"),
        ("{class:0{seed}d}.gif", "a format has no fields of its own"),
        (
            "{}.gif",
            "may have the fields {class}, {class_name}, {seed}, {index}, {guidance}, {steps}, {sampler}, {ckpt}",
        ),
        ("{0}.gif", "got {0}"),
        ("{seed[0]}.gif", "got {seed[0]}"),
        ("seed}.gif", "has a stray brace"),
    ],
)
def test_what_is_refused(template: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        name(template)
    assert caught.value.message.startswith("--out ")
    assert words in caught.value.message


def test_digits_of_a_blend() -> None:
    blend = Blend(((3, 0.5), (8, 1.5)))
    assert name("{seed:>20}.gif", seed=blend).endswith(" 3-0.5+8-1.5.gif")
    with pytest.raises(UsageError) as caught:
        name("{seed:06d}.npy", seed=blend)
    words = (
        "--out has a format that does not fit, got '{seed:06d}.npy': {seed} of a blend or a walk is a word, such as "
    )
    assert caught.value.message == f"{words}3-0.5+8-1.5, and no number"
    assert caught.value.hint == "{index:06d} is a number for every video."


def test_what_a_checkpoint_lacks() -> None:
    with pytest.raises(UsageError, match=r"--out cannot contain \{class\}: the checkpoint has no classes"):
        Names(Path("{class}.gif"), lacking={"class": "the checkpoint has no classes"})


def test_a_list_has_to_be_told_apart() -> None:
    for template in ("{class}.gif", "{class_name}.gif", "{index}.gif"):
        Names(Path(template), several=["class"])
    with pytest.raises(UsageError, match=r"--out must contain \{class\} or \{index\} for several --class") as caught:
        Names(Path("{{class}}/a{seed}.gif"), several=["seed", "class"])
    assert caught.value.hint == "For example a{seed}-{class}.gif."


def test_folders_named_by_fields_have_to_be_made() -> None:
    assert Names(Path("runs/{class}/{seed}.mp4")).makes_folders
    assert Names(Path("runs/{seed}.mp4")).makes_folders
    assert not Names(Path("runs/{{class}}/0.mp4")).makes_folders


def test_a_file_is_given_away_once(tmp_path: Path) -> None:
    (tmp_path / "link.gif").symlink_to("a.gif")
    taken = Taken()
    assert taken.take(tmp_path / "a.gif")
    assert taken.take(tmp_path / "b.gif")
    assert not taken.take(tmp_path / "x" / ".." / "a.gif")
    assert not taken.take(tmp_path / "link.gif")


@pytest.mark.parametrize(
    ("platform", "cases", "accents"), [("darwin", False, False), ("win32", False, True), ("linux", True, True)]
)
def test_cases_and_accents_that_a_disk_does_not_tell_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, cases: bool, accents: bool
) -> None:
    monkeypatch.setattr("mpvideo.files.sys", SimpleNamespace(platform=platform))
    taken = Taken()
    assert taken.take(tmp_path / "H\u00fcndin.gif")
    assert taken.take(tmp_path / "h\u00fcndin.GIF") is cases
    assert taken.take(tmp_path / "Hu\u0308ndin.gif") is accents
    assert taken.take(tmp_path / "Stra\u00dfe.gif") and taken.take(tmp_path / "Strasse.gif")

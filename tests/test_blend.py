"""Blends and walks: how they are said."""

import json

import pytest

from mpvideo.blend import MAX_PARTS, Blend, misspelt, one_blend, parse_blends

WORDS = {"red cat": 0, "red dog": 1, "blue cat": 2, "c++": 3}


def find(word: str) -> int:
    return int(word) if word.isdigit() else WORDS[word]


def parsed(entry: str, keep_ends: bool = False) -> list[int | Blend] | None:
    return parse_blends("class", entry, find, keep_ends=keep_ends)


def test_what_is_neither_is_left_to_others() -> None:
    for entry in ("207", "red cat", "c++", "0-63", "a..b", "3:", "1.5"):
        assert parsed(entry) is None


def test_a_blend() -> None:
    blend = Blend(((0, 0.5), (1, 1.5)))
    assert parsed("red cat:0.5+red dog:1.5") == parsed(" red cat : .5 + 1:1.5 ") == parsed("0:.5+1:1.5") == [blend]
    assert blend.shares == (0.25, 0.75)
    assert blend.numbers == (0, 1)
    assert str(blend) == "0:0.5+1:1.5"


def test_parts_without_weight() -> None:
    assert parsed("0:5.+1:0") == parsed("0:2") == parsed("0:1+1:0") == [0]
    assert parsed("0:1+1:0+2:1") == [Blend(((0, 1.0), (2, 1.0)))]
    assert parsed("0:1+1:0", keep_ends=True) == [Blend(((0, 1.0), (1, 0.0)))]


def test_a_walk_goes_in_even_steps_from_end_to_end() -> None:
    quarter, half, rest = (Blend(((0, 1 - share), (2, share))) for share in (0.25, 0.5, 0.75))
    assert parsed("red cat..blue cat:5") == parsed("0 .. 2 : 5") == [0, quarter, half, rest, 2]
    ends = parsed("0..2:3", keep_ends=True)
    assert ends == [Blend(((0, 1.0), (2, 0.0))), half, Blend(((0, 0.0), (2, 1.0)))]


@pytest.mark.parametrize(
    "blend", [Blend(((3, 1 / 3), (8, 2 / 3))), Blend(((0, 1e-7), (2**62, 5e5))), Blend(((1, 0), (2, 1 - 1 / 3)))]
)
def test_words_and_json_are_read_again(blend: Blend) -> None:
    assert parsed(str(blend), keep_ends=True) == [blend]
    assert Blend.from_list(json.loads(json.dumps(blend.to_list()))) == blend


def test_a_list_of_weights_alone_is_one_blend() -> None:
    assert one_blend("class", "cat:0.5,dog:0.5") == "cat:0.5+dog:0.5"
    for text in ("cat:0.5", "cat,dog", "a:1+b:2,c:1+d:2", "0..2:3,1"):
        assert one_blend("class", text) == text


@pytest.mark.parametrize("text", ["red cat:2,blue cat:1,red dog", "red dog, red cat:2", "red cat:2,0..2:3"])
def test_weights_are_for_all_or_for_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"^class must have a weight for all entries.*, got 'red cat:2' beside '"):
        one_blend("class", text)


def test_what_is_misspelt() -> None:
    for entry in ("0..2", "red cat..blue cat"):
        assert misspelt(entry) == "a walk must end in its number of videos, as in 3..8:9"
    for entry, count in (("0..2:-3", "-3"), ("0..2:2.5", "2.5"), ("0..2:", "")):
        assert misspelt(entry) == f"the number of steps of a walk must be a whole number, as in 3..8:9, got {count!r}"
    for entry, weight in (("0:-1", "-1"), ("0:1+1:nan", "nan"), ("0:50%+1:50%", "50%"), ("0:", "")):
        assert misspelt(entry) == f"a weight must be a number from 0, as in 3:1+8:0.5, got {weight!r}"
    for entry in ("0+1", "50%", "red cat+blue cat"):
        assert misspelt(entry) == "a blend must have a weight for each part, as in 3:1+8:0.5"
    for entry in ("red cow", "5.", "1e+30", "-1.5E+30"):
        assert misspelt(entry) is None


def test_the_same_mixture() -> None:
    half = Blend(((0, 1), (1, 1)))
    assert half.is_like(Blend(((0, 2.0), (1, 2.0)))) and half.is_like(Blend(((0, 0.5), (1, 0.5))))
    for other in (0, None, Blend(((0, 1), (1, 2))), Blend(((0, 1), (2, 1))), Blend(((1, 1), (0, 1)))):
        assert not half.is_like(other)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("0:1+1", "class cannot be '0:1+1': a blend must have a weight for each part, as in 3:1+8:0.5"),
        ("0:-1+1:2", "class cannot be '0:-1+1:2': a weight must be a number from 0, as in 3:1+8:0.5, got '-1'"),
        ("0:nan+1:2", "a weight must be a number from 0, as in 3:1+8:0.5, got 'nan'"),
        ("0:1+0:2", "class cannot be '0:1+0:2': a blend must have different parts, got 0:1+0:2"),
        ("0:0+1:0", "a blend must have a weight above 0, got 0:0+1:0"),
        ("0:1+1:1e9", "a weight of a blend must be at most 1e+06"),
        ("0:0", "the number of parts of a blend must be at least 2, got 1"),
        ("+".join(f"{n}:1" for n in range(MAX_PARTS + 1)), f"must be at most {MAX_PARTS}, got {MAX_PARTS + 1}"),
        ("0..2:1", "class cannot be '0..2:1': the number of steps of a walk must be at least 2, got 1"),
        ("0..2:99999", "the number of steps of a walk must be at most 10000, got 99999"),
        ("1..1:4", "class cannot be '1..1:4': a blend must have different parts"),
    ],
)
def test_what_is_refused(entry: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"^class ") as caught:
        parsed(entry)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "data", [3, [[1]], [1, 2], [["1", 1], [2, 1]], [[1, 1], [2, float("nan")]], [[1, True], [2, 1]]]
)
def test_json_that_is_no_blend(data: object) -> None:
    with pytest.raises(ValueError, match="blend"):
        Blend.from_list(data)

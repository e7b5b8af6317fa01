"""Lists as options take them."""

import re

import pytest

from mpvideo.batch.lists import Entries, parse_choices, parse_floats, parse_numbers, split_list
from mpvideo.blend import Blend


def numbers(text: str) -> list[int]:
    return [*parse_numbers("seed", text, 0, 1000)]


def test_numbers_and_ranges_in_their_order() -> None:
    assert numbers("5") == [5]
    assert numbers("0-3,100") == [0, 1, 2, 3, 100]
    assert numbers(" 7 , 3-3, 1-2") == [7, 3, 1, 2]
    assert numbers("1,1") == [1, 1]


def test_a_range_takes_no_memory() -> None:
    found = parse_numbers("seed", "0-9223372036854775806,5", 0, 2**63 - 1)
    assert found.parts[0] == range(2**63 - 1)
    assert len(Entries((range(3), range(9, 11), (5,)))) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "seed has an empty entry, got ''"),
        ("1,", "seed has an empty entry"),
        ("x", "seed must be whole numbers or ranges such as 0-63,100, got 'x'"),
        ("1.5", "seed must be whole numbers or ranges"),
        ("1_0", "seed must be whole numbers or ranges"),
        ("1-", "seed must be whole numbers or ranges"),
        ("-1", "seed must be at least 0, got -1"),
        ("0-1001", "seed must be at most 1000, got 1001"),
        ("9-8", "seed must have ranges that go up, got 9-8"),
        ("1" * 5000, "seed must be whole numbers or ranges"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"^seed ") as caught:
        numbers(text)
    assert words in str(caught.value)


def test_floats() -> None:
    assert [*parse_floats("guidance", "1, 1.5,2e0")] == [1.0, 1.5, 2.0]
    with pytest.raises(ValueError, match="guidance must be numbers, got '1,two'"):
        parse_floats("guidance", "1,two")


def test_blends_and_walks_are_entries_like_others() -> None:
    def choices(text: str, *, keep_ends: bool = False) -> list[int | Blend]:
        words = {"cat": 7, "dog": 8}
        return [
            *parse_choices("class", text, 0, 9, find=lambda word: words.get(word) or int(word), keep_ends=keep_ends)
        ]

    half = Blend(((7, 0.5), (8, 0.5)))
    assert choices("0-2,cat") == [0, 1, 2, 7]
    assert choices("cat..dog:3,1") == [7, half, 8, 1]
    assert choices("1, cat:0.5+dog:0.5") == [1, half]
    assert choices("cat:0.5,dog:0.5") == [half], "weights everywhere: one blend"
    assert choices("cat..dog:2", keep_ends=True) == [Blend(((7, 1.0), (8, 0.0))), Blend(((7, 0.0), (8, 1.0)))]
    with pytest.raises(ValueError, match=r"^class cannot be 'cat:1\+dog': a blend must have a weight for each part"):
        choices("1,cat:1+dog")
    for text, words in (
        ("cat..dog", "a walk must end in its number of videos, as in 3..8:9"),
        ("cat:-1", "a weight must be a number from 0, as in 3:1+8:0.5, got '-1'"),
        ("7+8", "a blend must have a weight for each part, as in 3:1+8:0.5"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(f"class cannot be {text!r}: {words}") + "$"):
            choices(text)
    with pytest.raises(ValueError, match=r"^invalid literal"):
        choices("cow")
    with pytest.raises(ValueError, match=r"^class must have a weight for all entries"):
        choices("cat:1,dog:1,3")


def test_items_may_have_spaces_inside() -> None:
    assert split_list("class", "207, red  cat ,3") == ["207", "red  cat", "3"]

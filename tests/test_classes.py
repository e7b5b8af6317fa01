import pytest

from mpvideo.classes import find_class
from mpvideo.errors import ExitCode, UsageError
from mpvideo.menagerie import class_names

NAMES = ("red cat hops", "red dog hops", "Blue Cat hops", "cat", "dog house", "hot dog house")


def find(text: str, names: tuple[str, ...] | None = NAMES) -> int:
    return find_class(text, len(NAMES), names)


def refused(text: str, names: tuple[str, ...] | None = NAMES) -> UsageError:
    with pytest.raises(UsageError) as caught:
        find(text, names)
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.message.isprintable()
    return caught.value


@pytest.mark.parametrize(("text", "index"), [("0", 0), ("5", 5), (" 3 ", 3), ("+2", 2), ("0004", 4), ("-0", 0)])
@pytest.mark.parametrize("names", [NAMES, None])
def test_index(text, index, names):
    assert find(text, names) == index


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("red cat hops", 0),
        ("RED  Cat\thops", 0),
        ("hops cat red", 0),
        ("dog red", 1),
        ("blue", 2),
        ("cat", 3),  # the whole name of one, a word of three
        ("Dog House", 4),  # likewise
        ("hot", 5),
    ],
)
def test_words(text, index):
    assert find(text) == index


def test_every_name_of_the_menagerie_finds_itself():
    names = class_names()
    assert [find_class(name, len(names), names) for name in names[::37]] == list(range(0, len(names), 37))
    assert find_class("dog golden trots", len(names), names) == 207


@pytest.mark.parametrize("text", ["6", "-1", "99999999999999999999"])
@pytest.mark.parametrize(("names", "hint"), [(NAMES, f"They are {', '.join(NAMES)}."), (None, None)])
def test_index_out_of_range(text, names, hint):
    error = refused(text, names)
    assert error.message == f"--class must be from 0 to 5, got {text}"
    assert error.hint == hint


def test_several_fit():
    error = refused("hops cat")
    assert error.message == "--class 'hops cat' fits 2 classes: red cat hops, Blue Cat hops"
    assert error.hint is not None and "index" in error.hint


def test_of_many_that_fit_the_first_to_the_last_are_examples():
    error = refused("dog", class_names())
    assert error.message.startswith("--class 'dog' fits 100 classes, such as golden dog rests, red dog walks right, ")
    assert error.message.endswith(", brown dog grows and shrinks")
    assert error.message.count("dog") == 1 + 10
    assert error.hint == "Add words, or give the whole name or the index: `mpvideo inspect --classes` lists them."


def test_several_names_that_differ_in_case():
    with pytest.raises(UsageError, match="fits 2 classes: cat, CAT"):
        find_class("Cat", 3, ("cat", "CAT", "black cat"))


@pytest.mark.parametrize("text", ["", "  ", "fox", "red fox", "--5", "+-5", "5-", "1_0", "٣", "1.0", "9" * 5000])
def test_nothing_fits(text):
    error = refused(text)
    assert error.message.startswith("--class fits none of the 6 classes, got '")
    assert len(error.message) < 300
    assert error.hint == f"They are {', '.join(NAMES)}."


def test_many_classes_are_listed_by_a_command():
    names = class_names()
    for text in ("1000", "fox"):
        with pytest.raises(UsageError) as refused:
            find_class(text, len(names), names, listing="mpvideo inspect 'my run' --classes")
        assert refused.value.hint == "`mpvideo inspect 'my run' --classes` lists them."


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("red cats", "red cat"),
        ("Hops Cats", "hops cat"),  # which fits two, and says so in its turn
        ("hott dogg house", "hot dog house"),
        ("hot cats", "cat"),  # no name has both
        ("red cats zebra", "red cat"),
    ],
)
def test_a_word_nearly_right(text, meant):
    assert refused(text).hint == f"Did you mean {meant}?"


def test_words_without_names():
    error = refused("cat", None)
    assert error.message == (
        "--class must be an index from 0 to 5, got 'cat': the checkpoint does not name its classes"
    )


def test_what_a_terminal_would_obey_is_escaped():
    assert "\\x1b[31m" in refused("\x1b[31mfox").message
    with pytest.raises(UsageError, match=r"a\\x1b cat") as caught:
        find_class("cat", 2, ("a\x1b cat", "b cat"))
    assert caught.value.message.isprintable()

import pytest

from mpvideo.video.lettering import drawable, font, shortened, wrapped

FONT = font(13)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("golden dog trots", "golden dog trots"),
        ("Café Ångström", "Cafe Angstrom"),
        ("狗 ß", "? ?"),
        ("\x1b\n\u202e", "\\x1b\\n\\u202e"),
        ("e\u0301\udc80", "e\\udc80"),
        (7, "7"),
    ],
)
def test_drawable(text: object, expected: str) -> None:
    assert drawable(text) == expected


def test_every_drawable_sign_has_a_letter() -> None:
    """What the font lacks would be drawn as the same empty box."""
    lacking = FONT.getmask("\U0010fffe")
    for code in (*range(33, 127), ord("…")):
        letter = FONT.getmask(chr(code))
        assert (letter.size, bytes(letter)) != (lacking.size, bytes(lacking)), chr(code)  # type: ignore[arg-type]


def test_shortened() -> None:
    text = "a long name of a class"
    assert shortened(text, FONT, FONT.getlength(text)) == text
    for width in range(12, int(FONT.getlength(text))):
        short = shortened(text, FONT, width)
        assert short.endswith("…") and not short.endswith(" …")
        assert text.startswith(short[:-1])
        assert FONT.getlength(short) <= width
        longer = text[: len(short)].rstrip() + "…"
        assert FONT.getlength(longer) > width or longer == short, "no more is cut than must be"
    assert shortened(text, FONT, 0) == "…"


def test_wrapped() -> None:
    width = FONT.getlength("one two three")
    assert wrapped("one two three four five six", FONT, width, 3) == ["one two three", "four five six"]
    assert wrapped("one two three four five six", FONT, width, 1)[0].endswith("…")
    lines = wrapped("one two three four five six seven eight", FONT, width, 2)
    assert lines[0] == "one two three"
    assert lines[1].startswith("four") and lines[1].endswith("…") and FONT.getlength(lines[1]) <= width
    assert [line[-1] for line in wrapped("x" * 100 + " y", FONT, width, 5)] == ["…", "y"]
    assert wrapped(" ", FONT, width, 3) == []

from pathlib import Path

from mpvideo.text import amount, counted, first_ten, nearest, printable


def test_printable() -> None:
    assert printable("dog [bold] ü") == "dog [bold] ü"
    assert printable("\x1b[2J\n\u202e\udc80\u00a0") == "\\x1b[2J\\n\\u202e\\udc80\\xa0"
    assert printable("x" * 300) == "x" * 200 + "..."
    assert printable(Path("x" * 300 + "\n")) == "x" * 300 + "\\n", "a path is of no use in part"
    assert printable(printable("\x1b")) == printable("\x1b")


def test_first_ten() -> None:
    assert first_ten(["a", "b\n"]) == "a, b\\n"
    assert first_ten([str(n) for n in range(1012)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1,002 more"


def test_amounts() -> None:
    assert [counted(n, "block") for n in (0, 1, 2000)] == ["0 blocks", "1 block", "2,000 blocks"]
    assert amount(999, "B") == "999 B" and amount(1000, "B") == "1.0 kB" and amount(999_960, "B") == "1.0 MB"
    assert amount(34_816_000, "B") == "34.8 MB" and amount(5e16, "FLOP") == "50,000.0 TFLOP"
    assert amount(9_400_000, "") == "9.4 M" and amount(12, "") == "12"


def test_what_may_have_been_meant() -> None:
    known = ["an", "dog", "golden", "trots"]
    found = {word: nearest(word, known) for word in ("godlen", "trot", "dgo", "nan", "a", "zebra", "")}
    assert found == {
        "godlen": "golden", "trot": "trots", "dgo": "dog", "nan": None, "a": None, "zebra": None, "": None
    }  # fmt: skip

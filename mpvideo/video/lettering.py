"""Text in pictures, in the font that comes with Pillow."""

import unicodedata

from PIL import ImageFont

from mpvideo.text import printable

INK = (34, 34, 34)
"""Colour of text, almost black."""

FAINT = (118, 118, 118)
"""Colour of text that stands back, such as the numbers at an axis; on white its contrast is 4.5 to 1."""

TEXT = 13  # size of letters
LINE = 17  # from one line of text to the next

_ELLIPSIS = "…"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font(size: int) -> Font:
    """The font, in pixels from the top of the tallest letter to the bottom of the lowest, about."""
    return ImageFont.load_default(size=size)


def drawable(text: object) -> str:
    """Text that the font has letters for: accents are taken off, and any other sign not in ASCII becomes '?'."""
    letters = unicodedata.normalize("NFKD", printable(text))
    return "".join(c if c.isascii() else "?" for c in letters if not unicodedata.combining(c))


def shortened(text: str, font: Font, width: float) -> str:
    """Text cut to `width` pixels, with an ellipsis in place of what is missing; at least the ellipsis is left."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text.rstrip() + _ELLIPSIS) > width:
        text = text[:-1]
    return text.rstrip() + _ELLIPSIS


def wrapped(text: str, font: Font, width: float, lines: int) -> list[str]:
    """Text broken between words into at most `lines` lines of `width` pixels, shortened where it does not fit."""
    words = text.split()
    found: list[str] = []
    while words and len(found) < lines - 1:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width:
            line += f" {words.pop(0)}"
        found.append(shortened(line, font, width))
    return [*found, shortened(" ".join(words), font, width)] if words else found

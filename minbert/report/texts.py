"""Texts of data in a report: they can hold anything."""

import re
import unicodedata

LONGEST = 600  # characters of a text; the line number leads to the whole of it
# Characters that reorder the text after them. Right-to-left letters themselves are no problem.
DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines and paragraphs


def visible(text: str) -> str:
    """The text with each control character as Python writes it in a string: \\t, \\x1b, \\u202e

    Emoji and all scripts stay as they are.
    """
    return "".join(
        character.encode("unicode_escape").decode() if is_unseen(character) else character for character in text
    )


def is_unseen(character: str) -> bool:
    return character in DIRECTIONS or unicodedata.category(character) in UNSEEN


def cut(text: str, longest: int = LONGEST) -> str:
    """The start of a long text, with … at its end."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def unique_file_name(text: str, taken: set[str]) -> str:
    """A name of plain characters that is not in `taken`, and that is put there."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", text)
    unique, count = plain, 1
    while unique.lower() in taken:  # some systems do not distinguish A and a
        count += 1
        unique = f"{plain}-{count}"
    taken.add(unique.lower())
    return unique

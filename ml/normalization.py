"""Unicode normal forms of text from strangers, in time that grows as the text does.

``unicodedata.normalize`` sorts the combining marks of a character by insertion: ten thousand marks of two kinds in
turn take 0.3 s, a hundred thousand half a minute, and the interpreter's lock is held all the while. No writing needs
more than 30 marks on a character, Unicode's own limit (UAX 15, stream-safe text format); what is beyond is left out.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

MAX_MARKS = 30

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]

# Marks are neither letters nor digits, apart from the two voicing marks of half-width kana, which become marks.
_HALF_WIDTH = "\uff9e\uff9f"
_NO_LETTERS = re.compile(rf"(?:[^\w\s\x00-\x7f]|[{_HALF_WIDTH}]){{{MAX_MARKS + 1},}}")


def normalize(form: Form, text: str) -> str:
    """Like ``unicodedata.normalize``, without the marks that are one too many."""
    return unicodedata.normalize(form, text if text.isascii() else _NO_LETTERS.sub(_shortened, text))


def _shortened(found: re.Match[str]) -> str:
    kept, marks = [], 0
    for character in found.group():
        marks = marks + 1 if unicodedata.combining(character) or character in _HALF_WIDTH else 0
        if marks <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)

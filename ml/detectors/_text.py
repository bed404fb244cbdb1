"""What the detectors that read words share: where a text's words are, and passages of a bounded size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ml.auditing.text_normalization import MAX_CHARS, Normalised, normalise
from ml.detectors.base import Item, Words

#: Pieces of words beyond these are not read; a film's transcript has some hundreds.
MAX_PIECES = 2_000


@dataclass(frozen=True)
class Piece:
    """One of an item's texts, its number among them, and both readings of it."""

    number: int
    words: Words
    read: Normalised

    def span(self, start: int, end: int) -> dict[str, Any]:
        """Where a finding stands: ``start`` and ``end`` in the text as it was written, and which text that is."""
        found: dict[str, Any] = {
            "origin": self.words.origin,
            "piece": self.number,
            "start": start,
            "end": end,
        }
        return found if self.words.at_s is None else found | {"at_s": self.words.at_s}


def text_pieces(item: Item) -> Iterator[Piece]:
    """The item's texts, read; at most ``MAX_CHARS`` characters of all of them together."""
    left = MAX_CHARS
    for number, words in enumerate(item.words[:MAX_PIECES]):
        if left <= 0:
            return
        text = words.text[:left]
        left -= len(text)
        if text.strip():
            yield Piece(number, words, normalise(text))


def truncation_evidence(item: Item) -> Mapping[str, Any] | None:
    """Evidence that something was too long to read, or None."""
    total = sum(len(words.text) for words in item.words)
    if total <= MAX_CHARS and len(item.words) <= MAX_PIECES:
        return None
    return {"kind": "cut", "characters": total, "read": MAX_CHARS}


def split_passages(text: str, most: int) -> list[tuple[int, int]]:
    """A text cut into passages of at most ``most`` characters, behind a sentence or else between words."""
    found, start = [], 0
    while len(text) - start > most:
        window = text[start : start + most]
        ends = [match.end() for match in _SENTENCE.finditer(window)] or [
            match.end() for match in _SPACE.finditer(window)
        ]
        end = ends[-1] if ends and ends[-1] > most // 3 else most
        found.append((start, start + end))
        start += end
    if text[start:].strip():
        found.append((start, len(text)))
    return found


_SENTENCE = re.compile(r"[.!?。！？\n]+\s*")
_SPACE = re.compile(r"\s+")

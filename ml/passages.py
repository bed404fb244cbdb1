"""Cutting a long text into passages that the text encoder can read whole."""

from __future__ import annotations

import re

PASSAGE = 900
MAX_PASSAGES = 64
_BREAK = re.compile(r"(?<=[.!?。！？])\s+|\n+|\s+")


def passages(text: str, most: int = MAX_PASSAGES) -> list[tuple[int, int]]:
    """Character ranges (start, end) of at most PASSAGE characters that end at a sentence, a line or a word.

    A text of more than `most` passages is covered up to there.
    """
    ranges: list[tuple[int, int]] = []
    start, length = 0, len(text)
    while start < length and len(ranges) < most:
        end = length if length - start <= PASSAGE else _last_break(text, start)
        if text[start:end].strip():
            ranges.append((start, end))
        start = end
    return ranges


def segment_of(text: str, start: int, end: int, caption: int = 0) -> dict[str, int] | None:
    """What a passage's vector says of where it stands; None for the whole of a text or of the first caption.

    `caption` counts an asset's captions from 0.
    """
    place = {"caption": caption} if caption else {}
    return place | ({"start_char": start, "end_char": end} if end - start < len(text) else {}) or None


def _last_break(text: str, start: int) -> int:
    """The best place to end a passage: the last sentence end in its second half, else the last white space."""
    window = text[start : start + PASSAGE]
    breaks = [match.end() for match in _BREAK.finditer(window)]
    sentences = [b for b in breaks if b > PASSAGE // 2 and window[:b].rstrip()[-1:] in ".!?。！？\n"]
    chosen = sentences or breaks
    return start + (chosen[-1] if chosen and chosen[-1] > 0 else PASSAGE)

"""Which words of a query stand in a result, and where.

A highlight is plain text and places in it, never markup: whoever shows it escapes it as any other text, and nothing
that a tenant stored can become a tag. Places count Unicode characters (code points).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenants.retrieval.query import tokenizer
from tenants.retrieval.query.lexical import MAX_QUERY_WORDS

# Characters around the words that were found, and how many of them before the first word.
WIDTH = 240
LEAD = 60
# A cut moves to a space that is no further away than this.
NEAR = 20
MAX_MARKS = 50
MAX_HIGHLIGHTS = 10
# How many values of metadata are looked at, and how much of each.
MAX_VALUES = 50
MAX_VALUE = 2_000

Place = tuple[int, int]


@dataclass(frozen=True)
class Highlight:
    """A piece of a field with query words in it: text[start:end] for each of `marks`, in order and apart."""

    field: str
    text: str
    marks: list[Place]


def query_words(text: str) -> frozenset[str]:
    """The words that a search by words would look for."""
    return frozenset(list(dict.fromkeys(tokenizer.tokens(text)))[:MAX_QUERY_WORDS])


def highlight(wanted: Collection[str], fields: Iterable[tuple[str, str]]) -> list[Highlight]:
    """The best piece of each of these (field, text) that holds a query word, at most MAX_HIGHLIGHTS."""
    found: list[Highlight] = []
    for field, text in fields:
        if len(found) == MAX_HIGHLIGHTS:
            break
        if (one := _in_field(wanted, field, text)) is not None:
            found.append(one)
    return found


def fields_of_metadata(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts of metadata as ("metadata.key", text): those that search by words knows."""
    seen = 0
    for key, value in metadata.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield f"metadata.{key}", item[:MAX_VALUE]
                seen += 1
                if seen == MAX_VALUES:
                    return


def _in_field(wanted: Collection[str], field: str, text: str) -> Highlight | None:
    if not _possible(wanted, text):
        return None
    places = [(word, start, end) for word, start, end in tokenizer.located(text) if word in wanted]
    if not places:
        return None
    begin = _best_window(places)
    begin, end = _cut(text, begin)
    inside = [(start, stop) for _, start, stop in places if begin <= start and stop <= end]
    return _piece(field, text, begin, end, _merged(inside)[:MAX_MARKS])


def _possible(wanted: Collection[str], text: str) -> bool:
    """Whether looking closer is worth it; a plural differs from its singular in the last letter or behind it."""
    folded = tokenizer.folded(text)
    return any(word in folded or (len(word) > 1 and word[:-1] in folded) for word in wanted)


def _best_window(places: Sequence[tuple[str, int, int]]) -> int:
    """Where to begin so that as many different words as possible follow within the width; the first such place."""
    best, most = 0, 0
    starts = [start for _, start, _ in places]
    for at, (_, start, _) in enumerate(places):
        last = bisect_right(starts, start + WIDTH - LEAD)
        different = len({word for word, _, _ in places[at:last]})
        if different > most:
            best, most = start, different
        if at == MAX_MARKS:
            break
    return best


def _cut(text: str, word: int) -> Place:
    """A range of about WIDTH characters with `word` near its start, cut at spaces where there are some."""
    end = min(len(text), max(0, word - LEAD) + WIDTH)
    begin = max(0, min(word - LEAD, end - WIDTH))
    if begin:
        space = text.find(" ", begin, min(begin + NEAR, word))
        begin = begin if space < 0 else space + 1
    if end < len(text):
        space = text.rfind(" ", end - NEAR, end)
        end = end if space < 0 else space
    return begin, end


def _merged(places: Iterable[Place]) -> list[Place]:
    """In order, with those joined that overlap or touch."""
    joined: list[Place] = []
    for start, end in sorted(places):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _piece(field: str, text: str, begin: int, end: int, marks: Iterable[Place]) -> Highlight:
    before, after = "…" if begin else "", "…" if end < len(text) else ""
    shift = len(before) - begin
    return Highlight(
        field,
        f"{before}{text[begin:end]}{after}",
        [(start + shift, stop + shift) for start, stop in marks],
    )

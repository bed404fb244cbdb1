"""Clauses of a document, and two versions compared clause by clause.

A clause begins where a block is a heading or begins with a number as contracts and laws have it ("7.2", "(a)", "§ 5",
"Article 4", "第十二条"); what follows without one belongs to it. Of documents without numbers each block is a clause.

Clauses are matched by their words alone, so that a clause that was inserted does not make all later ones other
clauses: first those that say the same, then, one to one, those most alike by the cosine of their words and pairs of
words, weighted by how rare these are (tf-idf; the assignment is `scipy.optimize.linear_sum_assignment`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise, takewhile
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml.documents.model import Block, Document
from ml.normalization import normalize

Kind = Literal["same", "changed", "moved", "added", "removed"]
Word = tuple[Literal["same", "removed", "added"], str]

#: Of one document; a contract has some hundreds.
MAX_CLAUSES = 2_000
#: Characters of a clause: what is longer is cut at the next block.
MAX_CLAUSE = 20_000
#: Clauses less alike than this are two clauses; from the second on they say nearly the same.
ALIKE, NEARLY_THE_SAME = 0.4, 0.8
#: Words of a clause that are compared one by one; of longer ones only how they begin and end.
MAX_WORDS = 1_500

_ROMAN, _COUNT = "[ivxlcdm]{1,7}", "[一二三四五六七八九十百千零〇两0-9]{1,9}"
_NUMBER = re.compile(
    rf"""\s*(
        (?:article|section|clause|schedule|annex|appendix|artikel|abschnitt)\s+(?:\d{{1,4}}(?:\.\d{{1,3}})*[a-z]?|{_ROMAN})\b
      | §{{1,2}}\s*\d{{1,4}}[a-z]?
      | \d{{1,3}}(?:\.\d{{1,3}})+\.?(?=\s)
      | \d{{1,3}}[.)](?=\s)
      | \((?:[a-z]{{1,2}}|{_ROMAN}|\d{{1,3}})\)(?=\s)
      | (?:[a-z]|{_ROMAN})\)(?=\s)
      | 第{_COUNT}[条條章节節款项項编編]
      | [（(]{_COUNT}[）)]
      | {_COUNT}、
    )[.:]?\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_TOKEN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W_]+(?:['’][^\W_]+)?|\S", re.UNICODE)
_PIECE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W_]+(?:['’][^\W_]+)?|\s+|\S", re.UNICODE)


@dataclass(frozen=True)
class Clause:
    """`Document.text` from `start` to `end`, on `page` from 1. `number` as it is written, "" without one."""

    number: str
    page: int
    start: int
    end: int


@dataclass(frozen=True)
class Change:
    """A clause before and after. `alike`: 0 to 1, 1 of the same words whatever the number, case and spaces; 0 of one
    that was added (`before` is None) or removed (`after` is None). What moved may have changed as well."""

    kind: Kind
    before: Clause | None
    after: Clause | None
    alike: float


class TooManyClauses(ValueError):
    """A document of more than MAX_CLAUSES."""


def clauses(document: Document) -> tuple[Clause, ...]:
    """In reading order, without headers and footers. Raises TooManyClauses."""
    blocks = [block for block in document.body() if document.text[block.start : block.end].strip()]
    numbered = any(_NUMBER.match(document.text, one.start, one.end) for one in blocks)
    found: list[Clause] = []
    for block in blocks:
        number = _number(document.text, block)
        last = found[-1] if found else None
        goes_on = numbered and not number and block.kind != "heading" and last is not None and last.number
        if goes_on and last and block.end - last.start <= MAX_CLAUSE:
            found[-1] = Clause(last.number, last.page, last.start, block.end)
        else:
            found.append(Clause(number, block.page, block.start, block.end))
        if len(found) > MAX_CLAUSES:
            raise TooManyClauses(f"more than {MAX_CLAUSES} clauses")
    return tuple(found)


def of_text(text: str) -> Document:
    """A plain text as a document of which each line is a block."""
    blocks, start = [], 0
    for line in text.splitlines(keepends=True):
        if line.strip():
            blocks.append(Block("paragraph", 1, None, start, start + len(line.rstrip())))
        start += len(line)
    return Document("text", "", 1, (), text, tuple(blocks), (), (), "")


def compare(before: Document, after: Document) -> list[Change]:
    """In the order of `after`, each clause of `before` that is gone where it stood. Raises TooManyClauses."""
    old, new = clauses(before), clauses(after)
    olds, news = [_words(before.text, one) for one in old], [_words(after.text, one) for one in new]
    pairs = dict(_same(olds, news))
    left_old = [place for place in range(len(old)) if place not in set(pairs.values())]
    left_new = [place for place in range(len(new)) if place not in pairs]
    alike = dict.fromkeys(pairs, 1.0)
    for one, other, share in _most_alike(
        [olds[place] for place in left_old], [news[place] for place in left_new]
    ):
        pairs[left_new[other]] = left_old[one]
        alike[left_new[other]] = share
    return list(_in_order(old, new, pairs, alike))


def near_duplicates(document: Document) -> list[tuple[Clause, Clause, float]]:
    """Pairs of clauses of one document that say nearly, or exactly, the same; the most alike first."""
    found = clauses(document)
    words = [_words(document.text, one) for one in found]
    # Headings and single words are alike without saying anything.
    long = [place for place, some in enumerate(words) if len(some) >= 8]
    asked = [words[place] for place in long]
    # Each word counts alike: the one that differs is the rarest.
    alike = np.triu(_cosines(asked, asked, by_rarity=False), 1)
    ones, others = np.nonzero(alike >= NEARLY_THE_SAME)
    pairs = [
        (found[long[one]], found[long[other]], round(min(1.0, float(alike[one, other])), 4))
        for one, other in zip(ones, others, strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0].start, pair[1].start))


def changed_words(before: str, after: str) -> list[Word]:
    """What one text keeps, loses and gains on the way to the other, word by word; Chinese by characters."""
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    runs: list[Word] = [("same", "".join(old[:head]))]
    if max(len(middle_old), len(middle_new)) > MAX_WORDS:
        runs += [("removed", "".join(middle_old)), ("added", "".join(middle_new))]
    else:
        for what, a, b, c, d in SequenceMatcher(None, middle_old, middle_new).get_opcodes():
            if what == "equal":
                runs.append(("same", "".join(middle_old[a:b])))
            else:
                runs += [("removed", "".join(middle_old[a:b])), ("added", "".join(middle_new[c:d]))]
    runs.append(("same", "".join(old[len(old) - tail :])))
    return [run for run in runs if run[1]]


# --- Matching --------------------------------------------------------------------------------------------


def _number(text: str, block: Block) -> str:
    found = _NUMBER.match(text, block.start, block.end)
    return " ".join(found.group(1).split()) if found else ""


def _words(text: str, clause: Clause) -> tuple[str, ...]:
    """Folded words of a clause without its number."""
    found = _NUMBER.match(text, clause.start, clause.end)
    said = text[found.end() if found else clause.start : clause.end]
    return tuple(_TOKEN.findall(normalize("NFKC", said).casefold()))


def _same(olds: Sequence[tuple[str, ...]], news: Sequence[tuple[str, ...]]) -> Iterator[tuple[int, int]]:
    """Places in `news` and `olds` that say the same; of several, each once and in order."""
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place in reversed(range(len(olds))):
        places[olds[place]].append(place)
    for place, words in enumerate(news):
        if places.get(words):
            yield place, places[words].pop()


def _most_alike(
    olds: Sequence[tuple[str, ...]], news: Sequence[tuple[str, ...]]
) -> Iterator[tuple[int, int, float]]:
    if not olds or not news:
        return
    # Imported on first use, as the web process starts without it.
    from scipy.optimize import linear_sum_assignment

    alike = _cosines(olds, news)
    for one, other in zip(*linear_sum_assignment(alike, maximize=True), strict=True):
        if alike[one, other] >= ALIKE:
            # Not the same, however little differs.
            yield int(one), int(other), round(min(float(alike[one, other]), 0.9999), 4)


def _cosines(
    ones: Sequence[tuple[str, ...]], others: Sequence[tuple[str, ...]], *, by_rarity: bool = True
) -> NDArray[np.float64]:
    """[ones, others], of words and pairs of words."""
    from scipy.sparse import csr_matrix

    columns: dict[object, int] = {}
    rows, places = [], []
    for row, words in enumerate([*ones, *others]):
        for term in (*words, *pairwise(words)):
            rows.append(row)
            places.append(columns.setdefault(term, len(columns)))
    counts = csr_matrix(
        (np.ones(len(rows)), (rows, places)), shape=(len(ones) + len(others), max(1, len(columns)))
    )
    counts.sum_duplicates()
    if by_rarity:
        present = np.bincount(counts.indices, minlength=counts.shape[1])
        counts.data *= np.log1p(counts.shape[0] / np.maximum(present, 1))[counts.indices]
    lengths = np.sqrt(counts.multiply(counts).sum(axis=1)).A1
    scaled = counts.multiply(1 / np.maximum(lengths, 1e-12)[:, None]).tocsr()
    product: NDArray[np.float64] = (scaled[: len(ones)] @ scaled[len(ones) :].T).toarray()
    return product


def _in_order(
    old: Sequence[Clause], new: Sequence[Clause], pairs: dict[int, int], alike: dict[int, float]
) -> Iterator[Change]:
    kept = _longest_rising([(place, pairs[place]) for place in sorted(pairs)])
    gone = [place for place in range(len(old)) if place not in set(pairs.values())]
    next_gone = 0
    for place, clause in enumerate(new):
        if place in kept:
            while next_gone < len(gone) and gone[next_gone] < pairs[place]:
                yield Change("removed", old[gone[next_gone]], None, 0.0)
                next_gone += 1
        if place not in pairs:
            yield Change("added", None, clause, 0.0)
            continue
        same: Kind = "same" if alike[place] == 1 else "changed"
        yield Change(same if place in kept else "moved", old[pairs[place]], clause, alike[place])
    for one in gone[next_gone:]:
        yield Change("removed", old[one], None, 0.0)


def _longest_rising(pairs: Sequence[tuple[int, int]]) -> set[int]:
    """The places of `new` in the longest run of pairs whose places in `old` rise: all others have moved."""
    ends: list[int] = []
    at: list[int] = []
    back: list[int] = []
    for number, (_, value) in enumerate(pairs):
        length = bisect_left(ends, value)
        back.append(at[length - 1] if length else -1)
        if length == len(ends):
            ends.append(value)
            at.append(number)
        else:
            ends[length], at[length] = value, number
    kept, number = set(), at[-1] if at else -1
    while number >= 0:
        kept.add(pairs[number][0])
        number = back[number]
    return kept


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the first words are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))

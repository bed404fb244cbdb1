"""Which of many standing queries each new asset meets: one product over all of them, and exact scores of the near ones.

Each query is a unit vector, and a bar: how likely an asset has to be right, by the curves of the space
(``ml.alignment.relevance``), or which cosine it has to reach where relevance is not known. The bar becomes a cosine for
each kind of vector; what comes near it in float32 is scored again in float64, over all vectors of the asset, as a
search scores it: by the best of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.alignment.relevance import ASKED, FOUND, Relevance, between

# What float32 may be off by, many times over: sums of some thousand products of numbers below 1.
MARGIN = 1e-4
# Rows of a product that is looked through while it lies in the processor's cache.
BLOCK = 8_192
# Queries whose exact scores are made at a time.
EXACT = 4_096
_KINDS = ("text", "image")
# Beside its vector: id, bar and words of a query, about.
_ROW_BYTES = 300


@dataclass(frozen=True)
class StandingQuery:
    """``vector`` float32 [d] of norm 1. ``asked``: what asks (one of ASKED), with ``least`` as a relevance of 0 to 1;
    empty where ``least`` is a cosine. ``words``: a text that holds all of them is as likely as words make it.
    ``familiar``: how familiar it is to a fine-tune (``JointSpace.familiarity_of``), 0 to 1."""

    id: uuid.UUID
    vector: NDArray[np.float32]
    asked: str
    least: float
    words: frozenset[str] = frozenset()
    familiar: float = 1.0


@dataclass(frozen=True)
class Arrived:
    """A new asset: ``vectors`` float32 [n, d], the kind of each (a key of FOUND), and the words that it holds."""

    vectors: NDArray[np.float32]
    kinds: Sequence[str]
    words: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Match:
    """That an asset (by its place among those that arrived) meets a query: by its vector at place ``part``."""

    query: uuid.UUID
    asset: int
    part: int
    score: float
    relevance: float | None


class QueryTable:
    """The queries of one tenant in one space. Not safe for several threads at a time."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._matrix = np.zeros((0, dimension), np.float32)
        self._asked = np.zeros(0, np.int8)
        self._least = np.zeros(0)
        self._familiar = np.zeros(0)
        self._bars = np.zeros((0, len(_KINDS)), np.float32)
        self._barred: tuple[int, object] = (0, None)
        self._ids: list[uuid.UUID] = []
        self._words: list[frozenset[str]] = []
        self._rows: dict[uuid.UUID, int] = {}
        # Queries by one of their words, the longest, which most texts do not hold.
        self._by_word: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def bytes(self) -> int:
        return int(self._matrix.nbytes) + _ROW_BYTES * len(self._ids)

    def put(self, queries: Iterable[StandingQuery]) -> None:
        """Add queries; one that is there already is replaced. Raises ValueError for another dimension."""
        for one in queries:
            if len(one.vector) != self.dimension:
                raise ValueError(f"a query of {len(one.vector)} numbers among those of {self.dimension}")
            row = self._rows.get(one.id)
            if row is None:
                row = self._rows[one.id] = len(self._ids)
                self._ids.append(one.id)
                self._words.append(frozenset())
                if row == len(self._matrix):
                    self._grow()
            self._matrix[row] = one.vector
            self._asked[row] = ASKED.index(one.asked) if one.asked else -1
            self._least[row], self._familiar[row] = one.least, one.familiar
            self._words[row] = one.words
            if one.words:
                self._by_word.setdefault(max(one.words, key=lambda word: (len(word), word)), []).append(row)
        self._barred = (0, None)

    def _grow(self) -> None:
        more = max(1_024, len(self._matrix) // 2)
        self._matrix = np.concatenate([self._matrix, np.zeros((more, self.dimension), np.float32)])
        self._asked = np.concatenate([self._asked, np.zeros(more, np.int8)])
        self._least = np.concatenate([self._least, np.zeros(more)])
        self._familiar = np.concatenate([self._familiar, np.zeros(more)])

    def match(self, arrived: Sequence[Arrived], curves: Mapping[str, Relevance]) -> list[Match]:
        """Every query that each asset meets, by asset and query. ``curves``: by what asks; none of a space without."""
        count = len(self._ids)
        if not count or not arrived:
            return []
        self._raise_bars(curves)
        near = self._near(arrived)
        found: list[Match] = []
        for place, asset in enumerate(arrived):
            lifted = self._holding(asset.words, curves)
            rows = np.union1d(near[place], lifted).astype(np.int64)
            for first in range(0, len(rows), EXACT):
                found += self._exact(place, asset, rows[first : first + EXACT], lifted, curves)
        return found

    def _raise_bars(self, curves: Mapping[str, Relevance]) -> None:
        """The cosine from which on a vector of each kind may meet each query."""
        count = len(self._ids)
        stamp = dict(curves)
        if self._barred == (count, stamp):
            return
        asked, least = self._asked[:count], self._least[:count]
        bars = np.full((count, len(_KINDS)), np.inf, np.float32)
        bars[asked < 0] = least[asked < 0, None]
        chance = np.clip(least, 1e-6, 1 - 1e-6)
        odds = np.log(chance / (1 - chance))
        for code, name in enumerate(ASKED):
            for at, kind in enumerate(_KINDS):
                curve = curves[name].curves.get((name, kind)) if name in curves else None
                if curve is None:
                    continue
                mine = asked == code
                foreign = curves[name].foreign.get((name, kind), curve)
                slope, middle = between(foreign, curve, self._familiar[:count][mine])
                bars[mine, at] = middle + odds[mine] / slope
        self._bars, self._barred = bars, (count, stamp)

    def _near(self, arrived: Sequence[Arrived]) -> list[NDArray[np.int64]]:
        """Rows of queries whose bar some vector of each asset nearly reaches."""
        count = len(self._ids)
        kinds = np.array([_KINDS.index(FOUND[kind]) for one in arrived for kind in one.kinds], np.int64)
        owners = np.repeat(np.arange(len(arrived)), [len(one.kinds) for one in arrived])
        rows: list[NDArray[np.int64]] = []
        columns: list[NDArray[np.int64]] = []
        if len(kinds):
            vectors = np.concatenate([one.vectors for one in arrived if len(one.kinds)]).astype(np.float32)
            # By kind, so that each half is compared with one column of bars.
            order = np.argsort(kinds, kind="stable")
            texts = int((kinds == 0).sum())
            turned = np.ascontiguousarray(vectors[order].T)
            bars = self._bars - np.float32(MARGIN)
            for low in range(0, count, BLOCK):
                high = min(low + BLOCK, count)
                scores = self._matrix[low:high] @ turned
                reached = np.empty(scores.shape, bool)
                np.greater_equal(scores[:, :texts], bars[low:high, :1], out=reached[:, :texts])
                np.greater_equal(scores[:, texts:], bars[low:high, 1:], out=reached[:, texts:])
                if reached.any():
                    row, column = np.nonzero(reached)
                    rows.append(row + low)
                    columns.append(order[column])
        if not rows:
            return [np.zeros(0, np.int64) for _ in arrived]
        row, owner = np.concatenate(rows), owners[np.concatenate(columns)]
        return [np.unique(row[owner == place]) for place in range(len(arrived))]

    def _holding(self, words: frozenset[str], curves: Mapping[str, Relevance]) -> NDArray[np.int64]:
        """Rows of queries all of whose words the asset holds, where that alone is likely enough."""
        if not words or "text" not in curves:
            return np.zeros(0, np.int64)
        enough = curves["text"].words
        rows = {
            row
            for word in words
            for row in self._by_word.get(word, ())
            if self._words[row] and self._least[row] <= enough and self._words[row] <= words
        }
        return np.array(sorted(rows), np.int64)

    def _exact(
        self,
        place: int,
        asset: Arrived,
        rows: NDArray[np.int64],
        lifted: NDArray[np.int64],
        curves: Mapping[str, Relevance],
    ) -> list[Match]:
        if not len(asset.kinds):
            # Found by its words alone, as a search by words finds it.
            return [Match(self._ids[row], place, -1, 0.0, curves["text"].words) for row in rows.tolist()]
        scores = self._matrix[rows].astype(np.float64) @ asset.vectors.astype(np.float64).T
        parts = scores.argmax(axis=1)
        held = np.isin(rows, lifted)
        found = []
        for at, row in enumerate(rows.tolist()):
            part = int(parts[at])
            score, code = float(scores[at, part]), int(self._asked[row])
            if code < 0:
                if score >= self._least[row]:
                    found.append(Match(self._ids[row], place, part, score, None))
                continue
            asked = ASKED[code]
            chance = None
            if asked in curves:
                own = curves[asked].at(float(self._familiar[row]))
                chance = own.of(asked, asset.kinds[part], score)
            if held[at]:
                chance = max(chance or 0.0, curves["text"].words)
            if chance is not None and chance >= self._least[row]:
                found.append(Match(self._ids[row], place, part, score, chance))
        return found

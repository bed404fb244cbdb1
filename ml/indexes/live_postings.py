"""Facet values to slots, in memory and growing: the same questions as `ml.indexes.postings` answers from files.

A slot stands for an asset as it was at one moment. What has changed since gets another slot, and the caller's masks
leave the old one out, so nothing is ever taken out of the arrays.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int32]
Mask = NDArray[np.bool_]
Row = tuple[str, int, str | None, float | None]

_COMPARE: dict[str, Any] = {
    "lt": np.less,
    "lte": np.less_equal,
    "gt": np.greater,
    "gte": np.greater_equal,
}
# Of a text that stands there once: the object, its places in a list and in a dictionary.
_TEXT_BYTES = 190


@dataclass(frozen=True)
class _Column:
    """A key's texts (as codes), numbers and owners, each beside its slot; no pair stands there twice.

    `texts` and `codes` are shared with the columns that this one grew from, and only ever grow.
    """

    texts: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    text_codes: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    text_slots: Slots = field(default_factory=lambda: np.zeros(0, np.int32))
    numbers: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    number_slots: Slots = field(default_factory=lambda: np.zeros(0, np.int32))
    owners: Slots = field(default_factory=lambda: np.zeros(0, np.int32))
    single_number: bool = True

    def code(self, text: str) -> int:
        code = self.codes.get(text)
        if code is None:
            code = self.codes[text] = len(self.texts)
            self.texts.append(text)
        return code

    def grown(self, rows: list[tuple[int, str | None, float | None]]) -> _Column:
        texts = {(self.code(text), slot) for slot, text, _ in rows if text is not None}
        # 0.0 is added so that -0.0 is 0.
        numbers = {(number + 0.0, slot) for slot, _, number in rows if number is not None}
        owners = {slot for slot, _, _ in rows}
        numbered = Counter(slot for _, slot in numbers)
        return _Column(
            self.texts,
            self.codes,
            _longer(self.text_codes, [code for code, _ in texts]),
            _longer(self.text_slots, [slot for _, slot in texts]),
            _longer(self.numbers, [number for number, _ in numbers]),
            _longer(self.number_slots, [slot for _, slot in numbers]),
            _longer(self.owners, list(owners)),
            self.single_number and len(numbered) == len(numbers),
        )

    @property
    def bytes(self) -> int:
        return sum(
            array.nbytes
            for array in (self.text_codes, self.text_slots, self.numbers, self.number_slots, self.owners)
        )


def _longer(array: NDArray[Any], values: list[Any]) -> NDArray[Any]:
    return np.concatenate([array, np.array(values, array.dtype)]) if values else array


_NOTHING = _Column()


class LivePostings:
    """Read-only and safe for any number of threads, also while another one grows from it.

    Masks are by slot and at least as long as the greatest slot that was added.
    """

    def __init__(
        self, columns: Mapping[str, _Column] | None = None, rows: int = 0, text_bytes: int = 0
    ) -> None:
        self._columns = columns or {}
        self.rows = rows
        self._text_bytes = text_bytes

    def grown(self, rows: Iterable[Row]) -> LivePostings:
        """With more rows (key, slot, text, number). All rows of a slot under a key must come at once."""
        by_key: defaultdict[str, list[tuple[int, str | None, float | None]]] = defaultdict(list)
        for key, slot, text, number in rows:
            by_key[key].append((slot, text, number))
        columns, text_bytes = dict(self._columns), self._text_bytes
        for key, given in by_key.items():
            before = columns.get(key) or _Column()
            known = len(before.texts)
            columns[key] = before.grown(given)
            text_bytes += sum(_TEXT_BYTES + len(text) for text in before.texts[known:])
        return LivePostings(columns, self.rows + sum(map(len, by_key.values())), text_bytes)

    @property
    def bytes(self) -> int:
        return self._text_bytes + sum(column.bytes for column in self._columns.values())

    # --- Filters -----------------------------------------------------------------------------------------

    def matching(self, key: str, texts: Collection[str] = (), numbers: Collection[float] = ()) -> Slots:
        """Slots with one of these texts or one of these numbers under the key, perhaps more than once."""
        column = self._column(key)
        codes = [column.codes[text] for text in texts if text in column.codes]
        found = column.text_slots[_among(column.text_codes, codes)]
        if not numbers:
            return found
        return np.concatenate([found, column.number_slots[_among(column.numbers, list(numbers))]])

    def in_range(self, key: str, op: str, number: float) -> Slots:
        """Slots with a number under the key that is `lt`, `lte`, `gt` or `gte` this one."""
        column = self._column(key)
        return column.number_slots[_COMPARE[op](column.numbers, number)]

    def having(self, key: str) -> Slots:
        """Slots with any value under the key."""
        return self._column(key).owners

    # --- Counts of values --------------------------------------------------------------------------------

    def text_counts(self, key: str, mask: Mask, longest: int) -> dict[str, int]:
        """Every text of at most `longest` characters that a masked slot has, with how many."""
        column = self._column(key)
        counts = self._counts(column, mask)
        there = np.flatnonzero(counts)
        told = zip(there.tolist(), counts[there].tolist(), strict=True)
        return {column.texts[code]: count for code, count in told if len(column.texts[code]) <= longest}

    def top_values(self, key: str, mask: Mask, limit: int, longest: int) -> list[tuple[str, int]]:
        """As `Postings.top_values`: the texts that most of the masked slots have; equal counts by the text."""
        told = self.text_counts(key, mask, longest)
        return sorted(told.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]

    def bounds(self, key: str, mask: Mask) -> tuple[float, float] | None:
        """The least and the greatest number of the masked slots; None where none has one."""
        column = self._column(key)
        numbers = column.numbers[mask[column.number_slots]]
        return (float(numbers.min()), float(numbers.max())) if len(numbers) else None

    def histogram(self, key: str, mask: Mask, edges: list[float]) -> list[int]:
        """How many masked slots have a number from each edge up to, but not including, the next (last: all)."""
        column = self._column(key)
        allowed = mask[column.number_slots]
        numbers, slots = column.numbers[allowed], column.number_slots[allowed]
        places = np.searchsorted(edges[1:-1], numbers, "right")
        if not column.single_number:
            places = np.unique(np.stack([places, slots]), axis=1)[0]
        return np.bincount(places, minlength=len(edges) - 1).tolist()

    # --- Within the arrays -------------------------------------------------------------------------------

    def _column(self, key: str) -> _Column:
        return self._columns.get(key, _NOTHING)

    def _counts(self, column: _Column, mask: Mask) -> NDArray[np.int64]:
        return np.bincount(column.text_codes[mask[column.text_slots]])


def _among(array: NDArray[Any], wanted: list[Any]) -> Mask:
    if not wanted:
        return np.zeros(len(array), bool)
    return array == wanted[0] if len(wanted) == 1 else np.isin(array, wanted)

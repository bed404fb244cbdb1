"""Facet values to asset numbers, in sorted arrays beside an index: filters and counts without a database.

Asset numbers are 0 … A-1 as the index numbers them. How the arrays lie: `ml.indexes.posting_files`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml.indexes.posting_files import (
    BOUNDS,
    DTYPES,
    FOLDER,
    SINGLE_NUMBER,
    SINGLE_TEXT,
    digest_of,
    write_postings,
)

__all__ = ["Postings", "PostingsDamaged", "write_postings"]

Assets = NDArray[np.int32]
Mask = NDArray[np.bool_]

# Which side of equal numbers a range begins or ends at.
_BELOW: dict[str, Literal["left", "right"]] = {"lt": "left", "lte": "right"}
_ABOVE: dict[str, Literal["left", "right"]] = {"gt": "right", "gte": "left"}
_GROUPS = ("values", "numbers", "owners")


class PostingsDamaged(Exception):
    """The files do not fit each other, or one is missing."""


@dataclass(frozen=True)
class _Key:
    """Where a key's values, numbers and owners stand."""

    values: slice
    numbers: slice
    owners: slice
    flags: int


class Postings:
    """Read-only and safe for any number of threads. A key or value that no asset has matches none.

    Arrays of asset numbers are int32, in no order, and may name an asset more than once; counts are exact.
    """

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        lengths = {name: len(array) for name, array in arrays.items()}
        ends = {name: int(arrays[name][-1]) if lengths[name] else -1 for name in BOUNDS}
        fits = (
            {lengths[f"key_{n}"] for n in ("digests", "checks", "flags")} == {lengths["key_values"] - 1}
            and lengths["key_values"] == lengths["key_numbers"] == lengths["key_owners"]
            and ends["key_values"] == lengths["value_digests"] == lengths["value_starts"] - 1
            and lengths["value_starts"] == lengths["value_ends"]
            and ends["value_starts"] == lengths["value_assets"]
            and ends["value_ends"] == lengths["value_bytes"]
            and ends["key_numbers"] == lengths["numbers"] == lengths["number_assets"]
            and ends["key_owners"] == lengths["owners"]
        )
        if not fits:
            raise PostingsDamaged(f"lengths that do not fit each other: {lengths}")

    @classmethod
    def open(cls, folder: Path) -> Postings:
        """Map what `write_postings` wrote into this folder. Raises PostingsDamaged."""
        try:
            return cls({name: _mapped(folder / FOLDER / f"{name}.npy", DTYPES[name]) for name in DTYPES})
        except (OSError, ValueError) as error:
            raise PostingsDamaged(f"{folder}: {error}") from error

    # --- Filters -----------------------------------------------------------------------------------------

    def matching(self, key: str, texts: Collection[str] = (), numbers: Collection[float] = ()) -> Assets:
        """Assets with one of these texts or one of these numbers under the key."""
        return _joined([assets for assets, _ in self._lists(key, texts, numbers)])

    def in_range(self, key: str, op: str, number: float) -> Assets:
        """Assets with a number under the key that is `lt`, `lte`, `gt` or `gte` this one."""
        found = self._key(key)
        return self._arrays["number_assets"][self._range(found, op, number)] if found else _joined([])

    def having(self, key: str) -> Assets:
        """Assets with any value under the key."""
        found = self._key(key)
        return self._arrays["owners"][found.owners] if found else _joined([])

    def count(self, key: str, texts: Collection[str] = (), numbers: Collection[float] = ()) -> int:
        """How many assets `matching` names: from lengths alone, unless an asset may be in two of the lists."""
        lists = list(self._lists(key, texts, numbers))
        kinds = {flag for _, flag in lists}
        found = self._key(key)
        apart = len(lists) <= 1 or (found is not None and len(kinds) == 1 and found.flags & kinds.pop())
        return sum(len(assets) for assets, _ in lists) if apart else _distinct([a for a, _ in lists])

    def count_in_range(self, key: str, op: str, number: float) -> int:
        found = self._key(key)
        assets = self.in_range(key, op, number)
        return len(assets) if found and found.flags & SINGLE_NUMBER else _distinct([assets])

    def count_having(self, key: str) -> int:
        return len(self.having(key))

    # --- Counts of values --------------------------------------------------------------------------------

    def top_values(self, key: str, mask: Mask, limit: int, longest: int) -> list[tuple[str, int]]:
        """The texts that most of the masked assets have, with how many; equal counts in the order of the texts.

        Texts of more than `longest` characters are left out.
        """
        found = self._key(key)
        if not found or found.values.start == found.values.stop:
            return []
        counts, wanted = self._value_counts(found, mask), limit
        while True:
            # Ties are cut by text, so every text with the count of the last one competes.
            threshold = int(np.partition(counts, -wanted)[-wanted]) if wanted < len(counts) else 1
            chosen = np.flatnonzero(counts >= max(1, threshold))
            texts = [self._text(found.values.start + value) for value in chosen.tolist()]
            ranked = [
                pair for pair in zip(texts, counts[chosen].tolist(), strict=True) if len(pair[0]) <= longest
            ]
            if len(ranked) >= limit or threshold <= 1:
                return sorted(ranked, key=lambda pair: (-pair[1], pair[0]))[:limit]
            wanted *= 4

    def count_text(self, key: str, text: str, mask: Mask) -> int:
        """How many of the masked assets have this text under the key."""
        return sum(int(np.count_nonzero(mask[assets])) for assets, _ in self._lists(key, [text], []))

    def count_texts(self, key: str, texts: Sequence[str], mask: Mask) -> list[int]:
        """`count_text` of many texts at once; most of them may be texts that no asset has."""
        found = self._key(key)
        counts = [0] * len(texts)
        if not found or not texts or found.values.start == found.values.stop:
            return counts
        wanted = np.frombuffer(b"".join(digest_of(text)[:8] for text in texts), "<u8")
        digests = self._arrays["value_digests"][found.values]
        places = np.minimum(np.searchsorted(digests, wanted), len(digests) - 1)
        for n in np.flatnonzero(digests[places] == wanted).tolist():
            counts[n] = self.count_text(key, texts[n], mask)
        return counts

    def bounds(self, key: str, mask: Mask) -> tuple[float, float] | None:
        """The least and the greatest number of the masked assets; None where none has one."""
        numbers, allowed = self._numbers(key, mask)
        if not allowed.any():
            return None
        return float(numbers[allowed.argmax()]), float(numbers[len(allowed) - 1 - allowed[::-1].argmax()])

    def histogram(self, key: str, mask: Mask, edges: list[float]) -> list[int]:
        """How many masked assets have a number from each edge up to, but not including, the next (last: all)."""
        found = self._key(key)
        numbers, allowed = self._numbers(key, mask)
        cuts = [*np.searchsorted(numbers, edges[:-1], "left").tolist(), len(numbers)]
        if found is None:
            return [0] * (len(edges) - 1)
        if found.flags & SINGLE_NUMBER:
            return [int(np.count_nonzero(allowed[a:b])) for a, b in pairwise(cuts)]
        assets = self._arrays["number_assets"][found.numbers]
        return [_distinct([assets[a:b][allowed[a:b]]]) for a, b in pairwise(cuts)]

    # --- Within the arrays -------------------------------------------------------------------------------

    def _key(self, key: str) -> _Key | None:
        first, check = np.frombuffer(digest_of(key), "<u8")
        digests = self._arrays["key_digests"]
        for place in range(*_span(digests, slice(0, len(digests)), first)):
            if self._arrays["key_checks"][place] == check:
                values, numbers, owners = (self._slice(f"key_{n}", place) for n in _GROUPS)
                return _Key(values, numbers, owners, int(self._arrays["key_flags"][place]))
        return None

    def _slice(self, bounds: str, place: int) -> slice:
        array = self._arrays[bounds]
        return slice(int(array[place]), int(array[place + 1]))

    def _lists(
        self, key: str, texts: Collection[str], numbers: Collection[float]
    ) -> Iterator[tuple[Assets, int]]:
        """The assets of each text and number, and which flag says that lists of this kind share no asset."""
        found = self._key(key)
        if not found:
            return
        for text in set(texts):
            value = self._value(found, text)
            if value is not None:
                yield self._arrays["value_assets"][self._slice("value_starts", value)], SINGLE_TEXT
        for number in set(numbers):
            begin, end = _span(self._arrays["numbers"], found.numbers, np.float64(number))
            if begin < end:
                yield self._arrays["number_assets"][begin:end], SINGLE_NUMBER

    def _value(self, key: _Key, text: str) -> int | None:
        first = np.frombuffer(digest_of(text), "<u8")[0]
        for value in range(*_span(self._arrays["value_digests"], key.values, first)):
            if self._text(value) == text:
                return value
        return None

    def _text(self, value: int) -> str:
        return self._arrays["value_bytes"][self._slice("value_ends", value)].tobytes().decode()

    def _range(self, key: _Key, op: str, number: float) -> slice:
        side = _BELOW.get(op) or _ABOVE[op]
        cut = key.numbers.start + int(np.searchsorted(self._arrays["numbers"][key.numbers], number, side))
        return slice(key.numbers.start, cut) if op in _BELOW else slice(cut, key.numbers.stop)

    def _value_counts(self, key: _Key, mask: Mask) -> NDArray[np.int64]:
        """How many masked assets have each text of the key."""
        starts = self._arrays["value_starts"][key.values.start : key.values.stop + 1]
        allowed = mask[self._arrays["value_assets"][starts[0] : starts[-1]]]
        # No text is without assets, which reduceat could not count.
        return np.add.reduceat(allowed, starts[:-1] - starts[0], dtype=np.int64)

    def _numbers(self, key: str, mask: Mask) -> tuple[NDArray[np.float64], Mask]:
        found = self._key(key)
        chosen = found.numbers if found else slice(0, 0)
        return self._arrays["numbers"][chosen], mask[self._arrays["number_assets"][chosen]]


def _mapped(path: Path, dtype: str) -> NDArray[Any]:
    # A plain view: slices of a memmap object cost ten times as much.
    array = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    if array.dtype != np.dtype(dtype) or array.ndim != 1:
        raise ValueError(f"{path.name} is {array.dtype} {list(array.shape)}")
    return array


def _span(array: NDArray[Any], within: slice, wanted: Any) -> tuple[int, int]:
    """Where the wanted value stands in a sorted slice: begin and end in the whole array."""
    part = array[within]
    begin, end = (int(np.searchsorted(part, wanted, side)) for side in ("left", "right"))
    return within.start + begin, within.start + end


def _joined(lists: list[Assets]) -> Assets:
    if len(lists) == 1:
        return lists[0]
    return np.concatenate(lists) if lists else np.zeros(0, np.int32)


def _distinct(lists: list[Assets]) -> int:
    return len(np.unique(_joined(lists)))

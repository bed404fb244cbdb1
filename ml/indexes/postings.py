"""Facet values to asset numbers, in sorted arrays beside an index: filters and counts without a database.

Asset numbers are 0 … A-1 as the index numbers them. How the arrays lie: below.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

# --- Files -----------------------------------------------------------------------------------------------
# Facet values to asset numbers as files that can be mapped: their layout, and how they are written.
#
# Keys and texts come from tenants and may be anything, also a million different keys. So neither is ever a file's
# name or held in memory as a whole: both are found by the first 8 bytes of a digest in a sorted array, and then
# compared. All arrays lie in `facets/`, grouped by key in the order of the keys' digests:
#
# key_digests, key_checks     uint64 [K]    both halves of a key's digest; sorted by them
# key_values, key_numbers, key_owners
#                             int64 [K+1]   where a key's values, numbers and owners begin
# key_flags                   uint8 [K]     SINGLE_TEXT, SINGLE_NUMBER: no asset has two of them
# value_digests               uint64 [V]    of the texts of a key, sorted
# value_ends                  int64 [V+1]   where a text begins in value_bytes (UTF-8)
# value_starts                int64 [V+1]   where a text's assets begin in value_assets
# value_assets                int32         ascending for each text
# numbers, number_assets      float64, int32 in the order of (number, asset) for each key
# owners                      int32         every asset that has the key, ascending


Row = tuple[str, int, str | None, float | None]

FOLDER = "facets"
SINGLE_TEXT, SINGLE_NUMBER = 1, 2
DTYPES = {
    "key_digests": "<u8",
    "key_checks": "<u8",
    "key_values": "<i8",
    "key_numbers": "<i8",
    "key_owners": "<i8",
    "key_flags": "|u1",
    "value_digests": "<u8",
    "value_ends": "<i8",
    "value_starts": "<i8",
    "value_bytes": "|u1",
    "value_assets": "<i4",
    "numbers": "<f8",
    "number_assets": "<i4",
    "owners": "<i4",
}
#: These begin with a 0, so that entry n + 1 is the end of n.
BOUNDS = ("key_values", "key_numbers", "key_owners", "value_ends", "value_starts")

#: Rows that wait in memory, and texts whose digest is remembered.
CHUNK_ROWS = 200_000
REMEMBERED = 100_000
#: Texts gathered at once; each byte takes eight while it is.
GATHERED = 50_000

_SPOOLED = np.dtype(
    [
        *(("key", "<u8"), ("key_check", "<u8"), ("digest", "<u8"), ("check", "<u8")),
        *(("at", "<i8"), ("length", "<i4"), ("asset", "<i4"), ("number", "<f8")),
    ]
)
_TAIL = struct.Struct("<id")
_PLACE = struct.Struct("<qi")
_NO_TEXT = bytes(16) + _PLACE.pack(-1, 0)


def digest_of(text: str) -> bytes:
    """16 bytes that stand for a key or a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def write_postings(folder: Path, rows: Iterable[Row]) -> None:
    """Write `facets/` into a folder from (key, asset number, text or None, number or None), in any order.

    Equal rows count once. Takes some 60 bytes of disk a row meanwhile, and memory for a chunk of rows and for the
    rows of the greatest key (some 200 bytes each). Raises ValueError for a number that is NaN or an asset number that
    does not fit int32.
    """
    home = folder / FOLDER
    work = home / "work.part"
    work.mkdir(parents=True)
    try:
        with _Spool(work) as spool:
            for row in rows:
                spool.add(*row)
        _write_arrays(home, spool)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Spool:
    """Rows on disk in 256 parts by the first byte of their key's digest, so that a key is in one part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.texts_path = folder / "texts"
        self._texts = self.texts_path.open("wb")
        self._end = 0
        self._rows = bytearray()
        self._known: dict[tuple[str, str | None], bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._texts.close()

    def add(self, key: str, asset: int, text: str | None, number: float | None) -> None:
        if number is not None and number != number:
            raise ValueError(f"{key!r} of asset {asset} is NaN")
        if not 0 <= asset < 1 << 31:
            raise ValueError(f"{asset} is no asset number")
        head = self._known.get((key, text)) or self._head(key, text)
        # 0.0 is added so that -0.0 is 0.
        self._rows += head + _TAIL.pack(asset, np.nan if number is None else number + 0.0)
        if len(self._rows) >= CHUNK_ROWS * _SPOOLED.itemsize:
            self._flush()

    def _head(self, key: str, text: str | None) -> bytes:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        head = digest_of(key) + (_NO_TEXT if text is None else digest_of(text) + self._keep(text))
        self._known[key, text] = head
        return head

    def _keep(self, text: str) -> bytes:
        content = text.encode()
        self._texts.write(content)
        self._end += len(content)
        return _PLACE.pack(self._end - len(content), len(content))

    def _flush(self) -> None:
        rows = np.frombuffer(bytes(self._rows), _SPOOLED)
        self._rows.clear()
        part = (rows["key"] >> np.uint64(56)).astype(np.uint8)
        order = np.argsort(part, kind="stable")
        present, begins = np.unique(part[order], return_index=True)
        for number, chosen in zip(present, np.split(order, begins[1:]), strict=False):
            with (self.folder / f"{number:02x}").open("ab") as file:
                file.write(rows[chosen].tobytes())

    def parts(self) -> Iterator[NDArray[Any]]:
        for number in range(256):
            path = self.folder / f"{number:02x}"
            if path.exists():
                yield np.fromfile(path, _SPOOLED)

    def texts(self) -> NDArray[np.uint8]:
        if not self._end:
            return np.zeros(0, np.uint8)
        return np.memmap(self.texts_path, np.uint8, mode="r").view(np.ndarray)


class _Column:
    """A one-dimensional .npy file that grows at its end."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.dtype, self.length = np.dtype(dtype), 0
        self._file = path.open("wb")
        self._header()
        self._begin = self._file.tell()

    def _header(self) -> None:
        # numpy leaves room for the first dimension to grow, so that the header's length stays the same.
        said = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, said)

    def append(self, values: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values, self.dtype).tobytes())
        self.length += len(values)

    def close(self) -> None:
        self._file.seek(0)
        self._header()
        moved = self._file.tell() != self._begin
        self._file.close()
        if moved:
            raise RuntimeError("this numpy does not keep the length of a header")


class _Arrays:
    """The columns under way. Bounds are given as lengths and kept as running totals."""

    def __init__(self, home: Path) -> None:
        self.columns = {name: _Column(home / f"{name}.npy", dtype) for name, dtype in DTYPES.items()}
        self.totals = dict.fromkeys(BOUNDS, 0)
        for name in BOUNDS:
            self.columns[name].append(np.zeros(1))

    def append(self, name: str, values: NDArray[Any]) -> None:
        self.columns[name].append(values)

    def append_lengths(self, name: str, lengths: NDArray[Any]) -> None:
        ends = self.totals[name] + np.cumsum(lengths, dtype=np.int64)
        self.columns[name].append(ends)
        self.totals[name] = int(ends[-1]) if len(ends) else self.totals[name]

    def close(self) -> None:
        for column in self.columns.values():
            column.close()


def _write_arrays(home: Path, spool: _Spool) -> None:
    arrays = _Arrays(home)
    try:
        texts = spool.texts()
        for rows in spool.parts():
            _write_part(arrays, rows, texts)
    finally:
        arrays.close()


def _write_part(arrays: _Arrays, rows: NDArray[Any], texts: NDArray[np.uint8]) -> None:
    rows = rows[np.lexsort((rows["key_check"], rows["key"]))]
    begins = _begins(rows["key"], rows["key_check"])
    key = np.cumsum(begins) - 1
    count = int(key[-1]) + 1
    arrays.append("key_digests", rows["key"][begins])
    arrays.append("key_checks", rows["key_check"][begins])
    owners = np.unique(_pairs(key, rows["asset"]))
    arrays.append("owners", owners & 0xFFFFFFFF)
    arrays.append_lengths("key_owners", np.bincount(owners >> 32, minlength=count))
    with_text, with_number = rows["at"] >= 0, ~np.isnan(rows["number"])
    single_text = _write_texts(arrays, rows[with_text], key[with_text], count, texts)
    single_number = _write_numbers(arrays, rows[with_number], key[with_number], count)
    arrays.append("key_flags", SINGLE_TEXT * single_text + SINGLE_NUMBER * single_number)


def _write_texts(
    arrays: _Arrays, rows: NDArray[Any], key: NDArray[Any], count: int, texts: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Of each key: whether no asset has two texts."""
    order = np.lexsort((rows["asset"], rows["check"], rows["digest"], key))
    rows, key = rows[order], key[order]
    fresh = _begins(key, rows["digest"], rows["check"], rows["asset"])
    rows, key = rows[fresh], key[fresh]
    first = np.flatnonzero(_begins(key, rows["digest"], rows["check"]))
    arrays.append("value_digests", rows["digest"][first])
    arrays.append("value_assets", rows["asset"])
    arrays.append_lengths("value_starts", np.diff(first, append=len(rows)))
    arrays.append_lengths("value_ends", rows["length"][first])
    arrays.append_lengths("key_values", np.bincount(key[first], minlength=count))
    for begin in range(0, len(first), GATHERED):
        some = rows[first[begin : begin + GATHERED]]
        arrays.append("value_bytes", _gathered(texts, some["at"], some["length"]))
    return _single(key, rows["asset"], count)


def _write_numbers(arrays: _Arrays, rows: NDArray[Any], key: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Of each key: whether no asset has two numbers."""
    order = np.lexsort((rows["asset"], rows["number"], key))
    rows, key = rows[order], key[order]
    fresh = _begins(key, rows["number"], rows["asset"])
    rows, key = rows[fresh], key[fresh]
    arrays.append("numbers", rows["number"])
    arrays.append("number_assets", rows["asset"])
    arrays.append_lengths("key_numbers", np.bincount(key, minlength=count))
    return _single(key, rows["asset"], count)


def _begins(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a row of sorted columns differs from the one before it."""
    differs = np.ones(len(columns[0]), bool)
    if len(differs):
        differs[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return differs


def _pairs(key: NDArray[Any], asset: NDArray[Any]) -> NDArray[np.int64]:
    return (key.astype(np.int64) << 32) | asset.astype(np.int64)


def _single(key: NDArray[Any], asset: NDArray[Any], count: int) -> NDArray[np.bool_]:
    distinct = np.unique(_pairs(key, asset)) >> 32
    return np.bincount(key, minlength=count) == np.bincount(distinct, minlength=count)


def _gathered(texts: NDArray[np.uint8], at: NDArray[Any], length: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of these texts, one after the other."""
    length = length.astype(np.int64)
    ends = np.cumsum(length)
    places = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(at - (ends - length), length)
    return texts[places]


# --- Postings --------------------------------------------------------------------------------------------


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

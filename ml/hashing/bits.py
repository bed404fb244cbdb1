"""Many bit strings of one length in memory, and in how many bits each differs from a given one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
Counts = NDArray[np.uint16]


class Bits:
    """``rows``: uint8 [n, bytes], a multiple of eight bytes. Kept word by word: each step goes over one flat array."""

    def __init__(self, rows: NDArray[np.uint8]) -> None:
        words = np.ascontiguousarray(rows).view(np.uint64)
        self._words = np.ascontiguousarray(words.T)

    def __len__(self) -> int:
        return self._words.shape[1]

    @property
    def size(self) -> int:
        return self._words.nbytes

    def differing(self, wanted: bytes) -> Counts:
        """In how many bits each differs: uint16 [n]."""
        return self._counted(np.frombuffer(wanted, np.uint64), range(len(self._words)))

    def within(self, wanted: bytes, limit: int) -> tuple[Rows, Counts]:
        """The rows that differ in at most so many bits, and in how many. The first half of the words rules most out."""
        query, half = np.frombuffer(wanted, np.uint64), len(self._words) // 2
        counts = self._counted(query, range(half))
        rows = np.flatnonzero(counts <= limit)
        rest = self._words[half:, rows] ^ query[half:, None]
        total = counts[rows] + np.bitwise_count(rest).sum(axis=0, dtype=np.uint16)
        near = total <= limit
        return rows[near], total[near]

    def _counted(self, query: NDArray[np.uint64], words: range) -> Counts:
        total = np.zeros(len(self), np.uint16)
        for word in words:
            total += np.bitwise_count(self._words[word] ^ query[word])
        return total

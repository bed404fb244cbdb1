"""Many fingerprints of sound, and which of them are heard in another one: an index of frames, then a comparison."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ml.hashing.sounds import LIMIT, MOST, Heard, Words, compare, frames_of, near_words

#: A frame that stands in the index more often than this says nothing: a hum, a beep.
COMMON = 200
#: How many places, by how many frames speak for them, are compared in full.
CANDIDATES = 16
_SPAN = 4 * MOST


@dataclass(frozen=True)
class SoundIndex:
    """``owners``: who each fingerprint belongs to (16 bytes each); ``frames``: of each."""

    owners: tuple[bytes, ...]
    frames: tuple[Words, ...]

    @classmethod
    def of(cls, prints: Iterable[tuple[bytes, bytes]]) -> SoundIndex:
        """Of (owner, content); content that is no fingerprint is left out."""
        kept = []
        for owner, content in prints:
            try:
                kept.append((owner, frames_of(content)))
            except ValueError:
                continue
        return cls(tuple(owner for owner, _ in kept), tuple(frames for _, frames in kept))

    def grown(self, other: SoundIndex) -> SoundIndex:
        return SoundIndex(self.owners + other.owners, self.frames + other.frames)

    @property
    def size(self) -> int:
        return sum(frames.nbytes for frames in self.frames) * 5

    @cached_property
    def _index(self) -> tuple[Words, NDArray[np.int32], NDArray[np.int32]]:
        """All frames in order of their signs, with the number of their fingerprint and their place in it."""
        words = np.concatenate([np.zeros(0, np.uint32), *self.frames])
        owner = np.repeat(np.arange(len(self.frames), dtype=np.int32), [len(f) for f in self.frames])
        place = np.concatenate(
            [np.zeros(0, np.int32), *(np.arange(len(f), dtype=np.int32) for f in self.frames)]
        )
        order = np.argsort(words, kind="stable")
        order = order[words[order] != 0]
        return words[order], owner[order], place[order]

    def heard_in(self, content: bytes) -> list[tuple[bytes, Heard]]:
        """Owners of fingerprints that are heard in this one, or it in them, best first. Raises ValueError."""
        query = frames_of(content)
        found: dict[bytes, Heard] = {}
        for number, shift in self._places(query):
            differing = compare(query, self.frames[number], shift)
            owner = self.owners[number]
            if differing <= LIMIT and (owner not in found or differing < found[owner].differing):
                found[owner] = Heard(round(differing, 4), shift)
        return sorted(found.items(), key=lambda pair: pair[1].differing)

    def _places(self, query: Words) -> list[tuple[int, int]]:
        """Which fingerprint, laid where, has the most frames in common with the query."""
        words, owner, place = self._index
        if not len(words):
            return []
        wanted, at = near_words(query)
        begin, end = np.searchsorted(words, wanted, "left"), np.searchsorted(words, wanted, "right")
        sizes = end - begin
        sizes[sizes > COMMON] = 0
        total = int(sizes.sum())
        rows = np.repeat(begin, sizes) + np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        keys = owner[rows].astype(np.int64) * _SPAN + (place[rows] - np.repeat(at, sizes) + _SPAN // 2)
        values, votes = np.unique(keys, return_counts=True)
        best = values[np.argsort(-votes, kind="stable")[:CANDIDATES]]
        return [(int(key // _SPAN), int(key % _SPAN) - _SPAN // 2) for key in best]

"""A fingerprint of sound that survives lossy coding, loudness and cuts (after Haitsma and Kalker, ISMIR 2002).

Twenty times a second 32 signs: whether the difference of energy between neighbouring bands (300 to 3,000 Hz) has grown
in a tenth of a second. At worst, two recordings are cut half a frame apart, by 25 ms of windows of 400.
Two recordings of the same sound agree in most signs at one shift in time; others in half of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
HOP, WINDOW, BANDS = 800, 6400, 33
# Signs compare a frame with the one so many before it.
BACK = 2
LOW_HZ, HIGH_HZ = 300.0, 3000.0

#: Frames a second, and how many at most: the first five minutes.
PER_SECOND = RATE / HOP
MOST = 6000
#: Shorter sounds have too few signs to be told apart.
LEAST = 40
#: Below this share of the loudest moment a frame is silence, whose signs are noise; all of it below ``NOTHING``.
SILENT, NOTHING = 1e-3, 1e-4

#: Share of differing signs up to which sounds count as the same. Of other sounds at their best shift it is above .4.
LIMIT = 0.30
#: Which part of the shorter sound must lie inside of the other.
OVERLAP = 0.5

Samples = NDArray[np.float32]
Words = NDArray[np.uint32]


def audio_fingerprint(samples: Samples) -> bytes:
    """The frames of mono sound at 16 kHz (float32 [n]), four bytes each; empty for one that is too short or silent."""
    energies, loud = _energies(samples[: (MOST + BACK) * HOP + WINDOW])
    if len(energies) <= BACK:
        return b""
    slopes = np.diff(energies, axis=1)
    signs = (slopes[BACK:] > slopes[:-BACK])[:MOST]
    frames = np.packbits(signs, axis=1).view(">u4").ravel().astype("<u4")
    # The same word in every silent frame: it neither agrees with noise nor points anywhere.
    frames[~loud[BACK : len(frames) + BACK]] = 0
    return frames.tobytes() if int((frames != 0).sum()) >= LEAST else b""


def fingerprint_frames(content: bytes) -> Words:
    """Raises ValueError for bytes that are no fingerprint."""
    if len(content) % 4 or not LEAST * 4 <= len(content) <= MOST * 4:
        raise ValueError(f"a fingerprint of sound has {LEAST} to {MOST} frames of four bytes")
    return np.frombuffer(content, "<u4").astype(np.uint32)


def _energies(samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Energy in each band of each frame [frames, 33], and which frames are loud enough to be heard."""
    count = max(0, (len(samples) - WINDOW) // HOP + 1)
    energies = np.empty((count, BANDS), np.float32)
    peaks = np.empty(count, np.float32)
    window = np.hanning(WINDOW).astype(np.float32)
    for start in range(0, count, 64):
        rows = np.arange(start, min(count, start + 64))
        pieces = np.stack([samples[row * HOP : row * HOP + WINDOW] for row in rows])
        peaks[rows] = np.abs(pieces).max(axis=1)
        power = np.abs(np.fft.rfft(pieces * window, axis=1)) ** 2
        energies[rows] = np.log(power @ _bands() + 1e-9)
    return energies, peaks > max(NOTHING, SILENT * float(peaks.max(initial=0)))


@cache
def _bands() -> NDArray[np.float32]:
    """Which spectral line belongs to which of the bands, evenly on a logarithmic scale: [lines, 33]."""
    edges = np.geomspace(LOW_HZ, HIGH_HZ, BANDS + 1)
    lines = np.fft.rfftfreq(WINDOW, 1 / RATE)
    inside = (lines[:, None] >= edges[:-1]) & (lines[:, None] < edges[1:])
    return inside.astype(np.float32)


# --- Comparing ---


@dataclass(frozen=True)
class AudioMatch:
    """``differing``: share of signs; ``shift``: how many frames later the sound begins in the second one."""

    differing: float
    shift: int


def compare(one: Words, other: Words, shift: int) -> float:
    """Which share of signs differs where ``one`` is laid over ``other`` from its frame ``shift`` on; 1 for too little.

    Frames that are silent in one of them do not count.
    """
    begin, end = max(0, -shift), min(len(one), len(other) - shift)
    if end - begin < max(LEAST, OVERLAP * min(len(one), len(other))):
        return 1.0
    mine, theirs = one[begin:end], other[begin + shift : end + shift]
    heard = (mine != 0) & (theirs != 0)
    if int(heard.sum()) < LEAST:
        return 1.0
    return float(np.bitwise_count(mine[heard] ^ theirs[heard]).mean() / 32)


def neighbouring_words(frames: Words, most: int = 300) -> tuple[Words, NDArray[np.int64]]:
    """The frames and all that differ from one of them in one sign, with their places: what an index is asked for."""
    places = np.flatnonzero(frames)
    probed = places[:: max(1, -(-len(places) // most))]
    flips = np.concatenate([[0], 1 << np.arange(32, dtype=np.uint64)]).astype(np.uint32)
    words = (frames[probed, None] ^ flips).ravel()
    return np.concatenate([words, frames[places]]), np.concatenate([np.repeat(probed, 33), places])


# --- Index -----------------------------------------------------------------------------------------------
# Many fingerprints of sound, and which of them are heard in another one: an index of frames, then a comparison.


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
                kept.append((owner, fingerprint_frames(content)))
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

    def heard_in(self, content: bytes) -> list[tuple[bytes, AudioMatch]]:
        """Owners of fingerprints that are heard in this one, or it in them, best first. Raises ValueError."""
        query = fingerprint_frames(content)
        found: dict[bytes, AudioMatch] = {}
        for number, shift in self._places(query):
            differing = compare(query, self.frames[number], shift)
            owner = self.owners[number]
            if differing <= LIMIT and (owner not in found or differing < found[owner].differing):
                found[owner] = AudioMatch(round(differing, 4), shift)
        return sorted(found.items(), key=lambda pair: pair[1].differing)

    def _places(self, query: Words) -> list[tuple[int, int]]:
        """Which fingerprint, laid where, has the most frames in common with the query."""
        words, owner, place = self._index
        if not len(words):
            return []
        wanted, at = neighbouring_words(query)
        begin, end = np.searchsorted(words, wanted, "left"), np.searchsorted(words, wanted, "right")
        sizes = end - begin
        sizes[sizes > COMMON] = 0
        total = int(sizes.sum())
        rows = np.repeat(begin, sizes) + np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        keys = owner[rows].astype(np.int64) * _SPAN + (place[rows] - np.repeat(at, sizes) + _SPAN // 2)
        values, votes = np.unique(keys, return_counts=True)
        best = values[np.argsort(-votes, kind="stable")[:CANDIDATES]]
        return [(int(key // _SPAN), int(key % _SPAN) - _SPAN // 2) for key in best]

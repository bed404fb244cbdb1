"""PDQ, a perceptual hash of pictures: 256 bits that a copy in another size or quality nearly keeps.

The algorithm of Meta's reference (github.com/facebook/ThreatExchange, pdq/cpp; described in
"The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019), bit for bit: single precision and
the order of its additions are part of it, as a coefficient next to the median turns with the last bit of a sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 256
BYTES = BITS // 8

#: Below this many rows or columns there is nothing to hash: all bits zero, quality zero.
MIN_SIDE = 5

#: Hashes of pictures with less structure than this (0 to 100) collide with each other; the reference's advice.
MIN_QUALITY = 50

#: Up to so many differing bits two pictures count as the same; the reference's advice.
LIMIT = 31

_GRID, _KEPT, _STRIP = 64, 16, 16

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

#: What was done to the picture whose hash it is, in the order of ``dihedral``.
TURNS = (
    "original", "rotated 90", "rotated 180", "rotated 270", "flipped x", "flipped y", "flipped plus", "flipped minus",
)  # fmt: skip


@dataclass(frozen=True)
class Pdq:
    """``content``: 32 bytes, the most significant bit first, as in the reference's hex. ``quality``: 0 to 100."""

    content: bytes
    quality: int

    @property
    def hex(self) -> str:
        return self.content.hex()


def pdq(pixels: Pixels) -> Pdq:
    """The hash of a picture: uint8 [h, w, 3]."""
    if min(pixels.shape[:2]) < MIN_SIDE:
        return Pdq(bytes(BYTES), 0)
    small = _downscaled(pixels)
    return Pdq(_to_bytes(_coefficients(small)), _quality(small))


def dihedral(pixels: Pixels) -> tuple[list[bytes], int]:
    """The hashes of the picture turned and mirrored in all eight ways (``TURNS``), for the price of one; quality."""
    if min(pixels.shape[:2]) < MIN_SIDE:
        return [bytes(BYTES)] * len(TURNS), 0
    small = _downscaled(pixels)
    return [_to_bytes(turned) for turned in _turned(_coefficients(small))], _quality(small)


# --- From picture to 64 x 64 ---


def _downscaled(pixels: Pixels) -> Floats:
    """Two passes of a box filter along each axis (Jarosz), of which only the 64 x 64 wanted points are kept."""
    rows, columns = pixels.shape[:2]
    luma = _luminance(pixels)
    if (rows, columns) == (_GRID, _GRID):
        return luma
    # The running sums go along axis 0, over whole rows at a time.
    once = _box(_flipped(luma))
    once = _box(_flipped(once))
    across = _box(_flipped(once), _points(columns))
    return _box(_flipped(across), _points(rows))


def _luminance(pixels: Pixels) -> Floats:
    """.299 R + .587 G + .114 B, exactly rounded: thousandths are whole numbers below 2^24, then one division."""
    luma = pixels[..., 0].astype(np.float32) * np.float32(299)
    for channel, share in ((1, 587), (2, 114)):
        part = pixels[..., channel].astype(np.float32)
        part *= np.float32(share)
        luma += part
    luma /= np.float32(1000)
    return luma


def _flipped(values: Floats) -> Floats:
    """The transpose, laid out anew; strips of rows stay in the processor's cache: half the time."""
    turned = np.empty(values.shape[::-1], np.float32)
    for start in range(0, len(values), _STRIP):
        turned[:, start : start + _STRIP] = values[start : start + _STRIP].T
    return turned


def _points(length: int) -> NDArray[np.intp]:
    """The 64 positions that are kept of ``length``: centres of as many equal parts."""
    return ((np.arange(_GRID) + 0.5) * length / _GRID).astype(np.intp)


def _box(values: Floats, kept: NDArray[np.intp] | None = None) -> Floats:
    """The mean over a sliding window along axis 0, as running sums in the reference's order; rows ``kept`` of it."""
    rows, length = list(values), len(values)
    window = (length + 2 * _GRID - 1) // (2 * _GRID)
    ahead = (window + 2) // 2 - 1
    sums = np.empty_like(values)
    total = np.zeros(values.shape[1], np.float32)
    for right in range(ahead):
        total += rows[right]
    for at, out in enumerate(sums):
        if at + ahead < length:
            np.add(total, rows[at + ahead], out=out)
            total = out
        if at + ahead >= window:
            total = np.subtract(total, rows[at + ahead - window], out=out)
    places = np.arange(length) if kept is None else kept
    sizes = np.minimum(places + ahead, length - 1) - np.maximum(0, places + ahead - window + 1) + 1
    means = sums if kept is None else sums[kept]
    means /= sizes[:, None].astype(np.float32)
    return means


def _quality(small: Floats) -> int:
    """How much structure there is, 0 to 100: steps between neighbours, small ones cut off."""
    steps = 0
    for axis in (0, 1):
        scaled = np.diff(small, axis=axis) * np.float32(100) / np.float32(255)
        steps += int(np.abs(np.trunc(scaled)).sum())
    return min(100, steps // 90)


# --- From 64 x 64 to bits ---


def _cosines() -> Floats:
    """The rows 1 to 16 of the discrete cosine transform over 64 points: float32 [16, 64]."""
    scale = float(np.float32(math.sqrt(2 / _GRID)))
    return np.array(
        [
            [scale * math.cos(math.pi / 2 / _GRID * row * (2 * column + 1)) for column in range(_GRID)]
            for row in range(1, _KEPT + 1)
        ],
        np.float32,
    )


_DCT = _cosines()


def _coefficients(small: Floats) -> Floats:
    """The 16 x 16 lowest frequencies without the mean. Not a product of matrices, whose order of sums is its own."""
    half = np.zeros((_KEPT, _GRID), np.float32)
    for k in range(_GRID):
        half += _DCT[:, k, None] * small[k]
    full = np.zeros((_KEPT, _KEPT), np.float32)
    for k in range(_GRID):
        full += half[:, k, None] * _DCT[:, k]
    return full


def _turned(grid: Floats) -> list[Floats]:
    """The coefficients of the turned pictures: signs change where a wave is odd, and axes swap."""
    i, j = np.indices(grid.shape)
    odd_i, odd_j, odd = (np.where(where % 2, 1, -1).astype(np.float32) for where in (i, j, i + j))
    return [
        grid,
        (grid * odd_j).T,
        grid * -odd,
        (grid * odd_i).T,
        grid * odd_i,
        grid * odd_j,
        grid.T,
        (grid * -odd).T,
    ]


def _to_bytes(grid: Floats) -> bytes:
    """A bit for each coefficient above the (lower) median, the last one first."""
    flat = grid.ravel()
    median = np.partition(flat, BITS // 2 - 1)[BITS // 2 - 1]
    return np.packbits((flat > median)[::-1]).tobytes()


# --- Hamming distances in memory -------------------------------------------------------------------------
# Many bit strings of one length in memory, and in how many bits each differs from a given one.


Rows = NDArray[np.intp]
Counts = NDArray[np.uint16]


class HammingIndex:
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


# --- Films by their frames -------------------------------------------------------------------------------
# When a film is a copy of another, by the PDQ hashes of sampled frames.


#: So many frames of a film must each be near a frame of the other; fewer where either has fewer.
FRAMES = 3


def enough_frames_match(agreeing: Iterable[int], mine: int, theirs: int) -> bool:
    """Whether the different frames of mine that agree (by number) are enough, of ``mine`` and ``theirs`` frames."""
    return len(set(agreeing)) >= min(FRAMES, max(1, mine), max(1, theirs))

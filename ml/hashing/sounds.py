"""A fingerprint of sound that survives lossy coding, loudness and cuts (after Haitsma and Kalker, ISMIR 2002).

Twenty times a second 32 signs: whether the difference of energy between neighbouring bands (300 to 3,000 Hz) has grown
in a tenth of a second. At worst, two recordings are cut half a frame apart, by 25 ms of windows of 400.
Two recordings of the same sound agree in most signs at one shift in time; others in half of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

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


def sound_print(samples: Samples) -> bytes:
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


def frames_of(content: bytes) -> Words:
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
class Heard:
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


def near_words(frames: Words, most: int = 300) -> tuple[Words, NDArray[np.int64]]:
    """The frames and all that differ from one of them in one sign, with their places: what an index is asked for."""
    places = np.flatnonzero(frames)
    probed = places[:: max(1, -(-len(places) // most))]
    flips = np.concatenate([[0], 1 << np.arange(32, dtype=np.uint64)]).astype(np.uint32)
    words = (frames[probed, None] ^ flips).ravel()
    return np.concatenate([words, frames[places]]), np.concatenate([np.repeat(probed, 33), places])

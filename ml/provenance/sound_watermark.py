"""An invisible mark of 16 bits in sound, found without the original by whoever holds the key.

Blind spread spectrum in loudness: two seconds are a tile of 64 moments and 24 bands of hearing (mel, 250 to 7,000 Hz),
repeated for as long as the sound lasts. In each cell of the tile one chip of +1 or -1 makes the sound a little louder
or softer: by a share of what its loudness stirs there by itself, so that it hides, and more where the sound happens to
say the opposite. Where there is next to nothing, noise far below the rest carries the chip. Codecs keep the loudness of
bands before all else, whatever they do to the waves.

The payload's two bytes become the six symbols of a Reed-Solomon code (distance 5), each symbol a signed row of a
Hadamard matrix, scattered over the tile by the key. Reading tries every place where a tile may begin against all 65,536
words at once. The chips of every word are as good as random to whoever does not hold the key, so for any sound at all
Hoeffding's bound says how seldom a word correlates as ``CERTAIN`` asks by chance: less than once in a million.

It survives MP3, AAC and Opus at 64 kbit/s, 16 kHz mono, loudness and cuts (docs/auditing/provenance.md has the table),
not another speed or pitch, or somebody who tries to remove it. Whoever holds the key can mark any sound.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from reedsolo import gf_mult_noLUT

Samples = NDArray[np.float32]
Cells = NDArray[np.float32]

MOMENTS, BANDS, CELL_S = 64, 24, 1 / 32
MIN_S = MOMENTS * CELL_S
LOW_HZ, HIGH_HZ = 250.0, 7000.0
SYMBOLS, CHIPS = 6, 256
#: What is read: mono at 16 kHz, in windows of 512 samples, four of them for each moment, so that a tile may begin
#: anywhere.
RATE, WINDOW, STEPS = 16_000, 512, 4
#: What a cell is compared with: deviations in moments and bands. What it is measured by: moments and bands around it,
#: with so many dB at least. Beyond ``MOST`` a cell counts no more.
WIDE, AROUND, LEAST_DB, MOST = (2.0, 8.0), (18, 5), 0.3, 1.75
#: A chip shall stand out by ``WANT``, gets ``LITTLE`` to ``CAP`` for that (all in what is around), and ``CEILING`` dB
#: at most. All are multiplied by the first of ``GAINS`` with which the mark is read at ``CLEAR``.
WANT, LITTLE, CAP, CEILING = 0.6, 0.1, 0.8, 1.6
GAINS, CLEAR = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8), 14.0
#: Noise under it all: relative to the sound, and to full scale at least. It carries a chip by ``NOISE_CHIP`` dB.
NOISE, NOISE_LEAST, NOISE_CHIP = -46.0, -76.0, 3.0
#: Correlation in deviations. 65,536 words, 256 places, 40 pieces of a long recording: 7e8 exp(-8.5²/2) < 2e-7.
CERTAIN = 8.5
PIECE_S, PIECES = 30, 40


@dataclass(frozen=True)
class Mark:
    """``payload``: 0 to 65,535. ``at_s``: where the piece begins that it was read in. ``seen``: how clearly, in
    deviations."""

    payload: int
    at_s: float
    seen: float


def embed(samples: Samples, rate: int, payload: int, key: bytes) -> Samples:
    """A copy of float32 [n] or [n, channels] with the mark, as soft as it can still be read clearly.

    Raises ValueError for less than ``MIN_S`` seconds, a rate under 16 kHz and longer payloads.
    """
    if len(samples) < MIN_S * rate or rate < RATE:
        raise ValueError(f"A mark needs {MIN_S:g} s of sound at {RATE:,} Hz or more.")
    if not 0 <= payload < 1 << 16:
        raise ValueError("The payload is 16 bits.")
    noise = _noise(samples, payload, key)
    sound = samples.reshape(len(samples), -1) + noise[:, None]
    signs, reach, quiet = _room(sound, noise, rate, payload, key)
    for gain in GAINS:
        change = np.where(quiet, NOISE_CHIP, np.clip(gain * WANT - reach[0], LITTLE, gain * CAP) * reach[1])
        marked = _louder(sound, rate, signs * np.minimum(change, max(NOISE_CHIP, gain * CEILING)))
        found = detect(marked, rate, key)
        if found and found.payload == payload and found.seen >= CLEAR:
            break
    return marked.reshape(samples.shape)


def detect(samples: Samples, rate: int, key: bytes) -> Mark | None:
    """The clearest mark in float32 [n] or [n, channels], of its first ten minutes."""
    mono, hop = _mono(samples, rate), PIECE_S * RATE // 2
    marks = []
    for start in range(0, max(1, len(mono) - hop), hop)[:PIECES]:
        if found := _read(_loudness(mono[start : start + 2 * hop]), key):
            marks.append(Mark(found[0], start / RATE, round(found[1], 2)))
    return max(marks, key=lambda mark: mark.seen, default=None)


# --- The code ---


@lru_cache(maxsize=1)
def _rows() -> Cells:
    """[256, 256]: half of the rows of a Hadamard matrix, and the same turned over."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < CHIPS:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.concatenate([matrix[: CHIPS // 2], -matrix[: CHIPS // 2]])


@lru_cache(maxsize=1)
def _words() -> NDArray[np.uint8]:
    """[6, 256, 256]: the symbols of every payload, by its two bytes a and b: a + b x for five x of GF(256), and b."""
    every = np.arange(256, dtype=np.uint8)
    products = np.array(
        [[gf_mult_noLUT(b, x, prim=0x11D) for b in range(256)] for x in range(SYMBOLS - 1)], np.uint8
    )
    return np.concatenate([every[:, None] ^ products[:, None, :], np.tile(every, (1, 256, 1))])


@dataclass(frozen=True)
class _Layout:
    """Where chips stand: ``slots`` and ``signs`` [6, 256]; a slot is moment * 24 + band."""

    slots: NDArray[np.int64]
    signs: NDArray[np.float32]


@lru_cache(maxsize=8)
def _layout(key: bytes) -> _Layout:
    count = MOMENTS * BANDS
    # From a hash, not from a generator of NumPy's whose stream may change: marks have to outlive releases.
    stream = hashlib.shake_256(b"crosslight sound mark 1\x00" + key).digest(9 * count)
    slots = np.argsort(np.frombuffer(stream[: 8 * count], ">u8"), kind="stable").reshape(SYMBOLS, CHIPS)
    signs = np.where(np.frombuffer(stream[8 * count :], np.uint8) & 1, 1, -1).astype(np.float32)
    return _Layout(slots, signs.reshape(SYMBOLS, CHIPS))


def _chips(payload: int, key: bytes) -> Cells:
    """[64, 24] of +1 and -1."""
    layout, tile = _layout(key), np.zeros(MOMENTS * BANDS, np.float32)
    tile[layout.slots] = layout.signs * _rows()[_words()[:, payload >> 8, payload & 255]]
    return tile.reshape(MOMENTS, BANDS)


# --- Loudness ---


def _mono(samples: Samples, rate: int) -> Samples:
    """Float32 [n] at 16 kHz."""
    from scipy.signal import resample_poly

    mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)
    if rate == RATE or not len(mono):
        return np.asarray(mono, np.float32)
    common = int(np.gcd(rate, RATE))
    return np.asarray(resample_poly(mono, RATE // common, rate // common), np.float32)


@lru_cache(maxsize=8)
def _bands(rate: int, window: int) -> Cells:
    """[window / 2 + 1, 24]: 1 where a frequency belongs to a band."""
    mel = np.log1p(np.fft.rfftfreq(window, 1 / rate) / 700)
    low, high = np.log1p(np.array([LOW_HZ, HIGH_HZ]) / 700)
    band = np.floor((mel - low) / (high - low) * BANDS)
    return (band[:, None] == np.arange(BANDS)).astype(np.float32)


def _spectra(samples: Samples, window: int, hop: int) -> NDArray[np.complex64]:
    """[frames, window / 2 + 1]; frame i is centred at sample i * hop."""
    padded = np.pad(samples, (window // 2, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: len(samples) // hop + 1]
    return np.asarray(np.fft.rfft(frames * np.hanning(window).astype(np.float32), axis=1), np.complex64)


def _loudness(mono: Samples) -> Cells:
    """[4 * moments, 24] in dB; rows 0, 4, 8… are centred in the moments of a sound that begins with one."""
    cell = round(CELL_S * RATE)
    power = np.abs(_spectra(mono[cell // 2 :], WINDOW, cell // STEPS)) ** 2
    return np.asarray(10 * np.log10(power @ _bands(RATE, WINDOW) + 1e-7), np.float32)


def _stirring(loud: Cells) -> tuple[Cells, Cells]:
    """Loudness without what its surroundings let expect, in what is usual around; and that, in dB."""
    from scipy.ndimage import gaussian_filter1d, uniform_filter

    flat = loud - gaussian_filter1d(loud, WIDE[0] * STEPS, axis=0)
    flat -= gaussian_filter1d(flat, WIDE[1], axis=1)
    usual = np.sqrt(np.maximum(uniform_filter(flat * flat, (AROUND[0] * STEPS, AROUND[1])), 0)) + LEAST_DB
    return flat / usual, usual


# --- Reading ---


def _read(loud: Cells, key: bytes) -> tuple[int, float] | None:
    """The payload that stands out as ``CERTAIN`` asks, and how clearly."""
    layout, tiles = _layout(key), _tiles(np.clip(_stirring(loud)[0], -MOST, MOST))
    length = np.linalg.norm(tiles, axis=1)[:, None, None] + 1e-9
    found = (tiles[:, layout.slots] * layout.signs) @ _rows().T / length
    best: tuple[int, float] | None = None
    # No word can exceed the sum of the best symbols.
    for place in np.flatnonzero(found.max(axis=2).sum(axis=1) >= CERTAIN):
        scores = np.sum([found[place, at][_words()[at]] for at in range(SYMBOLS)], axis=0)
        if scores.max() >= max(CERTAIN, best[1] if best else 0):
            best = int(scores.argmax()), float(scores.max())
    return best


def _tiles(flat: Cells) -> Cells:
    """[256, 1536]: the sum of all tiles, for every place where the first may begin."""
    tiles: list[Cells] = []
    for step in range(STEPS):
        cells = flat[step::STEPS]
        cells = np.pad(cells, ((0, -len(cells) % MOMENTS), (0, 0)))
        tile = cells.reshape(-1, MOMENTS, BANDS).sum(axis=0)
        tiles.extend(np.roll(tile, -place, axis=0).ravel() for place in range(MOMENTS))
    return np.stack(tiles)


# --- Marking ---


def _noise(samples: Samples, payload: int, key: bytes) -> Samples:
    """Float32 [n], the same for the same sound, payload and key."""
    level = max(np.sqrt(np.mean(samples**2)) * 10 ** (NOISE / 20), 10 ** (NOISE_LEAST / 20))
    seed = hashlib.sha256(key + payload.to_bytes(2)).digest()
    drawn = np.random.default_rng(list(seed)).standard_normal(len(samples), np.float32)
    return np.asarray(drawn * level, np.float32)


def _room(
    sound: Samples, noise: Samples, rate: int, payload: int, key: bytes
) -> tuple[Cells, tuple[Cells, Cells], NDArray[np.bool_]]:
    """By moment and band: the chips, how far the sound says them already and in which dB, where there is noise only."""
    loud = _loudness(_mono(sound, rate))
    flat, usual = (part[::STEPS] for part in _stirring(loud))
    signs = _chips(payload, key)[np.arange(len(flat)) % MOMENTS]
    quiet = _loudness(_mono(noise, rate)) + 6 > loud
    return signs, (signs * flat, usual), quiet[::STEPS]


def _louder(sound: Samples, rate: int, change: Cells) -> Samples:
    """The sound [n, channels] with ``change`` (dB by moment and band); where that exceeds full scale, softer."""
    window = 4 * round(rate * CELL_S / 4)
    hop = window // 4
    moment = np.arange(len(sound) // hop + 1) * hop / rate / CELL_S
    factors = 10 ** (change[np.minimum(moment.astype(int), len(change) - 1)] @ _bands(rate, window).T / 20)
    channels = [_filtered(channel, factors, window, hop) for channel in sound.T]
    marked = np.stack(channels, axis=1)
    return np.asarray(marked / max(1.0, float(np.abs(marked).max())), np.float32)


def _filtered(samples: Samples, factors: Cells, window: int, hop: int) -> Samples:
    """Float32 [n]: overlapping windows, each frequency times its factor."""
    shape = np.hanning(window).astype(np.float32)
    pieces = np.fft.irfft(_spectra(samples, window, hop) * factors, window, axis=1) * shape
    total, weight = np.zeros((2, len(samples) + 3 * window), np.float32)
    for at, piece in enumerate(pieces):
        total[at * hop : at * hop + window] += piece
        weight[at * hop : at * hop + window] += shape**2
    return np.asarray(
        (total / np.maximum(weight, 1e-3))[window // 2 : window // 2 + len(samples)], np.float32
    )

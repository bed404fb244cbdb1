"""An invisible mark of 32 bits in pictures, found without the original by whoever holds the key.

Blind spread spectrum: a tile of 128 x 128 pixels is repeated over the luminance. Ten low frequencies of each of its 256
DCT blocks (8 x 8) carry one chip of +1 or -1 each, scattered by the key over ten words of 256 chips: one to find the
tile by, and nine symbols, each a row of a Hadamard matrix. The symbols are 32 bits of payload and 8 of a keyed check,
protected by Reed-Solomon. Textured places carry more than flat ones.

It survives JPEG, halving, usual sizes and cropping (docs/auditing/provenance.md has the table), not rotation,
mirroring, odd sizes after a crop, or somebody who tries to remove it. To detect is a fact about a key, not about truth:
whoever holds the key can mark any picture.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reedsolo import ReedSolomonError, RSCodec

# --- Luminance planes ------------------------------------------------------------------------------------
# Luminance planes, and the small filters that marks are written and read through.


Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]


def luminance(pixels: Pixels) -> Plane:
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def box_filter(plane: Plane, side: int) -> Plane:
    import cv2

    blurred: Any = cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT)
    return blurred


def high_pass(plane: Plane) -> Plane:
    """Without what changes slowly, which is nearly all picture and hardly any mark."""
    return plane - box_filter(box_filter(plane, 7), 7)


def local_deviation(plane: Plane, side: int) -> Plane:
    return safe_sqrt(box_filter(high_pass(plane) ** 2, side))


def safe_sqrt(plane: Plane) -> Plane:
    """Running sums leave a little less than nothing where there is nothing."""
    return np.sqrt(np.maximum(plane, 0))


def jpeg_roundtrip(pixels: Pixels, quality: int) -> Pixels:
    import cv2

    _, content = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: Any = cv2.imdecode(content, cv2.IMREAD_COLOR)
    return np.asarray(decoded, np.uint8)[..., ::-1]


# --- Marks -----------------------------------------------------------------------------------------------


TILE, BLOCK, CHIPS = 128, 8, 256
#: Frequencies (vertical, horizontal) of a block: low enough to outlive halving, high enough to hide.
FREQUENCIES = ((0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (2, 1), (3, 0), (1, 3), (2, 2), (3, 1))
SYMBOLS = len(FREQUENCIES) - 1
#: Four symbols of parity correct two wrong ones. The field is that of QR codes; said here, as marks outlive releases.
CODE = RSCodec(4, fcr=0, prim=0x11D, generator=2)
MIN_SIDE = 128
#: Of a chip, in grey levels of its DCT coefficient: in flat places, per unit of local deviation, at most.
FLOOR, SLOPE, CEILING = 2.0, 0.3, 9.0
#: Longest sides that pictures are commonly scaled to; a scaled picture is tried at each, as it may have been before.
SIDES = (256, 384, 512, 640, 768, 1024, 1280, 1536, 1920)
#: What screens and browsers enlarge by: screenshots are undone by these.
SCREENS = (1.25, 1.5)
#: So many scales come first and are likely: as it came, twice, half.
LIKELY = 3
#: Deviations above the other places of the tile: from ``SEEN`` on a place is read, and believed if at most one symbol
#: had to be corrected; from ``CLEAR`` on, two. Chance then passes less than one picture in a million (computed).
SEEN, CLEAR, PLACES = 3.5, 5.5, 6
#: Where the picture drowns the mark, it is made stronger until, after JPEG 50, it still stands out by so much.
GAINS, WANTED = (1.0, 1.25, 1.5, 2.0), 8.5
#: At sizes that are only guessed: chance reaches it at one size in twenty.
SEEN_GUESSED = 4.5
#: Pixels of a side that are searched for the tile, and that are read once it is found.
SEARCHED, READ = 512, 1024


@dataclass(frozen=True)
class Mark:
    """``payload``: 0 to 2³²-1. ``scale``: what the picture was enlarged by to read it. ``wrong``: symbols corrected
    (0 to 2). ``seen``: how clearly the tile stood out, in deviations. ``frames``: in how many at once it was read."""

    payload: int
    scale: float
    wrong: int
    seen: float
    frames: int = 1


def embed(pixels: Pixels, payload: int, key: bytes, *, gain: float | None = None) -> Pixels:
    """A copy of uint8 [h, w, 3] with the mark. Raises ValueError for sides under ``MIN_SIDE`` and longer payloads.

    ``gain``: how strong, unchecked: for frames, whose encoder decides what is left. By default as little as outlives
    JPEG 50, at least 1.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"{width} x {height} pixels; a mark needs {MIN_SIDE} on each side.")
    if not 0 <= payload < 1 << 32:
        raise ValueError("The payload is 32 bits.")
    tile = _tile(_chips(_word(payload, key)), key)
    whole = np.tile(tile, (-(-height // TILE), -(-width // TILE)))[:height, :width]
    change = (whole * _strength(luminance(pixels)))[..., None]
    marked = pixels
    for strength in (gain,) if gain else GAINS:
        marked = np.clip(np.rint(pixels + strength * change), 0, 255).astype(np.uint8)
        if gain:
            break
        found = detect(jpeg_roundtrip(marked, 50), key)
        if found and found.payload == payload and found.seen >= WANTED and not found.wrong:
            break
    return marked


def detect(pixels: Pixels, key: bytes, original: tuple[int, int] | None = None) -> Mark | None:
    """The mark in uint8 [h, w, 3]. ``original``: width and height before somebody reduced it to ``pixels``."""
    return next(iter(detect_frames([pixels], key, original)), None)


def detect_frames(
    frames: Sequence[Pixels], key: bytes, original: tuple[int, int] | None = None
) -> list[Mark]:
    """The marks in frames of one film, each uint8 [h, w, 3]: of every frame that shows its own.

    Where none does, the frames of the first one's size are looked at together, which gives one mark or none: a film
    carries the same tile at the same place in all of them, so that it adds up and the picture, which moves, does not.
    Each frame alone comes first, as a cut joins films with different marks, and as one key frame may hold more than all
    others. What chance may do with a picture it may do with each frame, and once with all of them.
    """
    seen = [_Frame(luminance(pixels)) for pixels in frames if min(pixels.shape[:2]) >= 2]
    alone = [mark for frame in seen if (mark := _found([frame], key, original))]
    alike = [frame for frame in seen if frame.plane.shape == seen[0].plane.shape]
    if alone or len(alike) < 2:
        return alone
    together = _found(alike, key, original)
    return [together] if together else []


@dataclass(frozen=True)
class _Frame:
    """A picture that may be looked at twice, alone and among others: folding it is four fifths of a look."""

    plane: Plane
    kept: dict[tuple[float, int], Plane] = field(default_factory=dict)

    def folded(self, scale: float, most: int) -> Plane:
        if (scale, most) not in self.kept:
            self.kept[scale, most] = _folded(self.plane, scale, most)
        return self.kept[scale, most]


def _found(frames: Sequence[_Frame], key: bytes, original: tuple[int, int] | None) -> Mark | None:
    """The mark that frames of one size carry together, at the likeliest size at which it is seen."""
    height, width = frames[0].plane.shape
    for at, scale in enumerate(_scales(width, height, original)):
        if mark := _look(frames, scale, key, SEEN if at < LIKELY else SEEN_GUESSED):
            return mark
    return None


def _look(frames: Sequence[_Frame], scale: float, key: bytes, least: float) -> Mark | None:
    """The mark in the frames, enlarged by ``scale`` and laid over each other."""
    searched = _summed(frames, scale, SEARCHED)
    tile: Plane | None = None
    for seen, place in _places(searched, key, least):
        if tile is None:
            fits = max(frames[0].plane.shape) * scale <= SEARCHED
            tile = _tile_of(searched if fits else _summed(frames, scale, READ))
        found = _read(tile, place, key)
        if found and (found[1] < 2 or seen >= CLEAR):
            return Mark(found[0], round(scale, 4), found[1], round(seen, 2), len(frames))
    return None


def _summed(frames: Sequence[_Frame], scale: float, most: int) -> Plane:
    # Not averaged: what looks for the tile divides by the energy around each frequency, so that only shares count.
    return np.sum([frame.folded(scale, most) for frame in frames], axis=0, dtype=np.float32)


# --- The code ---


def _word(payload: int, key: bytes) -> list[int]:
    data = payload.to_bytes(4)
    return list(CODE.encode(bytes([_check(data, key), *data])))


def _check(data: bytes, key: bytes) -> int:
    return hmac.new(key, b"check" + data, hashlib.sha256).digest()[0]


def _decode(word: list[int], key: bytes) -> tuple[int, int] | None:
    """The payload of a word and how many of its symbols were wrong; None beyond two, or with another key."""
    try:
        decoded, _, places = CODE.decode(bytes(word))
    except ReedSolomonError:
        return None
    check, data = decoded[0], bytes(decoded[1:])
    return (int.from_bytes(data), len(places)) if check == _check(data, key) else None


@lru_cache(maxsize=1)
def _hadamard() -> NDArray[np.int8]:
    matrix = np.ones((1, 1), np.int8)
    while len(matrix) < CHIPS:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def _chips(word: list[int]) -> NDArray[np.int8]:
    """int8 [10, 256]: the word to find the tile by (all ones), then the symbols."""
    return np.concatenate([np.ones((1, CHIPS), np.int8), _hadamard()[word]])


@dataclass(frozen=True)
class _Layout:
    """Where chips stand. ``slots`` and ``signs``: [10, 256]; a slot is block * 10 + frequency."""

    slots: NDArray[np.int64]
    signs: NDArray[np.int8]
    sync: NDArray[np.complex64]


@lru_cache(maxsize=8)
def _layout(key: bytes) -> _Layout:
    count = len(FREQUENCIES) * CHIPS
    # From a hash, not from a generator of NumPy's whose stream may change: marks have to outlive releases.
    stream = hashlib.shake_256(b"crosslight picture mark 1\x00" + key).digest(9 * count)
    slots = np.argsort(np.frombuffer(stream[: 8 * count], ">u8"), kind="stable").reshape(-1, CHIPS)
    signs = np.where(np.frombuffer(stream[8 * count :], np.uint8) & 1, 1, -1).astype(np.int8)
    signs = signs.reshape(-1, CHIPS)
    coefficients = np.zeros(count, np.float32)
    coefficients[slots[0]] = signs[0]
    sync = np.fft.rfft2(high_pass(_spatial(coefficients)))
    return _Layout(slots, signs, np.conj(sync).astype(np.complex64))


def _tile(chips: NDArray[np.int8], key: bytes) -> Plane:
    layout = _layout(key)
    coefficients = np.zeros(chips.size, np.float32)
    coefficients[layout.slots.ravel()] = (chips * layout.signs).ravel()
    return _spatial(coefficients)


@lru_cache(maxsize=1)
def _basis() -> Plane:
    """The DCT's basis pictures of the frequencies: float32 [10, 8, 8], each of norm 1."""
    places = np.arange(BLOCK)
    waves = np.stack([np.cos((2 * places + 1) * f * np.pi / (2 * BLOCK)) for f in range(BLOCK)])
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    return np.stack([np.outer(waves[v], waves[h]) for v, h in FREQUENCIES]).astype(np.float32)


def _spatial(coefficients: Plane) -> Plane:
    """[2560] coefficients as pixels [128, 128]."""
    side = TILE // BLOCK
    blocks = np.tensordot(coefficients.reshape(side, side, -1), _basis(), axes=1)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)).reshape(TILE, TILE)


def _coefficients(tile: Plane) -> Plane:
    side = TILE // BLOCK
    blocks = tile.reshape(side, BLOCK, side, BLOCK).transpose(0, 2, 1, 3)
    return np.tensordot(blocks, _basis(), axes=((2, 3), (1, 2))).ravel()


# --- Pictures ---


def _strength(plane: Plane) -> Plane:
    return np.clip(FLOOR + SLOPE * local_deviation(plane, 9), FLOOR, CEILING)


def _scales(width: int, height: int, original: tuple[int, int] | None) -> Iterator[float]:
    """What to enlarge by: as it came, twice, half, then to each usual longest side. The likeliest first."""
    longest = max(width, height)
    came = max(original) / longest if original and max(original) > longest else 1.0
    wanted = [came, 2 * came, came / 2, *(came / by for by in SCREENS), *(side / longest for side in SIDES)]
    done: list[float] = []
    for scale in wanted:
        fits = 0.3 <= scale <= 4 and min(width, height) * scale >= MIN_SIDE * 0.8
        if fits and all(abs(scale / other - 1) > 1e-3 for other in done):
            done.append(scale)
            yield scale


def _folded(plane: Plane, scale: float, most: int) -> Plane:
    """The middle of the enlarged picture, whitened and averaged over the tiles in it: float32 [128, 128].

    Place (0, 0) of the result is the upper left corner of the enlarged picture, modulo the tile.
    """
    import cv2

    height, width = (round(side * scale) for side in plane.shape)
    top, left = (max(0, (side - most) // 2 // TILE * TILE) for side in (height, width))
    piece: Any = plane
    if scale != 1:
        # The part that is needed, enlarged so that its pixels lie where those of the whole would.
        matrix = np.array(
            [[1 / scale, 0, (left + 0.5) / scale - 0.5], [0, 1 / scale, (top + 0.5) / scale - 0.5]]
        )
        size = (min(most, width - left), min(most, height - top))
        source = plane if scale >= 1 else box_filter(plane, max(1, round(1 / scale)))
        piece = cv2.warpAffine(
            source,
            matrix,
            size,
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
    else:
        piece = plane[top : top + most, left : left + most]
    flat = high_pass(piece)
    # Where there is much picture there is little certainty; single edges must not outshout everything.
    flat = np.clip(flat / (safe_sqrt(box_filter(flat * flat, 17)) + 2.0), -2.5, 2.5)
    rows, columns = (-(-side // TILE) * TILE for side in flat.shape)
    padded = np.zeros((rows, columns), np.float32)
    padded[: flat.shape[0], : flat.shape[1]] = flat
    return padded.reshape(rows // TILE, TILE, columns // TILE, TILE).sum(axis=(0, 2))


def _whitened(tile: Plane, power: float, side: int) -> NDArray[Any]:
    """Frequencies divided by a power of their neighbourhood's energy, so that none of them outshouts the rest.

    Returned as a spectrum [128, 65].
    """
    spectrum = np.fft.rfft2(tile)
    energy = box_filter((np.abs(spectrum) ** 2).astype(np.float32), side)
    return spectrum / (np.maximum(energy, 0) + 1e-6) ** power


def _places(folded: Plane, key: bytes, least: float) -> Iterator[tuple[float, tuple[int, int]]]:
    """Where the tile may begin, the clearest first, at most ``PLACES``."""
    response = np.fft.irfft2(_whitened(folded, 0.5, 9) * _layout(key).sync, s=(TILE, TILE))
    response = (response - response.mean()) / (response.std() + 1e-9)
    best = np.argpartition(response, -PLACES, axis=None)[-PLACES:]
    for flat in sorted(best, key=lambda place: -response.flat[place]):
        if (seen := float(response.flat[flat])) >= least:
            yield seen, divmod(int(flat), TILE)


def _tile_of(folded: Plane) -> Plane:
    return np.fft.irfft2(_whitened(folded, 0.25, 7), s=(TILE, TILE)).astype(np.float32)


def _read(tile: Plane, at: tuple[int, int], key: bytes) -> tuple[int, int] | None:
    layout = _layout(key)
    chips = _coefficients(np.roll(tile, (-at[0], -at[1]), axis=(0, 1)))[layout.slots[1:]] * layout.signs[1:]
    word = (chips @ _hadamard().T.astype(np.float32)).argmax(axis=1)
    return _decode([int(symbol) for symbol in word], key)

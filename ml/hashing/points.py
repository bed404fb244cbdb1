"""Points of a picture that are found again in its copies, also cropped, turned a little, mirrored or captioned.

Corners (FAST on a pyramid, as in ORB: Rublee et al. 2011) with 256 comparisons of brightness around each, turned by the
corner's own direction. The comparisons are closed under mirroring (the second half mirrors the first), so that the
points of the mirrored picture follow from the points: one set serves both. Two pictures are told to be copies when many
points lie as one turn, scale and shift of the whole picture would put them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Grey = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

MOST = 128
#: x and y as 255ths of the longest side, direction as 256ths of a turn, then 32 bytes of comparisons.
POINT_BYTES = 35

#: So many points that agree make a copy, if they are this share of those that are most alike: other photos of the same
#: place share points too, copies share nearly all. Measured in docs/auditing/known-content.md.
AGREEING, SHARE = 12, 0.55

_SIDE, _GROWTH, _LEVELS, _SCALE = 384, 2.0, 8, 1.2
_EDGE, _FAST, _CELLS, _TOGETHER = 20, 7, 4, 4
#: How far an agreeing point may lie off, in longest sides, and how far its direction.
_NEAR, _ALIGNED = 0.02, math.cos(0.35)
_HYPOTHESES, _PAIRED, _BEST = 400, 40, 100


def _pattern() -> NDArray[np.float64]:
    """256 pairs of places (x1, y1, x2, y2) around a point, normal about it; the second 128 mirror the first."""
    half = np.random.default_rng(7).normal(0, 31 / 5, (128, 4))
    half = np.clip(np.round(half), -13, 13)
    return np.concatenate([half, half * [1, -1, 1, -1]])


_PATTERN = _pattern()


def extract_keypoints(pixels: Pixels) -> bytes:
    """At most ``MOST`` points of a picture (uint8 [h, w, 3]), ``POINT_BYTES`` each; the clearest of each part first."""
    import cv2

    grey = _prepared(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8))
    if min(grey.shape) <= 2 * _EDGE:
        return b""
    detector = cv2.ORB.create(
        nfeatures=4 * MOST, scaleFactor=_SCALE, nlevels=_LEVELS, edgeThreshold=_EDGE, fastThreshold=_FAST
    )
    found = detector.detect(grey)
    if not found:
        return b""
    table = np.array(
        [(one.pt[0], one.pt[1], math.radians(one.angle), one.octave, one.response) for one in found]
    )
    table = table[_spread(table, grey.shape)]
    return _packed(table, _comparisons(grey, table), max(grey.shape))


def _prepared(grey: Grey) -> Grey:
    """The picture with a longest side of 384 pixels, enlarged at most twice."""
    import cv2

    factor = min(_SIDE / max(grey.shape), _GROWTH)
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(grey, size, interpolation=how), np.uint8)


def _spread(table: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Which points to keep: in turns the clearest of each of 16 parts, so that a caption does not take them all."""
    side = np.array([shape[1], shape[0]]) / _CELLS
    cell = np.minimum(table[:, :2] // side, _CELLS - 1) @ [1, _CELLS]
    clearest = np.lexsort((-table[:, 4], cell))
    starts = np.searchsorted(cell[clearest], cell[clearest])
    turn = np.empty(len(table), np.intp)
    turn[clearest] = (np.arange(len(table)) - starts) // _TOGETHER
    return np.lexsort((-table[:, 4], turn))[:MOST]


def _comparisons(grey: Grey, table: NDArray[np.float64]) -> NDArray[np.bool_]:
    """256 comparisons for each point, on its level of the pyramid: bool [n, 256]."""
    import cv2

    bits = np.zeros((len(table), len(_PATTERN)), np.bool_)
    for octave in np.unique(table[:, 3]):
        here, scale = table[:, 3] == octave, _SCALE**octave
        size = (max(1, round(grey.shape[1] / scale)), max(1, round(grey.shape[0] / scale)))
        level = cv2.GaussianBlur(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR), (7, 7), 2)
        at = _Places(np.asarray(level), table[here, 0] / scale, table[here, 1] / scale, table[here, 2])
        bits[here] = at.values(_PATTERN[:, 0], _PATTERN[:, 1]) < at.values(_PATTERN[:, 2], _PATTERN[:, 3])
    return bits


class _Places:
    """Brightness at places around points, in each point's own direction."""

    def __init__(self, level: Grey, x: NDArray, y: NDArray, angle: NDArray) -> None:
        self._level, self._x, self._y = level, x[:, None], y[:, None]
        self._cos, self._sin = np.cos(angle)[:, None], np.sin(angle)[:, None]

    def values(self, across: NDArray, along: NDArray) -> Grey:
        x = np.rint(self._x + self._cos * across - self._sin * along).astype(int)
        y = np.rint(self._y + self._sin * across + self._cos * along).astype(int)
        height, width = self._level.shape
        return self._level[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]


def _packed(table: NDArray[np.float64], bits: NDArray[np.bool_], longest: int) -> bytes:
    packed = np.empty((len(table), POINT_BYTES), np.uint8)
    packed[:, :2] = np.clip(np.rint(table[:, :2] / longest * 255), 0, 255)
    packed[:, 2] = np.rint(table[:, 2] / (2 * math.pi) * 256).astype(int) % 256
    packed[:, 3:] = np.packbits(bits, axis=1)
    return packed.tobytes()


# --- Whether two pictures are copies of each other ---


class Keypoints:
    """Unpacked: ``at`` complex [n] in longest sides, ``angle`` [n] in radians, ``signs`` [n, 256], each 1 or -1.

    Raises ValueError for bytes that are no points.
    """

    def __init__(self, packed: bytes) -> None:
        if len(packed) % POINT_BYTES or len(packed) > MOST * POINT_BYTES:
            raise ValueError("these bytes are no points of a picture")
        table = np.frombuffer(packed, np.uint8).reshape(-1, POINT_BYTES)
        self.at: NDArray[Any] = ((table[:, 0] + 1j * table[:, 1]) / 255).astype(np.complex64)
        self.angle: Floats = table[:, 2] * np.float32(2 * math.pi / 256)
        self.signs = np.unpackbits(table[:, 3:], axis=1).astype(np.float32) * 2 - 1

    def mirrored(self) -> Keypoints:
        """Of the picture mirrored left to right: the halves of the comparisons change places."""
        other = Keypoints(b"")
        other.at, other.angle = -self.at.conjugate(), math.pi - self.angle
        other.signs = np.roll(self.signs, len(_PATTERN) // 2, axis=1)
        return other


@dataclass(frozen=True)
class KeypointMatch:
    """``agreeing`` of the ``pairs`` of points that are most alike lie as one movement of the picture puts them."""

    agreeing: int
    pairs: int

    @property
    def copy(self) -> bool:
        return self.agreeing >= AGREEING and self.agreeing >= SHARE * self.pairs


def match_keypoints(one: Keypoints, other: Keypoints) -> KeypointMatch:
    """How well one picture lies in the other, or in its mirror image."""
    straight = _agreement(one, other)
    if straight.copy:
        return straight
    mirrored = _agreement(one, other.mirrored())
    return max(straight, mirrored, key=lambda found: found.agreeing)


def _agreement(one: Keypoints, other: Keypoints) -> KeypointMatch:
    mine, theirs = _pairs(one, other)
    return KeypointMatch(_most_explained(one, other, mine, theirs), len(mine))


def _pairs(one: Keypoints, other: Keypoints) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The points of both that are each other's most alike, most alike first."""
    if not len(one.signs) or not len(other.signs):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    # Of 256 signs, how many more agree than do not: whole numbers, which single precision keeps.
    alike = one.signs @ other.signs.T
    nearest = alike.argmax(axis=1)
    mine = np.flatnonzero(alike.argmax(axis=0)[nearest] == np.arange(len(nearest)))
    best = mine[np.argsort(-alike[mine, nearest[mine]], kind="stable")[:_BEST]]
    return best, nearest[best]


def _most_explained(
    one: Keypoints, other: Keypoints, mine: NDArray[np.intp], theirs: NDArray[np.intp]
) -> int:
    """Of the movements that two pairs suggest, the most pairs that one explains: a * p + b in complex numbers."""
    if len(mine) < AGREEING:
        return 0
    p, q = one.at[mine], other.at[theirs]
    first, second = np.triu_indices(min(len(mine), _PAIRED), 1)
    apart = p[first] - p[second]
    wide = np.abs(apart) > 0.05
    first, turn = first[wide], (q[first] - q[second])[wide] / apart[wide]
    fit = (np.abs(turn) > 0.4) & (np.abs(turn) < 2.5)
    first, turn = _some(first[fit]), _some(turn[fit])
    shift = q[first] - turn * p[first]
    off = turn[:, None] * p + (shift[:, None] - q)
    near = off.real**2 + off.imag**2 < _NEAR**2
    # How far each pair's own directions say that the picture was turned.
    directions = other.angle[theirs] - one.angle[mine]
    towards = np.angle(turn)
    aligned = np.outer(np.cos(towards), np.cos(directions)) + np.outer(np.sin(towards), np.sin(directions))
    return int((near & (aligned > _ALIGNED)).sum(axis=1).max(initial=0))


def _some(values: NDArray) -> NDArray:
    """At most 400 of them, evenly."""
    return values[:: max(1, math.ceil(len(values) / _HYPOTHESES))]

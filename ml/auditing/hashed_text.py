"""Texts as hashed n-grams, and linear models over them that ship as plain arrays: NumPy only.

Hashing keeps no vocabulary: the weights hold no user name, and no rare word of anybody's post (Weinberger et al. 2009,
arXiv:0902.2206).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 18
BUCKETS = 1 << BITS
#: Odd, from splitmix and FNV: which ones does not matter, only that they stay the same.
_STEP = np.uint32(0x01000193)
_MIX = np.uint32(0x9E3779B1)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Grams:
    """The n-grams of a text: ``buckets`` int64 [n]; each covers the characters ``starts`` to ``ends`` of it."""

    buckets: NDArray[np.int64]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


def clean(text: str) -> str:
    """Lower case; names of users, addresses and digits as placeholders. Every character stays in its place."""
    text = _ADDRESS.sub(lambda found: "\x01" * len(found.group()), _lower(text))
    return _DIGIT.sub("0", _USER.sub(lambda found: "\x02" * len(found.group()), text))


def grams(text: str, words: int, characters: tuple[int, int]) -> Grams:
    """n-grams of up to ``words`` words, and of ``characters`` from to, of a cleaned text.

    White space counts as one space, a placeholder as one character.
    """
    codes, places = _codes(text)
    parts = [_character_grams(codes, places, n) for n in range(characters[0], characters[1] + 1)]
    if words:
        parts.append(_word_grams(text, words))
    return Grams(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class LinearModel:
    """``weights`` float16 [heads, BUCKETS], ``idf`` float16 [BUCKETS], ``bias`` float32 [heads]; logits before Platt.

    A bucket's value is (1 + log count) · idf, the vector has norm 1.
    """

    weights: NDArray[np.float16]
    idf: NDArray[np.float16]
    bias: Floats
    words: int
    characters: tuple[int, int]

    def vector(self, text: str) -> tuple[NDArray[np.int64], Floats]:
        """The buckets of a cleaned text, sorted, and their values: float32 of norm 1."""
        return tf_idf(grams(text, self.words, self.characters).buckets, self.idf)

    def logits(self, text: str) -> Floats:
        """float32 [heads] of a cleaned text."""
        buckets, values = self.vector(text)
        return self.weights[:, buckets].astype(np.float32) @ values + self.bias

    def shares(self, text: str, head: int) -> Floats:
        """What each character of a cleaned text adds to a head's logit: float32 [len(text)]."""
        found = grams(text, self.words, self.characters)
        buckets, values = tf_idf(found.buckets, self.idf)
        if not text or not len(buckets):
            return np.zeros(len(text), np.float32)
        each = values * self.weights[head, buckets].astype(np.float32)
        at = np.searchsorted(buckets, found.buckets)
        counts = np.bincount(at, minlength=len(buckets))
        lengths = np.maximum(found.ends - found.starts, 1)
        per_character = each[at] / counts[at] / lengths
        steps = np.zeros(len(text) + 1, np.float64)
        np.add.at(steps, found.starts, per_character)
        np.add.at(steps, found.ends, -per_character)
        return np.cumsum(steps[:-1]).astype(np.float32)


def tf_idf(buckets: NDArray[np.int64], idf: NDArray[np.float16]) -> tuple[NDArray[np.int64], Floats]:
    """Distinct buckets and their values, scaled to norm 1; an empty text stays empty."""
    distinct, counts = np.unique(buckets, return_counts=True)
    values = (1 + np.log(counts)).astype(np.float32) * idf[distinct].astype(np.float32)
    norm = float(np.sqrt(values @ values))
    return distinct, values / norm if norm else values


def _codes(text: str) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Code points with single spaces, one at each end, and the place of each in the text."""
    codes = np.frombuffer(f" {text} ".encode("utf-32-le", "replace"), np.uint32)
    codes = np.where(codes == 10, np.uint32(32), codes)
    repeated = (codes[1:] == codes[:-1]) & np.isin(codes[1:], (32, 1, 2))
    kept = np.flatnonzero(~np.concatenate([[False], repeated]))
    return codes[kept], np.clip(kept - 1, 0, max(len(text) - 1, 0)).astype(np.int32)


def _character_grams(
    codes: NDArray[np.uint32], places: NDArray[np.int32], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    count = max(len(codes) - n + 1, 0)
    mixed = np.full(count, n, np.uint32)
    for at in range(n):
        mixed = (mixed ^ codes[at : at + count]) * _STEP
        mixed ^= mixed >> np.uint32(15)
    buckets = (mixed * _MIX) >> np.uint32(32 - BITS)
    return buckets.astype(np.int64), places[:count], places[n - 1 : n - 1 + count] + 1


def _word_grams(text: str, most: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    words = [(found.group().encode(), *found.span()) for found in _WORD.finditer(text)]
    buckets, starts, ends = [], [], []
    for n in range(1, most + 1):
        for at in range(len(words) - n + 1):
            hashed = n
            for word, _, _ in words[at : at + n]:
                hashed = zlib.crc32(word, hashed)
            buckets.append(hashed >> (32 - BITS))
            starts.append(words[at][1])
            ends.append(words[at + n - 1][2])
    return np.array(buckets, np.int64), np.array(starts, np.int32), np.array(ends, np.int32)


def _lower(text: str) -> str:
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(each.lower()[:1] or each for each in text)


_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s\u3000-\u9fff]+")
_USER = re.compile(r"(?<![a-z0-9_.])@[a-z0-9_]+")
_DIGIT = re.compile(r"[0-9]")
_WORD = re.compile(r"[^\W_]+|\x01+|\x02+|[^\w\s]")

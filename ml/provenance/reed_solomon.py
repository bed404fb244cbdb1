"""Reed-Solomon over GF(256), for short words: ``PARITY`` symbols correct two wrong ones.

The field is that of QR codes (x^8 + x^4 + x^3 + x^2 + 1, generator 2). Source: Reed and Solomon 1960; decoding after
Peterson, Gorenstein and Zierler.
"""

from __future__ import annotations

from collections.abc import Sequence

PARITY = 4

_EXP = [1] * 512
for _at in range(1, 512):
    _EXP[_at] = _EXP[_at - 1] << 1 ^ (0x11D if _EXP[_at - 1] & 0x80 else 0)
_LOG = {_EXP[_at]: _at for _at in range(255)}


def encode(data: Sequence[int]) -> list[int]:
    """``data`` (0 to 255 each) and its parity symbols."""
    generator = [1]
    for power in range(PARITY):
        shifted = [*generator, 0]
        for at, factor in enumerate(generator):
            shifted[at + 1] ^= times(factor, _EXP[power])
        generator = shifted
    rest = [*data, *[0] * PARITY]
    for at in range(len(data)):
        lead = rest[at]
        for offset, factor in enumerate(generator):
            rest[at + offset] ^= times(factor, lead)
    return [*data, *rest[len(data) :]]


def decode(word: Sequence[int]) -> tuple[list[int], int] | None:
    """The data of a word with at most two wrong symbols and how many were wrong; None for others."""
    word = list(word)
    syndromes = _syndromes(word)
    if not any(syndromes):
        return word[:-PARITY], 0
    for places in _locate(syndromes, len(word)):
        fixed = _fix(word, syndromes, places)
        if fixed is not None and not any(_syndromes(fixed)):
            return fixed[:-PARITY], len(places)
    return None


def times(a: int, b: int) -> int:
    return _EXP[_LOG[a] + _LOG[b]] if a and b else 0


def _over(a: int, b: int) -> int:
    return _EXP[(_LOG[a] - _LOG[b]) % 255] if a else 0


def _syndromes(word: Sequence[int]) -> list[int]:
    values = []
    for power in range(PARITY):
        value = 0
        for symbol in word:
            value = times(value, _EXP[power]) ^ symbol
        values.append(value)
    return values


def _locate(syndromes: Sequence[int], length: int) -> list[list[int]]:
    """Which symbols, by power of x, may be wrong: one that explains all syndromes, or two."""
    s0, s1, s2, s3 = syndromes
    found = []
    if s0 and s1:
        found.append([_LOG[_over(s1, s0)]])
    determinant = times(s0, s2) ^ times(s1, s1)
    if determinant:
        first = _over(times(s0, s3) ^ times(s1, s2), determinant)
        second = _over(times(s1, s3) ^ times(s2, s2), determinant)
        roots = [
            at for at in range(length) if times(_EXP[at], _EXP[at]) ^ times(first, _EXP[at]) ^ second == 0
        ]
        if len(roots) == 2:
            found.append(roots)
    return [places for places in found if max(places) < length]


def _fix(word: Sequence[int], syndromes: Sequence[int], places: Sequence[int]) -> list[int] | None:
    fixed = list(word)
    if len(places) == 1:
        errors = [syndromes[0]]
    else:
        a, b = (_EXP[place] for place in places)
        if a == b:
            return None
        second = _over(times(syndromes[0], a) ^ syndromes[1], a ^ b)
        errors = [syndromes[0] ^ second, second]
    for place, error in zip(places, errors, strict=True):
        fixed[len(word) - 1 - place] ^= error
    return fixed

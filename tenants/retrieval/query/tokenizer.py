"""A text as the words that the lexical index keeps. Texts and queries go through the same steps.

Words are lower-cased and rid of accents; English plurals become singular (what stemmers conflate beyond that, the
vectors find as well); Chinese is cut by jieba's dictionary; kana, Thai, Lao, Khmer and Burmese, which write no spaces
either, become pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import rjieba

from ml.normalization import MAX_MARKS, normalize

MAX_CHARACTERS = 20_000
MAX_WORDS = 2_000
MAX_WORD = 40

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = "\u3041-\u3096\u30a1-\u30ff\u31f0-\u31ff\u0e01-\u0e4e\u0e80-\u0ece\u1000-\u109f\u1780-\u17d3"
# Signs that belong to the letters before them, which \w leaves out.
_SIGNS = "\u0591-\u05c7\u064b-\u065f\u0670\u0900-\u0963\u0970-\u0dff"
_RUNS = re.compile(rf"([{_HAN}]+)|([{_UNSPACED}]+)|((?:(?![{_HAN}{_UNSPACED}])[^\W_]|[{_SIGNS}])+)")
_ASCII_RUNS = re.compile("[a-z0-9]+")
_HAN_ONLY = re.compile(f"[{_HAN}]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_JOINING = frozenset(chr(code) for code in (*range(0x1160, 0x1200), 0xFF9E, 0xFF9F, *range(0xFFA0, 0xFFDD)))

# In nearly every English or Chinese text, so they tell none apart.
_STOP = (
    "a an and are as at be been but by for from had has have if in into is it its no not of on or such that the their "
    "then there these they this to was were which will with 的 了 是 在 和 也 就 与 及 或"
)
STOP_WORDS = frozenset(_STOP.split())


def tokens(text: str) -> list[str]:
    """The words of a text in order, as they are indexed: at most MAX_WORDS of its first MAX_CHARACTERS."""
    found: list[str] = []
    for word in _words(text[:MAX_CHARACTERS]):
        if word not in STOP_WORDS:
            found.append(word)
            if len(found) == MAX_WORDS:
                break
    return found


def located(text: str) -> Iterator[tuple[str, int, int]]:
    """The words of a text's first MAX_CHARACTERS, each with where it stands: text[start:end]. May overlap."""
    folded, places = _folded(text[:MAX_CHARACTERS])
    for match in _RUNS.finditer(folded):
        for word, start, end in _parts(match):
            at = match.start()
            yield word, places[at + start][0], places[at + end - 1][1]


def folded(text: str) -> str:
    """The text's first MAX_CHARACTERS as words are compared in it: to see quickly whether one can be there at all."""
    return _plain(text[:MAX_CHARACTERS])


def is_han(word: str) -> bool:
    """Whether a word consists of Chinese characters."""
    return not word.isascii() and _HAN_ONLY.fullmatch(word) is not None


def _words(text: str) -> Iterator[str]:
    if text.isascii():
        for run in _ASCII_RUNS.findall(text.lower()):
            yield _singular(run[:MAX_WORD])
        return
    for han, unspaced, run in _RUNS.findall(_plain(text)):
        if run:
            yield _singular(run[:MAX_WORD])
        elif han:
            yield from (word[:MAX_WORD] for word in rjieba.cut_for_search(han))
        else:
            yield from _pairs(unspaced)


def _plain(text: str) -> str:
    """Compatibility forms, case and accents folded away; Korean syllables and voiced kana stay whole."""
    folded = normalize("NFKD", normalize("NFKC", text).casefold())
    return normalize("NFKC", _ACCENTS.sub("", folded))


def _parts(match: re.Match[str]) -> Iterator[tuple[str, int, int]]:
    """The words of one run, with their places in it."""
    run = match.group()
    if match.group(3):
        yield _singular(run[:MAX_WORD]), 0, len(run)
    elif match.group(1):
        yield from ((word[:MAX_WORD], start, end) for word, start, end in rjieba.tokenize(run, "search"))
    else:
        yield from ((pair, at, at + len(pair)) for at, pair in enumerate(_pairs(run)))


def _folded(text: str) -> tuple[str, list[tuple[int, int]]]:
    """What `_plain` makes of a text, and for each of its characters where the ones behind it begin and end."""
    kept, places = [], []
    for start, end in _clusters(text):
        plain = _plain_cluster(text[start : min(end, start + 1 + MAX_MARKS)])
        kept.append(plain)
        places += [(start, end)] * len(plain)
    return "".join(kept), places


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Each character with those that may join it when a text is normalised."""
    start = 0
    for at in range(1, len(text)):
        if not _joins(text[at]):
            yield start, at
            start = at
    if text:
        yield start, len(text)


@lru_cache(maxsize=20_000)
def _joins(character: str) -> bool:
    """Marks, the later letters of a Korean syllable, and the voicing marks of half-width kana."""
    return character in _JOINING or unicodedata.category(character)[0] == "M"


@lru_cache(maxsize=20_000)
def _plain_cluster(cluster: str) -> str:
    return _plain(cluster)


def _pairs(run: str) -> Iterator[str]:
    yield from (run[at : at + 2] for at in range(max(1, len(run) - 1)))


@lru_cache(maxsize=20_000)
def _singular(word: str) -> str:
    """English plurals, in the manner of Harman's S-stemmer (How effective is suffixing?, JASIS 1991)."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")) or (word.endswith("oes") and len(word) > 5):
        return word[:-2]
    return word[:-1]

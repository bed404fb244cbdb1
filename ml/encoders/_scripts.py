"""Which parts of a text are Chinese. By script alone: no statistics, nothing to load."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ml.normalization import normalize

#: A Chinese character says about as much as this many letters or digits.
HAN_WEIGHT = 3

_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_HAS_HAN = re.compile(rf"[\u2e80-\u2fdf\uf900-\ufaff{_HAN}]")
#: Kana and Hangul: their languages use Chinese characters, too, and mean other things by them.
_NEIGHBOUR = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\uac00-\ud7af]")
_RUN = re.compile(rf"[{_HAN}]+")
#: 2个苹果: a single digit beside a character is a numeral of the Chinese text.
_DIGIT = re.compile(rf"(?<![\d.])\d(?=\s?[{_HAN}])|(?<=[{_HAN}])\d(?![\d.])")
_NUMERALS = str.maketrans("0123456789", "零一二三四五六七八九")


@dataclass(frozen=True)
class Parts:
    """A text by language. ``share``: how much of what is said is Chinese, above 0 and up to 1."""

    runs: tuple[str, ...]  #: of Chinese characters
    rest: str  #: what is in other letters, empty where there is none
    share: float


def chinese_parts(text: str) -> Parts | None:
    """The parts of a text that has Chinese in it, full-width forms made plain; None where there is none.

    Kana or Hangul beside less than five times as many Chinese characters make a text Japanese or Korean: None.
    """
    if text.isascii() or not _HAS_HAN.search(text):
        return None
    plain = normalize("NFKC", text)
    plain = _DIGIT.sub(lambda digit: digit[0].translate(_NUMERALS), plain)
    runs = _RUN.findall(plain)
    characters = sum(map(len, runs))
    if not characters or len(_NEIGHBOUR.findall(plain)) > characters / 5:
        return None
    rest = _RUN.sub(" ", plain)
    letters = sum(map(str.isalnum, rest))
    share = HAN_WEIGHT * characters / (HAN_WEIGHT * characters + letters)
    return Parts(tuple(runs), " ".join(rest.split()) if letters else "", share)

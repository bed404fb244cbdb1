"""Colour words in Chinese, told from other words by segmentation: 黄瓜 is a cucumber and 红茶 black tea."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from ml.alignment.colours import COLOURS, LONGEST_READ, WORD_WEIGHTS

Floats = NDArray[np.float32]

#: Simplified and traditional. A word is a colour if it is one of these, or ends in one and 色: 深红色.
_CHARACTERS = {
    "black": "黑",
    "white": "白",
    "grey": "灰 银 銀",
    "red": "红 紅 大红 大紅 鲜红 鮮紅 粉红 粉紅",
    "orange": "橙 橘 橘黄 橙黄 橘黃 橙黃",
    "yellow": "黄 黃 金 金黄 金黃 米黄 米黃",
    "green": "绿 綠 翠绿 翠綠 墨绿 墨綠 青绿 青綠",
    "blue": "蓝 藍 天蓝 天藍 湛蓝 湛藍 深蓝 深藍 青蓝",
    "purple": "紫 紫罗兰 紫羅蘭",
    "pink": "粉 粉红 粉紅 桃红 桃紅 玫瑰",
    "brown": "棕 褐 咖啡 米 驼 駝 卡其",
}
_BARE = frozenset("黑白灰红紅黄黃绿綠蓝藍紫橙棕褐") | {"粉红", "粉紅", "金黄", "金黃"}
_COLOUR_OF = {word: COLOURS.index(colour) for colour, words in _CHARACTERS.items() for word in words.split()}
_HAN = re.compile(r"[\u4e00-\u9fff]+")


def chinese_colour_words(texts: list[str]) -> Floats:
    """Which colours each text names in Chinese: [n, 11], WORD_WEIGHTS where named, else 0."""
    named = np.zeros((len(texts), len(COLOURS)), np.float32)
    for row, text in enumerate(texts):
        for colour in _named(text[:LONGEST_READ]):
            named[row, colour] = WORD_WEIGHTS[colour]
    return named


def _named(text: str) -> set[int]:
    runs = [] if text.isascii() else _HAN.findall(text)
    if not runs:
        return set()
    import rjieba

    colours = (_colour(word) for run in runs for word in rjieba.cut(run))
    return {colour for colour in colours if colour is not None}


def _colour(word: str) -> int | None:
    """The colour of a word that is nothing else, by its longest ending that names one."""
    if word in _BARE:
        return _COLOUR_OF[word]
    if not word.endswith("色"):
        return None
    endings = (word[start:-1] for start in range(len(word) - 1))
    return next((_COLOUR_OF[ending] for ending in endings if ending in _COLOUR_OF), None)

"""Phrases put together from words of the dictionary, in both languages at once: how Chinese says what belongs together.

A dictionary teaches words; queries are phrases: 一只猫 (a cat), 红色的苹果 (red apple), 桌子上的书 (book on a desk).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from research.chinese.dictionary import Word

#: {x} and {y} are nouns, {a} something that is said of them.
PATTERNS = (
    ("一只{x}", "a {x}"),
    ("一个{x}", "a {x}"),
    ("一辆{x}", "a {x}"),
    ("一位{x}", "a {x}"),
    ("一张{x}的照片", "a photo of a {x}"),
    ("{x}的图片", "picture of {x}"),
    ("两个{x}", "two {x}"),
    ("三只{x}", "three {x}"),
    ("很多{x}", "many {x}"),
    ("没有{x}", "no {x}"),
    ("有{x}的{y}", "{y} with {x}"),
    ("{x}和{y}", "{x} and {y}"),
    ("{x}与{y}", "{x} and {y}"),
    ("{x}的{y}", "{y} of {x}"),
    ("{x}上的{y}", "{y} on {x}"),
    ("{x}里的{y}", "{y} in {x}"),
    ("在{x}里的{y}", "{y} in {x}"),
    ("{x}旁边的{y}", "{y} next to {x}"),
    ("拿着{x}的{y}", "{y} holding {x}"),
    ("戴着{x}的{y}", "{y} wearing {x}"),
    ("戴{x}的{y}", "{y} with {x}"),
    ("穿着{x}的{y}", "{y} wearing {x}"),
    ("{y}在吃{x}", "{y} eating {x}"),
    ("{y}正在看{x}", "{y} looking at {x}"),
    ("{a}的{x}", "{a} {x}"),
    ("{a}{x}", "{a} {x}"),
    ("一个{a}的{x}", "a {a} {x}"),
    ("{a}的{x}和{y}", "{a} {x} and {y}"),
    ("男{x}", "male {x}"),
    ("女{x}", "female {x}"),
    ("我喜欢{x}", "I like {x}"),
    ("{x}是什么？", "what is {x}?"),
    ("怎么买{x}", "how to buy {x}"),
)

_QUALITIES = """
红色 red,红 red,黄色 yellow,黄 yellow,蓝色 blue,蓝 blue,绿色 green,绿 green,白色 white,白 white,黑色 black,黑 black
灰色 grey,棕色 brown,紫色 purple,粉红色 pink,粉色 pink,橙色 orange,金色 golden,银色 silver
大 big,小 small,高 tall,长 long,新 new,旧 old,老 old,圆 round
漂亮 beautiful,可爱 cute,快乐 happy,悲伤 sad,生气 angry,热 hot,冷 cold,木 wooden,塑料 plastic,玻璃 glass,金属 metal
打开 open,空 empty,甜 sweet,干净 clean,年轻 young,便宜 cheap,方形 square,彩色 colourful,新鲜 fresh
"""
QUALITIES = [tuple(pair.split()) for line in _QUALITIES.split("\n") for pair in line.split(",") if pair]

#: Words and translations of more than these are no parts of a short phrase.
LONGEST_WORD, MOST_TRANSLATED = 4, 2
#: The share of parts that are everyday nouns rather than any word.
EVERYDAY = 0.8


def compose(words: Sequence[Word], count: int, seed: int = 0) -> list[tuple[str, str]]:
    """``count`` phrases (Chinese, English) of random words; equal arguments give equal phrases."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    short = [word for word in words if _is_short(word)]
    nouns = [word for word in short if word.counted]
    return [_one(chance, nouns, short) for _ in range(count)]


def _is_short(word: Word) -> bool:
    translated = word.glosses[0].split()
    return len(word.simplified) <= LONGEST_WORD and len(translated) <= MOST_TRANSLATED


def _one(chance: random.Random, nouns: Sequence[Word], others: Sequence[Word]) -> tuple[str, str]:
    chinese, english = chance.choice(PATTERNS)
    x, y = (chance.choice(nouns if chance.random() < EVERYDAY else others) for _ in "xy")
    quality, said = chance.choice(QUALITIES)
    parts = {"x": x.simplified, "y": y.simplified, "a": quality}
    return chinese.format(**parts), english.format(x=x.glosses[0], y=y.glosses[0], a=said)

"""Captions of our own, in English and Chinese: a small grammar over two vocabularies. Its beginning is a fair sample.

Deterministic. No caption of a data set is in here, and none was looked at for a word that it uses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

VOCABULARY = Path(__file__).with_name("vocabulary.txt")
#: The same sections with as many parts each. A stroke stands where an adjective goes: 一个/男人.
CHINESE = Path(__file__).with_name("vocabulary_zh.txt")
#: Some captions in more languages: a heading of codes, then one caption a line.
TRANSLATIONS = Path(__file__).with_name("sentences.tsv")
#: Of this many captions is the list that the space was made of.
COUNT, SEED = 7_500, 7

T = TypeVar("T")


class Said(NamedTuple):
    """The same in both languages."""

    english: str
    chinese: str


_POSES = (
    Said("stands", "站着"),
    Said("sits", "坐着"),
    Said("is standing", "正站着"),
    Said("poses", "摆姿势"),
    Said("walks", "走着"),
    Said("is sitting", "正坐着"),
)
_BESIDE = (
    Said("holding", "拿着{}"),
    Said("with", "和{}在一起"),
    Said("next to", "在{}旁边"),
    Said("looking at", "看着{}"),
    Said("standing by", "站在{}旁"),
    Said("using", "使用{}"),
    Said("sitting near", "坐在{}附近"),
    Said("carrying", "带着{}"),
)
_RELATIONS = (
    Said("on top of", "在{}上面"),
    Said("next to", "在{}旁边"),
    Said("behind", "在{}后面"),
    Said("in front of", "在{}前面"),
    Said("under", "在{}下面"),
    Said("inside", "在{}里面"),
    Said("between two halves of", "夹在两半{}之间"),
    Said("and", "和{}"),
)
_MEETS = (
    Said("chasing", "追赶{}"),
    Said("looking at", "看着{}"),
    Said("next to", "在{}旁边"),
    Said("playing with", "和{}玩耍"),
    Said("lying beside", "躺在{}旁边"),
    Said("running away from", "躲避{}"),
    Said("bigger than", "比{}大"),
)
_SIGHT = (
    Said("", "{}"),
    Said("a photo of ", "{}的照片"),
    Said("a view of ", "{}的景色"),
    Said("people in ", "{}里的人"),
)
_SHELF = (
    Said("", "{}"),
    Said(" on a shelf", "货架上的{}"),
    Said(" in a supermarket", "超市里的{}"),
    Said(" on a white background", "白色背景上的{}"),
    Said(" in a shopping basket", "购物篮里的{}"),
    Said(" held in a hand", "手里拿着的{}"),
)


@cache
def vocabulary() -> dict[str, list[Said]]:
    """The parts by section. Raises ValueError where the vocabularies do not fit each other."""
    english, chinese = _sections(VOCABULARY), _sections(CHINESE)
    if {name: len(parts) for name, parts in english.items()} != {
        name: len(parts) for name, parts in chinese.items()
    }:
        raise ValueError(f"{VOCABULARY.name} and {CHINESE.name} do not have the same parts")
    return {
        name: [Said(*both) for both in zip(parts, chinese[name], strict=True)]
        for name, parts in english.items()
    }


def _sections(path: Path) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            parts = sections[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            parts += [part.strip() for part in line.split("|") if part.strip()]
    return sections


def translations() -> dict[str, dict[str, str]]:
    """By language: some captions in English, and what each is in it. Raises ValueError where a cell is missing or
    empty, or a caption stands there twice."""
    codes, *rows = [line.split("\t") for line in TRANSLATIONS.read_text("utf-8").splitlines()]
    for number, row in enumerate(rows, 2):
        if len(row) != len(codes) or not all(cell.strip() for cell in row):
            raise ValueError(
                f"{TRANSLATIONS.name}, line {number}: not one text for each of {', '.join(codes)}"
            )
    if len({row[0] for row in rows}) < len(rows):
        raise ValueError(f"{TRANSLATIONS.name}: a caption stands there twice")
    english, *others = (list(column) for column in zip(*rows, strict=True))
    return {
        code: dict(zip(english, texts, strict=True)) for code, texts in zip(codes[1:], others, strict=True)
    }


def phrases() -> list[Said]:
    """Every part that names something to be seen, bare, once."""
    left_out = ("packages", "patterns", "wearers", "colours")
    found: dict[str, Said] = {}
    for name, parts in vocabulary().items():
        for english, chinese in () if name in left_out else parts:
            found.setdefault(english, Said(english, _plain(chinese)))
    return list(found.values())


def captions(count: int = COUNT, seed: int = SEED) -> list[Said]:
    """``count`` captions, no two alike. Another count changes capitals and full stops, too: cut the list instead."""
    grammar = _Grammar(random.Random(seed))  # noqa: S311
    found: dict[str, Said] = {}
    while len(found) < count:
        caption = grammar.caption()
        found.setdefault(caption.english, caption)
    return [grammar.written(caption) for caption in found.values()]


class _Grammar:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._kinds: list[tuple[int, Callable[[], Said]]] = [
            (30, self._action),
            (5, self._pose),
            (4, self._two_people),
            (3, lambda: self._related(self._any("people"), _BESIDE, "things")),
            (10, self._dog),
            (3, self._with_a_dog),
            (8, lambda: _joined(self._any("animals"), self._any("what animals do"))),
            (2, lambda: self._related(self._any("animals"), _MEETS, "animals")),
            (11, self._thing),
            (4, lambda: self._related(self._any("things"), _RELATIONS, "things")),
            (5, self._scene),
            (4, self._groceries),
            (5, self._garment),
            (3, lambda: self._any("documents")),
            (1, lambda: self._any("damage")),
            (2, lambda: self._any("work")),
        ]
        self._weights = [weight for weight, _ in self._kinds]

    def caption(self) -> Said:
        _, make = self._chance.choices(self._kinds, self._weights)[0]
        made = make()
        return Said(" ".join(made.english.split()), _plain(made.chinese))

    def written(self, caption: Said) -> Said:
        """As people write: half of them with a capital, a third with a full stop."""
        english, chinese = caption
        if self._often(0.5):
            english = english[0].upper() + english[1:]
        if self._often(0.3):
            english += " ." if self._often(0.6) else "."
            chinese += "。"
        return Said(english, chinese)

    def _action(self) -> Said:
        looks = self._any("looks") if self._often(0.45) else Said("", "")
        place = self._any("places") if self._often(0.7) else Said("", "")
        tense = self._one(("", "", "is ", "is ", "are "))
        does = self._any("actions")
        who = self._any("people")
        return Said(
            f"{who.english} {looks.english} {tense}{does.english} {place.english}",
            f"{_described(who, looks)}{_under_way(place.chinese) if tense else place.chinese}{does.chinese}",
        )

    def _pose(self) -> Said:
        who, looks, pose, place = (
            self._any("people"),
            self._any("looks"),
            self._one(_POSES),
            self._any("places"),
        )
        return Said(
            f"{who.english} {looks.english} {pose.english} {place.english}",
            f"{_described(who, looks)}{place.chinese}{pose.chinese}",
        )

    def _two_people(self) -> Said:
        one, other = self._any("people"), self._any("people")
        does, place = self._any("actions"), self._any("places")
        return Said(
            f"{one.english} and {other.english} {does.english} {place.english}",
            f"{one.chinese}和{other.chinese}{place.chinese}{does.chinese}",
        )

    def _with_a_dog(self) -> Said:
        who, dog, place = self._any("people"), self._any("dogs"), self._any("places")
        return Said(
            f"{who.english} and {dog.english} {place.english}",
            f"{who.chinese}和{dog.chinese}{place.chinese}",
        )

    def _related(self, one: Said, relations: Sequence[Said], section: str) -> Said:
        relation, other = self._one(relations), self._any(section)
        return Said(
            f"{one.english} {relation.english} {other.english}",
            one.chinese + relation.chinese.format(other.chinese),
        )

    def _dog(self) -> Said:
        place = self._any("places") if self._often(0.4) else Said("", "")
        dog, tense, does = self._any("dogs"), self._one(("", "is")), self._any("what dogs do")
        return Said(
            f"{dog.english} {tense} {does.english} {place.english}",
            f"{dog.chinese}{place.chinese}{does.chinese}",
        )

    def _thing(self) -> Said:
        thing = self._coloured(self._any("things"), 0.3)
        return _joined(thing, self._any("where things are"))

    def _scene(self) -> Said:
        sight, scene = self._one(_SIGHT), self._any("scenes")
        return Said(sight.english + scene.english, sight.chinese.format(scene.chinese))

    def _groceries(self) -> Said:
        if self._often(0.5):
            goods = self._any("fruit and vegetables")
        else:
            pack, content = self._any("packages"), self._any("groceries")
            goods = Said(f"{pack.english} {content.english}", pack.chinese + content.chinese)
        shelf = self._one(_SHELF)
        return Said(goods.english + shelf.english, shelf.chinese.format(goods.chinese))

    def _garment(self) -> Said:
        worn = self._coloured(self._any("garments"), 0.7)
        if self._often(0.4):
            worn = _with_adjective(worn, self._any("patterns"))
        wearers = self._any("wearers") if self._often(0.5) else Said("", "")
        return Said(f"{worn.english} {wearers.english}", _described(worn, wearers))

    def _coloured(self, thing: Said, share: float) -> Said:
        return _with_adjective(thing, self._any("colours")) if self._often(share) else thing

    def _any(self, section: str) -> Said:
        return self._one(vocabulary()[section])

    def _one(self, parts: Sequence[T]) -> T:
        return self._chance.choice(parts)

    def _often(self, share: float) -> bool:
        return self._chance.random() < share


def _joined(one: Said, other: Said) -> Said:
    return Said(f"{one.english} {other.english}", one.chinese + other.chinese)


def _with_adjective(thing: Said, adjective: Said) -> Said:
    article, _, rest = thing.english.partition(" ")
    english = f"{adjective.english} {thing.english}"
    if article in ("a", "an") and rest:
        english = f"{'an' if adjective.english[0] in 'aeiou' else 'a'} {adjective.english} {rest}"
    return Said(english, _described(thing, adjective, "/"))


def _described(thing: Said, adjective: Said, stroke: str = "") -> str:
    """The adjective behind the measure word, in Chinese; ``stroke`` keeps room for one more."""
    measure, found, rest = thing.chinese.partition("/")
    return f"{measure}{stroke}{adjective.chinese}{rest}" if found else adjective.chinese + measure


def _under_way(place: str) -> str:
    return f"正{place}" if place.startswith("在") else f"{place}正在"


def _plain(chinese: str) -> str:
    return chinese.replace("/", "")

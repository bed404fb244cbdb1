"""Plain English that comes with the package, to distil a text tower on: what pictures show, what words mean."""

from __future__ import annotations

import random

from ml.alignment.scenes import scenes
from ml.alignment.vocabulary import dictionary_phrases, general_glosses, written_phrases

SCENES, JOINED = 6_000, 6_000
_BETWEEN = (" and ", " with ", " next to ", " while ", " near ", ", ", "; ")


def bundled_corpus() -> list[str]:
    """Some 24,000 phrases and sentences, always the same ones: phrases for classes and two of them joined, captions
    made of parts, names and glosses of WordNet."""
    chance = random.Random(0)  # noqa: S311 - no secret
    written = [phrase.text for phrase in written_phrases()]
    joined = [chance.choice(_BETWEEN).join(chance.sample(written, 2)) for _ in range(JOINED)]
    plain = [phrase.text for phrase in dictionary_phrases()] + general_glosses()
    texts = [*written, *plain, *(_as_sentence(text, chance) for text in [*joined, *scenes(SCENES)])]
    return list(dict.fromkeys(texts))


def _as_sentence(text: str, chance: random.Random) -> str:
    """One in three as people write captions: a capital and a full stop."""
    return text if chance.random() > 1 / 3 else f"{text[0].upper()}{text[1:]}."

"""Abuse and hate in English and Chinese: the models of docs/models/abuse.md, which were trained for this project.

An estimate about words, not about what was meant: it takes quoting for saying and friends for enemies oftener than a
person would. The model card says for whom that is worst.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ml.auditing.text_models import (
    FOLDER,
    LANGUAGES,
    MANIFEST,
    Head,
    TextModel,
    language_of,
    load_model,
    mask_identifiers,
)
from ml.auditing.text_normalization import Reading
from ml.detectors._text import Piece, split_passages, text_pieces, truncation_evidence
from ml.detectors.base import Category, Detector, Finding, Item
from ml.normalization import normalize

#: About a post: what the models were trained on has at most some 280 characters. Longer texts are read in passages.
PASSAGE_CHARS = 280
#: Fewer letters (Chinese characters) than this say too little; measured by length in the model card.
LEAST_LETTERS = {"en": 4, "zh": 2}
#: The highest of more passages than this is no longer the probability that it claims to be.
CALIBRATED_PASSAGES = 4
MAX_EVIDENCE, MAX_MARKS = 10, 3


@dataclass(frozen=True)
class _Score:
    """What one head says about one passage."""

    head: Head
    at: int
    probability: float
    interval: tuple[float, float]
    piece: Piece
    reading: Reading
    span: tuple[int, int]
    model: TextModel


class Abuse(Detector):
    name = "abuse"
    version = "2"
    tier = "statistical"
    modalities: ClassVar = frozenset({"text", "image", "audio", "video"})
    sees = (
        "Insults, threats and contempt in English and Chinese; in English also hate against groups of people."
    )
    blind_to = (
        "Other languages; irony, quotation and what only the context makes an insult. Dialects and people who name"
        " their own group are flagged more often than others: see the model card."
    )
    order = 30
    categories: ClassVar = ("abuse", "hate")

    def missing(self) -> str:
        return (
            ""
            if (FOLDER / MANIFEST).is_file()
            else f"The weights in {FOLDER} are missing: install the package anew."
        )

    def examine(self, item: Item) -> Finding:
        found = False
        seen: set[str] = set()
        scores: list[_Score] = []
        for piece in text_pieces(item):
            found = True
            language = _language(piece)
            if language in LANGUAGES and _letters(piece.read.plain.text, language) >= LEAST_LETTERS[language]:
                scores += _scores(load_model(language), piece)
                continue
            seen.add(language)
        if not found:
            return Finding("not_applicable", "There are no words in it.")
        if not scores:
            return Finding("abstained", _why(seen))
        cut = [evidence for evidence in [truncation_evidence(item)] if evidence]
        return Finding(categories=_categories(scores), evidence=[*cut, *_skipped(seen)])


def load(argument: str) -> Detector:
    return Abuse()


def _scores(model: TextModel, piece: Piece) -> list[_Score]:
    """Each head's probability for each passage of both readings."""
    readings = [piece.read.plain]
    if piece.read.folded.text.lower() != piece.read.plain.text.lower():
        readings.append(piece.read.folded)
    found = []
    for reading in readings:
        for span in split_passages(reading.text, PASSAGE_CHARS):
            logits = model.linear.logits(mask_identifiers(reading.text[slice(*span)]))
            found += [
                _Score(
                    head, at, head.calibration.probability(float(logits[at])),
                    head.calibration.interval(float(logits[at])), piece, reading, span, model,
                )
                for at, head in enumerate(model.heads)
            ]  # fmt: skip
    return found


def _categories(scores: list[_Score]) -> dict[str, Category]:
    return {
        name: _category([score for score in scores if score.head.name == name])
        for name in dict.fromkeys(score.head.name for score in scores)
    }


def _category(scores: list[_Score]) -> Category:
    """The passage of the highest probability speaks for the whole."""
    ordered = sorted(scores, key=lambda score: -score.probability)
    worst = ordered[0]
    flagged = [score for score in ordered if score.probability >= score.head.threshold]
    return Category(
        score=round(worst.probability, 4),
        calibrated=len(scores) <= CALIBRATED_PASSAGES,
        interval=(round(worst.interval[0], 4), round(worst.interval[1], 4)),
        evidence=[_evidence(score) for score in (flagged or ordered[:1])[:MAX_EVIDENCE]],
        threshold=worst.head.threshold,
    )


def _evidence(score: _Score) -> Mapping[str, Any]:
    start, end = score.reading.span(*score.span)
    return {
        "kind": "passage",
        **score.piece.span(start, end),
        "language": score.model.language,
        "probability": round(score.probability, 4),
        "suggested_threshold": score.head.threshold,
        "model": f"abuse-1 {score.model.version}",
        "calibration": score.head.calibration.version,
        "marks": _marks(score) if score.probability >= score.head.threshold else [],
    }


def _marks(score: _Score) -> list[dict[str, Any]]:
    """The words that raised the probability most."""
    first = score.span[0]
    text = score.reading.text[slice(*score.span)]
    shares = score.model.linear.shares(mask_identifiers(text), score.at)
    edges = np.cumsum(np.concatenate([[0.0], shares]))
    marks = []
    for start, end in _tokens(text, score.model.language):
        place = score.reading.span(first + start, first + end)
        marks.append(
            {"start": place[0], "end": place[1], "share": round(float(edges[end] - edges[start]), 3)}
        )
    marks.sort(key=lambda mark: -mark["share"])
    return [mark for mark in marks[:MAX_MARKS] if mark["share"] > 0]


def _letters(text: str, language: str) -> int:
    return len(_LETTER[language].findall(_ADDRESS.sub(" ", text)))


def _language(piece: Piece) -> str:
    written = _INVISIBLE.sub("", normalize("NFKC", piece.words.text[:READ]))
    return language_of(_without_addresses(piece.read.plain.text), _without_addresses(written))


def _without_addresses(text: str) -> str:
    """Links and names of users are of no language. What is left of long texts is enough to tell one."""
    return _ADDRESS.sub(" ", text[:READ])


def _why(languages: set[str]) -> str:
    if languages == {"unknown"} or languages <= set(LANGUAGES) | {"unknown"}:
        return "The text is too short to say anything about it."
    return "The text is neither English nor Chinese; no other language can be read."


def _skipped(languages: set[str]) -> list[dict[str, Any]]:
    return [{"kind": "not-read", "reason": _why({language})} for language in sorted(languages)]


def _tokens(text: str, language: str) -> list[tuple[int, int]]:
    """Words; of Chinese, which has none, every two characters."""
    return [found.span() for found in _TOKENS[language].finditer(text)]


#: Enough of a text to tell its language.
READ = 4_000
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|(?<![\w.])[@#]\w+")
_LETTER = {"en": re.compile(r"[^\W\d_]"), "zh": re.compile(r"[\u3400-\u9fff]")}
_TOKENS = {"en": re.compile(r"[^\W_]+"), "zh": re.compile(r"[\u3400-\u9fff]{2}|[A-Za-z]+")}

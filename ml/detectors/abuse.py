"""Abuse, hate, insults, threats and sexual remarks in English and Chinese: the models of docs/models/abuse.md, which
were trained for this project.

They are told by what a text means where the encoders for that are prepared, else abuse and English hate by words. An
estimate: it takes quoting for saying and friends for enemies oftener than a person would. The model card says for whom
that is worst.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ml.auditing import text_meaning
from ml.auditing.text_meaning import Network
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


#: Passages of an item that are read for what they mean: a text of 100,000 characters would take seconds.
MOST_READ = 12


Networks = Mapping[str, Network]
_Place = tuple[int, tuple[int, int]]


@dataclass(frozen=True)
class _Score:
    """What one head says about one passage.

    ``span``: its place in the text as written; ``marks``: gives the words that raised the probability most.
    """

    head: Head
    logit: float
    piece: Piece
    span: tuple[int, int]
    language: str
    model: str
    marks: Callable[[], list[dict[str, Any]]]

    @property
    def probability(self) -> float:
        return self.head.calibration.probability(self.logit)


class Abuse(Detector):
    name = "abuse"
    tier = "statistical"
    modalities: ClassVar = frozenset({"text", "image", "audio", "video"})
    sees = "Insults, threats, sexual remarks and contempt, and hate against groups of people, in English and Chinese."
    blind_to = (
        "Other languages; irony, quotation and what only the context makes an insult. Dialects and people who name"
        " their own group are flagged more often than others: see the model card. Insults, threats and sexual remarks"
        " as such, and hate in Chinese, where the text encoders for many languages are not prepared."
    )
    order = 30
    # The encoders are loaded with the first text.
    timeout_s = 60.0
    categories: ClassVar = ("abuse", "hate", "insult", "threat", "sexual")

    @property
    def version(self) -> str:  # type: ignore[override]
        # Without the encoders findings are those of version 2; 3 read for hate, and in Chinese for abuse.
        networks = self._networks().values()
        return "-".join(["4", *(network.version[:8] for network in networks)]) if networks else "2"

    def missing(self) -> str:
        return (
            ""
            if (FOLDER / MANIFEST).is_file()
            else f"The weights in {FOLDER} are missing: install the package again."
        )

    def examine(self, item: Item) -> Finding:
        found = False
        seen: set[str] = set()
        networks = self._networks()
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
        if networks:
            scores, left = _with_meaning(scores, networks)
            cut += [{"kind": "not-read-for-meaning", "passages": left}] if left else []
        return Finding(categories=_categories(scores), evidence=[*cut, *_skipped(seen)])

    def _networks(self) -> Networks:
        """The networks for what a text means, by language; none where the encoders are not prepared."""
        return text_meaning.load_networks() if text_meaning.encoders_prepared() else {}


def load(argument: str) -> Detector:
    return Abuse()


def _scores(model: TextModel, piece: Piece) -> list[_Score]:
    """What each head says by words of each passage of both readings."""
    readings = [piece.read.plain]
    if piece.read.folded.text.lower() != piece.read.plain.text.lower():
        readings.append(piece.read.folded)
    found = []
    for reading in readings:
        for span in split_passages(reading.text, PASSAGE_CHARS):
            logits = model.linear.logits(mask_identifiers(reading.text[slice(*span)]))
            found += [
                _Score(
                    head, float(logits[at]), piece, reading.span(*span), model.language, f"abuse-1 {model.version}",
                    partial(_marks, model, at, reading, span),
                )
                for at, head in enumerate(model.heads)
            ]  # fmt: skip
    return found


def _with_meaning(scores: Sequence[_Score], networks: Networks) -> tuple[list[_Score], int]:
    """The same with what passages mean in place of what their words say, and how many were not read for it.

    Read are the ``MOST_READ`` passages that are most abusive by their words. Of hate nothing is told by words.
    """
    passages: dict[_Place, _Score] = {}
    for score in sorted(scores, key=lambda score: -score.probability):
        if score.head.name == "abuse" and score.language in networks:
            passages.setdefault(_place(score), score)
    read = dict(list(passages.items())[:MOST_READ])
    told = {(language, head.name) for language, network in networks.items() for head in network.heads}
    kept = [
        score
        for score in scores
        if score.head.name != "hate"
        and not (_place(score) in read and (score.language, score.head.name) in told)
    ]
    said = _by_words(scores)
    for language, network in networks.items():
        own = [score for score in read.values() if score.language == language]
        meant = text_meaning.vectors_of(
            [score.piece.words.text[slice(*score.span)] for score in own], language
        )
        for score, logits in zip(own, network.logits(meant), strict=True):
            kept += [
                _meant(score, network, head, float(logit), said.get((*_place(score), head.name)))
                for head, logit in zip(network.heads, logits, strict=True)
            ]
    return kept, len(passages) - len(read)


def _by_words(scores: Sequence[_Score]) -> dict[tuple[int, tuple[int, int], str], _Score]:
    """What is said by words of each passage and category, of its reading with the highest."""
    found: dict[tuple[int, tuple[int, int], str], _Score] = {}
    for score in sorted(scores, key=lambda score: score.logit):
        found[*_place(score), score.head.name] = score
    return found


def _meant(score: _Score, network: Network, head: Head, logit: float, words: _Score | None) -> _Score:
    """A passage by its meaning. Its words are named where they alone would be flagged, too."""
    heard = words is not None and words.probability >= words.head.threshold
    marks = words.marks if words is not None and heard else list
    model = f"{text_meaning.NAME} {network.version}"
    return replace(score, head=head, logit=logit, model=model, marks=marks)


def _place(score: _Score) -> _Place:
    return score.piece.number, score.span


def _categories(scores: list[_Score]) -> dict[str, Category]:
    return {
        name: _category([score for score in scores if score.head.name == name])
        for name in dict.fromkeys(score.head.name for score in scores)
    }


def _category(scores: list[_Score]) -> Category:
    """The passage of the highest probability speaks for the whole."""
    ordered = sorted(scores, key=lambda score: -score.probability)
    worst = ordered[0]
    low, high = worst.head.calibration.interval(worst.logit)
    flagged = [score for score in ordered if score.probability >= score.head.threshold]
    return Category(
        score=round(worst.probability, 4),
        calibrated=len(scores) <= CALIBRATED_PASSAGES,
        interval=(round(low, 4), round(high, 4)),
        evidence=[_evidence(score) for score in (flagged or ordered[:1])[:MAX_EVIDENCE]],
        threshold=worst.head.threshold,
    )


def _evidence(score: _Score) -> Mapping[str, Any]:
    return {
        "kind": "passage",
        **score.piece.span(*score.span),
        "language": score.language,
        "probability": round(score.probability, 4),
        "suggested_threshold": score.head.threshold,
        "model": score.model,
        "calibration": score.head.calibration.version,
        "marks": score.marks() if score.probability >= score.head.threshold else [],
    }


def _marks(model: TextModel, head: int, reading: Reading, span: tuple[int, int]) -> list[dict[str, Any]]:
    """The words of a passage that raised the probability most."""
    text = reading.text[slice(*span)]
    shares = model.linear.shares(mask_identifiers(text), head)
    edges = np.cumsum(np.concatenate([[0.0], shares]))
    marks = []
    for start, end in _tokens(text, model.language):
        place = reading.span(span[0] + start, span[0] + end)
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

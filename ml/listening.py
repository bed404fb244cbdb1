"""What is said in a recording, and when: speech is found, transcribed, and cut into utterances.

Whisper always reads 30 s (shorter windows make it repeat itself: docs/experiments.md), so stretches of speech are
packed into windows, the silence between them left out, and the words' times mapped back to the recording.
Memory is bounded whatever its length.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ml.encoders.base import Samples, SpeechToText, Word
from ml.voice_activity import Stretch, stretches

#: Speech packed for one run of the transcriber, a little under its limit.
PACK_S = 28.0
MAX_UTTERANCE_S = 30.0
MIN_UTTERANCE_S = 1.0
#: A pause after which a sentence is not continued.
PAUSE_S = 1.5
#: Below it a sentence is noise, or another language put into English words; measured: docs/experiments.md.
MIN_CONFIDENCE = 0.5
#: One or two words have no sentence around them that would make Whisper sure. Words heard in noise stay below .1.
MIN_CONFIDENCE_SHORT = 0.2
SHORT_WORDS = 2
#: Doubted utterances that are remembered: about those of one window.
REMEMBERED = 16

SENTENCE_ENDS = (".", "?", "!")


@dataclass(frozen=True)
class Utterance:
    """About a sentence: seconds from the start of the recording; confidence 0..1, the words' probability."""

    start_s: float
    end_s: float
    text: str
    confidence: float


@dataclass(frozen=True)
class Passage:
    """Consecutive utterances that are embedded together."""

    start_s: float
    end_s: float
    text: str


@dataclass
class Hearing:
    """What ``listen`` has made of a recording so far: seconds of speech, and of it what gave words."""

    speech_s: float = 0.0
    understood_s: float = 0.0

    @property
    def unclear(self) -> bool:
        """People speak, but mostly not in words that could be made out: another language, or a bad recording."""
        return self.speech_s >= 3.0 and self.understood_s < self.speech_s / 3


def listen(
    pieces: Iterable[tuple[float, Samples]], transcriber: SpeechToText, hearing: Hearing | None = None
) -> Iterator[Utterance]:
    """The utterances of a recording, in order; none for sounds without words.

    ``pieces`` are consecutive float32 [n] mono 16 kHz samples, each with its start in seconds. Where ``hearing``
    is given it is filled along the way. Raises ValueError for samples of another shape.
    """
    hearing = hearing or Hearing()
    doubted: deque[str] = deque(maxlen=REMEMBERED)
    for utterance in _utterances(_words(_packs(stretches(pieces)), transcriber, hearing)):
        # A decoder is sure of what it repeats, whatever it hears: what was doubted before is no surer the second time.
        if not _is_trusted(utterance) or utterance.text in doubted:
            doubted.append(utterance.text)
            continue
        hearing.understood_s += utterance.end_s - utterance.start_s
        yield utterance


def passages_of(
    utterances: Iterable[Utterance], max_s: float = 30.0, max_chars: int = 900
) -> Iterator[Passage]:
    """Join neighbours while they fit: at most ``max_s`` from start to end and ``max_chars`` of text.

    A single utterance is never cut, even when it alone is longer.
    """
    open_passage: Passage | None = None
    for utterance in utterances:
        if open_passage is not None:
            text = f"{open_passage.text} {utterance.text}"
            if utterance.end_s - open_passage.start_s <= max_s and len(text) <= max_chars:
                open_passage = Passage(open_passage.start_s, utterance.end_s, text)
                continue
            yield open_passage
        open_passage = Passage(utterance.start_s, utterance.end_s, utterance.text)
    if open_passage is not None:
        yield open_passage


def _is_trusted(utterance: Utterance) -> bool:
    short = len(utterance.text.split()) <= SHORT_WORDS
    return utterance.confidence >= (MIN_CONFIDENCE_SHORT if short else MIN_CONFIDENCE)


@dataclass
class _Pack:
    """Stretches laid end to end for one run of the transcriber."""

    stretches: list[Stretch] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        return sum(stretch.duration_s for stretch in self.stretches)

    def words(self, transcriber: SpeechToText) -> Iterator[Word]:
        """The words with the recording's times; a word belongs to the stretch in which its middle lies."""
        ends = np.cumsum([stretch.duration_s for stretch in self.stretches]).tolist()
        heard = transcriber.words(np.concatenate([stretch.samples for stretch in self.stretches]))
        for word in heard:
            place = bisect.bisect(ends, (word.start_s + word.end_s) / 2)
            stretch = self.stretches[min(place, len(ends) - 1)]
            offset = ends[min(place, len(ends) - 1)] - stretch.duration_s
            start, end = (
                stretch.start_s + min(max(time - offset, 0.0), stretch.duration_s)
                for time in (word.start_s, word.end_s)
            )
            yield Word(round(start, 2), round(end, 2), word.text, word.probability)


def _words(packs: Iterable[_Pack], transcriber: SpeechToText, hearing: Hearing) -> Iterator[Word]:
    for pack in packs:
        hearing.speech_s += pack.duration_s
        yield from pack.words(transcriber)


def _utterances(words: Iterable[Word]) -> Iterator[Utterance]:
    """Cut at the ends of sentences, at pauses, and before anything gets too long."""
    said: list[Word] = []
    for word in words:
        if said and _ends_before(said, word):
            yield _utterance(said)
            said = []
        said.append(word)
    if said:
        yield _utterance(said)


def _ends_before(said: list[Word], word: Word) -> bool:
    first, last = said[0], said[-1]
    if word.start_s - last.end_s >= PAUSE_S or word.end_s - first.start_s > MAX_UTTERANCE_S:
        return True
    return last.text.endswith(SENTENCE_ENDS) and last.end_s - first.start_s >= MIN_UTTERANCE_S


def _utterance(said: list[Word]) -> Utterance:
    logs = [math.log(max(word.probability, 1e-6)) for word in said]
    text = " ".join(word.text for word in said if word.text)
    return Utterance(said[0].start_s, said[-1].end_s, text, math.exp(sum(logs) / len(logs)))


def _packs(found: Iterable[Stretch]) -> Iterator[_Pack]:
    pack = _Pack()
    for stretch in found:
        if pack.stretches and pack.duration_s + stretch.duration_s > PACK_S:
            yield pack
            pack = _Pack()
        pack.stretches.append(stretch)
    if pack.stretches:
        yield pack

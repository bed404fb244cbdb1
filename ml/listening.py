"""What is said in a recording, and when: speech is found, transcribed, and cut into utterances.

Whisper always reads 30 s (shorter windows make it repeat itself: docs/experiments.md), so stretches of speech are
packed into windows, the silence between them left out, and the words' times mapped back to the recording.
Memory is bounded whatever its length.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, groupby, pairwise

import numpy as np

from ml.encoders.base import Samples, SpeechToText, Word, text_of
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

SENTENCE_ENDS = (".", "?", "!", "。", "？", "！", "؟", "।")
#: What a word is worth in characters where no blanks tell words apart (Chinese, Japanese, Thai).
CHARACTERS_A_WORD = 2


@dataclass(frozen=True)
class Utterance:
    """About a sentence: seconds from the start of the recording; confidence 0..1, the words' probability.

    ``language``: as Whisper names it, mostly ISO 639-1; empty where nobody told it. ``words``: how many there are.
    """

    start_s: float
    end_s: float
    text: str
    confidence: float
    language: str = ""
    words: float = field(default=0, compare=False)


@dataclass(frozen=True)
class Passage:
    """Consecutive utterances that are embedded together."""

    start_s: float
    end_s: float
    text: str


@dataclass
class Hearing:
    """What ``listen`` has made of a recording so far: seconds of speech, what of it gave words, in which languages."""

    speech_s: float = 0.0
    understood_s: float = 0.0
    spoken_s: dict[str, float] = field(default_factory=dict)

    @property
    def languages(self) -> list[str]:
        """What is spoken longest comes first; none where nothing was understood."""
        return sorted(self.spoken_s, key=lambda language: -self.spoken_s[language])

    @property
    def unclear(self) -> bool:
        """People speak, but mostly not in words that could be made out: an unknown language, or a bad recording."""
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
        understood_s = utterance.end_s - utterance.start_s
        hearing.understood_s += understood_s
        if utterance.language:
            told = hearing.spoken_s.get(utterance.language, 0.0)
            hearing.spoken_s[utterance.language] = told + understood_s
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
    short = utterance.words <= SHORT_WORDS
    return utterance.confidence >= (MIN_CONFIDENCE_SHORT if short else MIN_CONFIDENCE)


@dataclass
class _Pack:
    """Stretches laid end to end for one run of the transcriber."""

    stretches: list[Stretch] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        return sum(stretch.duration_s for stretch in self.stretches)

    def words(self, transcriber: SpeechToText) -> Iterator[Word]:
        """The words with the recording's times.

        A window is taken for one language. Where that is told from the sound, stretches that gave no words to be
        trusted are heard once more without the others: they may be in another one.
        """
        heard = self._heard(transcriber)
        if transcriber.language or len(self.stretches) == 1:
            return chain(*heard)
        return chain(*(self._heard_again(run, heard[run], transcriber) for run in _runs(heard)))

    def _heard_again(self, run: slice, before: list[list[Word]], transcriber: SpeechToText) -> Iterator[Word]:
        found = list(chain(*before))
        if _is_doubted(found):
            found = max(found, list(chain(*_Pack(self.stretches[run])._heard(transcriber))), key=_confidence)
        return iter(found)

    def _heard(self, transcriber: SpeechToText) -> list[list[Word]]:
        """The words of each stretch: those whose middle lies in it."""
        ends = np.cumsum([stretch.duration_s for stretch in self.stretches]).tolist()
        found: list[list[Word]] = [[] for _ in ends]
        for word in transcriber.words(np.concatenate([stretch.samples for stretch in self.stretches])):
            place = min(bisect.bisect(ends, (word.start_s + word.end_s) / 2), len(ends) - 1)
            stretch, offset = self.stretches[place], ends[place] - self.stretches[place].duration_s
            start, end = (
                stretch.start_s + min(max(time - offset, 0.0), stretch.duration_s)
                for time in (word.start_s, word.end_s)
            )
            found[place].append(replace(word, start_s=round(start, 2), end_s=round(end, 2)))
        return found


def _runs(heard: list[list[Word]]) -> list[slice]:
    """Neighbours that are trusted alike; halves where none is, as then two languages may have spoilt one another."""
    doubted = [_is_doubted(words) for words in heard]
    if all(doubted):
        ends = [len(heard) // 2, len(heard)]
    else:
        ends = list(accumulate(len(list(run)) for _, run in groupby(doubted)))
    return [slice(start, end) for start, end in pairwise([0, *ends])]


def _is_doubted(words: Sequence[Word]) -> bool:
    return _confidence(words) < MIN_CONFIDENCE


def _confidence(words: Sequence[Word]) -> float:
    """The geometric mean of their probabilities; 0 of none."""
    logs = [math.log(max(word.probability, 1e-6)) for word in words]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0


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
    if word.language != last.language:
        return True
    return last.text.endswith(SENTENCE_ENDS) and last.end_s - first.start_s >= MIN_UTTERANCE_S


def _utterance(said: list[Word]) -> Utterance:
    written = [word for word in said if word.text]
    count = sum(1 / CHARACTERS_A_WORD if word.follows else 1 for word in written)
    return Utterance(
        said[0].start_s, said[-1].end_s, text_of(said), _confidence(said), said[0].language, count
    )


def _packs(found: Iterable[Stretch]) -> Iterator[_Pack]:
    pack = _Pack()
    for stretch in found:
        if pack.stretches and pack.duration_s + stretch.duration_s > PACK_S:
            yield pack
            pack = _Pack()
        pack.stretches.append(stretch)
    if pack.stretches:
        yield pack

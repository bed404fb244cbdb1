"""What is said in sound that is still coming: what was heard so far while someone speaks, and what is final.

Speech is looked for in what has come since the last pause. A pause of ``FINAL_S`` ends an utterance; one of ``PAUSE_S``
has it transcribed already, so that its text is there when the longer pause is. Whisper reads 30 s whatever it is given,
so each transcription costs the same: while the caller is behind, nothing but what is final is transcribed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ml.encoders.base import Samples, SpeechToText, Transcript
from ml.speech import SURE

RATE = SpeechToText.sample_rate

#: A silence that ends an utterance, and one after which it is transcribed, as it may have ended.
FINAL_S, PAUSE_S = 0.5, 0.2
#: Speech without such a pause is cut at its last short one, or here.
LONGEST_S = 20.0
#: Sound is searched for speech whenever so much more has come.
STEP_S = 0.2
#: New speech after which what was said so far is transcribed, while it goes on; the least of it.
PARTIAL_S, LEAST_S = 1.2, 0.6
#: More than this at a time: the caller is behind.
BEHIND_S = 2.0
#: Kept before speech, whose first sounds are soft, and after it.
PAD_S = 0.25
#: Below it what was transcribed is noise, or of a language that is not known.
TRUSTED = 0.4


class Transcriber(Protocol):
    """``ml.speech.QueryTranscriber``, or a network alone."""

    def transcribe(self, samples: Samples) -> Transcript: ...


@dataclass(frozen=True)
class Heard:
    """Speech from ``start_s`` to ``end_s`` of the stream. ``final``: its text does not change.

    ``confidence`` 0 to 1 as of ``Transcript``; ``language`` as Whisper names it, empty where it was not told.
    """

    start_s: float
    end_s: float
    text: str
    confidence: float
    language: str
    final: bool


class LiveListener:
    """Of one stream of float32 [n] mono 16 kHz samples. Memory is bounded by ``LONGEST_S`` and what is fed at once.

    ``quick`` hears speech that goes on, as far as it is sure of it; ``transcriber`` what has ended, or may have.
    ``settled``: up to which sample of the stream everything is final; what came before need not be kept.
    """

    def __init__(self, transcriber: Transcriber, quick: Transcriber | None = None, settled: int = 0) -> None:
        self._transcriber, self._quick = transcriber, quick or transcriber
        self.settled = settled
        self._sound: Samples = np.zeros(0, np.float32)
        self._looked = 0
        # Up to where the last partial transcript went, and what was transcribed at a pause: by its place.
        self._told = 0
        self._at_pause: tuple[tuple[int, int], Transcript] | None = None

    @property
    def came(self) -> int:
        """Samples of the stream so far."""
        return self.settled + len(self._sound)

    def feed(self, samples: Samples) -> Iterator[Heard]:
        """What is heard with these next samples. To be read to its end. Raises ValueError for another shape."""
        if samples.ndim != 1:
            raise ValueError(f"samples are float32 [n], not {list(samples.shape)}")
        behind = len(samples) > BEHIND_S * RATE
        step = round(LONGEST_S * RATE)
        for at in range(0, len(samples), step):
            piece = np.nan_to_num(np.asarray(samples[at : at + step], np.float32), posinf=0, neginf=0)
            self._sound = np.concatenate([self._sound, piece])
            if len(self._sound) - self._looked >= STEP_S * RATE:
                yield from self._look(behind=behind, over=False)

    def finish(self) -> Iterator[Heard]:
        """What was not final: nothing more comes."""
        yield from self._look(behind=True, over=True)

    def _look(self, *, behind: bool, over: bool) -> Iterator[Heard]:
        spans = _speech(self._sound)
        base = 0
        for begin, end in _joined(spans):
            silence = len(self._sound) - end
            if over or silence >= FINAL_S * RATE:
                yield from self._final(begin, end)
                base = min(len(self._sound), end + round(PAUSE_S * RATE))
            elif end - begin >= LONGEST_S * RATE:
                base = _cut(spans, begin)
                yield from self._final(begin, base)
                # What is left of it is looked at with what comes.
                break
            else:
                base = max(base, begin - round(PAD_S * RATE))
                if not behind:
                    yield from self._partial(begin, end, silence)
                break
        else:
            # Nobody speaks at the end: what may be the soft beginning of a word is kept.
            base = max(base, len(self._sound) - round(FINAL_S * RATE), 0)
        if over:
            base = len(self._sound)
        self._settle(base)
        self._looked = len(self._sound)

    def _settle(self, count: int) -> None:
        self._sound = self._sound[count:].copy()
        self.settled += count

    def _final(self, begin: int, end: int) -> Iterator[Heard]:
        where = (self.settled + begin, self.settled + end)
        if self._at_pause is not None and self._at_pause[0] == where:
            transcript = self._at_pause[1]
        else:
            transcript = self._transcribe(begin, end)
        self._at_pause, self._told = None, where[1]
        if transcript.text and transcript.confidence >= TRUSTED:
            yield _heard(where, transcript, final=True)

    def _partial(self, begin: int, end: int, silence: int) -> Iterator[Heard]:
        where = (self.settled + begin, self.settled + end)
        paused = silence >= PAUSE_S * RATE
        if paused and self._at_pause is not None and self._at_pause[0] == where:
            return
        new = where[1] - max(self._told, where[0])
        if end - begin < LEAST_S * RATE or not (paused or new >= PARTIAL_S * RATE):
            return
        transcript = self._transcribe(begin, end, None if paused else self._quick)
        self._told = where[1]
        self._at_pause = (where, transcript) if paused else None
        if transcript.text and transcript.confidence >= (TRUSTED if paused else SURE):
            yield _heard(where, transcript, final=False)

    def _transcribe(self, begin: int, end: int, by: Transcriber | None = None) -> Transcript:
        pad = round(PAD_S * RATE)
        return (by or self._transcriber).transcribe(self._sound[max(0, begin - pad) : end + pad])


def _heard(where: tuple[int, int], transcript: Transcript, *, final: bool) -> Heard:
    start_s, end_s = (round(place / RATE, 2) for place in where)
    return Heard(start_s, end_s, transcript.text, transcript.confidence, transcript.language, final)


def _speech(sound: Samples) -> list[tuple[int, int]]:
    """First and one past the last sample of each stretch that a short pause ends; the last may go on."""
    if not len(sound):
        return []
    # Imported here, as in `ml.voice_activity`.
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(min_silence_duration_ms=round(1000 * PAUSE_S), speech_pad_ms=0)
    return [(int(span["start"]), int(span["end"])) for span in get_speech_timestamps(sound, options)]


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches with less than the silence that ends an utterance between them as one, up to the longest."""
    joined: list[tuple[int, int]] = []
    for begin, end in spans:
        if joined:
            first, last = joined[-1]
            if begin - last < FINAL_S * RATE and end - first <= LONGEST_S * RATE:
                joined[-1] = (first, end)
                continue
        joined.append((begin, end))
    return joined


def _cut(spans: list[tuple[int, int]], begin: int) -> int:
    """Where an utterance that began there and goes on is cut: after a short pause in its second half, or anywhere."""
    longest = begin + round(LONGEST_S * RATE)
    ends = [end for _, end in spans if begin + longest <= 2 * end and end <= longest]
    return max(ends, default=longest)

"""Whisper base (Radford et al. 2022, arXiv:2212.04356; MIT), CTranslate2 int8: speech of many languages to text."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ml.compression.store import ModelsMissing, find_model
from ml.encoders._whisper import NO_REPEAT, Whisper, Window, checked, is_loop
from ml.encoders.base import EncoderUnavailable, Samples, SpeechToText, Transcript, Word
from ml.voice_activity import stretches

MODEL = "whisper-base"
#: Of a language that is told of a query: more probable than all others together.
PROBABLE = 0.5


class Transcriber(Whisper):
    """The language is told from the sound, anew for each window. Speech is looked for first: silence gives no text."""

    id = MODEL
    language = ""
    #: Hears the words of windows that are in English, where it is given: the better network for that.
    english: SpeechToText | None = None

    def __init__(self) -> None:
        try:
            found = find_model(MODEL)
        except ModelsMissing as error:
            raise EncoderUnavailable(
                f"{error}; its weights come in two packages, as requirements-weights.txt pins them"
            ) from None
        super().__init__(found.path.parent)
        self.version = found.version

    def words_in(self, window: Window) -> list[Word]:
        if window.language == "en" and self.english is not None:
            return self.english.words(window.samples)
        return super().words_in(window)

    def transcribe(self, samples: Samples) -> Transcript:
        """Float32 [n] mono 16 kHz to text. ``confidence`` is exp of the mean log probability of a token.

        ``language`` is that of the first window with words, empty where that is not probable. Greedy. Raises ValueError
        when ``samples`` is not one-dimensional.
        """
        samples = checked(samples)
        texts, language, log_probability, tokens = [], "", 0.0, 0
        for window in self._windows(samples):
            text, log_probability_of_it, tokens_of_it = self._text_of(window)
            if text:
                texts.append(text)
                language = language or (window.language if window.probability >= PROBABLE else "")
                log_probability += log_probability_of_it
                tokens += tokens_of_it
        confidence = min(1.0, math.exp(log_probability / tokens)) if tokens else 0.0
        return Transcript(" ".join(texts), confidence, language, len(samples) / self.sample_rate)

    def _windows(self, samples: Samples) -> Iterator[Window]:
        """The speech, laid end to end and cut where a window is full."""
        found = [stretch.samples for stretch in stretches([(0.0, samples)])]
        speech = np.concatenate(found) if found else samples[:0]
        step = int(self.max_seconds * self.sample_rate)
        for start in range(0, len(speech), step):
            yield self.window(speech[start : start + step])

    def _text_of(self, window: Window) -> tuple[str, float, int]:
        """The text, the sum of its tokens' log probabilities, and their number."""
        found = self._decoded(window)
        return self._decoded(window, no_repeat=NO_REPEAT) if is_loop(found[0]) else found

    def _decoded(self, window: Window, no_repeat: int = 0) -> tuple[str, float, int]:
        tokenizer = self._whisper.tokenizer.Tokenizer(
            self._model.hf_tokenizer, True, task="transcribe", language=window.language
        )
        result = self._model.model.generate(
            window.states,
            [self._model.get_prompt(tokenizer, [])],
            beam_size=1,
            return_scores=True,
            no_repeat_ngram_size=no_repeat,
        )[0]
        tokens = result.sequences_ids[0]
        count = len(tokens) + 1  # the end is a token, too
        return tokenizer.decode(tokens).strip(), result.scores[0] * count, count


def load(argument: str) -> Transcriber:
    """The one variant there is; ``argument`` is ignored."""
    return Transcriber()

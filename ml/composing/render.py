"""A score to sound: every note from the bank at its pitch, placed between left and right, in a small room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.composing.score import Note, Score

# --- Samples ---------------------------------------------------------------------------------------------
# The bank: single notes of a dozen instruments, each instrument one Opus file of equal slots.
#
# Derived from FluidR3 GM (Frank Wen, MIT licence; NOTICE) by ``python -m research.composing bank``.


BANK = Path(__file__).parent / "bank"
#: Opus works at this rate only.
SAMPLE_RATE = 48_000
GAP_S = 0.06
Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Instrument:
    """``program``: of General MIDI, 128 for percussion. ``pitches``: what the bank holds; others are made of the
    nearest. ``slot_s``: of each note. ``release_s``: how long it fades once let go."""

    program: int
    pitches: Sequence[int]
    slot_s: float
    release_s: float = 0.12
    bits: int = 56_000

    def nearest(self, pitch: int) -> int:
        return min(range(len(self.pitches)), key=lambda at: abs(self.pitches[at] - pitch))


DRUMS = (36, 38, 42, 46, 49, 54)
INSTRUMENTS: Mapping[str, Instrument] = {
    "piano": Instrument(0, range(48, 90, 6), 3.0, 0.25),
    "musicbox": Instrument(10, range(60, 90, 7), 2.0, 0.4),
    "vibraphone": Instrument(11, range(52, 88, 7), 3.0, 0.5),
    "marimba": Instrument(12, range(52, 88, 7), 1.2, 0.3),
    "guitar": Instrument(24, range(48, 86, 6), 2.5, 0.2),
    "bass": Instrument(32, range(34, 60, 6), 2.0, 0.1),
    "pizzicato": Instrument(45, range(48, 86, 7), 1.0, 0.3),
    "strings": Instrument(48, range(48, 86, 7), 4.0, 0.3),
    "choir": Instrument(52, range(48, 76, 7), 4.0, 0.4),
    "brass": Instrument(61, range(52, 86, 7), 3.0, 0.12),
    "flute": Instrument(73, range(60, 88, 5), 3.0, 0.12),
    "pad": Instrument(89, range(48, 76, 7), 4.0, 0.5),
    "koto": Instrument(107, range(50, 86, 7), 2.0, 0.4),
    "drums": Instrument(128, DRUMS, 1.2, 0.3, 72_000),
}


@lru_cache(maxsize=len(INSTRUMENTS))
def notes_of(name: str) -> list[Wave]:
    """Float32 [n] at 48 kHz for each pitch of the bank."""
    import av

    with av.open(str(BANK / f"{name}.opus")) as container:
        planes = [frame.to_ndarray() for frame in container.decode(audio=0)]
    whole = np.concatenate(planes, axis=1)[0].astype(np.float32)
    slot, length = (round((INSTRUMENTS[name].slot_s + gap) * SAMPLE_RATE) for gap in (GAP_S, 0))
    return [whole[at * slot : at * slot + length] for at in range(len(INSTRUMENTS[name].pitches))]


# --- Rendering -------------------------------------------------------------------------------------------


RATE = 44_100
#: Of the loudest moment; and how loud a piece is as a whole, relative to full scale.
PEAK, LOUDNESS = 0.89, 0.12
WET, ROOM_S = 0.16, 0.9
FADE_S = 0.25


def render(score: Score) -> NDArray[np.float32]:
    """Float32 [n, 2] in -1..1 at 44,100 Hz, exactly as long as the score."""
    length = round(score.seconds * RATE)
    sound = np.zeros((length, 2), np.float32)
    for note in score.notes:
        start = round(note.start_s * RATE)
        wave = _sounding(note)[: max(0, length - start)]
        angle = (note.pan + 1) * np.pi / 4
        sound[start : start + len(wave)] += wave[:, None] * np.array(
            [np.cos(angle), np.sin(angle)], np.float32
        )
    return _finished(_in_a_room(sound))


def _sounding(note: Note) -> NDArray[np.float32]:
    """Float32 [n]: the note from its attack to the end of its release."""
    instrument = INSTRUMENTS[note.instrument]
    at = instrument.nearest(note.pitch)
    wave = notes_of(note.instrument)[at]
    drums = instrument.program == 128
    faster = SAMPLE_RATE / RATE * (1.0 if drums else 2 ** ((note.pitch - instrument.pitches[at]) / 12))
    held = len(wave) / SAMPLE_RATE if drums else note.length_s
    places = np.arange(0, min(len(wave) - 1, (held + instrument.release_s) * RATE * faster), faster)
    played = np.interp(places, np.arange(len(wave)), wave)
    release = round(instrument.release_s * RATE)
    let_go = round(held * RATE)
    if len(played) > let_go:
        played[let_go:] *= np.maximum(0, 1 - np.arange(len(played) - let_go) / release) ** 2
    return np.asarray(played * note.loud**1.4, np.float32)


@lru_cache(maxsize=1)
def _room() -> NDArray[np.float32]:
    """Float32 [n, 2]: noise that dies away, its high frequencies first."""
    length = round(ROOM_S * RATE)
    noise = np.random.default_rng(7).normal(0, 1, (length, 2))
    soft = np.apply_along_axis(lambda one: np.convolve(one, np.ones(12) / 12, "same"), 0, noise)
    decay = np.exp(-6.9 * np.arange(length) / length)[:, None]
    room = soft * decay
    return np.asarray(room / np.sqrt(np.sum(room**2, axis=0)), np.float32)


def _in_a_room(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.signal import fftconvolve

    wet = fftconvolve(sound, _room(), axes=0)[: len(sound)]
    return np.asarray(sound + WET * wet, np.float32)


def _finished(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """As loud as all pieces, peaks bent rather than cut, no click at the end."""
    loud = float(np.sqrt(np.mean(sound**2))) + 1e-9
    bent = PEAK * np.tanh(sound * (LOUDNESS / loud) / PEAK)
    fade = np.minimum(1, np.arange(len(sound), 0, -1) / (FADE_S * RATE))
    return np.asarray(bent * fade[:, None], np.float32)

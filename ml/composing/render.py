"""A score to sound: every note from the bank at its pitch, placed between left and right, in a small room."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ml.composing import samples
from ml.composing.score import Note, Score

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
    instrument = samples.INSTRUMENTS[note.instrument]
    at = instrument.nearest(note.pitch)
    wave = samples.notes_of(note.instrument)[at]
    drums = instrument.program == 128
    faster = samples.RATE / RATE * (1.0 if drums else 2 ** ((note.pitch - instrument.pitches[at]) / 12))
    held = len(wave) / samples.RATE if drums else note.length_s
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

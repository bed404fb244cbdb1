"""The bank: single notes of a dozen instruments, each instrument one Opus file of equal slots.

Derived from FluidR3 GM (Frank Wen, MIT licence; NOTICE) by ``python -m ml.composing bank``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BANK = Path(__file__).parent / "bank"
#: Opus works at this rate only.
RATE = 48_000
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
    slot, length = (round((INSTRUMENTS[name].slot_s + gap) * RATE) for gap in (GAP_S, 0))
    return [whole[at * slot : at * slot + length] for at in range(len(INSTRUMENTS[name].pitches))]


# --- Building it ---


def build(soundfont: Path, folder: Path = BANK) -> None:
    """Play every note of the bank with ``soundfont`` (SF2) and write the files. Needs ``pip install tinysoundfont``."""
    import tinysoundfont

    folder.mkdir(parents=True, exist_ok=True)
    synth = tinysoundfont.Synth(samplerate=RATE)
    font = synth.sfload(str(soundfont))
    for name, instrument in INSTRUMENTS.items():
        drums = instrument.program == 128
        synth.program_select(0, font, 128 if drums else 0, 0 if drums else instrument.program, drums)
        gap = np.zeros(round(GAP_S * RATE), np.float32)
        pieces = [part for pitch in instrument.pitches for part in (_played(synth, pitch, instrument), gap)]
        _write(folder / f"{name}.opus", np.concatenate(pieces), instrument.bits)


def _played(synth: Any, pitch: int, instrument: Instrument) -> Wave:
    """One note, mono, as loud as all others."""
    synth.noteon(0, pitch, 96)
    stereo = np.frombuffer(synth.generate(round(instrument.slot_s * RATE)), np.float32).reshape(-1, 2)
    wave = stereo.mean(axis=1)
    synth.noteoff(0, pitch)
    synth.sounds_off() if hasattr(synth, "sounds_off") else None
    synth.generate(4 * RATE)
    loud = float(np.sqrt(np.mean(wave[: RATE // 2] ** 2))) + 1e-9
    wave = wave * min(0.12 / loud, 0.95 / (float(np.abs(wave).max()) + 1e-9))
    fade = np.minimum(1, np.arange(len(wave), 0, -1) / (0.08 * RATE))
    return np.asarray(wave * fade, np.float32)


def _write(path: Path, wave: Wave, bits: int) -> None:
    import av

    with av.open(str(path), "w", format="ogg") as container:
        stream: Any = container.add_stream("libopus", rate=RATE, layout="mono")
        stream.bit_rate = bits
        frame = av.AudioFrame.from_ndarray(wave[None], "flt", "mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler("flt", "mono", RATE, frame_size=RATE // 50)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))

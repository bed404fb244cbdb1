"""The bank: single notes of a dozen instruments, each instrument one Opus file of equal slots.

Derived from FluidR3 GM (Frank Wen, MIT licence; NOTICE) by ``python -m research.composing bank``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

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

"""Makes the bank of notes that ``ml.composing.render`` plays, from FluidR3 GM (MIT; NOTICE)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ml.composing.render import BANK, GAP_S, INSTRUMENTS, SAMPLE_RATE, Instrument, Wave


def build(soundfont: Path, folder: Path = BANK) -> None:
    """Play every note of the bank with ``soundfont`` (SF2) and write the files. Needs ``pip install tinysoundfont``."""
    import tinysoundfont

    folder.mkdir(parents=True, exist_ok=True)
    synth = tinysoundfont.Synth(samplerate=SAMPLE_RATE)
    font = synth.sfload(str(soundfont))
    for name, instrument in INSTRUMENTS.items():
        drums = instrument.program == 128
        synth.program_select(0, font, 128 if drums else 0, 0 if drums else instrument.program, drums)
        gap = np.zeros(round(GAP_S * SAMPLE_RATE), np.float32)
        pieces = [part for pitch in instrument.pitches for part in (_played(synth, pitch, instrument), gap)]
        _write(folder / f"{name}.opus", np.concatenate(pieces), instrument.bits)


def _played(synth: Any, pitch: int, instrument: Instrument) -> Wave:
    """One note, mono, as loud as all others."""
    synth.noteon(0, pitch, 96)
    stereo = np.frombuffer(synth.generate(round(instrument.slot_s * SAMPLE_RATE)), np.float32).reshape(-1, 2)
    wave = stereo.mean(axis=1)
    synth.noteoff(0, pitch)
    synth.sounds_off() if hasattr(synth, "sounds_off") else None
    synth.generate(4 * SAMPLE_RATE)
    loud = float(np.sqrt(np.mean(wave[: SAMPLE_RATE // 2] ** 2))) + 1e-9
    wave = wave * min(0.12 / loud, 0.95 / (float(np.abs(wave).max()) + 1e-9))
    fade = np.minimum(1, np.arange(len(wave), 0, -1) / (0.08 * SAMPLE_RATE))
    return np.asarray(wave * fade, np.float32)


def _write(path: Path, wave: Wave, bits: int) -> None:
    import av

    with av.open(str(path), "w", format="ogg") as container:
        stream: Any = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = bits
        frame = av.AudioFrame.from_ndarray(wave[None], "flt", "mono")
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE, frame_size=SAMPLE_RATE // 50)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))

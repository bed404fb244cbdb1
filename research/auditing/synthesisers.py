"""Debian's classic speech synthesisers as a source of synthetic speech to train and measure with.

``apt-get install espeak espeak-ng flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts``. They are only
called to make the training data; nothing of them is needed to detect, and none of their files or recordings ship.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.auditing.speech_features import resample

RATE = 16_000
ESPEAK_VARIANTS = ("", "+m3", "+m7", "+f2", "+f4", "+Andy", "+Annie", "+max")
KLATT_VARIANTS = ("+klatt", "+klatt2", "+klatt3", "+klatt4", "+klatt6")
ACCENTS = ("en-us", "en-gb", "en-gb-scotland")


@dataclass(frozen=True)
class Voice:
    """One voice. ``synthesiser`` groups what works alike or was made of the same recordings."""

    synthesiser: str
    name: str
    command: Callable[[str, Path], tuple[Sequence[str], str]]

    @property
    def program(self) -> str:
        return str(self.command("", Path("/dev/null"))[0][0])


def _espeak(program: str, voice: str, pitch: int, speed: int) -> Callable[[str, Path], tuple[list[str], str]]:
    return lambda text, out: (
        [program, "-v", voice, "-p", str(pitch), "-s", str(speed), "-w", str(out), text], ""
    )  # fmt: skip


def _flite(voice: str, stretch: float) -> Callable[[str, Path], tuple[list[str], str]]:
    return lambda text, out: (
        ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch}", "-t", text, "-o", str(out)], ""
    )  # fmt: skip


def _festival(voice: str, stretch: float) -> Callable[[str, Path], tuple[list[str], str]]:
    return lambda text, out: (
        ["festival", "--pipe"],
        (
            f"(voice_{voice}) (Parameter.set 'Duration_Stretch {stretch}) "
            f'(utt.save.wave (utt.synth (Utterance Text "{text}")) "{out}")'
        ),
    )


def voices() -> list[Voice]:
    """Every voice that is used, whether installed or not."""
    found = []
    for at, variant in enumerate(ESPEAK_VARIANTS):
        accent, pitch, speed = ACCENTS[at % 3], (35, 50, 65)[at % 3], (130, 160, 190)[at // 3 % 3]
        found.append(
            Voice("formants", f"espeak-ng {accent}{variant}",
                  _espeak("espeak-ng", accent + variant, pitch, speed))
        )  # fmt: skip
    for variant in ("", "+f3", "+m4"):
        found.append(Voice("formants", f"espeak en{variant}", _espeak("espeak", "en" + variant, 50, 160)))
    for at, variant in enumerate(KLATT_VARIANTS):
        name = ACCENTS[at % 3] + variant
        found.append(
            Voice("Klatt", f"espeak-ng {name}", _espeak("espeak-ng", name, 40 + 5 * at, 140 + 10 * at))
        )
    for stretch in (0.9, 1.1):
        for name in ("slt", "rms", "awb"):
            found.append(Voice("clustergen", f"flite {name} {stretch}", _flite(name, stretch)))
        found.append(Voice("diphones", f"flite kal16 {stretch}", _flite("kal16", stretch)))
        for name in ("kal_diphone", "ked_diphone"):
            found.append(Voice("diphones", f"festival {name} {stretch}", _festival(name, stretch)))
        name = "cmu_us_slt_arctic_hts"
        found.append(Voice("HTS", f"festival {name} {stretch}", _festival(name, stretch)))
    return found


def installed() -> list[Voice]:
    """The voices whose program is here."""
    return [voice for voice in voices() if shutil.which(voice.program)]


def speak(voice: Voice, text: str) -> NDArray[np.float32]:
    """``text`` (plain words) as float32 [n] mono at 16 kHz. Raises RuntimeError where nothing comes out."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.wav"
        command, script = voice.command(text, out)
        done = subprocess.run(command, input=script.encode(), capture_output=True, timeout=60, check=False)
        if not out.exists():
            raise RuntimeError(f"{voice.name} said nothing: {done.stderr.decode(errors='replace')[-200:]}")
        return read_wave(out)


def read_wave(path: Path) -> NDArray[np.float32]:
    """A mono 16-bit WAV of any rate as float32 [n] at 16 kHz. Raises ValueError for other shapes."""
    with wave.open(str(path)) as file:
        if file.getnchannels() != 1 or file.getsampwidth() != 2:
            raise ValueError(f"{path.name} is not mono of 16 bits")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / np.float32(
            32768
        )
        return resample(samples, file.getframerate(), RATE)

"""Sounds without words, and speech that is not English: what Whisper tiny.en makes English sentences of."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _report import sized
from numpy.typing import NDArray

from ml.media import Decoder

Sound = NDArray[Any]
RATE = 16_000
SECONDS = sized(30, 2)
AT = np.arange(SECONDS * RATE) / RATE

#: "The committee meets on Thursday to discuss the budget", "please close the window before you leave", each.
SENTENCES = {
    "de": (
        "Der Ausschuss trifft sich am Donnerstag, um über den neuen Haushalt der Schulbibliothek zu sprechen.",
        "Bitte denken Sie daran, das Fenster zu schließen, bevor Sie gehen, denn es wird regnen.",
    ),
    "fr": (
        "Le comité se réunira jeudi pour discuter du nouveau budget de la bibliothèque scolaire.",
        "N'oubliez pas de fermer la fenêtre avant de partir, parce que la pluie arrive.",
    ),
    "es": (
        "El comité se reunirá el jueves para discutir el nuevo presupuesto de la biblioteca escolar.",
        "Por favor, recuerde cerrar la ventana antes de salir, porque viene la lluvia.",
    ),
    "it": (
        "Il comitato si riunirà giovedì per discutere il nuovo bilancio della biblioteca scolastica.",
        "Per favore ricordati di chiudere la finestra prima di uscire, perché sta arrivando la pioggia.",
    ),
    "pt": (
        "O comitê vai se reunir na quinta-feira para discutir o novo orçamento da biblioteca escolar.",
        "Por favor, lembre-se de fechar a janela antes de sair, porque a chuva está chegando.",
    ),
    "nl": (
        "De commissie komt donderdag bijeen om de nieuwe begroting voor de schoolbibliotheek te bespreken.",
        "Vergeet niet het raam te sluiten voordat je weggaat, want het gaat regenen.",
    ),
    "pl": (
        "Komitet spotka się w czwartek, aby omówić nowy budżet biblioteki szkolnej.",
        "Proszę pamiętać o zamknięciu okna przed wyjściem, ponieważ zbliża się deszcz.",
    ),
    "ru": (
        "Комитет соберётся в четверг, чтобы обсудить новый бюджет школьной библиотеки.",
        "Пожалуйста, не забудьте закрыть окно перед уходом, потому что начинается дождь.",
    ),
    "tr": (
        "Komite perşembe günü okul kütüphanesinin yeni bütçesini görüşmek üzere toplanacak.",
        "Lütfen çıkmadan önce pencereyi kapatmayı unutmayın, çünkü yağmur geliyor.",
    ),
    "cmn": (
        "委员会将于星期四开会讨论学校图书馆的新预算。",
        "请记得在离开之前关上窗户，因为要下雨了。",
    ),
    "ko": (
        "위원회는 목요일에 학교 도서관의 새 예산을 논의하기 위해 만날 것입니다.",
        "비가 오고 있으니 나가기 전에 창문을 닫는 것을 잊지 마세요.",
    ),
    "en": (
        "The committee will meet on Thursday to discuss the new budget for the school library.",
        "Please remember to close the window before you leave, because the rain is coming.",
    ),
}


def wordless() -> dict[str, Sound]:
    """Thirty seconds each of noises, tones, signals and made-up music, in -1..1."""
    sounds = _noises() | _tones() | _signals() | _music()
    return {name: np.clip(sound, -1, 1).astype(np.float32) for name, sound in sounds.items()}


def spoken(language: str, decoder: Decoder) -> list[Sound] | None:
    """The sentences by espeak-ng, each alone and all three times over in a row; None where it is not installed."""
    if shutil.which("espeak-ng") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        said = []
        for sentence in SENTENCES[language]:
            subprocess.run(["espeak-ng", "-v", language, "-s", "150", "-w", path, sentence], check=True)
            said.append(decoder.audio(path))
    return [*said, np.concatenate(said * 3)]


def _noise() -> Sound:
    return np.random.default_rng(1).normal(size=len(AT))


def _half(sound: Sound) -> Sound:
    return sound / np.abs(sound).max() / 2


def _noises() -> dict[str, Sound]:
    noise = _noise()
    band = _filtered(noise, lambda hertz: ((hertz > 300) & (hertz < 3400)).astype(float))
    clicks = np.where(np.random.default_rng(2).random(len(AT)) < 4e-4, 0.9, 0.0)
    return {
        "silence": 0 * AT,
        "hiss at -60 dB": noise / 1000,
        "white": noise / 10,
        "white, clipped": noise / 2,
        "pink": _half(_filtered(noise, lambda hertz: 1 / np.sqrt(np.maximum(hertz, 20)))),
        "brown": _half(_filtered(noise, lambda hertz: 1 / np.maximum(hertz, 20))),
        "speech band": band / 3,
        "speech band, four bursts a second": band / 2 * np.sin(np.pi * 4 * AT) ** 2,
        "clicks": clicks,
        "rain": (noise - 0.9 * np.roll(noise, 1)) / 20 + clicks / 5,
        "constant": 0 * AT + 0.5,
    }


def _tones() -> dict[str, Sound]:
    tones = {f"tone {hertz} Hz": np.sin(2 * np.pi * hertz * AT) / 3 for hertz in (50, 110, 440, 1000, 3000)}
    hum = sum(np.sin(2 * np.pi * 50 * k * AT) / 5 / k for k in range(1, 9))
    return tones | {
        "mains hum": hum,
        "square 100 Hz": np.sign(np.sin(2 * np.pi * 100 * AT)) * 0.9,
        "sweep": np.sin(2 * np.pi * (100 * AT + 50 * AT**2)) / 3,
        "siren": np.sin(2 * np.pi * 800 * AT + 600 * np.sin(np.pi * AT)) / 3,
    }


def _signals() -> dict[str, Sound]:
    random = np.random.default_rng(3)
    keys = np.array([(697, 1209), (770, 1336), (852, 1477), (941, 1336)])[(AT / 0.2).astype(int) % 4]
    bits = np.repeat(random.choice([1200, 2200], len(AT) // 53 + 1), 53)[: len(AT)]
    jumps = np.repeat(random.uniform(100, 2000, SECONDS * 20), RATE // 20)
    return {
        "telephone keys": sum(np.sin(2 * np.pi * keys[:, n] * AT) for n in (0, 1)) / 4 * (AT % 0.2 < 0.1),
        "telephone ringing": sum(np.sin(2 * np.pi * hertz * AT) for hertz in (440, 480)) / 5 * (AT % 6 < 2),
        "modem": np.sin(2 * np.pi * np.cumsum(bits) / RATE) / 3,
        "computer of old films": np.sin(2 * np.pi * np.cumsum(jumps) / RATE) / 3,
        "bird-like chirps": np.sin(2 * np.pi * (2500 + 4000 * (AT % 0.3)) * AT) / 3 * (AT % 0.7 < 0.2),
    }


def _music() -> dict[str, Sound]:
    chords = [(262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294)]
    steps = 2 ** (np.random.default_rng(4).integers(-12, 12, 32) / 12)
    tune = [(440 * step,) for step in steps]
    vibrato = 220 * np.repeat(steps, RATE)[: len(AT)] * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * AT))
    phase = 2 * np.pi * np.cumsum(vibrato) / RATE
    return {
        "chords": _played(chords, 1.0) / 4,
        "fast chords": _played(chords, 0.25) / 4,
        "tune": _played(tune, 0.3),
        "tune of squares": np.sign(_played(tune, 0.2)) / 10,
        "violin-like": sum(np.sin(k * phase) / k for k in range(1, 10)) / 7,
        "sung vowel": _half(_vowel(sum(np.sin(0.6 * k * phase) for k in range(1, 25)))),
        "drums": _noise() / 3 * np.exp(-(AT % 0.25) / 0.03),
    }


def _played(notes: list[tuple[float, ...]], beat_s: float) -> Sound:
    """Plucked: six partials that fade over each beat."""
    place = (AT / beat_s).astype(int) % len(notes)
    hertz = np.array(notes)[place]
    partials = sum(np.sin(2 * np.pi * k * hertz.T * AT) / k**1.5 for k in range(1, 7))
    return partials.sum(axis=0) / 3 * np.exp(-2 * (AT % beat_s) / beat_s)


def _vowel(source: Sound) -> Sound:
    """Through the three lowest resonances of a mouth that says "ah"."""
    for hertz, width in ((700, 80), (1200, 90), (2600, 120)):
        source = _filtered(source, partial(_resonance, at=hertz, width=width))
    return source


def _resonance(hertz: Sound, at: float, width: float) -> Sound:
    """The response of a pair of poles."""
    pole = np.exp(np.pi * (-width + 2j * at) / RATE)
    turn = np.exp(-2j * np.pi * hertz / RATE)
    return (1 - abs(pole)) / ((1 - pole * turn) * (1 - pole.conjugate() * turn))


def _filtered(sound: Sound, response: Callable[[Sound], Sound]) -> Sound:
    """Through a filter that is given by its response at each frequency in hertz."""
    spectrum = np.fft.rfft(sound) * response(np.fft.rfftfreq(len(sound), 1 / RATE))
    return np.fft.irfft(spectrum, len(sound))

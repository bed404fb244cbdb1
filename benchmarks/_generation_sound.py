"""The mark in sound, measured: what is read after codecs and cuts, how soft it is, and false alarms.

Part of `make bench-generation`. Music by rules of two to ten seconds, and speech of the sets where they are here.
`GENERATION_SOUNDS` (60) is how many pieces are marked; two and a half times as many of each kind are not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from _data import DATA, rows_of
from _generation_edits import CODECS, Samples, coded, heard
from _generation_marking import KEY, PROMPTS
from _report import Line, at_most, sized

from ml.composing.moods import mood_of
from ml.composing.render import RATE, render
from ml.composing.score import compose
from ml.provenance.sound_watermark import detect, embed

PIECES = int(os.environ.get("GENERATION_SOUNDS") or sized(60, 2))
Edit = Callable[[Samples, int], tuple[Samples, int]]


def run() -> list[Line]:
    """Every figure of this part."""
    music = [(_music(seed, (2.0, 4.0, 10.0)[seed % 3]), RATE) for seed in range(PIECES)]
    return [*_table("music 2 to 10 s", music), *_table("speech 2 to 5 s", list(_speech())), *_false_alarms()]


def _music(seed: int, seconds: float) -> Samples:
    prompt = PROMPTS[seed % len(PROMPTS)]
    return render(compose(mood_of(prompt, None, seed), seconds, seed))


def _speech() -> Iterator[tuple[Samples, int]]:
    for row in (rows_of("speech_real_vs_fake") or [])[: PIECES // 2]:
        sound = heard((DATA / "speech_real_vs_fake" / row["path"]).read_bytes(), RATE, "stereo")[: 5 * RATE]
        if len(sound) >= 2 * RATE:
            yield sound, RATE


def _recoded(sound: Samples, rate: int, *, how: tuple[str, str, int]) -> tuple[Samples, int]:
    return heard(coded(sound, rate, *how)), 16_000


def _middle(sound: Samples, rate: int) -> tuple[Samples, int]:
    return _recoded(sound[len(sound) // 4 : -len(sound) // 4], rate, how=("mp3", "libmp3lame", 96_000))


EDITS: Mapping[str, Edit] = {
    **{name: partial(_recoded, how=how) for name, how in CODECS.items()},
    "half a second cut off": lambda sound, rate: (sound[rate // 2 :], rate),
    "the middle half, MP3 96k": _middle,
    "20 dB softer": lambda sound, rate: (sound * np.float32(0.1), rate),
    "2 % faster": lambda sound, rate: (sound, round(rate * 1.02)),
}


def _table(kind: str, sounds: list[tuple[Samples, int]]) -> Iterator[Line]:
    if not sounds:
        return
    started = time.process_time()
    marked = [(embed(sound, rate, at, KEY), rate) for at, (sound, rate) in enumerate(sounds)]
    took = (time.process_time() - started) / len(sounds)
    snr = [_snr(one, other) for (one, _), (other, _) in zip(sounds, marked, strict=True)]
    yield Line(f"{kind}: sound to mark, mean (least {min(snr):.1f})", float(np.mean(snr)), "dB")
    yield Line(f"{kind}: marking one", took, "cpu s")
    for name, edit in EDITS.items():
        read = [detect(*edit(*one), KEY) for one in marked]
        right = sum(mark is not None and mark.payload == at for at, mark in enumerate(read))
        yield Line(f"{kind}, {name}", f"{right} of {len(marked)}")


def _snr(sound: Samples, marked: Samples) -> float:
    return float(10 * np.log10(np.sum(sound**2) / np.sum((marked - sound) ** 2)))


def _false_alarms() -> Iterator[Line]:
    sounds = list(_unmarked())
    false = sum(detect(sound, rate, KEY) is not None for sound, rate in sounds)
    yield at_most(f"false alarms, of {len(sounds)} sounds without a mark", false, 0, "")
    others = [embed(_music(seed, 4.0), RATE, seed, bytes(32)) for seed in range(sized(20, 1))]
    wrong = sum(detect(sound, RATE, KEY) is not None for sound in others)
    yield at_most(f"false alarms, of {len(others)} with the mark of another key", wrong, 0, "")


def _unmarked() -> Iterator[tuple[Samples, int]]:
    """Music, noise, and speech of the sets that are here."""
    rng = np.random.default_rng(0)
    for seed in range(5 * PIECES // 2):
        yield _music(seed, float(rng.choice([2.0, 4.0, 10.0]))), RATE
        yield rng.normal(0, 0.1, 3 * 16_000).astype(np.float32), 16_000
    for name in ("speech_real_vs_fake", "spoken_captions_gtts", "spoken_digits"):
        for row in (rows_of(name) or [])[: 5 * PIECES // 2]:
            yield heard((DATA / name / row["path"]).read_bytes()), 16_000

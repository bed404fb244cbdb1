"""What is heard in speech and in sounds without words (`make bench-speech`).

Reads spoken_captions_gtts and spoken_digits in $CROSSLIGHT_DATA or ../shared/data, says which are absent, prints
tables and writes $DATA_DIR/bench/speech.json. Other languages need espeak-ng. Encoding takes some ten minutes of one
core at the first run, later ones read $DATA_DIR/bench/cache.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import _tower
import numpy as np
from _data import CACHE, DATA, Array, Row, rows_of
from _report import TOY, Report, sized, skip
from _wordless import RATE, SENTENCES, spoken, wordless

from ml import listening
from ml.encoders.base import load_encoder
from ml.encoders.whisper_tiny_en import Transcriber
from ml.listening import Hearing, Utterance, listen
from ml.media import Decoder

Figures = dict[str, Any]
PIECE_S = 60
CAPTION_CUTS = (1, 5, 10)
DIGIT_CUTS = (1, 3)


class Ears:
    """One transcriber, one decoder, one text encoder for all sections."""

    def __init__(self) -> None:
        self.transcriber, self.decoder = Transcriber(), Decoder()
        self.texts = load_encoder("bundled:minilm")

    def sounds(self, name: str, rows: list[Row]) -> list[Array]:
        return [self.decoder.audio(DATA / name / row["path"]) for row in rows]

    def listen(self, sound: Array) -> list[Utterance]:
        step = PIECE_S * RATE
        return list(
            listen(
                ((at / RATE, sound[at : at + step]) for at in range(0, len(sound), step)), self.transcriber
            )
        )

    def unfiltered(self, sound: Array) -> str:
        """Whatever Whisper makes of it, trusted or not."""
        return " ".join(word.text for word in self.transcriber.words(sound[: 30 * RATE]))

    def vectors(self, texts: list[str]) -> Array:
        """[n, 384]; zeros for an empty text, which then finds nothing."""
        return self.texts.encode(texts) * np.array([[bool(text)] for text in texts])


def normalised(text: str) -> list[str]:
    """Lower case, words only; "entry way" and "entryway" still count as an error."""
    return re.sub(r"[^a-z0-9 ]", " ", text.lower().replace("'", "")).split()


def word_errors(wanted: list[str], heard: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(heard, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1]


def continuous(ears: Ears) -> Figures:
    """All captions one after the other as one recording: what a minute costs, and how many words are wrong."""
    rows = rows_of("spoken_captions_gtts")
    if rows is None:
        return {}
    rows = rows[: sized(None, 2)]
    sound = np.concatenate(ears.sounds("spoken_captions_gtts", rows))
    started = time.process_time()
    said = ears.listen(sound)
    cpu_s, minutes = time.process_time() - started, len(sound) / RATE / 60
    wanted = normalised(" ".join(row["text"] for row in rows))
    errors = word_errors(wanted, normalised(" ".join(each.text for each in said)))
    figures = {
        "minutes": round(minutes, 2),
        "cpu_s_per_minute": round(cpu_s / minutes, 2),
        "times_real": round(60 * minutes / cpu_s, 1),
        "utterances": len(said),
        "word_error_rate": round(100 * errors / len(wanted), 2),
    }
    print("\nContinuous speech: 150 captions read by a synthetic voice, back to back, one thread")
    for name, value in figures.items():
        print(f"  {name:24}{value:8}")
    return {"continuous speech": figures}


def false_words(ears: Ears) -> Figures:
    """Sounds without words: what is heard, and what Whisper alone would have heard."""
    print("\nSounds without words, thirty seconds each: words heard (and by Whisper alone)")
    figures: Figures = {}
    for name, sound in list(wordless().items())[: sized(None, 1)]:
        heard = " ".join(each.text for each in ears.listen(sound))
        alone = ears.unfiltered(sound)
        figures[name] = {"words": len(normalised(heard)), "whisper_alone": len(normalised(alone))}
        print(f"  {name:36}{figures[name]['words']:5}{figures[name]['whisper_alone']:5}  {alone[:50]!r}")
    total = {key: sum(each[key] for each in figures.values()) for key in ("words", "whisper_alone")}
    print(f"  {'all ' + str(len(figures)):36}{total['words']:5}{total['whisper_alone']:5}")
    return {"sounds without words": figures | {"all": total}}


def other_languages(ears: Ears) -> Figures:
    """Speech that is not English: what is taken for English words."""
    print("\nOther languages by espeak-ng: utterances and words taken for English, of those Whisper heard")
    figures: Figures = {}
    for language in list(SENTENCES)[: sized(None, 1)]:
        sounds = spoken(language, ears.decoder)
        if sounds is None:
            skip("espeak-ng is not installed")
            return {}
        figures[language] = _taken_for_english(ears, sounds[: sized(None, 1)])
        print(f"  {language:6}" + "".join(f"{name} {value:<8}" for name, value in figures[language].items()))
    return {"other languages": figures}


def _taken_for_english(ears: Ears, sounds: list[Array]) -> Figures:
    hearings = [Hearing() for _ in sounds]
    kept = [list(listen([(0.0, s)], ears.transcriber, h)) for s, h in zip(sounds, hearings, strict=True)]
    alone = [len(normalised(ears.unfiltered(sound))) for sound in sounds]
    words = sum(len(normalised(each.text)) for said in kept for each in said)
    return {"words": words, "whisper_alone": sum(alone), "unclear": sum(each.unclear for each in hearings)}


def captions(ears: Ears) -> Figures:
    """Speech finds the written caption among all 150; towers learn from four fifths of the captions."""
    name = "spoken_captions_gtts"
    rows = rows_of(name)
    if rows is None:
        return {}
    known = _heard(ears, name, rows)
    pool = ears.vectors([row["text"] for row in rows])
    splits = list(_tower.folds(len(rows)))
    found = _compare(ears, known, pool, np.arange(len(rows)), splits)
    print(
        f"\nSpoken captions find the written one of {len(rows)}: mean (lowest-highest of {len(splits)} folds)"
    )
    return {"spoken captions": _table(found, CAPTION_CUTS)}


def digits(ears: Ears) -> Figures:
    """Spoken digits find the written word among ten: towers have not heard the speaker, then nor the word."""
    rows = rows_of("spoken_digits", whole=True)
    if rows is None:
        return {}
    rows = _some(rows) if TOY else rows
    words = sorted({row["text"] for row in rows})
    known, pool = _heard(ears, "spoken_digits", rows), ears.vectors(words)
    wanted = np.array([words.index(row["text"]) for row in rows])
    speakers = np.array([row["speaker"] for row in rows])
    figures: Figures = {}
    for label, splits in (
        ("a speaker not heard before", _tower.by_speaker(speakers)),
        ("a speaker and a word not heard before", _tower.by_word(speakers, wanted)),
    ):
        print(
            f"\nSpoken digits find the written one of {len(words)}, {label}: mean (low-high of {len(splits)})"
        )
        found = _compare(ears, known, pool, wanted, splits)
        figures[f"spoken digits, {label}"] = _table(found, DIGIT_CUTS)
    return figures


def _some(rows: list[Row]) -> list[Row]:
    """Four words by each of two speakers."""
    speakers, words = (sorted({row[key] for row in rows}) for key in ("speaker", "text"))
    first = {(row["speaker"], row["text"]): row for row in reversed(rows)}
    return [first[who, word] for who in speakers[:2] for word in words[:4] if (who, word) in first]


def _compare(
    ears: Ears, known: dict[str, Any], pool: Array, wanted: Array, splits: list[_tower.Split]
) -> dict[str, list[Array]]:
    """Everything beside the transcript as it ships, and beside whatever Whisper said."""
    shipped = ears.vectors(known["shipped"])
    found = {
        "transcript as shipped": _tower.compare(shipped, known["states"], pool, wanted, splits)["transcript"]
    }
    return found | _tower.compare(ears.vectors(known["unfiltered"]), known["states"], pool, wanted, splits)


def _table(found: dict[str, list[Array]], cuts: tuple[int, ...]) -> Figures:
    figures = {}
    for name, each in found.items():
        figures[name] = _tower.line(each, cuts)
        cells = [
            f"R@{cut} {v['mean']:5.1f} ({v['low']:.0f}-{v['high']:.0f})"
            for cut, v in zip(cuts, figures[name].values(), strict=True)
        ]
        print(f"  {name:34}" + "".join(f"{cell:22}" for cell in cells))
    return figures


def _heard(ears: Ears, name: str, rows: list[Row]) -> dict[str, Any]:
    """Transcripts and encoder states, kept on disk by the transcriber's version and the listening's settings."""
    limits = [listening.MIN_CONFIDENCE, listening.MIN_CONFIDENCE_SHORT]
    key = json.dumps([name, ears.transcriber.version, limits, [row["path"] for row in rows]])
    path = CACHE / f"heard-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        # At toy size one stands for all.
        sounds = ears.sounds(name, rows)[: sized(None, 1)]
        times = len(rows) // len(sounds)
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            shipped=[" ".join(each.text for each in ears.listen(sound)) for sound in sounds] * times,
            unfiltered=[ears.unfiltered(sound) for sound in sounds] * times,
            states=_varied([_tower.states(ears.transcriber, sound) for sound in sounds], times),
        )
        part.replace(path)
    with np.load(path) as arrays:
        return {key: arrays[key] if key == "states" else arrays[key].tolist() for key in arrays.files}


def _varied(states: list[Array], times: int) -> Array:
    """Some times over; a hair apart, as equal ones would teach nothing."""
    every = np.array(states * times)
    return every + np.random.default_rng(0).normal(0, 0.1, every.shape) if times > 1 else every


SECTIONS: tuple[Callable[[Ears], Figures], ...] = (continuous, false_words, other_languages, captions, digits)


def main() -> int:
    report, ears, figures = Report("speech"), Ears(), {}
    for section in SECTIONS:
        figures |= report.run(section.__name__, partial(section, ears)) or {}
    ears.decoder.close()
    return report.finish(figures)


if __name__ == "__main__":
    sys.exit(main())

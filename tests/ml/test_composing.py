"""Music by rules: the mood that a prompt asks for, a piece that fits it, and sound that is really there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.composing import render
from ml.composing.moods import PROTOTYPES, SCALES, Mood, mood_of
from ml.composing.render import RATE
from ml.composing.render import render as rendered
from ml.composing.score import Score, compose
from tests.speed import LINEAR, growth

MOODS = [mood_of(kind.texts[0]) for kind in PROTOTYPES]


# --- Moods ---


def test_sad_rain_and_a_happy_festival_differ() -> None:
    sad, happy = mood_of("sad rain"), mood_of("happy festival")
    assert (sad.mode, happy.mode) == ("minor", "major")
    assert sad.tempo < 80 < 110 < happy.tempo
    assert sad.energy < 0.4 < 0.6 < happy.energy


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("悲伤的雨夜，一个人哭泣", "a sad person cries in the rain"),
        ("热闹的春节烟花", "festive fireworks"),
        ("竹林里的熊猫和古塔", "panda, bamboo, pagoda"),
    ],
)
def test_chinese_prompts_have_the_mood_of_english_ones(chinese: str, english: str) -> None:
    assert mood_of(chinese).name == mood_of(english).name != "calm"


def test_every_prototype_is_found_by_its_own_words() -> None:
    named = [mood_of(kind.texts[0]).name for kind in PROTOTYPES]
    assert sum(name == kind.name for name, kind in zip(named, PROTOTYPES, strict=True)) >= 11


def test_the_seed_changes_the_piece_and_not_the_mood() -> None:
    moods = [mood_of("a boat on the ocean", None, seed) for seed in range(12)]
    assert {mood.name for mood in moods} == {"sea"}
    assert len({(mood.tonic, mood.tempo) for mood in moods}) > 8
    assert mood_of("a boat on the ocean", None, 3) == moods[3]


class Space:
    """A joint space of three directions: storms, sleep, and the rest."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        def vector(text: str) -> list[float]:
            return [float("haunted" in text or "thunder" in text), float("sleeping" in text), 0.1]

        found = np.array([vector(text) for text in texts])
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def test_the_joint_space_decides_where_no_word_does() -> None:
    assert mood_of("thunder").name == "calm"
    assert mood_of("thunder", Space()).name == "dark"


@pytest.mark.parametrize(
    "prompt",
    [
        "", " ", "\x00\x07", "\ud800", "悲" * 100_000, "a" * 1_000_000, "(.*)+$[", "rain " * 5000, "🎉🎊",
        "'; DROP TABLE moods; --",
    ],
)  # fmt: skip
def test_any_text_has_a_mood(prompt: str) -> None:
    mood = mood_of(prompt, None, 2**70)
    assert 40 <= mood.tempo <= 180 and 0 <= mood.energy <= 1 and mood.scale == SCALES[mood.mode]


# --- Pieces ---


@pytest.mark.parametrize("mood", MOODS, ids=[kind.name for kind in PROTOTYPES])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 10.0, 33.3])
def test_pieces_keep_to_their_time_range_and_key(mood: Mood, seconds: float) -> None:
    score = compose(mood, seconds, 5)
    assert score.notes and score.seconds == seconds
    assert {note.instrument for note in score.notes} <= render.INSTRUMENTS.keys()
    for note in score.notes:
        assert 0 <= note.start_s < seconds and note.length_s > 0 and 0 < note.loud <= 1
        assert 30 <= note.pitch <= 96
    tune = [note for note in score.notes if note.pan == 0.2]
    outside = [note for note in tune if (note.pitch - mood.tonic) % 12 not in mood.scale]
    assert len(outside) <= len(tune) / 4  # the leading note of a minor key
    assert (tune[-1].pitch - mood.tonic) % 12 == 0


@pytest.mark.parametrize("mood", MOODS, ids=[kind.name for kind in PROTOTYPES])
def test_chords_move_little_and_end_on_the_tonic(mood: Mood) -> None:
    from random import Random

    from ml.composing.score import _Piece

    piece = _Piece(mood, 30, Random(1))
    degrees = piece._degrees()
    voicings = list(piece._voicings(degrees))
    moves = [sum(abs(a - b) for a, b in zip(one, other, strict=True)) for one, other in pairwise(voicings)]
    assert max(moves) <= 14 and np.mean(moves) <= 8
    assert degrees[-1] == 0
    assert mood.tonic % 12 in {pitch % 12 for pitch in voicings[-1]}


def test_pieces_follow_their_seed() -> None:
    mood = mood_of("a happy child")
    assert compose(mood, 10, 1).notes == compose(mood, 10, 1).notes
    assert compose(mood, 10, 1).notes != compose(mood, 10, 2).notes


@pytest.mark.parametrize("seconds", [0, -1, 0.4, 601, float("inf"), float("nan")])
def test_lengths_without_sense_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="lasts"):
        compose(MOODS[0], seconds)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60), st.integers(0, 2**63 - 1), st.floats(0.5, 60))
def test_any_prompt_seed_and_length_make_a_piece(prompt: str, seed: int, seconds: float) -> None:
    assert compose(mood_of(prompt, None, seed), seconds, seed).notes


# --- Sound ---


@pytest.mark.parametrize("seconds", [2.0, 5.3])
@pytest.mark.parametrize("mood", [MOODS[1], MOODS[3], MOODS[9]], ids=["sad", "festive", "dreamy"])
def test_sound_is_exactly_as_long_loud_and_never_cut(mood: Mood, seconds: float) -> None:
    sound = rendered(compose(mood, seconds, 1))
    assert sound.shape == (round(seconds * RATE), 2) and sound.dtype == np.float32
    assert np.isfinite(sound).all() and np.abs(sound).max() < 0.95
    assert 0.04 < np.sqrt(np.mean(sound**2)) < 0.3
    quarters = np.array_split(sound, 4)
    assert min(np.sqrt(np.mean(part**2)) for part in quarters[:3]) > 0.01
    assert np.abs(sound[-20:]).max() < 0.01
    assert not np.allclose(sound[:, 0], sound[:, 1])


def test_time_grows_as_the_sound_does() -> None:
    mood = mood_of("a cat with a hat walks by the sea", None, 3)
    assert growth(lambda seconds: rendered(compose(mood, seconds, 3)), 5) < LINEAR


def test_the_same_score_sounds_the_same() -> None:
    mood = mood_of("a cat with a hat walks by the sea", None, 3)
    sound = rendered(compose(mood, 10, 3))
    assert np.array_equal(sound, rendered(compose(mood, 10, 3)))


def test_silence_is_finite() -> None:
    assert not rendered(Score(1.0)).any()


PITCHED = [name for name, one in render.INSTRUMENTS.items() if one.program != 128]


def strength(wave: np.ndarray, hertz: float) -> float:
    """Of the first four harmonics of ``hertz``."""
    piece = wave[4800 : 4800 + 32_768]
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 1 << 18))
    places = [round(k * hertz * (1 << 18) / render.SAMPLE_RATE) for k in (1, 2, 3, 4)]
    return float(sum(spectrum[place - 3 : place + 4].max() for place in places))


@pytest.mark.parametrize("name", PITCHED)
def test_every_note_of_the_bank_has_its_pitch(name: str) -> None:
    for pitch, wave in zip(render.INSTRUMENTS[name].pitches, render.notes_of(name), strict=True):
        below, there, above = (strength(wave, 440 * 2 ** ((pitch + by - 69) / 12)) for by in (-1, 0, 1))
        assert there > 1.3 * max(below, above), pitch


def test_drums_begin_at_once() -> None:
    for wave in render.notes_of("drums"):
        assert np.abs(wave[: render.SAMPLE_RATE // 10]).max() > 0.1

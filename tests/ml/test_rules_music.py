"""Music through the wrapper: marked, signed as made by rules, stopped when asked, the same again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml.composing.moods import mood_of
from ml.detectors.base import Item, load_detector
from ml.generators import load_generator
from ml.generators.base import Cancelled, GenerationError, GenerationParams, Marker, Step
from ml.provenance.signing import tenant_keys
from tests.ml.sound_files import decoded

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Marker:
    keys = tenant_keys(tmp_path_factory.mktemp("keys"), "alpha", "Alpha Museum")
    return Marker(KEY, keys, 0xC0FFEE12, "alpha")


def test_music_is_released_with_both_marks(marker: Marker, tmp_path: Path) -> None:
    [made] = load_generator("rules-music", marker).make([GenerationParams("sad rain", seconds=4.0)])
    assert (made.kind, made.media_type, made.how, made.seconds) == ("audio", "audio/wav", "rules", 4.0)
    assert made.marks["c2pa"]["source_type"] == "algorithmicMedia"
    assert made.marks["c2pa"]["signer"]["organisation"] == "Alpha Museum"
    path = tmp_path / "made.wav"
    path.write_bytes(made.content)
    item = Item(
        "audio", "audio/wav", path=path, sound=decoded(str(path)), options={"watermark_key": KEY.hex()}
    )
    found = load_detector("watermark").examine(item).fields["watermark"]
    assert (found["state"], found["payload"]) == ("present", "ee12")


def test_the_same_wish_sounds_the_same_and_the_mood_may_be_given(marker: Marker) -> None:
    music = load_generator("rules-music", marker)
    params = GenerationParams("a cat by the sea", seconds=2.0, seed=4)
    one, again, other = music.make([params, params, GenerationParams(params.prompt, seconds=2.0, seed=5)])
    mood = GenerationParams(params.prompt, seconds=2.0, seed=4, mood=mood_of("a haunted house"))
    [dark] = music.make([mood])
    sounds = [made.sound for made in (one, again, other, dark)]
    assert all(sound is not None for sound in sounds)
    samples = [sound.samples for sound in sounds if sound is not None]
    assert np.array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2]) and not np.array_equal(samples[0], samples[3])


def test_music_can_be_stopped(marker: Marker) -> None:
    steps: list[Step] = []

    def watch(step: Step) -> None:
        steps.append(step)
        raise Cancelled

    with pytest.raises(Cancelled):
        load_generator("rules-music", marker).make([GenerationParams("rain", seconds=30.0)], watch)
    assert len(steps) == 1


@pytest.mark.parametrize("seconds", [1.9, 30.1, float("nan")])
def test_too_short_and_too_long_is_refused(marker: Marker, seconds: float) -> None:
    with pytest.raises(GenerationError):
        load_generator("rules-music", marker).make([GenerationParams("rain", seconds=seconds)])

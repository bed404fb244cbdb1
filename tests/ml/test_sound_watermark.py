"""The own mark in sound: it survives what sounds go through, and is never heard where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from ml.detectors.base import Item, VideoFrame, load_detector
from ml.provenance import sound_watermark, watermark
from ml.provenance.sound_watermark import RATE, Samples, detect, embed
from tests.ml.provenance_files import textured
from tests.ml.sound_files import recoded, tune

KEY, OTHER = bytes(range(32)), bytes(32)
MARKED_RATE = 44_100


@pytest.fixture(scope="module")
def marked() -> Samples:
    return embed(tune(seconds=6), MARKED_RATE, 0xBEEF, KEY)


def test_it_is_read_as_it_is(marked: Samples) -> None:
    found = detect(marked, MARKED_RATE, KEY)
    assert found is not None and (found.payload, found.at_s) == (0xBEEF, 0)
    assert found.seen >= sound_watermark.CLEAR


@pytest.mark.parametrize(
    ("container", "codec", "bits"),
    [
        ("wav", "pcm_s16le", 0),
        ("mp3", "libmp3lame", 128_000),
        ("mp3", "libmp3lame", 64_000),
        ("mp4", "aac", 64_000),
        ("mp4", "libopus", 64_000),
    ],
)
def test_it_survives_codecs_and_mono_at_16_khz(
    marked: Samples, container: str, codec: str, bits: int
) -> None:
    found = detect(recoded(marked, MARKED_RATE, container, codec, bits), RATE, KEY)
    assert found is not None and found.payload == 0xBEEF


@pytest.mark.parametrize("start_s", [0.013, 0.5, 1.7, 3.999])
def test_it_survives_cutting(marked: Samples, start_s: float) -> None:
    found = detect(marked[round(start_s * MARKED_RATE) :], MARKED_RATE, KEY)
    assert found is not None and found.payload == 0xBEEF


@pytest.mark.parametrize("factor", [0.1, -0.7])
def test_it_survives_loudness_and_turning_over(marked: Samples, factor: float) -> None:
    found = detect(marked * np.float32(factor), MARKED_RATE, KEY)
    assert found is not None and found.payload == 0xBEEF


@pytest.mark.parametrize("payload", [0, 1, 0x00FF, 0xFFFF])
def test_every_payload_comes_back_from_two_seconds(payload: int) -> None:
    short = embed(tune(seconds=2, seed=3), MARKED_RATE, payload, KEY)
    assert short.shape == tune(seconds=2).shape
    found = detect(short, MARKED_RATE, KEY)
    assert found is not None and found.payload == payload


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(3 * RATE),
        0.3 * np.sin(np.arange(3 * RATE) / 6),
        np.where(np.arange(3 * RATE) % RATE < 40, 0.9, 0),
        np.where(np.arange(3 * RATE) < RATE, np.random.default_rng(1).normal(0, 0.2, 3 * RATE), 0),
    ],
    ids=["silence", "sine", "clicks", "noise, then silence"],
)
def test_even_sounds_with_little_in_them_carry_it(sound: Samples) -> None:
    samples = sound.astype(np.float32)
    found = detect(embed(samples, RATE, 77, KEY), RATE, KEY)
    assert found is not None and found.payload == 77
    assert detect(samples, RATE, KEY) is None


def test_it_is_much_softer_than_the_sound(marked: Samples) -> None:
    sound = tune(seconds=6)
    assert 10 * np.log10(np.sum(sound**2) / np.sum((marked - sound) ** 2)) > 14
    assert np.abs(marked).max() <= 1


def test_the_same_sound_is_marked_the_same() -> None:
    first, second = (embed(tune(seconds=2), MARKED_RATE, 5, KEY) for _ in range(2))
    assert np.array_equal(first, second)


def test_another_key_hears_nothing(marked: Samples) -> None:
    assert detect(marked, MARKED_RATE, OTHER) is None


@pytest.mark.slow
def test_sounds_without_a_mark_have_none() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        assert detect(tune(seconds=3, seed=seed), MARKED_RATE, KEY) is None
        assert detect(rng.normal(0, 0.1, 3 * RATE).astype(np.float32), RATE, KEY) is None


@pytest.mark.parametrize("length", [0, 1, 300, 9000])
def test_hardly_any_sound_has_none(length: int) -> None:
    assert detect(np.ones(length, np.float32), RATE, KEY) is None


def test_a_tile_of_chance_would_have_to_be_very_unlikely() -> None:
    """The bound that CERTAIN rests on: words times places times pieces times Hoeffding."""
    places = sound_watermark.MOMENTS * sound_watermark.STEPS
    assert 2**16 * places * sound_watermark.PIECES * np.exp(-(sound_watermark.CERTAIN**2) / 2) < 1e-6


def test_any_two_words_differ_in_five_symbols() -> None:
    words = sound_watermark._words().reshape(sound_watermark.SYMBOLS, -1)
    rng = np.random.default_rng(0)
    for payload in rng.integers(0, 1 << 16, 20):
        differ = (words != words[:, [payload]]).sum(axis=0)
        assert np.delete(differ, payload).min() >= 5


def test_what_cannot_hold_a_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="2 s"):
        embed(tune(seconds=1.9), MARKED_RATE, 1, KEY)
    with pytest.raises(ValueError, match="16,000"):
        embed(np.zeros(80_000, np.float32), 8000, 1, KEY)
    for payload in (-1, 1 << 16):
        with pytest.raises(ValueError, match="16 bits"):
            embed(tune(seconds=2), MARKED_RATE, payload, KEY)


# --- The detector ---

OPTIONS = {"watermark_key": KEY.hex()}


def test_the_detector_reads_recordings(marked: Samples) -> None:
    sound = recoded(marked, MARKED_RATE, "wav", "pcm_s16le", 0)
    found = load_detector("watermark").examine(Item("audio", "audio/wav", sound=sound, options=OPTIONS))
    shown = found.fields["watermark"]
    assert (shown["state"], shown["payload"], shown["sound"]["payload"]) == ("present", "beef", "beef")
    assert found.evidence[0]["kind"] == "watermark"


def test_the_detector_reads_pictures_and_sound_of_films(marked: Samples) -> None:
    sound = recoded(marked, MARKED_RATE, "mp4", "libopus", 128_000)
    seen = VideoFrame(0, watermark.embed(textured(1), 0xDEADBEEF, KEY))
    detector = load_detector("watermark")
    both = detector.examine(Item("video", "video/mp4", shots=[seen], sound=sound, options=OPTIONS))
    assert both.fields["watermark"]["payload"] == "deadbeef"
    assert both.fields["watermark"]["sound"]["payload"] == "beef"
    heard = detector.examine(
        Item("video", "video/mp4", shots=[VideoFrame(0, textured())], sound=sound, options=OPTIONS)
    )
    assert (heard.fields["watermark"]["state"], heard.fields["watermark"]["payload"]) == ("present", "beef")


def test_the_detector_says_what_it_did_not_hear() -> None:
    detector = load_detector("watermark")
    plain = detector.examine(Item("audio", "audio/wav", sound=tune(seconds=3)[:, 0], options=OPTIONS))
    assert plain.fields == {"watermark": {"state": "absent"}}
    short = detector.examine(Item("audio", "audio/wav", sound=tune(seconds=3)[:900, 0], options=OPTIONS))
    assert (short.state, short.fields["watermark"]["state"]) == ("abstained", "not_examined")
    empty = detector.examine(Item("audio", "audio/wav", options=OPTIONS))
    assert empty.state == "not_applicable"

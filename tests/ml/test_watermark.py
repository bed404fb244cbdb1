"""The own mark in pictures: it survives what pictures go through, and is never seen where it is not."""

from __future__ import annotations

import hashlib
import io
import json
import wave
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from reedsolo import ReedSolomonError

from ml.detectors.base import Item, VideoFrame, load_detector
from ml.provenance import sound_watermark, watermark
from ml.provenance.watermark import MIN_SIDE, detect, detect_frames, embed
from tests.ml.provenance_files import textured

KEY, OTHER = bytes(range(32)), bytes(32)
MARKS = Path(__file__).with_name("marks")
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def marked() -> Pixels:
    return embed(textured(1, 320, 384), 0xDEADBEEF, KEY)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "JPEG", quality=quality)
    return np.asarray(Image.open(target))


def scaled(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


@pytest.mark.parametrize(
    "attack",
    [
        lambda p: p,
        lambda p: jpeg(p, 75),
        lambda p: jpeg(p, 50),
        lambda p: scaled(p, 192, 160),
        lambda p: scaled(p, 500, 417),
        lambda p: p[11:, 21:],
        lambda p: jpeg(p[5:310, 13:376], 75),
        lambda p: np.clip(p * 1.2 + 10, 0, 255).astype(np.uint8),
    ],
    ids=["none", "jpeg 75", "jpeg 50", "half", "enlarged by others", "cropped", "cropped, jpeg", "brighter"],
)
def test_it_survives(marked: Pixels, attack) -> None:
    found = detect(attack(marked), KEY)
    assert found is not None and found.payload == 0xDEADBEEF


def test_a_picture_that_was_reduced_for_looking_at_is_read_at_its_own_size() -> None:
    large = embed(textured(2, 600, 1100), 7, KEY)
    found = detect(scaled(large, 790, 431), KEY, original=(1100, 600))
    assert found is not None and found.payload == 7
    assert found.scale == round(1100 / 790, 4)


def test_it_cannot_be_seen(marked: Pixels) -> None:
    difference = marked.astype(float) - textured(1, 320, 384)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 38
    assert np.abs(difference).max() <= 40


@pytest.mark.parametrize("payload", [0, 1, 0xFFFFFFFF])
def test_every_payload_comes_back(payload: int) -> None:
    found = detect(embed(textured(3), payload, KEY), KEY)
    assert found is not None and (found.payload, found.wrong) == (payload, 0)


def test_another_key_sees_nothing(marked: Pixels) -> None:
    assert detect(marked, OTHER) is None


def test_pictures_without_a_mark_have_none() -> None:
    rng = np.random.default_rng(0)
    for seed in range(4):
        assert detect(textured(seed), KEY) is None
        assert detect(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8), KEY) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (40, 40), (130, 3000)])
@pytest.mark.parametrize("shade", [0, 127, 255])
def test_flat_and_odd_pictures_have_none(shape: tuple[int, int], shade: int) -> None:
    assert detect(np.full((*shape, 3), shade, np.uint8), KEY) is None


def test_what_cannot_hold_a_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="128"):
        embed(np.zeros((MIN_SIDE - 1, 400, 3), np.uint8), 1, KEY)
    for payload in (-1, 1 << 32):
        with pytest.raises(ValueError, match="32 bits"):
            embed(textured(), payload, KEY)


# --- Frames of a film ---


def panned(seed: int, count: int = 10) -> list[Pixels]:
    """Frames of a camera that moves over a picture."""
    whole = textured(seed, 400, 400)
    return [
        np.ascontiguousarray(whole[9 * at : 9 * at + 256, 13 * at : 13 * at + 256]) for at in range(count)
    ]


@pytest.fixture(scope="module")
def faint() -> list[Pixels]:
    """Frames that hold too little of the mark to show it alone."""
    return [jpeg(embed(frame, 0xDEADBEEF, KEY, gain=0.2), 50) for frame in panned(4)]


@pytest.mark.slow
def test_a_mark_too_faint_in_every_frame_is_read_in_all_of_them_together(faint: list[Pixels]) -> None:
    weak = [frame for frame in faint if detect(frame, KEY) is None]
    assert len(weak) >= 8
    [mark] = detect_frames(weak, KEY)
    assert (mark.payload, mark.frames) == (0xDEADBEEF, len(weak))
    assert detect_frames(weak, OTHER) == []
    halved = [scaled(embed(frame, 0xDEADBEEF, KEY, gain=0.2), 128, 128) for frame in panned(4)]
    halved = [frame for frame in halved if detect(frame, KEY) is None]
    [mark] = detect_frames(halved, KEY)
    assert (mark.payload, mark.scale, mark.frames) == (0xDEADBEEF, 2.0, len(halved))


def test_one_frame_is_a_picture(marked: Pixels, faint: list[Pixels]) -> None:
    assert detect_frames([marked], KEY) == [detect(marked, KEY)]
    assert detect_frames([], KEY) == [] == detect_frames([marked[:1]], KEY)
    for frame in faint:
        assert detect_frames([frame], KEY) == [mark for mark in [detect(frame, KEY)] if mark]


def test_a_cut_between_two_marks_leaves_both() -> None:
    frames = [embed(frame, at // 3, KEY) for at, frame in enumerate(panned(6, 6))]
    assert [(mark.payload, mark.frames) for mark in detect_frames(frames, KEY)] == [(0, 1)] * 3 + [(1, 1)] * 3


def test_frames_of_another_size_do_not_disturb_the_others(faint: list[Pixels]) -> None:
    weak = [frame for frame in faint if detect(frame, KEY) is None]
    [mark] = detect_frames([*weak, textured(7, 300, 200)], KEY)
    assert (mark.payload, mark.frames) == (0xDEADBEEF, len(weak))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_films_without_a_mark_have_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert detect_frames(panned(seed), KEY) == []
    # What stands still adds up, too, and says no more than one of its frames.
    assert detect_frames([textured(seed)] * 4, KEY) == []
    assert detect_frames([*rng.integers(0, 256, (4, 256, 256, 3), dtype=np.uint8)], KEY) == []
    assert detect_frames([np.full((256, 256, 3), shade, np.uint8) for shade in (0, 127, 255)], KEY) == []


# --- The detector ---


def test_the_detector_reads_pictures_and_films(marked: Pixels) -> None:
    detector, options = load_detector("watermark"), {"watermark_key": KEY.hex()}
    found = detector.examine(
        Item("image", "image/png", pixels=marked, width=384, height=320, options=options)
    )
    assert found.fields["watermark"]["state"] == "present"
    assert found.fields["watermark"]["payload"] == "deadbeef"
    shots = [VideoFrame(at, marked if at % 2 else textured(5, 320, 384)) for at in range(4)]
    found = detector.examine(Item("video", "video/mp4", shots=shots, options=options))
    assert (found.fields["watermark"]["marked"], found.fields["watermark"]["pictures"]) == (2, 4)


@pytest.mark.slow
def test_the_detector_reads_a_film_over_its_whole_length_and_in_all_frames_together(
    marked: Pixels, faint: list[Pixels]
) -> None:
    detector, options = load_detector("watermark"), {"watermark_key": KEY.hex()}
    shots = [VideoFrame(at, marked if at > 17 else textured(5, 320, 384)) for at in range(20)]
    found = detector.examine(Item("video", "video/mp4", shots=shots, options=options)).fields["watermark"]
    assert (found["payload"], found["marked"], found["pictures"]) == ("deadbeef", 1, 10)
    assert "together" not in found
    weak = [VideoFrame(at, frame) for at, frame in enumerate(faint) if detect(frame, KEY) is None]
    found = detector.examine(Item("video", "video/mp4", shots=weak, options=options)).fields["watermark"]
    assert (found["payload"], found["together"]) == ("deadbeef", True)
    assert found["marked"] == found["pictures"] == len(weak)


def test_the_detector_says_what_it_did_not_look_at(marked: Pixels) -> None:
    detector, options = load_detector("watermark"), {"watermark_key": KEY.hex()}
    plain = detector.examine(Item("image", "image/png", pixels=textured(), options=options))
    assert plain.fields == {"watermark": {"state": "absent"}}
    for state, item in (
        ("not_applicable", Item("image", "image/png", pixels=marked)),
        ("not_applicable", Item("video", "video/mp4", options=options)),
        ("abstained", Item("image", "image/png", pixels=marked[:40], options=options)),
    ):
        found = detector.examine(item)
        assert (found.state, found.fields["watermark"]["state"]) == (state, "not_examined")
        assert found.reason


def test_a_key_that_is_none_is_an_error(marked: Pixels) -> None:
    for key in ("xyz", "00ff"):
        with pytest.raises(ValueError):
            load_detector("watermark").examine(
                Item("image", "image/png", pixels=marked, options={"watermark_key": key})
            )


# --- Its parts ---


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.dictionaries(st.integers(0, 8), st.integers(1, 255), max_size=2),
)
def test_two_wrong_symbols_are_corrected(payload: int, errors: dict[int, int]) -> None:
    word = watermark._word(payload, KEY)
    for place, error in errors.items():
        word[place] ^= error
    assert watermark._decode(word, KEY) == (payload, len(errors))


def test_noise_is_hardly_ever_a_word() -> None:
    words = np.random.default_rng(0).integers(0, 256, (20_000, 9)).tolist()
    passed = 0
    for word in words:
        with suppress(ReedSolomonError):
            watermark.CODE.decode(bytes(word))
            passed += 1
    assert 0 < passed < 30  # 36 pairs of places x 255² / 256⁴: one in 1,800


# --- What was marked before must be found ---


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """Files marked by revision 7559e7f, with what it found in them (tests/ml/marks/README.md)."""
    return json.loads((MARKS / "marks.json").read_text("utf-8"))


def test_marks_of_an_older_release_are_read_the_same(known: dict[str, Any]) -> None:
    key = bytes.fromhex(known["key"])
    for name, found in known["pictures"].items():
        with Image.open(MARKS / name) as picture:
            mark = watermark.detect(np.asarray(picture), key)
        assert mark is not None
        assert {**vars(mark), "seen": found["seen"]} == found
        assert mark.seen == pytest.approx(found["seen"], abs=0.05)


def test_words_of_an_older_release_are_the_same_bit_for_bit(known: dict[str, Any]) -> None:
    key = bytes.fromhex(known["key"])
    assert [[payload, watermark._word(payload, key)] for payload, _ in known["words"]] == known["words"]
    for word, meant in known["received"]:
        try:
            data, _, wrong = watermark.CODE.decode(bytes(word))
            found = [list(data), len(wrong)]
        except ReedSolomonError:
            found = None
        assert found == meant


def test_sounds_of_an_older_release_are_read_the_same(known: dict[str, Any]) -> None:
    key = bytes.fromhex(known["key"])
    for name, found in known["sounds"].items():
        with wave.open(str(MARKS / name)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
        mark = sound_watermark.detect(samples, 16_000, key)
        assert mark is not None
        assert (mark.payload, mark.at_s) == (found["payload"], found["at_s"])
        assert mark.seen == pytest.approx(found["seen"], abs=0.05)
    digest = hashlib.sha256(sound_watermark._words().tobytes()).hexdigest()
    assert digest == known["sound_words"]

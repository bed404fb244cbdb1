"""The own mark in pictures: it survives what pictures go through, and is never seen where it is not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ml.detectors.base import Item, Shot, load_detector
from ml.provenance import reed_solomon
from ml.provenance.watermark import MIN_SIDE, detect, embed
from tests.ml.provenance_files import textured

KEY, OTHER = bytes(range(32)), bytes(32)
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
def test_it_survives(marked: Pixels, attack) -> None:  # type: ignore[no-untyped-def]
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


# --- The detector ---


def test_the_detector_reads_pictures_and_films(marked: Pixels) -> None:
    detector, options = load_detector("watermark"), {"watermark_key": KEY.hex()}
    found = detector.examine(
        Item("image", "image/png", pixels=marked, width=384, height=320, options=options)
    )
    assert found.fields["watermark"]["state"] == "present"
    assert found.fields["watermark"]["payload"] == "deadbeef"
    shots = [Shot(at, marked if at % 2 else textured(5, 320, 384)) for at in range(4)]
    found = detector.examine(Item("video", "video/mp4", shots=shots, options=options))
    assert (found.fields["watermark"]["marked"], found.fields["watermark"]["pictures"]) == (2, 4)


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
    st.lists(st.integers(0, 255), min_size=5, max_size=5),
    st.dictionaries(st.integers(0, 8), st.integers(1, 255), max_size=2),
)
def test_two_wrong_symbols_are_corrected(data: list[int], errors: dict[int, int]) -> None:
    word = reed_solomon.encode(data)
    for place, error in errors.items():
        word[place] ^= error
    assert reed_solomon.decode(word) == (data, len(errors))


def test_noise_is_hardly_ever_a_word() -> None:
    rng = np.random.default_rng(0)
    passed = sum(reed_solomon.decode(word) is not None for word in rng.integers(0, 256, (20_000, 9)).tolist())
    assert 0 < passed < 30  # 36 pairs of places x 255² / 256⁴: one in 1,800

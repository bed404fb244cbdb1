"""Waveforms and thumbnails."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ml.media.previews import Waveform, draw_waveform, thumbnail


def test_a_waveform_follows_loudness_across_pieces() -> None:
    samples = np.concatenate([np.full(16_000, level, np.float32) for level in (0, 0.2, -0.4, 0.1)])
    wave = Waveform(4.0)
    for start in range(0, 64_000, 7001):
        wave.add(start / 16_000, samples[start : start + 7001])
    peaks = wave.peaks()
    assert len(peaks) == 240
    assert [set(peaks[at : at + 60]) for at in (0, 60, 120, 180)] == [{0}, {50}, {100}, {25}]


@pytest.mark.parametrize("duration_s", [0.0, 0.01, 1.0, 7.3, 3600.0])
def test_any_duration(duration_s: float) -> None:
    wave = Waveform(duration_s)
    for start in np.arange(0, min(duration_s, 20), 5):
        wave.add(float(start), np.full(80_000, 0.5, np.float32))
    wave.add(duration_s + 9, np.ones(100, np.float32))  # behind the end: not shown
    wave.add(0, np.zeros(0, np.float32))
    peaks = wave.peaks()
    assert len(peaks) == 240
    assert all(0 <= peak <= 100 for peak in peaks)
    assert max(peaks) == (100 if duration_s else 0)


def test_each_bar_takes_the_loudest_sample() -> None:
    wave, samples = Waveform(240.0), np.full(240 * 16_000, 0.01, np.float32)
    samples[100 * 16_000 + 7] = -1.0
    wave.add(0, samples)
    assert wave.peaks() == [1] * 100 + [100] + [1] * 139


def test_silence_is_flat_and_whispers_are_not_shouts() -> None:
    assert Waveform(3.0).peaks() == [0] * 240
    wave = Waveform(1.0)
    wave.add(0, np.full(16_000, 0.001, np.float32))
    assert set(wave.peaks()) == {5}


def test_drawing() -> None:
    image = Image.open(io.BytesIO(draw_waveform([0] * 120 + [100] * 120)))
    assert (image.format, image.size, image.mode) == ("WEBP", (384, 96), "RGBA")
    alpha = np.asarray(image)[..., 3] > 0
    assert alpha[:, :180].sum(axis=0).tolist() == [2] * 180
    assert alpha[:, 210:].all()
    colour = np.asarray(image)[48, 300, :3] / 255
    assert contrast(colour, np.ones(3)) > 3
    assert contrast(colour, np.array([0x21, 0x25, 0x29]) / 255) > 3


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """WCAG 2 contrast of two sRGB colours."""
    lights = sorted(float(np.dot(linear(colour), (0.2126, 0.7152, 0.0722))) for colour in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def linear(colour: np.ndarray) -> np.ndarray:
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(
    ("shape", "size"), [((360, 640), (384, 216)), ((640, 360), (216, 384)), ((9, 20), (20, 9))]
)
def test_thumbnail(shape: tuple[int, int], size: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), (10, 120, 240), np.uint8)
    image = Image.open(io.BytesIO(thumbnail(pixels)))
    assert (image.format, image.size) == ("WEBP", size)
    assert np.abs(np.asarray(image.convert("RGB"))[4, 4].astype(int) - (10, 120, 240)).max() < 6

"""Small pictures for lists: a film's or picture's thumbnail, a sound's waveform."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGEST_SIDE = 384
BARS = 240
HEIGHT = 96
SAMPLE_RATE = 16_000

#: Readable on light and on dark pages: a contrast above 3 with white and above 4 with near-black.
COLOUR = (61, 139, 253, 255)

#: Quieter than this is drawn as it is, not as if it were loud.
LOUD_ENOUGH = 0.02


class Waveform:
    """The loudest sample in each of BARS equal parts of a recording, whose pieces may come in any order."""

    def __init__(self, duration_s: float) -> None:
        self._rate = BARS / max(duration_s, 1e-3)
        self._peaks = np.zeros(BARS, np.float32)

    def add(self, start_s: float, samples: NDArray[np.float32]) -> None:
        """Take in a piece: float32 [n] mono 16 kHz from ``start_s`` on; what lies outside is ignored."""
        if len(samples) == 0:
            return
        first, last = ((start_s + at / SAMPLE_RATE) * self._rate for at in (0, len(samples) - 1))
        bars = np.arange(max(0, int(first)), min(BARS - 1, int(last)) + 1)
        if len(bars) == 0:
            return
        starts = np.ceil((bars / self._rate - start_s) * SAMPLE_RATE).astype(int).clip(0, len(samples) - 1)
        end = int(np.ceil(((bars[-1] + 1) / self._rate - start_s) * SAMPLE_RATE))
        peaks = np.maximum.reduceat(np.abs(samples[: max(end, int(starts[-1]) + 1)]), starts)
        self._peaks[bars] = np.maximum(self._peaks[bars], peaks)

    def peaks(self) -> list[int]:
        """BARS values 0..100, in proportion to the loudest; silence stays 0."""
        scale = 100 / max(float(self._peaks.max()), LOUD_ENOUGH)
        return [int(value) for value in np.rint(self._peaks * scale)]


def draw_waveform(peaks: list[int]) -> bytes:
    """WebP, 384 x 96, bars around the middle on a transparent ground; ``peaks`` as in ``Waveform.peaks``."""
    columns = np.interp(np.linspace(0, len(peaks) - 1, LONGEST_SIDE), np.arange(len(peaks)), peaks)
    half = np.maximum(1, np.rint(columns.clip(0, 100) / 100 * (HEIGHT / 2))).astype(int)
    rows = np.abs(np.arange(HEIGHT)[:, None] - (HEIGHT - 1) / 2)
    canvas = np.zeros((HEIGHT, LONGEST_SIDE, 4), np.uint8)
    canvas[rows < half[None]] = COLOUR
    return _webp(Image.fromarray(canvas), lossless=True)


def thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """WebP of ``pixels`` uint8 [h, w, 3], longest side at most 384, never enlarged."""
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BICUBIC)
    return _webp(image, lossless=False)


def _webp(image: Image.Image, *, lossless: bool) -> bytes:
    target = io.BytesIO()
    image.save(target, "WEBP", quality=80, lossless=lossless, method=4)
    return target.getvalue()

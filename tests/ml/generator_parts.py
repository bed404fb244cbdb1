"""What tests of generators share: a marker, generators that draw what a test wants, awkward requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ml.generators.base import (
    GenerationParams,
    Generator,
    Kind,
    Marker,
    Pixels,
    RawOutput,
    Sound,
    Step,
    Watch,
)
from ml.provenance.signing import load_keys

KEY, PAYLOAD = bytes(range(32)), 0xC0FFEE42


def marker(folder: Path, payload: int = PAYLOAD) -> Marker:
    return Marker(KEY, load_keys(folder / "keys"), payload, "test")


class Drawing(Generator):
    """Draws what ``draws`` returns for each params."""

    name = "drawing"
    model = "Test drawing 1"

    def __init__(self, kind: Kind, draws: Callable[[GenerationParams], RawOutput]) -> None:
        self.kind, self._draws, self.calls = kind, draws, 0

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        self.calls += 1
        for step in range(4):
            watch(Step(step + 1, 4, np.zeros((64, 64, 3), np.uint8)))
        return [self._draws(params) for params in batch]


def flat(level: int, side: int = 256) -> Pixels:
    return np.full((side, side, 3), level, np.uint8)


def blob(side: int = 256) -> Pixels:
    """Something yellow on white, as an emoji is."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    pixels = flat(255, side)
    pixels[x**2 + y**2 < 0.07] = (250, 180, 20)
    pixels[(x + 0.1) ** 2 + (y + 0.05) ** 2 < 0.002] = (20, 20, 20)
    return pixels


def smooth(side: int = 256) -> Pixels:
    """Soft colours all over: what an encoder keeps least of."""
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def tune(seconds: float = 4.0, rate: int = 44_100, seed: int = 0) -> Sound:
    """Notes of an instrument that rings and fades: float32 [n, 2]."""
    rng = np.random.default_rng(seed)
    samples = np.zeros(round(seconds * rate), np.float32)
    for begin in np.arange(0, len(samples), rate // 4):
        t = np.arange(min(rate // 2, len(samples) - int(begin))) / rate
        pitch = 220 * 2 ** (int(rng.integers(0, 24)) / 12)
        note = sum(np.sin(2 * np.pi * pitch * harmonic * t) / harmonic for harmonic in (1, 2, 3, 4, 5))
        samples[int(begin) : int(begin) + len(t)] += (0.2 * note * np.exp(-5 * t)).astype(np.float32)
    return Sound(np.repeat(np.clip(samples, -1, 1)[:, None], 2, axis=1), rate)

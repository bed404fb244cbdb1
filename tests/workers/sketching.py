"""Generators that do what a test wants of them, inside the wrapper that marks everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ml.generators.base import GenerationParams, Generator, Kind, Limits, RawOutput, Sound, Step, Watch

RATE = 44_100


class Sketch(Generator):
    """Soft spots of colour by the seed. `act` is called before each of its three steps."""

    name, model = "sketch", "sketch 1"
    kind: Kind = "image"
    limits = Limits()
    steps = 3

    def __init__(self, act: Callable[[int], None] = lambda step: None) -> None:
        self.act, self.seeds = act, []

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        self.seeds += [params.seed for params in batch]
        for step in range(self.steps):
            self.act(step)
            watch(Step(step + 1, self.steps, spots(batch[0])))
        return [RawOutput(pixels=spots(params)) for params in batch]


class Chord(Generator):
    """Three tones that swell."""

    name, model, how = "chord", "chord 1", "rules"
    kind: Kind = "audio"

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        watch(Step(1, 1))
        return [RawOutput(sound=Sound(tones(params), RATE)) for params in batch]


def spots(params: GenerationParams) -> np.ndarray:
    small = np.random.default_rng(params.seed).integers(60, 200, (8, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((params.width, params.height), Image.Resampling.BICUBIC))


def tones(params: GenerationParams) -> np.ndarray:
    at = np.arange(int(params.seconds * RATE), dtype=np.float32) / RATE
    noise = np.random.default_rng(params.seed).normal(0, 0.05, len(at))
    wave = sum(np.sin(2 * np.pi * pitch * at) for pitch in (220, 277, 330, 523, 1047, 2093)) / 8 + noise
    return np.stack([wave, wave], axis=1).astype(np.float32) * 0.5


@pytest.fixture
def sketching(settings, monkeypatch) -> Callable[..., None]:
    """Let these generators make the installation's pictures and music."""

    def use(image: Any = None, audio: Any = None) -> None:
        made = {"sketch": image or Sketch(), "chord": audio or Chord()}
        catalog = SimpleNamespace(
            ids=lambda: list(made), load=lambda name: SimpleNamespace(load=lambda argument: made[name])
        )
        monkeypatch.setattr("ml.generators.CATALOG", catalog)
        settings.GENERATORS = {"image": "sketch", "video": "", "audio": "chord"}

    use()
    return use

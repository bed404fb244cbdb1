"""Words to drawings of 64 px by a small model of our own: a demonstration, not a rival of large generators.

    drawer = Drawer.load()
    drawings = drawer.draw(["a red apple"], seeds=[1])

NumPy and the platform's text encoder: no torch. What it can and cannot draw: docs/models/drawing.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.alignment import layout
from ml.alignment.numerics import unit
from ml.drawing import network
from ml.drawing.conditioning import PROMPT, STYLES, TEXT, conditions_of, prompt_vectors
from ml.drawing.network import flow_of, whole
from ml.drawing.packing import SHIPPED, DrawingError, Packed, unpack

# --- Anchors ---------------------------------------------------------------------------------------------
# Words in terms of what was learnt: a prompt becomes a mixture of the learnt names nearest to it.
#
# A network that saw some 800 names does not know what lies between them: asked for "ox" it draws a blur of many
# things, asked for a mixture of "water buffalo" and "cow" it draws something with horns. Names that were learnt stay
# themselves. Colour words stay as they were said.


Floats = NDArray[np.float32]

#: How fast the share of a name falls with its distance (cosine, about the mean name). Chosen on concepts that neither
#: teach nor test (`PARTS=choices make bench-generation`).
SHARPNESS = 0.01
_COLOURS = slice(TEXT + layout.COLOURS.start, TEXT + layout.COLOURS.stop)


def anchored(words: Floats, names: Floats, sharpness: float = SHARPNESS) -> Floats:
    """Words [n, PROMPT] by the words of the learnt names [m, PROMPT]; without names, as they are."""
    if not len(words) or not len(names):
        return words
    mean = names[:, :TEXT].mean(axis=0)
    near = unit(words[:, :TEXT] - mean) @ unit(names[:, :TEXT] - mean).T / sharpness
    shares = np.exp(near - near.max(axis=1, keepdims=True))
    mixed = (shares / shares.sum(axis=1, keepdims=True)) @ names
    mixed[:, _COLOURS] = words[:, _COLOURS]
    return mixed.astype(np.float32)


# --- Drawing ---------------------------------------------------------------------------------------------


__all__ = ["Drawer", "DrawingError"]

Pixels = NDArray[np.uint8]

#: (steps done, steps in all, the drawings as foreseen [n, 64, 64, 3]); may raise to stop.
Watch = Callable[[int, int, Pixels | None], None]

SIDE = 64
STEPS, GUIDANCE = 25, 3.0
#: Every so many steps the drawings as foreseen are shown.
SHOWN_EVERY = 5
#: Guidance beyond this tears drawings apart.
MOST_GUIDANCE = 10.0


class Drawer:
    """Thread-safe. The same words, seed and settings give the same drawing."""

    def __init__(self, packed: Packed, sharpness: float = SHARPNESS) -> None:
        self._basis, self._flow, self._fine = packed.basis, flow_of(packed.weights), packed.fine
        self._names, self._sharpness = packed.names, sharpness
        self.about = packed.about
        self.version = f"drawing-{packed.digest}"

    @classmethod
    def load(cls, path: Path | None = None) -> Drawer:
        """The shipped weights, once a process, or those of a file. Raises DrawingError."""
        return _shipped() if path is None else cls(unpack(path))

    def draw(
        self,
        texts: Sequence[str],
        *,
        seeds: Sequence[int],
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        negative: Sequence[str] | None = None,
        styles: Sequence[str | None] | None = None,
        watch: Watch | None = None,
    ) -> Pixels:
        """Drawings uint8 [n, 64, 64, 3], one a text; n may be 0.

        ``styles`` are names of STYLES, by default the seed's. ``negative`` is what guidance leads away from, by default
        nothing in particular. What ``watch`` raises ends the drawing. Raises ValueError for settings that do not fit.
        """
        self._check(texts, seeds, steps, negative, styles)
        chances = [np.random.default_rng(seed % 2**64) for seed in seeds]
        drawn = [int(chance.integers(len(STYLES))) for chance in chances]
        chosen = drawn if styles is None else [None if s is None else STYLES.index(s) for s in styles]
        wanted = conditions_of(self._anchored(texts), chosen)
        unwanted = conditions_of(self._unwanted(negative, len(texts)), chosen)
        noise = [chance.standard_normal(self._basis.dimension, np.float32) for chance in chances]
        latents = np.stack(noise) if noise else np.empty((0, self._basis.dimension), np.float32)
        strength = float(np.clip(guidance, 0.0, MOST_GUIDANCE))
        for step in range(steps):
            time = step / steps
            velocity = self._velocity(latents, time, wanted, unwanted, strength)
            latents = (latents + velocity / steps).astype(np.float32)
            if watch is not None:
                shown = (step + 1) % SHOWN_EVERY == 0 or step + 1 == steps
                rest = 1 - (step + 1) / steps
                watch(step + 1, steps, self._basis.decode(latents + rest * velocity) if shown else None)
        return self._finished(latents)

    def _anchored(self, texts: Sequence[str]) -> Floats:
        return anchored(prompt_vectors(texts), self._names, self._sharpness)

    def _unwanted(self, negative: Sequence[str] | None, count: int) -> Floats:
        words = np.zeros((count, PROMPT), np.float32)
        said = [row for row, text in enumerate(negative or ()) if text.strip()]
        if said and negative is not None:
            words[said] = self._anchored([negative[row] for row in said])
        return words

    def _finished(self, latents: Floats) -> Pixels:
        rough = self._basis.rough(latents)
        return whole(network.apply(self._fine, rough) if self._fine else rough)

    def _velocity(
        self, latents: Floats, time: float, wanted: Floats, unwanted: Floats, strength: float
    ) -> Floats:
        times = np.full(2 * len(latents), time, np.float32)
        both = self._flow(np.concatenate([latents, latents]), times, np.concatenate([wanted, unwanted]))
        towards, anyway = both[: len(latents)], both[len(latents) :]
        guided: Floats = anyway + np.float32(strength) * (towards - anyway)
        return guided

    @staticmethod
    def _check(
        texts: Sequence[str],
        seeds: Sequence[int],
        steps: int,
        negative: Sequence[str] | None,
        styles: Sequence[str | None] | None,
    ) -> None:
        if any(given is not None and len(given) != len(texts) for given in (seeds, negative, styles)):
            raise ValueError("one seed, negative text and style a text")
        if steps < 1:
            raise ValueError("at least one step")
        if unknown := {style for style in styles or () if style is not None} - set(STYLES):
            raise ValueError(f"no style {', '.join(sorted(unknown))}; there are {', '.join(STYLES)}")


_loading = threading.Lock()


@cache
def _read() -> Drawer:
    return Drawer(unpack(SHIPPED))


def _shipped() -> Drawer:
    with _loading:
        return _read()

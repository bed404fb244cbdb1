"""A moving picture from a still one by simple rules: what stands out from its background sways, the rest drifts.

No model moves anything here; docs/models/generators.md says so. A picture with a plain background is taken apart: the
cut-out bobs to the beat of the request's mood over a background that changes slowly by correlated noise. Any other
picture is panned and zoomed. All motion is periodic, so that a clip of any length is one short cycle over and over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.generators.base import (
    GenerationError,
    GenerationParams,
    Generator,
    Kind,
    Limits,
    Pixels,
    RawOutput,
    Step,
    Watch,
)

FPS = 24
CYCLE_S = 2.0
#: Beats a minute where no mood says otherwise.
TEMPO, ENERGY = 96.0, 0.5
#: Levels that a pixel may differ from the background's colour, and shares of the picture that a cut-out covers.
DISTANCE, LEAST, MOST = 24.0, 0.03, 0.8
#: Of the border, so much must be of one colour.
PLAIN = 0.9
DRIFT = 12.0
PREVIEW_EVERY = 12

Plane = NDArray[np.float32]


class SmallClip(Generator):
    name = "small-clip"
    kind: Kind = "video"
    model = "Crosslight small clip 1"
    how = "layout"
    limits = Limits(max_side=1024, max_seconds=30.0, max_batch=1)

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        return [_clip(params, watch) for params in batch]


def load(argument: str) -> SmallClip:
    return SmallClip()


def _clip(params: GenerationParams, watch: Watch) -> RawOutput:
    if params.picture is None:
        raise GenerationError("unreadable", "small-clip moves a picture: ask for a picture with the clip.")
    tempo = float(params.mood.tempo) if params.mood else TEMPO
    beats = max(1, round(CYCLE_S * tempo / 60))
    count = round(beats * 60 / tempo * FPS)
    scene = _scene(params)
    frames = np.empty((count, *scene.picture.shape), np.uint8)
    for at in range(count):
        frames[at] = scene.at(at / count, beats)
        watch(Step(at + 1, count, frames[at] if at % PREVIEW_EVERY == 0 else None))
    seconds = max(params.seconds, params.sound.seconds) if params.sound else params.seconds
    return RawOutput(frames=frames, fps=FPS, count=round(seconds * FPS), sound=params.sound)


# --- What moves ---


@dataclass(frozen=True)
class _Scene:
    """``picture``: uint8 [h, w, 3]. ``cut``: float32 [h, w, 1] in 0..1, what stands out; None where nothing does.

    ``drift``: two smooth fields [h, w, 3] of noise between which the background goes round.
    """

    picture: Pixels
    cut: Plane | None
    back: NDArray[Any]
    drift: tuple[Plane, Plane]
    energy: float
    lean: float

    def at(self, phase: float, beats: int) -> Pixels:
        """The frame at ``phase`` (0..1) of the cycle."""
        turn = 2 * np.pi * phase
        if self.cut is None:
            return _warped(self.picture, 1.1 + 0.06 * np.cos(turn), 0.0, 0.03 * np.sin(turn) * self.lean, 0.0)
        back = self.back + DRIFT * (self.drift[0] * np.cos(turn) + self.drift[1] * np.sin(turn))
        lift = -0.05 * self.energy * abs(np.sin(turn * beats / 2))
        move = (
            1 + 0.02 * np.sin(turn),
            5 * self.energy * np.sin(turn) * self.lean,
            0.02 * np.sin(turn),
            lift,
        )
        front, cut = _warped(self.picture, *move), _warped(self.cut, *move)
        mixed = back + (front - back) * np.atleast_3d(cut)
        return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _scene(params: GenerationParams) -> _Scene:
    picture = _fitted(params)
    rng = np.random.default_rng(params.seed)
    colour = _background(picture)
    energy = float(params.mood.energy) if params.mood else ENERGY
    return _Scene(
        picture,
        _cut(picture, colour) if colour is not None else None,
        np.broadcast_to(colour if colour is not None else np.zeros(3, np.float32), picture.shape),
        (_smooth(rng, picture), _smooth(rng, picture)),
        0.4 + energy,
        float(rng.choice([-1, 1])),
    )


def _fitted(params: GenerationParams) -> Pixels:
    """The picture at the clip's size, cut at the sides where its shape differs."""
    import cv2

    picture = params.picture if params.picture is not None else np.zeros((1, 1, 3), np.uint8)
    height, width = picture.shape[:2]
    wanted_w, wanted_h = params.width // 2 * 2, params.height // 2 * 2
    scale = max(wanted_w / width, wanted_h / height)
    size = (max(wanted_w, round(width * scale)), max(wanted_h, round(height * scale)))
    large: Any = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (large.shape[0] - wanted_h) // 2, (large.shape[1] - wanted_w) // 2
    return np.ascontiguousarray(large[top : top + wanted_h, left : left + wanted_w])


def _background(picture: Pixels) -> Plane | None:
    """The colour of the border, if it is of one colour: float32 [3]."""
    edges = list(_edges(picture))
    border = np.concatenate(edges).astype(np.float32)
    colour = np.median(border, axis=0)
    plain = float(np.mean(np.abs(border - colour).max(axis=1) < DISTANCE))
    return colour.astype(np.float32) if plain >= PLAIN else None


def _edges(picture: Pixels) -> Iterator[Pixels]:
    yield picture[0]
    yield picture[-1]
    yield picture[:, 0]
    yield picture[:, -1]


def _cut(picture: Pixels, colour: Plane) -> Plane | None:
    """What cannot be reached from the border over the background's colour, with soft edges; None for all or nothing."""
    import cv2

    like = (np.abs(picture - colour).max(axis=2) < DISTANCE).astype(np.uint8)
    # A frame of background around it joins the pieces that touch the border.
    _, regions = cv2.connectedComponents(np.pad(like, 1, constant_values=1), connectivity=4)
    outside = regions[1:-1, 1:-1] == regions[0, 0]
    if not LEAST <= 1 - outside.mean() <= MOST:
        return None
    soft: Any = cv2.GaussianBlur((~outside).astype(np.float32), (0, 0), 1.2)
    return np.asarray(soft, np.float32)[..., None]


def _smooth(rng: np.random.Generator, picture: Pixels) -> Plane:
    import cv2

    height, width = picture.shape[:2]
    coarse = rng.normal(0, 0.6, (5, 5, 3)).astype(np.float32)
    field: Any = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field, np.float32)


def _warped(plane: Any, scale: float, degrees: float, right: float, down: float) -> Any:
    """Enlarged and turned around its middle, then moved by shares of its sides."""
    import cv2

    height, width = plane.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    matrix[:, 2] += (right * width, down * height)
    return cv2.warpAffine(
        plane, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )

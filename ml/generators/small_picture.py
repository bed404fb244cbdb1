"""Pictures by the small drawing model that comes with Crosslight (``ml.drawing``): emoji-like things on white.

It draws 64 pixels, which are enlarged; it knows single things and cannot put several together. A request that allows it
(``arrange``) and names several known things gets each drawn for itself, side by side: ``how`` is then ``layout``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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

if TYPE_CHECKING:
    from ml.drawing.drawer import Drawer


# --- Objects in a prompt ---------------------------------------------------------------------------------
# Which things a prompt names that drawings exist of, for a layout of parts drawn one by one.


MOST = 4
_COLOURS = "red|orange|yellow|green|blue|purple|brown|pink|grey|gray|black|white"


def objects_in(prompt: str) -> list[str]:
    """At most ``MOST`` things in the order of the prompt, each with the colour before it; none twice.

    Exact words of a list (English, singular or plural): what is not in it is not a thing.
    """
    found = (match.group().lower() for match in _pattern().finditer(prompt))
    return list(dict.fromkeys(found))[:MOST]


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    listed = (Path(__file__).parent / "things.txt").read_text("utf-8").split("\n")
    # The longest first: "fire engine" is no fire.
    words = "|".join(re.escape(thing) for thing in sorted(filter(None, listed), key=len, reverse=True))
    return re.compile(rf"\b(?:(?:{_COLOURS}) )?(?:{words})(?:e?s)?\b", re.IGNORECASE)


# --- Upscaling -------------------------------------------------------------------------------------------
# Small drawings made large with clear edges: cubic interpolation, then a shock filter at the size of an old pixel.
#
# A shock filter (Osher and Rudin, 1990) lets the bright side of an edge grow towards it and the dark side, too,
# until they meet; flat colours stay flat. It suits drawings. It adds no detail that was not there.


ROUNDS, SHARE = 3, 0.6


def enlarged(pixels: Pixels, side: int) -> Pixels:
    """uint8 [s, s, 3] to [side, side, 3]."""
    import cv2

    scale = side / pixels.shape[0]
    picture: Any = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    if scale > 1.5:
        # Rounds the staircases of slanted edges, which would be made clear as well.
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 * scale)
        for _ in range(ROUNDS):
            picture = _clearer(picture, scale)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _clearer(picture: Any, scale: float) -> Any:
    import cv2

    width = max(1, round(scale / 4)) * 2 + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    light = cv2.GaussianBlur(picture @ np.array([0.299, 0.587, 0.114], np.float32), (0, 0), 0.4 * scale)
    bend = cv2.Laplacian(light, cv2.CV_32F, ksize=1)[..., None] * scale**2
    # Where the light hardly bends there is no edge to move.
    share = SHARE * np.clip(np.abs(bend) / 16, 0, 1)
    grown = np.where(bend < 0, cv2.dilate(picture, disc), cv2.erode(picture, disc))
    return picture + share * (grown - picture)


# --- Generator -------------------------------------------------------------------------------------------


WHITE = 255


class SmallPicture(Generator):
    name = "small-picture"
    kind: Kind = "image"
    limits = Limits(max_side=1024, max_steps=100, max_batch=8)

    @property
    def model(self) -> str:  # type: ignore[override]
        return f"Crosslight {_drawer().version}"

    def missing(self) -> str:
        try:
            _drawer()
        except GenerationError as error:
            return error.message
        return ""

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        groups = [
            list(group) for _, group in groupby(batch, key=lambda params: (params.steps, params.guidance))
        ]
        total, before, raws = sum(group[0].steps for group in groups), 0, list[RawOutput]()
        for group in groups:
            raws += _drawn(group, _counting(watch, before, total))
            before += group[0].steps
        return raws


def load(argument: str) -> SmallPicture:
    return SmallPicture()


@lru_cache(maxsize=1)
def _drawer() -> Drawer:
    from ml.drawing.drawer import Drawer, DrawingError

    try:
        return Drawer.load()
    except DrawingError as error:
        raise GenerationError("not-installed", f"The drawing model cannot be used: {error}") from error


def _counting(watch: Watch, before: int, total: int) -> Watch:
    return lambda step: watch(Step(before + step.done, total, step.preview))


def _drawn(batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
    """Outputs of equal steps and guidance; all their parts in one batch."""
    parts = [_parts(params) for params in batch]
    rows = [(params, part) for params, texts in zip(batch, parts, strict=True) for part in texts]

    def step(done: int, total: int, shown: Pixels | None) -> None:
        watch(Step(done, total, shown[0] if shown is not None else None))

    drawings = _drawer().draw(
        [text for _, text in rows],
        seeds=[params.seed for params, _ in rows],
        steps=batch[0].steps,
        guidance=batch[0].guidance,
        negative=[params.negative for params, _ in rows],
        watch=step,
    )
    return list(_raws(batch, parts, drawings))


def _parts(params: GenerationParams) -> list[str]:
    """What to draw for a request: the prompt, or each of several things in it."""
    things = objects_in(params.prompt) if params.arrange else []
    return things if len(things) > 1 else [params.prompt]


def _raws(
    batch: Sequence[GenerationParams], parts: Sequence[Sequence[str]], drawings: Pixels
) -> list[RawOutput]:
    raws, at = list[RawOutput](), 0
    for params, texts in zip(batch, parts, strict=True):
        own = drawings[at : at + len(texts)]
        at += len(texts)
        raws.append(RawOutput(pixels=_placed(own, params), how="layout" if len(texts) > 1 else None))
    return raws


def _placed(drawings: Pixels, params: GenerationParams) -> Pixels:
    """The drawings in a grid on white, as large as they fit."""
    canvas = np.full((params.height, params.width, 3), WHITE, np.uint8)
    columns, rows = _grid(len(drawings), params)
    cell_w, cell_h = params.width // columns, params.height // rows
    side = min(cell_w, cell_h)
    top = (params.height - rows * side) // 2
    for at, drawing in enumerate(drawings):
        row, column = divmod(at, columns)
        in_row = min(columns, len(drawings) - row * columns)
        y, x = top + row * side, (params.width - in_row * side) // 2 + column * side
        canvas[y : y + side, x : x + side] = enlarged(drawing, side)
    return canvas


def _grid(count: int, params: GenerationParams) -> tuple[int, int]:
    """Columns and rows in which the cells are largest."""

    def side(columns: int) -> float:
        return min(params.width / columns, params.height / -(-count // columns))

    columns = max(range(1, count + 1), key=side)
    return columns, -(-count // columns)

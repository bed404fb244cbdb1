"""Pictures by the small drawing model that comes with Crosslight (``ml.drawing``): emoji-like things on white.

It draws 64 pixels, which are enlarged; it knows single things and cannot put several together. A request that allows it
(``arrange``) and names several known things gets each drawn for itself, side by side: ``how`` is then ``layout``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ml.generators._objects import objects_in
from ml.generators._upscaling import enlarged
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

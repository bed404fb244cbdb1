"""Pictures by the small drawing model that comes with Crosslight (``ml.drawing``): emoji-like things on white.

It draws 64 pixels, which are enlarged; it knows single things and cannot put several together. A wish that allows it
(``arrange``) and names several known things gets each drawn for itself, side by side: ``how`` is then ``layout``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ml.generators._things import things_in
from ml.generators._upscaling import enlarged
from ml.generators.base import GenerationError, Generator, Kind, Limits, Pixels, Raw, Step, Watch, Wish

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

    def draw(self, wishes: Sequence[Wish], watch: Watch) -> list[Raw]:
        groups = [list(group) for _, group in groupby(wishes, key=lambda wish: (wish.steps, wish.guidance))]
        total, before, raws = sum(group[0].steps for group in groups), 0, list[Raw]()
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


def _drawn(wishes: Sequence[Wish], watch: Watch) -> list[Raw]:
    """Wishes of equal steps and guidance; all their parts in one batch."""
    parts = [_parts(wish) for wish in wishes]
    rows = [(wish, part) for wish, texts in zip(wishes, parts, strict=True) for part in texts]

    def step(done: int, total: int, shown: Pixels | None) -> None:
        watch(Step(done, total, shown[0] if shown is not None else None))

    drawings = _drawer().draw(
        [text for _, text in rows],
        seeds=[wish.seed for wish, _ in rows],
        steps=wishes[0].steps,
        guidance=wishes[0].guidance,
        negative=[wish.negative for wish, _ in rows],
        watch=step,
    )
    return list(_raws(wishes, parts, drawings))


def _parts(wish: Wish) -> list[str]:
    """What to draw for a wish: the prompt, or each of several things in it."""
    things = things_in(wish.prompt) if wish.arrange else []
    return things if len(things) > 1 else [wish.prompt]


def _raws(wishes: Sequence[Wish], parts: Sequence[Sequence[str]], drawings: Pixels) -> list[Raw]:
    raws, at = list[Raw](), 0
    for wish, texts in zip(wishes, parts, strict=True):
        own = drawings[at : at + len(texts)]
        at += len(texts)
        raws.append(Raw(pixels=_placed(own, wish), how="layout" if len(texts) > 1 else None))
    return raws


def _placed(drawings: Pixels, wish: Wish) -> Pixels:
    """The drawings in a grid on white, as large as they fit."""
    canvas = np.full((wish.height, wish.width, 3), WHITE, np.uint8)
    columns, rows = _grid(len(drawings), wish)
    cell_w, cell_h = wish.width // columns, wish.height // rows
    side = min(cell_w, cell_h)
    top = (wish.height - rows * side) // 2
    for at, drawing in enumerate(drawings):
        row, column = divmod(at, columns)
        in_row = min(columns, len(drawings) - row * columns)
        y, x = top + row * side, (wish.width - in_row * side) // 2 + column * side
        canvas[y : y + side, x : x + side] = enlarged(drawing, side)
    return canvas


def _grid(count: int, wish: Wish) -> tuple[int, int]:
    """Columns and rows in which the cells are largest."""

    def side(columns: int) -> float:
        return min(wish.width / columns, wish.height / -(-count // columns))

    columns = max(range(1, count + 1), key=side)
    return columns, -(-count // columns)

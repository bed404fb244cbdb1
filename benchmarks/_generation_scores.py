"""Which space tells what a drawing shows: of 100 things, is the one that was asked for the nearest?

Things by name, each drawn with three seeds, compared with all names in each space that a workspace can start with. The
drawings are made from words as `prior-2` places them, so that it is favoured. A score is the cosine of a drawing with
its own name; what other drawings reach says how much of it is chance.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from _report import Line, sized
from numpy.typing import NDArray
from PIL import Image

from ml.alignment.space import SHIPPED, JointSpace
from ml.alignment.storage import missing_models
from ml.drawing.drawer import Drawer

THINGS, SEEDS, SIDE = sized(100, 8), sized(3, 1), 512
SPACES = ("prior-2", "open-2")

Pixels = NDArray[np.uint8]


def run() -> list[Line]:
    known = (Path(__file__).parent / "drawn_things.txt").read_text("utf-8").split("\n")
    known = [name for name in known if name]
    names = [known[at] for at in np.random.default_rng(0).permutation(len(known))[:THINGS]]
    drawer = Drawer.load()
    drawn = np.concatenate(
        [drawer.draw(names, seeds=[1000 * (seed + 1) + at for at in range(THINGS)]) for seed in range(SEEDS)]
    )
    pictures = [
        np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for one in drawn
    ]
    return [line for name in SPACES for line in _lines(name, names, pictures)]


def _lines(name: str, names: list[str], pictures: list[Pixels]) -> list[Line]:
    space = JointSpace.load(SHIPPED.parent / name)
    if lacking := missing_models(space.manifest):
        return [Line(f"skipped: {name}, {', '.join(lacking)} is not prepared", "-")]
    begun = time.process_time()
    placed = np.concatenate(
        [space.embed_images(pictures[at : at + 16]) for at in range(0, len(pictures), 16)]
    )
    cost = (time.process_time() - begun) / len(pictures)
    scores = (space.embed_texts(names) @ placed.T).reshape(THINGS, SEEDS, THINGS)
    own = scores[np.arange(THINGS), :, np.arange(THINGS)]
    others = scores[~np.eye(THINGS, dtype=bool)[:, None, :].repeat(SEEDS, 1)]
    ranks = (scores > own[:, :, None]).sum(2)
    return [
        Line(
            f"{name}: the own drawing is first, among {THINGS}",
            round(100 * float((ranks < 1).mean()), 1),
            "%",
        ),
        Line("  among the first ten", round(100 * float((ranks < 10).mean()), 1), "%"),
        Line("  score of the own drawing, median", round(float(np.median(own)), 3)),
        Line("  score that one in a hundred others reaches", round(float(np.quantile(others, 0.99)), 3)),
        Line("  of the processor, a drawing", round(cost, 2), "s"),
    ]

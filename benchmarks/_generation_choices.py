"""How the drawings' settings are chosen: on concepts that neither teach the generator nor test it.

The judge's concepts are parted by family. Those of one half fit a judge; labels of the other half are the prompts that
it ranks (pools of 100, three seeds), drawn with each value of a setting while the others stay as shipped. Test
concepts, whose figures are reported, are not looked at. ``WEIGHTS`` names another file of weights, as of a run without
some part of the loss.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _generation_judge import Eyes, fitted, words_once
from _generation_pictures import COPY, FIRST, POOL, SEEDS, flat, nearest
from _report import Line

from ml.drawing.drawer import GUIDANCE, SHARPNESS, STEPS, Drawer
from ml.drawing.packing import Packed, unpack
from research.drawing.designs import (
    JUDGE,
    SPLIT_WEIGHTS,
    TRAIN,
    Design,
    Designs,
    Pixels,
    family,
    load_designs,
)

#: Values that are tried, one setting at a time.
SHARPNESSES = (0.1, 0.05, 0.02, 0.01, 0.005)
GUIDANCES = (1.5, 3.0, 5.0, 7.5)
STEP_COUNTS = (25, 50)


@dataclass(frozen=True)
class Choice:
    """One way to draw."""

    named: str
    sharpness: float = SHARPNESS
    guidance: float = GUIDANCE
    steps: int = STEPS
    #: What is taken out of the weights' file: "fine", "names".
    without: tuple[str, ...] = field(default=())


CHOICES = (
    Choice("as shipped"),
    *(Choice(f"sharpness {one:g}", sharpness=one) for one in SHARPNESSES if one != SHARPNESS),
    Choice("words as they are", without=("names",)),
    *(Choice(f"guidance {one:g}", guidance=one) for one in GUIDANCES if one != GUIDANCE),
    *(Choice(f"{one} steps", steps=one) for one in STEP_COUNTS if one != STEPS),
    Choice("without the finishing touch", without=("fine",)),
)


def run() -> list[Line]:
    designs = load_designs()
    if designs is None:
        return [Line("skipped: no drawings; `python -m research.drawing fetch` makes them", "-")]
    path = Path(os.environ.get("WEIGHTS") or SPLIT_WEIGHTS)
    return [Line("weights", unpack(path).digest), *Choosing(designs, unpack(path)).lines()]


class Choosing:
    """The pools and the judge, fitted once for all choices."""

    def __init__(self, designs: Designs, packed: Packed) -> None:
        self.designs, self.packed, self.eyes = designs, packed, Eyes()
        concepts = designs.of(JUDGE)
        self.judge = fitted(self.eyes, designs, [one for one in concepts if not _asked(one)])
        prompts = [one for one in concepts if _asked(one)]
        self.pools = [
            [prompts[number] for number in np.random.default_rng(seed).permutation(len(prompts))[:POOL]]
            for seed in SEEDS
        ]
        taught = designs.pixels[[row for one in designs.of(TRAIN) for row in one.pictures.values()]]
        self.taught = flat(np.concatenate([taught, taught[:, :, ::-1]]))

    def lines(self) -> list[Line]:
        real = [
            self._first(pool, self._real(pool, seed)) for seed, pool in zip(SEEDS, self.pools, strict=True)
        ]
        lines = [Line(f"real drawings, R@10 of {POOL}", _shown(real), "%")]
        for choice in CHOICES:
            drawn = [self._drawn(choice, pool, seed) for seed, pool in zip(SEEDS, self.pools, strict=True)]
            found = [self._first(pool, pixels) for pool, pixels in zip(self.pools, drawn, strict=True)]
            distances, _ = nearest(flat(np.concatenate(drawn)), self.taught)
            copies = 100 * float((distances < COPY).mean())
            lines.append(Line(f"{choice.named}, R@10 (copies {copies:.1f} %)", _shown(found), "%"))
        return lines

    def _drawn(self, choice: Choice, pool: list[Design], seed: int) -> Pixels:
        nothing: dict[str, Any] = {"fine": {}, "names": self.packed.names[:0]}
        packed = replace(self.packed, **{name: nothing[name] for name in choice.without})
        labels = [one.label for one in pool]
        seeds = [1_000 * seed + place for place in range(len(labels))]
        drawer = Drawer(packed, choice.sharpness)
        return drawer.draw(labels, seeds=seeds, steps=choice.steps, guidance=choice.guidance)

    def _real(self, pool: list[Design], seed: int) -> Pixels:
        chance = np.random.default_rng(seed)
        return self.designs.pixels[[int(chance.choice(list(one.pictures.values()))) for one in pool]]

    def _first(self, pool: list[Design], pixels: Pixels) -> float:
        """R@10 of the own label, in percent."""
        scores = self.judge.scores(self.eyes.look(pixels), words_once([one.label for one in pool]))
        ranks = (scores > np.diag(scores)[:, None]).sum(axis=1)
        return 100 * float((ranks < FIRST).mean())


def _asked(one: Design) -> bool:
    """Whether a concept is a prompt here, or fits the judge; a family is on one side."""
    return hashlib.sha256(f"choices:{family(one.label)}".encode()).digest()[0] % 2 == 0


def _shown(found: list[float]) -> str:
    return f"{np.mean(found):.1f}±{np.std(found):.1f}"

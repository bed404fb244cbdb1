"""Drawings by the embedded model: do they show what was asked for?

A judge fitted on other concepts than the generator's (``_generation_judge.py``) ranks 100 prompts by how they fit a
drawing; a row says how often the own prompt is first, and among the first ten. Prompts are labels of concepts that the
generator never saw ("held out"), or that it learnt. Real drawings of the same concepts are the ceiling. Three seeds
choose the pools and the noise; the spread is their standard deviation.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from _generation_judge import Eyes, Seen, fitted, words_once
from _report import Line, at_least, at_most
from numpy.typing import NDArray

from ml.alignment.space import JointSpace
from ml.drawing.conditioning import TEXT
from ml.drawing.drawer import Drawer
from ml.drawing.packing import SHIPPED
from research.drawing.designs import SPLIT_WEIGHTS, TEST, TRAIN, Design, Designs, Pixels, load_designs

Floats = NDArray[np.float32]

POOL, SEEDS, FIRST = 100, (0, 1, 2), 10
CANDIDATES = 4
#: Of the ceiling, for prompts never trained on; in percent, for those learnt; of drawings that are copies; seconds.
RATIO, LEARNT, COPIES, SECONDS, MEGABYTES = 0.6, 55.0, 2.0, 5.0, 40.0
COPY = 0.05


@dataclass(frozen=True)
class Pool:
    """100 concepts of one split, and the words of their labels."""

    concepts: list[Design]
    words: Floats


def run() -> list[Line]:
    designs = load_designs()
    if designs is None:
        return [Line("skipped: no drawings; `python -m research.drawing fetch` makes them", "-")]
    return Pictures(designs).lines()


class Pictures:
    """Everything measured, seed by seed; each row of ``found`` is R@1 and R@10 by seed."""

    def __init__(self, designs: Designs) -> None:
        self.designs, self.eyes, self.drawer = designs, Eyes(), Drawer.load(SPLIT_WEIGHTS)
        self.judge = fitted(self.eyes, designs)
        self.found: dict[str, list[tuple[float, float]]] = {}
        learnt = [row for one in designs.of(TRAIN) for row in one.pictures.values()]
        self._taught = designs.pixels[learnt]
        self._owners = [one.label for one in designs.of(TRAIN) for _ in one.pictures]
        self._drawn: dict[str, list[Pixels]] = {TEST: [], TRAIN: []}
        self._pools: dict[str, list[Pool]] = {TEST: [], TRAIN: []}

    def lines(self) -> list[Line]:
        for seed in SEEDS:
            for split, named in ((TEST, "held out"), (TRAIN, "learnt")):
                pool = self._pool(split, seed)
                drawn = self._draw(pool, seed)
                self._drawn[split].append(drawn)
                self._pools[split].append(pool)
                self._note(f"{named}, drawn", pool, drawn)
                self._note_real(f"{named}, real drawings", pool, seed)
            self._baselines(self._pools[TEST][-1], seed)
        self._candidates()
        return [*self._table(), *self._copies(), *self._costs()]

    def _pool(self, split: str, seed: int) -> Pool:
        concepts = self.designs.of(split)
        chosen = np.random.default_rng(seed).permutation(len(concepts))[:POOL]
        rows = [concepts[number] for number in chosen]
        return Pool(rows, words_once([one.label for one in rows]))

    def _draw(self, pool: Pool, seed: int) -> Pixels:
        labels = [one.label for one in pool.concepts]
        return self.drawer.draw(labels, seeds=[1_000 * seed + place for place in range(len(labels))])

    def _note(self, row: str, pool: Pool, drawn: Pixels) -> None:
        self._judge(row, pool, self.eyes.look(drawn), np.arange(POOL))

    def _judge(self, row: str, pool: Pool, seen: Seen, places: NDArray[Any]) -> None:
        """R@1 and R@10 of the own text of each drawing, at ``places`` of the pool."""
        scores = self.judge.scores(seen, pool.words)
        ranks = (scores > scores[np.arange(len(scores)), places][:, None]).sum(axis=1)
        self.found.setdefault(row, []).append((float((ranks < 1).mean()), float((ranks < FIRST).mean())))

    def _note_real(self, row: str, pool: Pool, seed: int) -> None:
        """One drawing a concept, its style by chance, as of those drawn here."""
        chance = np.random.default_rng(seed)
        rows = [int(chance.choice(list(one.pictures.values()))) for one in pool.concepts]
        self._judge(row, pool, self.eyes.real(self.designs, rows), np.arange(POOL))

    def _baselines(self, pool: Pool, seed: int) -> None:
        """No generation: the training drawing whose name is nearest to the prompt; and noise."""
        taught = self.designs.of(TRAIN)
        named = words_once([one.label for one in taught])[:, :TEXT]
        places = (pool.words[:, :TEXT] @ named.T).argmax(axis=1)
        chance = np.random.default_rng(seed)
        chosen = [list(taught[number].pictures.values()) for number in places]
        rows = [int(chance.choice(numbers)) for numbers in chosen]
        self._note("held out, nearest training drawing", pool, self.designs.pixels[rows])
        noise = chance.integers(0, 256, (POOL, 64, 64, 3), np.uint8)
        self._note("held out, noise", pool, noise)

    def _candidates(self) -> None:
        """Of several, the one that the platform's joint space scores best; one seed, as looking takes minutes."""
        space = JointSpace.load()
        for split, named in ((TEST, "held out"), (TRAIN, "learnt")):
            pool = self._pools[split][0]
            labels = [one.label for one in pool.concepts]
            more = [self._drawn[split][0]]
            for turn in range(1, CANDIDATES):
                seeds = [100_000 * turn + place for place in range(POOL)]
                more.append(self.drawer.draw(labels, seeds=seeds))
            asked = space.embed_texts(labels)
            scores = np.stack([(space.embed_images(list(drawn)) * asked).sum(axis=1) for drawn in more])
            best = np.stack(more)[scores.argmax(axis=0), np.arange(POOL)]
            self._note(f"{named}, best of {CANDIDATES} (one seed)", pool, best)

    def _table(self) -> list[Line]:
        lines = []
        for row, found in self.found.items():
            first, tenth = (100 * np.array(column) for column in zip(*found, strict=True))
            shown = f"{first.mean():.1f}±{first.std():.1f} / {tenth.mean():.1f}±{tenth.std():.1f}"
            lines.append(Line(f"{row}, R@1 / R@10 of {POOL}", shown, "%"))
        held, real = self._tenth("held out, drawn"), self._tenth("held out, real drawings")
        ratio = at_least("held out: R@10 against real drawings'", held / real, RATIO)
        return [*lines, ratio, at_least("learnt: R@10", 100 * self._tenth("learnt, drawn"), LEARNT, "%")]

    def _tenth(self, row: str) -> float:
        return float(np.mean([tenth for _, tenth in self.found[row]]))

    def _copies(self) -> list[Line]:
        both = np.concatenate([self._taught, self._taught[:, :, ::-1]])
        taught = flat(both)
        held, _ = nearest(flat(np.concatenate(self._drawn[TEST])), taught)
        _, places = nearest(flat(np.concatenate(self._drawn[TRAIN])), taught)
        own = [one.label for pool in self._pools[TRAIN] for one in pool.concepts]
        same = [
            self._owners[place % len(self._owners)] == label for place, label in zip(places, own, strict=True)
        ]
        return [
            at_most(
                f"held out: within RMSE {COPY} of a training drawing",
                100 * float((held < COPY).mean()),
                COPIES,
                "%",
            ),
            Line("held out: median RMSE to the nearest training drawing", round(float(np.median(held)), 3)),
            Line(
                "learnt: nearest to a drawing of their own concept", round(100 * float(np.mean(same)), 1), "%"
            ),
        ]

    def _costs(self) -> list[Line]:
        start = time.perf_counter()
        self.drawer.draw(["a red apple"], seeds=[1])
        took = time.perf_counter() - start
        size = SHIPPED.stat().st_size / 2**20
        return [
            at_most("one drawing, 25 steps", took, SECONDS, "s"),
            at_most("weights", size, MEGABYTES, "MiB"),
            Line("weights", self.drawer.version),
        ]


def flat(pixels: Pixels) -> Floats:
    return pixels.reshape(len(pixels), -1).astype(np.float32) / 255


def nearest(drawn: Floats, taught: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """RMSE to the nearest, and which that is."""
    squares = (drawn**2).sum(1)[:, None] + (taught**2).sum(1)[None] - 2 * drawn @ taught.T
    places = squares.argmin(axis=1)
    distances = np.sqrt(np.maximum(squares[np.arange(len(drawn)), places], 0) / drawn.shape[1])
    return distances, places

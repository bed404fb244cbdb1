"""Composed queries, one part damaged: the gate against fixed weights (`python benchmarks/_learning_gate.py`).

What is searched are assets of a picture and a text, as a shop or an archive has them; a query is another view of the
picture and words, or speech. The gate was trained on none of these sets. Fixed weights are the best of a grid, chosen
on the very queries that they are judged on: to their favour.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from _data import DATA, OUT, rows_of
from _report import Line, at_least, at_most, sized

from ml.alignment.gate_fitting import weights_of
from ml.alignment.gating import PARTS, Gate, Network
from ml.alignment.space import JointSpace
from research.alignment import train_gate
from research.alignment.composed_queries import (
    CLEAN,
    WORDS_SEEN,
    WORDS_UNSEEN,
    CachedImages,
    Composed,
    Shot,
    Wanted,
    compose,
)
from research.alignment.spoken_queries import Said, spoken
from research.alignment.train_gate import MOST, PRIOR, SEEN, UNSEEN, Sources, prepared, trained

CACHE = OUT / "gate"
GRID = np.linspace(0, 1, 41)
RESAMPLES = sized(2_000, 10)
WANTED = 19.3
KINDS = (*SEEN, *UNSEEN, *WORDS_SEEN[1:], *WORDS_UNSEEN)
#: Recordings of which each is heard four times, which takes a second or two each.
SPOKEN = sized(24, 2)
Array = Any


@dataclass(frozen=True)
class Judged:
    """Ranks [n] (0 is best) of a set's damaged queries: under the best fixed weights, under the gate's, with the
    damaged part left out, and with the best weight of the grid for each query."""

    name: str
    fixed: Array
    gate: Array
    spared: Array
    oracle: Array
    keys: Array
    kinds: Array
    best: float

    def only(self, rows: Array) -> Judged:
        arrays = (
            each[rows] for each in (self.fixed, self.gate, self.spared, self.oracle, self.keys, self.kinds)
        )
        return Judged(self.name, *arrays, self.best)


def error(ranks: Array) -> float:
    """1 - R@1, in per cent."""
    return float(100 * (ranks > 0).mean())


def judged(composed: Composed, weights: Array) -> Judged:
    """``weights`` [n, p] that the gate gives."""
    worse = composed.damaged != CLEAN
    other = next(place for place, part in enumerate(PARTS) if part in composed.parts[0] and part != "image")
    grid = np.stack([composed.ranks(_fixed(len(weights), share, other)) for share in GRID])[:, worse]
    best = int(np.argmin([error(ranks) for ranks in grid]))
    spared = np.where(composed.damaged[worse] == "image", grid[0], grid[-1])
    keys, kinds = composed.groups[worse], composed.kinds[worse]
    return Judged(
        composed.name,
        grid[best],
        composed.ranks(weights)[worse],
        spared,
        grid.min(axis=0),
        keys,
        kinds,
        GRID[best],
    )


def _fixed(count: int, share: float, other: int) -> Array:
    weights = np.zeros((count, len(PARTS)))
    weights[:, PARTS.index("image")], weights[:, other] = share, 1 - share
    return weights


def gain(one: Judged) -> tuple[float, float, float]:
    """How much smaller the gate's error is, in per cent, and its 95 % interval: paired, over pictures."""
    _, index = np.unique(one.keys, return_inverse=True)
    sums = np.stack([np.bincount(index, ranks > 0) for ranks in (one.fixed, one.gate)], axis=1)
    random = np.random.default_rng(0)
    picked = sums[random.integers(0, len(sums), (RESAMPLES, len(sums)))].sum(axis=1)
    low, high = np.percentile(100 * (1 - picked[:, 1] / picked[:, 0]), [2.5, 97.5])
    fixed, gate = sums.sum(axis=0)
    return float(100 * (1 - gate / fixed)), float(low), float(high)


def told(one: Judged, label: str = "") -> None:
    found, low, high = gain(one)
    cells = [f"{error(ranks):5.1f}" for ranks in (one.fixed, one.gate, one.spared, one.oracle)]
    other = [
        f"{100 * (ranks < 10).mean():5.1f} {(1 / (ranks + 1)).mean():.3f}" for ranks in (one.fixed, one.gate)
    ]
    print(
        f"  {label or one.name:38}{len(one.gate):>6}  {'  '.join(cells)}  -{found:4.1f} % [{low:.1f}, {high:.1f}]"
        f"   R@10 MRR {' -> '.join(other)}   fixed: picture {one.best:.2f}"
    )


# --- The sets --------------------------------------------------------------------------------------------


def flickr(sources: Sources, eyes: CachedImages) -> Iterator[Composed]:
    """Photos with one caption in the index; another view and another caption ask for them."""
    rows = rows_of("flickr8k_1k")
    if rows is None:
        return
    folder, views = DATA / "flickr8k_1k", rows[::2]
    pictures = eyes.store([Shot(row["id"], folder / row["path"]) for row in rows], "flickr-shown")
    captions = eyes.read([row["text"][0] for row in rows], "flickr")
    shots = sources.shots(
        "flickr", [Shot(row["id"], folder / row["path"], view=True) for row in views], MOST, 2
    )
    wanted = [
        Wanted(
            row["id"],
            row["id"],
            row["text"][1:],
            [2 * at],
            [one["text"][0] for one in rows if one is not row],
        )
        for at, row in enumerate(views)
    ]
    for name, gallery, seed in (
        ("flickr/captioned", [pictures, captions], 18),
        ("flickr/pictures", [pictures], 13),
    ):
        yield compose(name, wanted, shots, gallery, eyes, sources.chatter, seed)


def fashion(sources: Sources, eyes: CachedImages) -> Iterator[Composed]:
    """Products with their titles in the index; another view and some of the title's words ask for them."""
    rows = rows_of("fashion_products")
    if rows is None:
        return
    np.random.default_rng(3).shuffle(rows)
    rows, folder = rows[:800], DATA / "fashion_products"
    views = rows[:300]
    pictures = eyes.store([Shot(row["id"], folder / row["path"]) for row in rows], "fashion-shown")
    titles = eyes.read([row["text"] for row in rows], "fashion")
    shots = sources.shots(
        "fashion", [Shot(row["id"], folder / row["path"], view=True) for row in views], MOST, 4
    )
    said = [_typed(row["text"], at) for at, row in enumerate(rows)]
    wanted = [
        Wanted(row["id"], row["id"], [said[at]], [at], [one for one in said if one != said[at]])
        for at, row in enumerate(views)
    ]
    for name, gallery in (("fashion/titled", [pictures, titles]), ("fashion/pictures", [pictures])):
        yield compose(name, wanted, shots, gallery, eyes, sources.chatter, 19)


def _typed(title: str, seed: int) -> str:
    """What somebody types who looks for it: three words in five of its title, in small letters."""
    words = title.lower().split()
    kept = max(2, round(0.6 * len(words)))
    places = np.random.default_rng([8, seed]).permutation(len(words))[:kept]
    return " ".join(words[place] for place in sorted(places))


def speech(sources: Sources, eyes: CachedImages) -> Iterator[Composed]:
    """Flickr's photos asked for by another view and a caption that a voice reads."""
    rows, recordings = rows_of("flickr8k_1k"), rows_of("spoken_captions_gtts")
    if rows is None or recordings is None:
        return
    folder = DATA / "flickr8k_1k"
    place = {row["id"]: at for at, row in enumerate(rows)}
    pictures = eyes.store([Shot(row["id"], folder / row["path"]) for row in rows], "flickr-shown")
    # The caption that is read is the first one: in the index stands the second.
    captions = eyes.read([row["text"][1] for row in rows], "flickr")
    views = [Shot(row["id"], folder / row["path"], view=True) for row in rows[::2]]
    shots = sources.shots("flickr", views, MOST, 2)
    chosen = [row for row in recordings if row["id"] in shots][:SPOKEN]
    asked = [
        (
            Wanted(row["id"], row["id"], [], [place[row["id"]]], []),
            Said(row["text"], path=str(DATA / "spoken_captions_gtts" / row["path"])),
        )
        for row in chosen
    ]
    ears = train_gate.listening(CACHE)
    yield spoken("flickr/spoken", asked, shots, ("clip", "shorten", "drop"), [pictures, captions], eyes, ears)


# --- The figures -----------------------------------------------------------------------------------------


def with_gate(composed: Composed, network: Network) -> Judged:
    return judged(composed, weights_of(network, prepared(composed)))


def run() -> list[Line]:
    """Prints a table and returns the figures."""
    if rows_of("grocery_store") is None:
        return [Line("the sets are absent", "-")]
    eyes = CachedImages(JointSpace.load(), CACHE)
    sources = Sources(DATA, eyes)
    print(
        "\nComposed queries, one part damaged: error = 1 - R@1 in per cent, relative change with its 95 % interval"
        f"\n  {'set':38}{'queries':>7}  fixed  gate  without it  best of each"
    )
    sets = [*flickr(sources, eyes), *fashion(sources, eyes), *speech(sources, eyes)]
    shipped = Gate.load().network
    found = {composed.name: with_gate(composed, shipped) for composed in sets}
    for one in found.values():
        told(one)
    lines = [_line(one) for name, one in found.items() if not name.endswith("/pictures")]
    lines += [_told_only(one) for name, one in found.items() if name.endswith("/pictures")]
    lines += _unseen(sets, sources)
    return [*lines, _undamaged(sets, shipped), _cost(sets[0])]


def _line(one: Judged) -> Line:
    found, low, high = gain(one)
    return at_least(
        f"{one.name}: error against the best fixed weights [{low:.1f}, {high:.1f}]", found, WANTED, "%"
    )


def _told_only(one: Judged) -> Line:
    found, low, high = gain(one)
    ceiling = 100 * (1 - error(one.spared) / error(one.fixed))
    what = (
        f"{one.name}: the same [{low:.1f}, {high:.1f}], without captions; the bad part left out {ceiling:.1f}"
    )
    return Line(what, round(found, 1), "%")


def _unseen(sets: Sequence[Composed], sources: Sources) -> list[Line]:
    """Each kind of damage by a gate that was trained without it; and products of groups that it has not seen."""
    training = [(composed, prepared(composed)) for composed in sources.all()]
    captioned = [composed for composed in sets if composed.name.endswith(("/captioned", "/titled"))]
    weights = {
        composed.name: np.zeros((len(composed.parts), len(PARTS)), np.float32) for composed in captioned
    }
    for kind in KINDS:
        blind = trained(training, [kind], members=1)
        for composed in captioned:
            rows = composed.kinds == kind
            weights[composed.name][rows] = weights_of(blind, prepared(composed).take(rows))
    lines = []
    for composed in captioned:
        one = judged(composed, weights[composed.name])
        told(one, f"{composed.name}, kinds never seen")
        lines.append(_line(Judged(f"{one.name}, kinds never seen", *_arrays(one), one.best)))
    return [*lines, _new_products(training)]


def _arrays(one: Judged) -> tuple[Array, ...]:
    return one.fixed, one.gate, one.spared, one.oracle, one.keys, one.kinds


def _new_products(training: Sequence[tuple[Composed, Any]]) -> Line:
    """The shop's photos with descriptions, in two halves by group of products, each by the other's gate."""
    shelf, examples = next(each for each in training if each[0].name == "grocery/shelf")
    groups = np.unique(shelf.groups)
    weights = np.zeros((len(examples), len(PARTS)), np.float32)
    for half in (groups[::2], groups[1::2]):
        rows = np.isin(shelf.groups, half)
        weights[rows] = weights_of(trained(training, half, members=1), examples.take(rows))
    one = judged(shelf, weights)
    told(one, "grocery/shelf, groups never seen")
    return _line(Judged("grocery/shelf, groups never seen", *_arrays(one), one.best))


def _undamaged(sets: Sequence[Composed], network: Network) -> Line:
    """What the gate costs where nothing is wrong, against equal weights."""
    before, after = [], []
    for composed in sets:
        rows = composed.damaged == CLEAN
        before.append(composed.ranks(np.array([[PRIOR["text"]] * len(PARTS)] * len(rows)))[rows])
        after.append(composed.ranks(weights_of(network, prepared(composed)))[rows])
    fixed, gate = error(np.concatenate(before)), error(np.concatenate(after))
    return Line(
        f"nothing damaged, all sets: error with equal weights {fixed:.1f} %, with the gate",
        round(gate, 1),
        "%",
    )


def _cost(composed: Composed) -> Line:
    gate, prior = Gate.load(), {"text": 0.5, "image": 0.5}
    parts = composed.parts[:500]
    start = time.process_time()
    for one in parts:
        gate.weigh(one, prior)
    return at_most("weighing a query", 1000 * (time.process_time() - start) / len(parts), 0.3)


if __name__ == "__main__":
    for line in run():
        print(line.shown())
    sys.exit(0)

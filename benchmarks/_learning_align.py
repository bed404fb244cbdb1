"""Alignment: the default space, adapted spaces, the traditional methods (`python benchmarks/_learning_align.py`).

Five folds by picture, the pool is one fold; differences are paired by bootstrap over pictures. The traditional methods
see the pairs of four folds through the same networks' plain features (the last layer, pooled over the whole picture)
and MiniLM; the best of them on the project's own features is told as well. `SECTIONS=photos,curve` runs some, and
`SPACE=open-1` starts from another of the spaces that ship.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from _data import DATA, Array, Encoded, rows_of
from _learning_align_data import STYLES, Paired, adapted, emoji, fashion, joined, photos
from _report import Line, at_least, at_most, sized

from ml.alignment import traditional
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.fitting import Pairs
from ml.alignment.space import SHIPPED, JointSpace
from ml.training.metrics import Ranking, difference, figures, search

FOLDS = 5
GOAL, REACH = 12.7, 90.0
FEW = (50, 150, 300)
#: The space that is measured and that adapting starts from.
BASE = SHIPPED.parent / os.environ.get("SPACE", SHIPPED.name)
WAYS = ("text>image", "image>text")
#: Never in training; the other styles of its family are left out of it, too.
UNSEEN_STYLE = "twemoji"
INTENT_QUERIES = sized(2_000, 20)
DEFAULT, ADAPTED = "default space, no pairs", "adapted"

Places = Callable[[Pairs], tuple[Array, Array, Array]]
Ranked = dict[str, dict[str, Ranking]]


def placed(space: Any) -> Places:
    """Texts, pictures, and pictures as queries, as a space places them."""

    def place(pairs: Pairs) -> tuple[Array, Array, Array]:
        pictures = space.project_image(pairs.sight)
        return space.project_text(pairs.reading), pictures, space.as_query(pictures)

    return place


def linear(method: str, pairs: Pairs) -> Places:
    """A traditional method fitted on pairs."""
    fitted = traditional.fitted(method, pairs.reading, pairs.sight, pairs.owners)

    def place(asked: Pairs) -> tuple[Array, Array, Array]:
        pictures = fitted.image(asked.sight)
        return fitted.text(asked.reading), pictures, pictures

    return place


def find(place: Places, pairs: Pairs) -> dict[str, Ranking]:
    texts, pictures, queries = place(pairs)
    captions = [np.flatnonzero(pairs.owners == row).tolist() for row in range(len(pictures))]
    there = search(texts, pictures, [[int(row)] for row in pairs.owners], pairs.groups[pairs.owners])
    return dict(zip(WAYS, (there, search(queries, texts, captions, pairs.groups)), strict=True))


def folds(groups: Array) -> Iterator[tuple[Array, Array]]:
    fold = np.random.default_rng(0).permutation(len(groups)) % FOLDS
    for one in range(FOLDS):
        yield np.flatnonzero(fold != one), np.flatnonzero(fold == one)


def contest(taught: Paired, asked: Paired, space: JointSpace) -> Ranked:
    """Everything that is compared, taught by one set and judged on the other."""
    found = {
        DEFAULT: find(placed(space), asked.pairs),
        ADAPTED: find(placed(adapted(taught.pairs, BASE)), asked.pairs),
    }
    for method in traditional.METHODS:
        found[method] = find(linear(method, taught.plainly), asked.plainly)
        found[f"{method}, our features"] = find(linear(method, taught.pairs), asked.pairs)
    return found


def together(parts: list[Ranked]) -> Ranked:
    """The queries of all folds."""
    return {name: {way: _pooled([part[name][way] for part in parts]) for way in WAYS} for name in parts[0]}


def _pooled(found: list[Ranking]) -> Ranking:
    rows = {
        name: np.concatenate([getattr(one, name) for one in found])
        for name in ("ranks", "precision", "groups")
    }
    return Ranking(**rows, pool=found[0].pool)


def show(title: str, found: Ranked) -> None:
    print(f"\n{title}, pool {next(iter(found.values()))[WAYS[0]].pool}")
    print(f"  {'':38}" + "".join(f"{way + ' R@1':>16}{'R@10':>7}{'MRR':>7}" for way in WAYS))
    for name, ways in found.items():
        values = [figures(ways[way]) for way in WAYS]
        cells = [f"{100 * one['r1']:16.1f}{100 * one['r10']:7.1f}{100 * one['mrr']:7.1f}" for one in values]
        print(f"  {name:38}" + "".join(cells))


def best(found: Ranked, way: str, figure: str, ending: str = "") -> str:
    """The traditional method that does best on a figure: on plain features, or on ours."""
    names = [f"{method}{ending}" for method in traditional.METHODS]
    return max(names, key=lambda name: figures(found[name][way])[figure])


def against(
    found: Ranked, mine: str, way: str, figure: str, goal: float, what: str, ending: str = ""
) -> list[Line]:
    """The relative gain over the best traditional method, and the lower bound of the paired interval in points."""
    other = best(found, way, figure, ending)
    gap = difference(found[mine][way], found[other][way])[figure]
    beside = f"{what} {way} {figure}, {mine.split(',')[0]} vs {other}"
    gain = 100 * float(gap["relative"] or 0.0)
    low = 100 * float(gap["interval"][0])
    if ending:
        return [Line(beside, round(gain, 1), "%"), Line(f"{beside}: lower bound, points", round(low, 1), "")]
    return [
        at_least(beside, gain, goal, "%"),
        at_least(f"{beside}: lower bound, points", low, 0.0 if goal else -1e-9),
    ]


def natural(encoded: Encoded) -> list[Line]:
    """Photos and captions: what the default space and an adapted one find."""
    data = photos(encoded)
    if data is None:
        return [Line("photos: skipped, no flickr8k_1k", "-")]
    parts = [
        contest(data.of(taught), data.of(asked), encoded.space) for taught, asked in folds(data.pairs.groups)
    ]
    found = together(parts)
    show("Photos (flickr8k_1k), five folds, pairs of four folds", found)
    lines = []
    for way in WAYS:
        for figure in ("r1", "mrr"):
            lines += against(found, DEFAULT, way, figure, 0.0, "photos")[:1]
            lines += against(found, ADAPTED, way, figure, GOAL, "photos")
            lines += against(found, ADAPTED, way, figure, GOAL, "photos", ", our features")
    return lines


def curve(encoded: Encoded) -> list[Line]:
    """Few pairs: beside CCA, and never below the default space."""
    data = photos(encoded)
    if data is None:
        return [Line("curve: skipped, no flickr8k_1k", "-")]
    lines = []
    for count in FEW:
        parts = []
        for number, (taught, asked) in enumerate(folds(data.pairs.groups)):
            some = np.sort(np.random.default_rng(number).permutation(taught)[:count])
            parts.append(contest(data.of(some), data.of(asked), encoded.space))
        found = together(parts)
        show(f"Photos, {count} pairs", found)
        for way in WAYS:
            gap = difference(found[ADAPTED][way], found[DEFAULT][way])["r1"]
            lines.append(
                at_least(f"{count} pairs, {way} R@1 above default, points", 100 * gap["difference"], 0.0)
            )
    return lines


def tenant(encoded: Encoded) -> list[Line]:
    """A catalogue of 1,000 pictures with titles: time, gain at home, loss elsewhere."""
    data = fashion(encoded)
    if data is None:
        return [Line("tenant: skipped, no fashion_products", "-")]
    order = np.random.default_rng(1).permutation(len(data.pairs.groups))
    taught, asked = data.of(np.sort(order[:1_000])), data.of(np.sort(order[1_000:]))
    wall, cpu = time.perf_counter(), time.process_time()
    space = adapted(taught.pairs, BASE)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    spaces = {DEFAULT: placed(encoded.space), ADAPTED: placed(space)}
    home = {name: find(place, asked.pairs) for name, place in spaces.items()}
    show("Fashion titles and pictures, 1,000 pairs", home)
    lines = [
        at_most("adapt on 1,000 pairs, minutes (cpu)", cpu / 60, 5.0, "min"),
        Line("  … wall", round(wall / 60, 2), "min"),
    ]
    for way in WAYS:
        gap = difference(home[ADAPTED][way], home[DEFAULT][way])["r1"]
        lines.append(at_least(f"fashion {way} R@1 up", 100 * float(gap["relative"] or 0), 50.0, "%"))
    return lines + _elsewhere(encoded, spaces, space)


def _elsewhere(encoded: Encoded, spaces: dict[str, Places], space: JointSpace) -> list[Line]:
    lines = []
    if (data := photos(encoded)) is not None:
        found = {name: find(place, data.pairs) for name, place in spaces.items()}
        show("All photos, in the default space and in the one of the catalogue", found)
        for way in WAYS:
            gap = difference(found[DEFAULT][way], found[ADAPTED][way])["r1"]["difference"]
            lines.append(at_most(f"photos {way} R@1 lost, points", 100 * gap, 2.0, ""))
    if (rows := rows_of("banking77")) is not None:
        rows = [rows[number] for number in np.random.default_rng(0).permutation(len(rows))[:INTENT_QUERIES]]
        reading = encoded.read([row["text"] for row in rows])
        labels = np.array([row["label"] for row in rows])
        lost = _nearest(encoded.space, reading, labels) - _nearest(space, reading, labels)
        lines.append(at_most("banking77, nearest text of the same intent lost, points", lost, 2.0, ""))
    return lines


def _nearest(space: JointSpace, reading: TextFeatures, labels: Array) -> float:
    texts = space.project_text(reading)
    scores = texts @ texts.T
    np.fill_diagonal(scores, -np.inf)
    return float(100 * (labels[scores.argmax(axis=1)] == labels).mean())


def unseen_style(encoded: Encoded) -> list[Line]:
    """Emoji: concepts and art style never trained on."""
    styles = emoji(encoded)
    if styles is None:
        return [Line("emoji: skipped; run benchmarks/_learning_emoji_data.py", "-")]
    family = UNSEEN_STYLE.split("-")[0]
    others = [styles[style] for style in STYLES if style.split("-")[0] != family]
    parts = []
    for taught, asked in folds(others[0].pairs.groups):
        judged = styles[UNSEEN_STYLE].of(asked)
        parts.append(contest(joined([style.of(taught) for style in others]), _by_name(judged), encoded.space))
    found = together(parts)
    show(f"Emoji drawn as {UNSEEN_STYLE}, a style never trained on, by their names", found)
    lines: list[Line] = []
    for way in WAYS:
        lines += against(found, ADAPTED, way, "r1", GOAL, "emoji")
        lines += against(found, ADAPTED, way, "r1", GOAL, "emoji", ", our features")
    return lines


def _by_name(data: Paired) -> Paired:
    """Without the texts that list tags."""
    pairs, names = data.pairs, slice(0, None, 2)
    sight: ImageFeatures = pairs.sight
    return Paired(Pairs(pairs.reading.rows(names), sight, pairs.owners[names], pairs.groups), data.plain)


SECTIONS = {"photos": natural, "curve": curve, "tenant": tenant, "emoji": unseen_style}


def run() -> list[Line]:
    encoded = Encoded(JointSpace.load(BASE))
    wanted = os.environ.get("SECTIONS", "").replace(",", " ").split() or list(SECTIONS)
    return [line for name in wanted for line in SECTIONS[name](encoded)]


def main() -> int:
    print(f"sets in {DATA}")
    lines = run()
    print("\n" + "\n".join(line.shown() for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())

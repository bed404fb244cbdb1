"""Classifiers from words alone and from 5, 20 and 100 examples (`python benchmarks/_learning_classifiers.py`).

Each of a set's most frequent labels is one yes-or-no question. Half of a set is what a workspace has and labels, the
other half is judged; content that is the same or nearly the same stays in one half. Of the examples half are yes, as
far as there are so many, which is not how often yes is right among what is judged: calibration is told both as it is
there and where the judged are weighed as the examples were. Vectors are those of the space that ships by default
(`SPACE=open-1`: of another one).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from _data import DATA, Array, Encoded, rows_of
from _report import Line, at_most, sized

from ml import classification
from ml.alignment.space import SHIPPED, JointSpace

SPACE = os.environ.get("SPACE", sized("open-2", "prior-2"))
EXAMPLES = sized((5, 20, 100), (8, 20))
#: Labels of a set that are asked for, the most frequent ones; drawings of the halves and of the examples.
QUESTIONS, DRAWS = sized(10, 2), sized(5, 1)
#: Rows of a label and of all the others together, so that encoding takes minutes.
OF_LABEL, OTHERS = sized(70, 12), sized(300, 24)
#: What the vectors of a drawn set have as numbers.
WIDTH = 32
#: Seconds to learn from 100 examples, with folds and figures.
SECONDS = 1.0


@dataclass(frozen=True)
class Labelled:
    """`vectors` float32 [n, d] of one modality, the label of each, and by label what its words are in the space."""

    name: str
    modality: str
    vectors: Array
    labels: list[str]
    questions: dict[str, Array]
    neutral: Array


def run() -> list[Line]:
    found = [made for make in SETS for made in [make()] if made is not None]
    return [line for one in found for line in _lines(one)]


# --- Sets ------------------------------------------------------------------------------------------------


def drawn() -> Labelled:
    """Points around a centre a label: works where no set is."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, WIDTH))
    labels = [f"label {n % 3}" for n in range(120)]
    points = np.stack([centres[n % 3] + random.normal(0, 0.7, WIDTH) for n in range(120)])
    asked = {f"label {n}": _unit(centres[n]) for n in range(QUESTIONS)}
    return Labelled("drawn", "text", _unit(points), labels, asked, _unit(random.normal(size=(8, WIDTH))))


def texts(name: str) -> Labelled | None:
    return _read(
        name, "text", "label", lambda encoded, rows: encoded.embed_texts([row["text"] for row in rows])
    )


def pictures(name: str, field: str) -> Labelled | None:
    folder = DATA / name
    return _read(
        name,
        "image",
        field,
        lambda encoded, rows: encoded.embed_pictures([folder / row["path"] for row in rows]),
    )


def _read(
    name: str, modality: str, field: str, embed: Callable[[Encoded, list[Any]], Array]
) -> Labelled | None:
    rows = rows_of(name, whole=True)
    if rows is None:
        return None
    encoded = Encoded(JointSpace.load(SHIPPED.parent / SPACE))
    chosen, asked = _chosen(rows, field)
    said = encoded.embed_texts([*(one.replace("_", " ") for one in asked), *classification.neutral_phrases()])
    return Labelled(
        name,
        modality,
        embed(encoded, chosen),
        [row[field] for row in chosen],
        dict(zip(asked, said, strict=False)),
        said[len(asked) :],
    )


def _chosen(rows: list[Any], field: str) -> tuple[list[Any], list[str]]:
    """Rows of the labels that are asked for and of others, and these labels. By number and name, never by figures."""
    asked = [label for label, _ in sorted(Counter(row[field] for row in rows).items(), key=_frequency)]
    asked = [one for one in asked if one != "oos"][:QUESTIONS]
    taken: Counter[str] = Counter()
    kept = []
    for number in np.random.default_rng(0).permutation(len(rows)):
        label = rows[number][field]
        kind, most = (label, OF_LABEL) if label in asked else ("", OTHERS)
        if taken[kind] < most:
            taken[kind] += 1
            kept.append(int(number))
    return [rows[number] for number in sorted(kept)], asked


def _frequency(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]


SETS: tuple[Callable[[], Labelled | None], ...] = sized(
    (
        lambda: pictures("grocery_store", "coarse"),
        lambda: pictures("fashion_products", "label"),
        lambda: texts("clinc150_small"),
        lambda: texts("banking77"),
    ),
    (drawn, lambda: texts("clinc150_small")),
)


# --- Judging ---------------------------------------------------------------------------------------------


def _lines(given: Labelled) -> Iterator[Line]:
    """By what it was made of, means over questions and drawings."""
    groups = classification.groups_of(given.vectors, [str(n) for n in range(len(given.vectors))])
    rates = [float(np.mean([one == label for one in given.labels])) for label in given.questions]
    about = f"{given.name} ({len(given.labels)} {given.modality}s, {len(rates)} questions)"
    yield Line(f"{about}: rate of yes", round(float(np.mean(rates)), 3))
    for count in (0, *EXAMPLES):
        figures = [
            found
            for label in given.questions
            for seed in range(DRAWS)
            for found in [_judged(given, label, groups, count, seed)]
            if found
        ]
        if not figures:
            continue
        what = f"{given.name}, {count} examples" if count else f"{given.name}, words alone"
        for name in figures[0]:
            values = [one[name] for one in figures]
            value, spread = float(np.mean(values)), float(np.std(values))
            line = f"{what}: {name}"
            if name != "seconds":
                yield Line(f"{line} (± {spread:.3f})", round(value, 3))
            elif count == max(EXAMPLES):
                yield at_most(line, value, SECONDS, "s")
            else:
                yield Line(line, round(value, 3), "s")


def _judged(given: Labelled, label: str, groups: Array, count: int, seed: int) -> dict[str, float]:
    """F1 at .5, average precision, AUC and calibration errors on the half that nobody labelled; empty where there is
    no yes in one of the halves, or too few."""
    random = np.random.default_rng(seed)
    mine = random.permutation(int(groups.max()) + 1)[groups] % 2 == 0
    yes = np.array([one == label for one in given.labels])
    if min(yes[mine].sum(), yes[~mine].sum()) < classification.MIN_OF_CLASS:
        return {}
    begun = time.thread_time()
    chosen = np.flatnonzero(mine)
    if count:
        chosen = _examples(random, np.flatnonzero(mine), yes, count)
        contents = [str(one) for one in chosen]
        try:
            head = classification.fit(given.vectors[chosen], yes[chosen], contents, seed=seed).head
        except classification.Unlearnable:
            return {}
    else:
        kinds = [given.modality] * len(chosen)
        head = classification.from_words(
            given.questions[label], given.neutral, given.vectors[chosen], kinds
        ).head
    seconds = time.thread_time() - begun
    said = head.probabilities(given.vectors[~mine], [given.modality] * int((~mine).sum()))
    return {**_figures(yes[~mine], said, float(yes[chosen].mean()) if count else None), "seconds": seconds}


def _examples(random: np.random.Generator, mine: Array, yes: Array, count: int) -> Array:
    """Half of them yes, as far as there are so many; at least two of each answer."""
    wanted = min(count // 2, int(yes[mine].sum()))
    return np.concatenate(
        [random.permutation(mine[yes[mine]])[:wanted], random.permutation(mine[~yes[mine]])[: count - wanted]]
    )


def _figures(yes: Array, said: Array, rate: float | None) -> dict[str, float]:
    """`rate`: how often yes was right among the examples; None for words, which know of none."""
    measured = classification.measures(yes, said)
    found = {
        "F1": measured["f1"] or 0.0,
        "AP": average_precision(yes, said),
        "AUC": measured["auc"] or 0.0,
        "ECE": measured["ece"] or 0.0,
    }
    if rate is not None:
        found["ECE as in the examples"] = _weighed_error(yes, said, rate)
    return found


def average_precision(yes: Array, scores: Array) -> float:
    """The mean, over every yes, of the precision among what scores as high; ties count as the worse order."""
    order = np.lexsort((yes, -scores))
    hits = yes[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def _weighed_error(yes: Array, said: Array, rate: float) -> float:
    """The expected calibration error where yes were as frequent as `rate`."""
    weights = np.where(yes, rate / yes.mean(), (1 - rate) / (1 - yes.mean()))
    bins = np.minimum((said * classification.BINS).astype(int), classification.BINS - 1)
    gaps = np.bincount(bins, weights * (yes - said), minlength=classification.BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _unit(values: Array) -> Array:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    for line in run():
        print(line.shown())

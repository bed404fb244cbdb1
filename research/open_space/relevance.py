"""Fit how likely a match of some score is right (``ml.alignment.relevance``): curves of `open-1` and `open-2`.

Four sets that may ship teach: grocery_store (MIT), banking77 (CC BY 4.0), clinc150 (CC BY 3.0) and zh_medical_qa (MIT).
Of each set that has classes every second class teaches, the others are looked at (`make bench-relevance`), and so are
photographs and catalogues that may only be measured with. Every search counts the same, with what it finds among the
first ten; half of them are for what is not there: other things, and words that mean nothing.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.relevance import Curve, stated_curves

Array = NDArray[Any]

#: How deep a search is looked at.
DEPTH = 10
#: From here on a match is shown without being asked for: of .5, .55, .6 and so on the first at which eight of ten that
#: are shown are right, in the first half of the photographs of Flickr8k that are at hand.
LINE = 0.6
SEED = 11

#: Things that no grocer of the set sells and no bank or assistant is asked for: in English, then in Chinese.
ELSEWHERE, ELSEWHERE_ZH = (
    [line for line in part.splitlines() if line and not line.startswith("#")]
    for part in Path(__file__).with_name("elsewhere.txt").read_text("utf-8").split("\n\n")
)
#: Products that a picture hardly tells apart: who looks for one is served by another.
ALIKE = (
    ("Milk", "Sour-Milk", "Soy-Milk", "Oat-Milk", "Yoghurt", "Soyghurt", "Oatghurt", "Sour-Cream"),
    ("Orange", "Satsumas", "Red-Grapefruit"),
    ("Peach", "Nectarine", "Plum", "Apple"),
    ("Lemon", "Lime"),
    ("Zucchini", "Cucumber"),
    ("Potato", "Ginger"),
)
#: What stands on a carton: who looks for the fruit may be served by its juice.
ON_CARTONS = ("Orange", "Apple", "Red-Grapefruit")


@dataclass(frozen=True)
class Searches:
    """Scores [q, n] of searches and which of what they find is right: bool [q, n]; of what is not there none is.

    ``absent`` [a, n]: the scores of searches for what is not there, in the same pool. ``asks`` [q, d] and ``vain``
    [a, d]: the vectors of both, where they are known.
    """

    scores: Array
    right: Array
    absent: Array
    asks: Array | None = None
    vain: Array | None = None

    @classmethod
    def of(cls, asks: Array, right: Array, vain: Array, pool: Array) -> Searches:
        """By the vectors of what asks, of what asks in vain, and of what is searched."""
        return cls(asks @ pool.T, right, vain @ pool.T, asks, vain)


def nonsense(count: int = 60) -> list[str]:
    """Words that mean nothing in any language."""
    chosen = random.Random(SEED)  # noqa: S311 - examples, no secrets
    letters = "bcdfghjklmnpqrstvwxzaeiouy"

    def word() -> str:
        return "".join(chosen.choice(letters) for _ in range(chosen.randint(4, 9)))

    return [" ".join(word() for _ in range(chosen.randint(1, 3))) for _ in range(count)]


def served(asked: str, product: Mapping[str, Any]) -> bool:
    """Whether a product of grocery_store serves who looks for the coarse class ``asked``."""
    kind = str(product["coarse"])
    alike = next((group for group in ALIKE if asked in group), (asked,))
    named = asked.split("-")[-1].lower()
    return kind in alike or (asked in ON_CARTONS and named in str(product["label"]).lower())


def words_of(label: str) -> str:
    """What somebody would type for a class: `card_arrival` becomes "card arrival"."""
    return re.sub(r"[_-]+", " ", label).lower()


def half(labels: Iterable[str], which: int) -> list[str]:
    """Every second class: 0 teaches, 1 is looked at."""
    return sorted(set(labels))[which::2]


def found(searches: Searches) -> tuple[Array, Array, Array]:
    """Of the first DEPTH: scores, whether each is right, and weights that let every search count the same and those for
    what is not there as much as the others. All [m]."""
    depth = min(DEPTH, searches.scores.shape[1])
    nothing = np.zeros(searches.absent.shape, bool)
    parts = [(searches.scores, searches.right), (searches.absent, nothing)]
    scores, right, weights = [], [], []
    for rows, truth in parts:
        first = np.argsort(-rows, axis=1)[:, :depth]
        scores.append(np.take_along_axis(rows, first, 1).ravel())
        right.append(np.take_along_axis(truth, first, 1).ravel())
        weights.append(np.full(first.size, 1 / max(1, first.size)))
    return np.concatenate(scores), np.concatenate(right), np.concatenate(weights)


def fit(parts: Sequence[Searches]) -> Curve:
    """The curve of several sets of searches, each of which counts the same."""
    from sklearn.linear_model import LogisticRegression

    rows = [found(part) for part in parts]
    scores, right, weights = (np.concatenate([row[column] for row in rows]) for column in range(3))
    spread = float(scores.std())
    fitted = LogisticRegression(C=1e6, max_iter=2000).fit(
        scores[:, None] / spread, right, sample_weight=weights / weights.mean()
    )
    slope = float(fitted.coef_[0, 0]) / spread
    return Curve(round(slope, 2), round(-float(fitted.intercept_[0]) / slope, 4))


@dataclass(frozen=True)
class Judged:
    """At the line: of what is shown, the share that is right (of all, and the mean over searches); of searches for
    what is there, those that show something; of searches for what is not there, those that show nothing."""

    shown: int
    precision: float
    mean_precision: float
    answered: float
    nothing: float


def judge(
    curve: Curve, searches: Searches, line: float = LINE, curve_of: Callable[[Array], Curve] | None = None
) -> Judged:
    """Of all that is found, however deep. ``curve_of``: by the vector of a search its curve, in place of ``curve``."""
    least, least_in_vain = _least(searches, curve, line, curve_of)
    shown, there = searches.scores >= least, searches.right.any(axis=1)
    each = [right[row].mean() for right, row in zip(searches.right, shown, strict=True) if row.any()]
    return Judged(
        shown=int(shown.sum()),
        precision=float(searches.right[shown].mean()) if shown.any() else float("nan"),
        mean_precision=float(np.mean(each)) if each else float("nan"),
        answered=float(shown[there].any(axis=1).mean()) if there.any() else float("nan"),
        nothing=float((searches.absent < least_in_vain).all(axis=1).mean())
        if len(searches.absent)
        else float("nan"),
    )


def _least(
    searches: Searches, curve: Curve, line: float, curve_of: Callable[[Array], Curve] | None
) -> tuple[Array, Array]:
    """The score from which a match is shown, of each search [q, 1] and of each in vain [a, 1]."""
    if curve_of is None or searches.asks is None or searches.vain is None:
        return np.full((1, 1), curve.score_at(line)), np.full((1, 1), curve.score_at(line))
    asks, vain = (
        np.array([curve_of(vector).score_at(line) for vector in some]).reshape(-1, 1)
        for some in (searches.asks, searches.vain)
    )
    return asks, vain


def held(asked: str, texts: Sequence[str]) -> Array:
    """Which texts hold all words of a query, plurals and small words aside: bool [n]."""
    wanted = _bag(asked)
    return np.array([bool(wanted) and wanted <= _bag(text) for text in texts])


_SMALL = frozenset(
    ("a", "an", "the", "of", "to", "in", "on", "for", "my", "is", "are", "i", "it", "do", "how", "what")
)


def _bag(text: str) -> set[str]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {
        word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words if word not in _SMALL
    }


def words_precision(rows: Sequence[Mapping[str, Any]], which: int) -> tuple[int, int]:
    """Of texts that hold all words of the name of an intent: how many there are, and how many have that intent."""
    texts, labels = [str(row["text"]) for row in rows], np.array([str(row["label"]) for row in rows])
    found = right = 0
    for label in half(labels, which):
        holds = held(words_of(label), texts)
        found, right = found + int(holds.sum()), right + int((labels[holds] == label).sum())
    return found, right


# --- The sets --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Embedded:
    """What embeds in a space, [n, d] each: texts that ask, texts and pictures that are searched; and what makes vectors
    of pictures that ask of those that are searched."""

    texts: Callable[[Sequence[str]], Array]
    stored: Callable[[Sequence[str]], Array]
    pictures: Callable[[Sequence[Path]], Array]
    asking: Callable[[Array], Array]


def of_groceries(
    embedded: Embedded, rows: Sequence[Mapping[str, Any]], folder: Path, strangers: Sequence[Path], which: int
) -> dict[str, Searches]:
    """By pair of kinds, of every second coarse class: names for pictures, names for descriptions, photos for pictures,
    and photos for descriptions. ``strangers``: pictures of something else, which ask in vain."""
    kinds = half((str(row["coarse"]) for row in rows), which)
    products = [row for row in rows if row["split"] == "catalogue"]
    pictures = embedded.pictures([folder / row["path"] for row in rows])
    told = embedded.stored([f"{row['title']}. {row['text']}" for row in products])
    asked = [words_of(kind) for kind in kinds]
    names = embedded.texts(asked)
    other = embedded.texts([*ELSEWHERE, *ELSEWHERE_ZH, *nonsense()])
    right = np.array([[served(kind, row) for row in rows] for kind in kinds])
    right_told = np.array([[served(kind, row) for row in products] for kind in kinds])
    photos = [
        place for place, row in enumerate(rows) if row["split"] != "catalogue" and row["coarse"] in kinds
    ]
    asking = embedded.asking(pictures[photos])
    vain = embedded.asking(embedded.pictures(list(strangers)))
    alike = np.array([[served(str(rows[photo]["coarse"]), row) for row in rows] for photo in photos])
    alike_told = np.array([[served(str(rows[photo]["coarse"]), row) for row in products] for photo in photos])
    between = Searches.of(asking, alike, vain, pictures)
    # A photo does not find itself.
    between.scores[np.arange(len(photos)), photos] = -1
    alike[np.arange(len(photos)), photos] = False
    return {
        "text image": Searches.of(names, right, other, pictures),
        "text text": Searches.of(names, right_told, other, told),
        "image image": between,
        "image text": Searches.of(asking, alike_told, vain, told),
    }


def of_intents(
    embedded: Embedded,
    rows: Sequence[Mapping[str, Any]],
    outside: Sequence[str],
    which: int,
    most: int = 1500,
) -> list[Searches]:
    """Texts for texts of the same intent, and names of intents for texts: of every second intent. ``outside``: what is
    asked in vain, beside other things and nonsense."""
    labels = half((str(row["label"]) for row in rows), which)
    chosen = random.Random(SEED).sample(list(rows), min(most, len(rows)))  # noqa: S311
    pool, of = (
        embedded.stored([row["text"] for row in chosen]),
        np.array([str(row["label"]) for row in chosen]),
    )
    asking = [place for place, label in enumerate(of) if label in set(labels)][: most // 3]
    texts = embedded.texts([chosen[place]["text"] for place in asking])
    other = embedded.texts([*ELSEWHERE, *nonsense(), *outside])
    alike = Searches.of(texts, of[asking][:, None] == of[None], other, pool)
    alike.scores[np.arange(len(asking)), asking] = -1
    alike.right[np.arange(len(asking)), asking] = False
    names = embedded.texts([words_of(label) for label in labels])
    return [alike, Searches.of(names, np.array(labels)[:, None] == of[None], other, pool)]


def of_answers(embedded: Embedded, questions: Sequence[str], answers: Sequence[str]) -> Searches:
    """Questions for their answers; what is asked in vain are other things."""
    pool = embedded.stored(answers)
    other = embedded.texts([*ELSEWHERE_ZH, *nonsense()])
    return Searches.of(embedded.texts(questions), np.eye(len(questions), dtype=bool), other, pool)


def curves(embedded: Embedded, data: Path) -> tuple[dict[tuple[str, str], Curve], float]:
    """The curves that the sets in a folder teach, and the chance of a text that holds all words."""
    groceries = data / "grocery_store"
    taught = of_groceries(embedded, rows_of(groceries), groceries, strangers_in(data), 0)
    texts, holding = [taught["text text"]], []
    for name in ("banking77", "clinc150_small"):
        rows = rows_of(data / name)
        outside = [row["text"] for row in rows if row["label"] == "oos"][:100]
        rows = [row for row in rows if row["label"] != "oos"]
        texts += of_intents(embedded, rows, outside, 0)
        holding.append(words_precision(rows, 0))
    health = rows_of(data / "zh_medical_qa")[:800:2]
    texts.append(of_answers(embedded, [row["title"] for row in health], [row["answer"] for row in health]))
    found = {
        ("text", "image"): fit([taught["text image"]]),
        ("text", "text"): fit(texts),
        ("image", "image"): fit([taught["image image"]]),
        ("image", "text"): fit([taught["image text"]]),
    }
    return found, round(float(np.mean([right / count for count, right in holding])), 2)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of a set."""
    lines = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def strangers_in(data: Path) -> list[Path]:
    """Pictures of no groceries: playground_50_50 (MIT) and vqa_rad (CC0)."""
    return [
        data / name / row["path"] for name in ("playground_50_50", "vqa_rad") for row in rows_of(data / name)
    ]


def stated(found: Mapping[tuple[str, str], Curve], words: float) -> dict[str, Any]:
    """As a manifest holds it."""
    return {"line": LINE, "words": words, "curves": stated_curves(found)}

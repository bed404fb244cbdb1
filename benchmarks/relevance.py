"""Whether what a search shows is right, and whether it says so when there is nothing (`make bench-relevance`).

Over the curves that a space states (`ml.alignment.relevance`), at its line: of what is shown, the share that is right;
of searches for what is not there, the share that shows nothing; and how many searches for what is there show something,
which a line costs. Nothing here taught the curves: photographs, catalogues and questions that may only be measured
with, and those classes of the other sets that did not teach. Then the same under fine-tunes, whose curves were carried
over (`ml.training.relevance`). SPACE=open-1 measures another space. The first run encodes for a quarter of an hour,
later ones read $DATA_DIR/bench/cache.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _data import DATA, Array, Encoded, Row, rows_of
from _report import Line, Report, at_least, sized

from ml.alignment.features import ImageFeatures
from ml.alignment.relevance import Curve, Relevance
from ml.alignment.space import SHIPPED, JointSpace
from ml.training.run import run as train
from ml.training.shards import Pair, ShardWriter
from research.open_space.relevance import (
    ELSEWHERE,
    ELSEWHERE_ZH,
    Embedded,
    Searches,
    judge,
    nonsense,
    of_answers,
    of_groceries,
    of_intents,
    words_of,
)

DEFAULT = "open-2"
SPACE = os.environ.get("SPACE", DEFAULT)
THINGS = Path(__file__).with_name("relevance_things.txt")
# A thing that fewer captions name may be in other pictures unnamed.
LEAST_PICTURES = 3
FASHION = sized(400, 8)
GROCERIES_IN_VAIN = sized(60, 4)
# Pictures of the catalogue that a fine-tune learns from, and how often each pair is taken at toy size.
CATALOGUE = sized(300, 8)
TOY_COPIES = sized(1, 10)


def things(language: str) -> list[tuple[str, re.Pattern[str]]]:
    """What is looked for among photographs, and by which words a caption names it."""
    lines = THINGS.read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    place = {"en": 0, "zh": 1}[language]
    return [(row[place], re.compile(rf"\b({row[2]})\b")) for row in rows if row[place]]


def photographs(encoded: Encoded, embedded: Embedded, language: str) -> Searches | None:
    """Things by name among the photos of Flickr8k. A photo shows what one of its five captions names."""
    rows = rows_of("flickr8k_1k")
    if rows is None:
        return None
    pictures = encoded.embed_pictures([DATA / "flickr8k_1k" / row["path"] for row in rows])
    captions = [" ".join(row["text"]).lower() for row in rows]
    named = [
        (name, np.array([bool(words.search(one)) for one in captions])) for name, words in things(language)
    ]
    there = [(name, shown) for name, shown in named if shown.sum() >= sized(LEAST_PICTURES, 1)]
    # Of what nobody sells here much stands in photographs: only what no caption names is looked for in vain.
    spoken = set(re.findall(r"[a-z]+", " ".join(captions)))
    vain = [*(ELSEWHERE if language == "en" else ELSEWHERE_ZH), *nonsense()]
    vain = [one for one in vain if not {word.removesuffix("s") for word in one.split()} & _nouns(spoken)]
    vain = [one for one in vain if language == "en" or one not in {name for name, _ in named}]
    asks, right = embedded.texts([name for name, _ in there]), np.array([shown for _, shown in there])
    return Searches.of(asks, right, embedded.texts(vain), pictures)


def _half_of(searches: Searches) -> Searches:
    """What is found in the second half of the pool."""
    second = slice(searches.scores.shape[1] // 2, None)
    scores, right = searches.scores[:, second], searches.right[:, second]
    return replace(searches, scores=scores, right=right, absent=searches.absent[:, second])


def _nouns(spoken: set[str]) -> set[str]:
    small = {
        "a",
        "an",
        "the",
        "of",
        "on",
        "with",
        "in",
        "man",
        "child",
        "people",
        "engine",
        "player",
        "screen",
    }
    return {word.removesuffix("s") for word in spoken} - small


def catalogue(encoded: Encoded, embedded: Embedded) -> dict[str, Searches]:
    """Kinds of clothing among photos of a catalogue, and groceries in vain."""
    rows = rows_of("fashion_products")
    groceries = rows_of("grocery_store")
    if rows is None or groceries is None:
        return {}
    rows = rows[:: max(1, len(rows) // FASHION)][:FASHION]
    pictures = encoded.embed_pictures([DATA / "fashion_products" / row["path"] for row in rows])
    kinds = sorted({row["sub"] for row in rows})
    vain = sorted({words_of(row["coarse"]) for row in groceries})[:GROCERIES_IN_VAIN]
    other = embedded.texts([*vain, *nonsense()])
    right = np.array([[row["sub"] == kind for row in rows] for kind in kinds])
    asked = embedded.texts([words_of(kind) for kind in kinds])
    alike = np.array([[row["sub"] == other["sub"] for other in rows] for row in rows])
    np.fill_diagonal(alike, False)
    between = Searches.of(embedded.asking(pictures), alike, embedded.asking(_strangers(encoded)), pictures)
    np.fill_diagonal(between.scores, -1)
    return {"text image": Searches.of(asked, right, other, pictures), "image image": between}


def _strangers(encoded: Encoded) -> Array:
    rows = rows_of("vqa_rad") or []
    return encoded.embed_pictures([DATA / "vqa_rad" / row["path"] for row in rows])


def mixed(encoded: Encoded, embedded: Embedded, relevance: Relevance) -> list[Line]:
    """The first caption of each photo asks for the photo and for its second caption, among as many of both kinds: how
    often each is among the first ten, in the order of scores and in that of relevance."""
    rows = rows_of("flickr8k_1k")
    if rows is None:
        return []
    asked = embedded.texts([row["text"][0] for row in rows])
    pictures = asked @ encoded.embed_pictures([DATA / "flickr8k_1k" / row["path"] for row in rows]).T
    captions = asked @ embedded.stored([row["text"][1] for row in rows]).T
    lines, count = [], len(rows)
    for order in ("score", "relevance"):
        both = [pictures, captions]
        if order == "relevance":
            # A logistic curve orders as its exponent does.
            curves = [relevance.curves["text", kind] for kind in ("image", "text")]
            both = [one.slope * (scores - one.middle) for one, scores in zip(curves, both, strict=True)]
        first = np.argsort(-np.concatenate(both, axis=1), axis=1)[:, :10]
        for kind, place in (("photo", 0), ("caption", count)):
            found = (first == np.arange(count)[:, None] + place).any(axis=1).mean()
            lines.append(Line(f"  by {order}: the {kind} among the first ten", round(float(found), 4)))
    print(f"\none list of {count} photos and as many captions")
    for line in lines:
        print(line.shown())
    return lines


def shown(name: str, curve: Curve, searches: Searches, line: float, promised: bool) -> list[Line]:
    found = judge(curve, searches, line)
    count, pool = searches.scores.shape
    print(f"{name}: {count} searches and {len(searches.absent)} in vain, of {pool}")
    if promised:
        lines = [
            at_least("  shown and right", found.precision, 0.8),
            at_least("  nothing where there is nothing", found.nothing, 0.95),
            at_least("  something where there is something", found.answered, 0.97),
        ]
    else:
        lines = [
            Line("  shown and right", round(found.precision, 4)),
            Line("  nothing where there is nothing", round(found.nothing, 4)),
            Line("  something where there is something", round(found.answered, 4)),
        ]
    lines.append(Line("  shown and right, mean of searches", round(found.mean_precision, 4)))
    for one in lines:
        print(one.shown())
    return lines


def embedding(encoded: Encoded, words: dict[bytes, str] | None = None) -> Embedded:
    """``words`` is filled with what each text that asks says, by its vector."""

    def typed(asked: Sequence[str]) -> Array:
        vectors = encoded.space.as_typed(encoded.embed_texts(list(asked)), asked)
        if words is not None:
            words.update(zip(map(bytes, vectors), asked, strict=True))
        return vectors

    return Embedded(
        typed,
        lambda told: encoded.space.as_asset(encoded.embed_texts(list(told))),
        lambda paths: encoded.embed_pictures(list(paths)),
        encoded.space.as_query,
    )


def held_back(encoded: Encoded, embedded: Embedded) -> dict[str, list[tuple[str, Searches, bool]]]:
    """By pair of kinds: what is looked at, and whether the figures are promised for it."""
    found: dict[str, list[tuple[str, Searches, bool]]] = {pair: [] for pair in PAIRS}
    for language, title in (("en", "photographs"), ("zh", "photographs, in Chinese")):
        if (searches := photographs(encoded, embedded, language)) is not None:
            # The line was chosen on the first half.
            found["text image"].append((f"{title}, second half", _half_of(searches), language == "en"))
            found["text image"].append((f"{title}, all", searches, False))
    for pair, searches in catalogue(encoded, embedded).items():
        found[pair].append(("clothing", searches, False))
    groceries, clips = rows_of("grocery_store", whole=True), rows_of("vqa_rad", whole=True)
    if groceries is not None and clips is not None:
        chosen = groceries[:: sized(1, 40)]
        strangers = [DATA / "vqa_rad" / row["path"] for row in clips[:: sized(1, 40)]]
        for pair, searches in of_groceries(embedded, chosen, DATA / "grocery_store", strangers, 1).items():
            found[pair].append(("groceries, classes that did not teach", searches, False))
    for name in ("banking77", "clinc150_small"):
        found["text text"] += _intents(embedded, name)
    found["text text"] += _questions(embedded)
    return found


def _intents(embedded: Embedded, name: str) -> list[tuple[str, Searches, bool]]:
    rows = rows_of(name)
    if rows is None:
        return []
    outside = [row["text"] for row in rows if row["label"] == "oos"][100:]
    known = [row for row in rows if row["label"] != "oos"]
    titles = (f"{name}, intents that did not teach", f"{name}, by the names of intents")
    return [
        (title, one, False)
        for title, one in zip(titles, of_intents(embedded, known, outside, 1), strict=True)
    ]


def _questions(embedded: Embedded) -> list[tuple[str, Searches, bool]]:
    faq, health = rows_of("faq"), rows_of("zh_medical_qa")
    found = []
    if faq is not None:
        answered = [row for row in faq if row["text"] and row["answer"]]
        found.append(("questions and answers", _of_rows(embedded, answered, "text"), False))
    if health is not None:
        found.append(("health, in Chinese", _of_rows(embedded, health[1:800:2] or health, "title"), False))
    return found


def _of_rows(embedded: Embedded, rows: list[Row], asks: str) -> Searches:
    return of_answers(embedded, [row[asks] for row in rows], [row["answer"] for row in rows])


PAIRS = {
    "text image": ("text", "image"),
    "text text": ("text", "text"),
    "image image": ("image", "image"),
    "image text": ("image", "text"),
}


# --- Under fine-tunes --------------------------------------------------------------------------------------


def trained(encoded: Encoded, rows: list[Row], folder: Path) -> tuple[JointSpace, dict[str, Any]]:
    """A fine-tune on pictures with their captions, as a tenant's is made, and what it says of its relevance."""
    captions = [row["text"] if isinstance(row["text"], list) else [row["text"]] for row in rows]
    sight = encoded.see([folder / row["path"] for row in rows])
    reading = encoded.read([text for some in captions for text in some])
    owners = np.repeat(np.arange(len(rows)), [len(some) for some in captions])
    if TOY_COPIES > 1:
        # A few pictures have to stand for as many as a training needs, and no two may look alike.
        random = np.random.default_rng(0)
        shapes = {name: (len(rows) * TOY_COPIES, found.shape[1]) for name, found in vars(sight).items()}
        sight = ImageFeatures(**{name: abs(random.normal(size=shape)) for name, shape in shapes.items()})
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        with ShardWriter(place / "pairs", encoded.space.encoders_key) as writer:
            for number in range(len(sight)):
                row = number % len(rows)
                mine = np.flatnonzero(owners == row)
                writer.add(
                    Pair(
                        key=str(number),
                        group=str(number),
                        split="",
                        captions=tuple(f"{text} {number}" for text in captions[row]),
                        text=reading.vectors[mine].astype(np.float16),
                        text_colours=reading.colours[mine].astype(np.float16),
                        probabilities=sight.probabilities[number].astype(np.float16),
                        features=sight.features[number].astype(np.float16),
                        colours=sight.colours[number].astype(np.float16),
                    )
                )
        base = SHIPPED.parent / SPACE
        asked = {
            "base": {"folder": str(base)},
            "data": [str(place / "pairs")],
            "space": {"id": "tuned", "version": "1"},
        }
        (place / "run.json").write_text(json.dumps(asked))
        result = train(place, lambda *_, **__: None)
        return JointSpace.load(result["space"]), result["relevance"]


def fine_tunes(encoded: Encoded) -> dict[str, tuple[JointSpace, dict[str, Any]]]:
    """By what they learnt: the first half of the photographs, and pictures of the catalogue that are not looked at."""
    found = {}
    if (photos := rows_of("flickr8k_1k")) is not None:
        found["photographs"] = trained(encoded, photos[: len(photos) // 2], DATA / "flickr8k_1k")
    if (wares := rows_of("fashion_products")) is not None:
        step = max(1, len(wares) // FASHION)
        looked_at = {row["id"] for row in wares[::step][:FASHION]}
        # At toy size all of them are looked at.
        others = [row for row in wares if row["id"] not in looked_at] or wares
        chosen = others[:: max(1, len(others) // CATALOGUE)][:CATALOGUE]
        found["catalogue"] = trained(encoded, chosen, DATA / "fashion_products")
    return found


def under_fine_tunes(
    encoded: Encoded, before: dict[str, list[tuple[str, Searches, bool]]], relevance: Relevance
) -> dict[str, Any]:
    """What is shown and right, nothing where there is nothing, and something where there is something: in the space and
    in fine-tunes from it, whose curves were carried over."""
    figures: dict[str, Any] = {}
    for name, (space, told) in fine_tunes(encoded).items():
        print(f"\nfine-tuned on {name}: relevance {told}")
        print(f"{'':72}{SPACE:>20}{'fine-tune':>20}")
        tuned, words = Encoded(space), dict[bytes, str]()
        for pair, looked_at in held_back(tuned, embedding(tuned, words)).items():
            for (title, searches, _), (_, same, _) in zip(looked_at, before[pair], strict=True):
                # All photographs are half of them those that were learnt from.
                if not title.endswith(", all"):
                    cells = figures[f"{name}: {pair}: {title}"] = _beside(
                        space, words, relevance, PAIRS[pair], same, searches
                    )
                    for what, (old, new) in cells.items():
                        print(f"{pair}, {title}: {what}".ljust(72) + f"{old:20.3f}{new:20.3f}")
    return figures


def _beside(
    space: JointSpace,
    words: dict[bytes, str],
    relevance: Relevance,
    pair: tuple[str, str],
    before: Searches,
    after: Searches,
) -> dict[str, tuple[float, float]]:
    def curve_of(vector: Array) -> Curve:
        stated = space.relevance_of(vector, words.get(bytes(vector), ""))
        # What was not carried over shows nothing.
        return (stated and stated.curves.get(pair)) or Curve(1.0, 1e9)

    old = judge(relevance.curves[pair], before, relevance.line)
    new = judge(relevance.curves[pair], after, relevance.line, curve_of)
    return {
        "right": (old.precision, new.precision),
        "nothing": (old.nothing, new.nothing),
        "something": (old.answered, new.answered),
    }


def space_of(name: str) -> JointSpace:
    """One that ships and states its curves."""
    space = JointSpace.load(SHIPPED.parent / name)
    if space.relevance is None:
        sys.exit(f"error: {name} states no relevance; there is one in open-1 and open-2")
    return space


def at_the_line(
    encoded: Encoded, report: Report
) -> tuple[dict[str, list[tuple[str, Searches, bool]]], dict[str, Any]]:
    """What is looked at by pair of kinds, and the figures, which are printed and judged."""
    figures: dict[str, Any] = {}
    relevance = encoded.space.relevance
    assert relevance is not None
    held = held_back(encoded, embedding(encoded))
    for pair, looked_at in held.items():
        curve, line = relevance.curves[PAIRS[pair]], relevance.line
        print(f"\n{pair.replace(' ', ' to ')}: slope {curve.slope:g}, middle {curve.middle:g}, line {line:g}")
        for name, searches, promised in looked_at:
            lines = shown(name, curve, searches, line, promised)
            report.judge(f"{pair}, {name}", lines)
            figures[f"{pair}: {name}"] = {one.what.strip(): one.value for one in lines}
    lines = mixed(encoded, embedding(encoded), relevance)
    figures["mixed kinds"] = {one.what.strip(): one.value for one in lines}
    return held, figures


def run(report: Report) -> dict[str, Any]:
    space = space_of(SPACE)
    encoded = Encoded(space)
    held, figures = at_the_line(encoded, report)
    if space.relevance is not None:
        figures["fine-tunes"] = under_fine_tunes(encoded, held, space.relevance)
    return figures


def main() -> int:
    report = Report("relevance")
    return report.finish(report.run("relevance", lambda: run(report)) or {})


if __name__ == "__main__":
    sys.exit(main())

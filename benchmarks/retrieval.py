"""How well the shipped space finds pictures, texts and products (`make bench-retrieval`).

Reads the measuring sets in $CROSSLIGHT_DATA or ../shared/data, says which are absent, prints tables and writes
$DATA_DIR/bench/retrieval.json. SPACE=open-1 measures another of the spaces that ship. Everything runs on the shipped
INT8 encoders. Whether what is shown is right, and nothing is where there is nothing, is looked at in open-2 where the
space states no relevance of its own (benchmarks/relevance.py). The last section (benchmarks/query.py) measures text
queries over HTTP on a stack of its own with the demo data. The first run encodes for half an hour, later ones read
$DATA_DIR/bench/cache.
"""

from __future__ import annotations

import os
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import _latency
import numpy as np
import query
import relevance
from _baselines import bare_prior, cca, class_names, pca_ridge
from _data import DATA, Array, Encoded, Row, rows_of
from _measures import Table, at_smaller_pool, ndcg, ranks, recall, recall_of_ranks
from _report import Report, sized

from ml.alignment.space import SHIPPED, JointSpace

FOLDS = 5
INTENT_QUERIES = 2000
MEDICAL = sized(250, 4)
PRODUCTS_ZH = Path(__file__).with_name("products_zh.txt")
SHORT_TEXTS = Path(__file__).with_name("short_texts.txt")
SHOWN = (
    *(
        "dog",
        "dogs",
        "horse",
        "bike",
        "boy",
        "girl",
        "man",
        "woman",
        "child",
        "baby",
        "people",
        "crowd",
        "snow",
        "beach",
    ),
    *(
        "water",
        "ocean",
        "mountain",
        "hill",
        "sand",
        "rock",
        "tree",
        "field",
        "grass",
        "pool",
        "street",
        "car",
        "boat",
    ),
    *("football", "soccer", "ball", "skateboard", "swing", "running", "jumping", "playing"),
)
LEAST_RIGHT = 5
FASHION_PICTURES = sized(400, 4)
SMALLER_POOL = 396
Figures = dict[str, Any]


def photos(encoded: Encoded) -> Figures:
    """Flickr8k: captions to photos and back, and spoken captions to photos."""
    rows = rows_of("flickr8k_1k")
    if rows is None:
        return {}
    paths = [DATA / "flickr8k_1k" / row["path"] for row in rows]
    captions = [caption for row in rows for caption in row["text"]]
    photo_of = np.repeat(np.arange(len(rows)), [len(row["text"]) for row in rows])
    pictures = encoded.embed_pictures(paths)
    texts = encoded.embed_texts(captions)
    probabilities, _ = encoded.pictures(paths)
    vectors = encoded.texts(captions)
    bare = bare_prior(encoded.texts(class_names()), vectors, probabilities)
    figures = _both_ways(encoded, texts, pictures, bare, photo_of)
    figures["with pairs"] = _with_pairs(
        encoded, texts, pictures, vectors, probabilities, encoded.linear_features(paths), photo_of
    )
    figures["mixed kinds"] = _mixed_kinds(encoded, texts, pictures, photo_of)
    figures["short texts"] = _short_texts(encoded, captions, pictures, photo_of)
    return figures | _speech(encoded, rows, texts, pictures)


def _both_ways(
    encoded: Encoded, texts: Array, pictures: Array, bare: tuple[Array, Array], photo_of: Array
) -> Figures:
    to_photo = [[int(photo)] for photo in photo_of]
    to_captions = [np.flatnonzero(photo_of == photo).tolist() for photo in range(len(pictures))]
    table = Table("Photos and sentences: Flickr8k, all photos that are here, five captions each")
    table.add("text to image: shipped space", recall(texts @ pictures.T, to_photo, photo_of))
    table.add("text to image: bare prior", recall(bare[0] @ bare[1].T, to_photo, photo_of))
    queries = encoded.space.as_query(pictures)
    table.add("image to text: shipped space", recall(queries @ texts.T, to_captions))
    table.add("image to text: bare prior", recall(bare[1] @ bare[0].T, to_captions))
    found = ranks(texts @ pictures.T, to_photo)
    smaller = at_smaller_pool(found, len(pictures), SMALLER_POOL)
    print(
        f"  text to image, shipped space, expected in a pool of {SMALLER_POOL}: "
        + " / ".join(f"{value:.1f}" for value in smaller)
        + " (published notes use another pool of that size, whose photos are not here: compare loosely)"
    )
    return {"photos": table.rows, f"expected at pool {SMALLER_POOL}": [round(v, 2) for v in smaller]}


def _mixed_kinds(encoded: Encoded, texts: Array, pictures: Array, photo_of: Array) -> Figures:
    """The first caption of each photo asks for the photo and for its second caption, among as many of both kinds."""
    count = len(pictures)
    first = np.searchsorted(photo_of, np.arange(count))
    scores = texts[first] @ np.concatenate([encoded.space.as_asset(texts[first + 1]), pictures]).T
    best = np.argsort(-scores, axis=1)[:, :10]
    right = best % count == np.arange(count)[:, None]
    shown = best >= count
    found = {
        "right at the first place": right[:, 0].mean(),
        "texts in the first ten": (right & ~shown).any(axis=1).mean(),
        "photos in the first ten": (right & shown).any(axis=1).mean(),
        "photos among the first ten": shown.mean(),
    }
    print("\nOne list of texts and photos: each caption asks for its photo and another caption of it")
    for label, share in found.items():
        print(f"  {label:44}{100 * share:6.1f} %")
    return {label: round(float(share), 4) for label, share in found.items()}


def _short_texts(encoded: Encoded, captions: list[str], pictures: Array, photo_of: Array) -> Figures:
    """Words that ask for photos, in one list of all photos and short texts of other things.

    A photo is right where three of its captions hold the word.
    """
    said = [set(caption.lower().replace(".", " ").split()) for caption in captions]
    stored = encoded.space.as_asset(encoded.embed_texts(_lines(SHORT_TEXTS)))
    every = np.concatenate([pictures, stored])
    found: dict[str, list[Array]] = {}
    for word in SHOWN:
        holding = np.bincount(photo_of, [word in words for words in said], minlength=len(pictures))
        right = np.flatnonzero(holding >= 3)
        if len(right) < LEAST_RIGHT:
            continue
        for label, embed in (("as it is", encoded.embed_texts), ("as a query", encoded.space.query_texts)):
            query = embed([word])[0]
            best, alone = np.argsort(-(every @ query))[:10], np.argsort(-(pictures @ query))[:10]
            ten = min(10, len(right))
            first = float(best[0] >= len(pictures))
            among = (best >= len(pictures)).sum() / 10
            found.setdefault(label, []).append(np.array([first, among, np.isin(alone, right).sum() / ten]))
    print(
        f"\nShort words in one list of {len(pictures)} photos and {len(stored)} short texts of other things"
    )
    figures: Figures = {}
    for label, parts in found.items():
        first, among, right_ones = np.mean(parts, axis=0)
        figures[label] = {
            "a text first": round(float(first), 4),
            "texts among ten": round(float(among), 4),
            "right photos among ten, of photos alone": round(float(right_ones), 4),
        }
        print(
            f"  {len(parts)} words, {label:12}"
            + "".join(f"  {k}: {100 * v:.1f} %" for k, v in figures[label].items())
        )
    return figures


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]


def _with_pairs(
    encoded: Encoded,
    texts: Array,
    pictures: Array,
    vectors: Array,
    probabilities: Array,
    features: Array,
    photo_of: Array,
) -> Figures:
    """Linear models fitted on the pairs of four folds, judged on the photos and captions of the fifth."""
    fold_of = np.random.default_rng(0).permutation(len(pictures)) % FOLDS
    names = encoded.texts(class_names())
    found: dict[str, list[Array]] = {}
    for fold in range(FOLDS):
        here, asked = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of[photo_of] == fold)
        known = np.flatnonzero(fold_of[photo_of] != fold)
        spaces = {"shipped space, no pairs": (texts[asked], pictures[here])}
        spaces["bare prior, no pairs"] = bare_prior(names, vectors[asked], probabilities[here])
        for label, fit in (("PCA-256 + ridge", pca_ridge), ("regularised CCA", cca)):
            read, see = fit(vectors[known], features[photo_of[known]])
            spaces[f"{label}, pairs of 4 folds"] = (read(vectors[asked]), see(features[here]))
        place = {int(photo): number for number, photo in enumerate(here)}
        wanted = [[place[int(photo)]] for photo in photo_of[asked]]
        for label, (left, right) in spaces.items():
            found.setdefault(label, []).append(ranks(left @ right.T, wanted))
    return _folds_table(found, fold_of, photo_of)


def _folds_table(found: dict[str, list[Array]], fold_of: Array, photo_of: Array) -> Figures:
    groups = np.concatenate([photo_of[fold_of[photo_of] == fold] for fold in range(FOLDS)])
    table = Table(
        f"Against models that need pairs: Flickr8k, text to image, {FOLDS} folds, the pool is one fold",
        "CCA and ridge learn from 4/5 of these very photos, the shipped space from none",
    )
    for label, parts in found.items():
        table.add(label, recall_of_ranks(np.concatenate(parts), len(fold_of) // FOLDS, groups))
    return table.rows


def _speech(encoded: Encoded, photo_rows: list[Row], texts: Array, pictures: Array) -> Figures:
    rows = rows_of("spoken_captions_gtts")
    if rows is None:
        return {}
    place = {row["path"]: number for number, row in enumerate(photo_rows)}
    rows = [row for row in rows if row["image"] in place]
    heard = encoded.transcripts([DATA / "spoken_captions_gtts" / row["path"] for row in rows])
    wanted = [[place[row["image"]]] for row in rows]
    table = Table("Voice: captions read by a synthetic voice (gTTS), Whisper tiny.en, then text to image")
    table.add("speech to image", recall(encoded.embed_texts(heard) @ pictures.T, wanted))
    typed = encoded.embed_texts([row["text"] for row in rows])
    table.add("the same captions, typed", recall(typed @ pictures.T, wanted))
    return {"speech": table.rows}


def products(encoded: Encoded) -> Figures:
    """Grocery Store: phone photo to catalogue picture, and words to catalogue picture."""
    rows = rows_of("grocery_store", whole=True)
    if rows is None:
        return {}
    shelf = [row for row in rows if row["kind"] == "catalogue"][: sized(None, 3)]
    place = {row["label"]: number for number, row in enumerate(shelf)}
    taken = [row for row in rows if row["kind"] == "photo" and row["label"] in place][: sized(None, 4)]
    wanted = [[place[row["label"]]] for row in taken]
    labels = np.array([place[row["label"]] for row in taken])
    files = [[DATA / "grocery_store" / row["path"] for row in part] for part in (shelf, taken)]
    catalogue, photos_ = (encoded.embed_pictures(paths) for paths in files)
    queries = encoded.space.as_query(photos_)
    names = encoded.texts(class_names())
    bare = [bare_prior(names, names, encoded.pictures(paths)[0])[1] for paths in files]
    table = Table("Products: Grocery Store, 81 catalogue pictures, phone photos from shops")
    table.add("photo to product: shipped space", recall(queries @ catalogue.T, wanted, labels))
    table.add("photo to product: bare prior", recall(bare[1] @ bare[0].T, wanted, labels))
    for field in ("text", "title"):
        words = [row[field] or row["title"] for row in shelf]
        own = [[number] for number in range(len(shelf))]
        name = "description" if field == "text" else "title"
        table.add(f"{name} to picture: shipped space", recall(encoded.embed_texts(words) @ catalogue.T, own))
        left, right = bare_prior(names, encoded.texts(words), encoded.pictures(files[0])[0])
        table.add(f"{name} to picture: bare prior", recall(left @ right.T, own))
        table.add(
            f"photo to {name}: shipped space", recall(queries @ encoded.embed_texts(words).T, wanted, labels)
        )
    return {"products": table.rows}


def fashion(encoded: Encoded) -> Figures:
    """Fashion catalogue: title to picture (measure only)."""
    rows = rows_of("fashion_products")
    if rows is None:
        return {}
    random.Random(0).shuffle(rows)
    rows = rows[:FASHION_PICTURES]
    paths = [DATA / "fashion_products" / row["path"] for row in rows]
    titles = [row["text"] for row in rows]
    kinds = [[n for n, other in enumerate(rows) if other["label"] == row["label"]] for row in rows]
    own = [[number] for number in range(len(rows))]
    space = encoded.embed_texts(titles) @ encoded.embed_pictures(paths).T
    names = encoded.texts(class_names())
    bare = np.matmul(
        *(
            side if n == 0 else side.T
            for n, side in enumerate(bare_prior(names, encoded.texts(titles), encoded.pictures(paths)[0]))
        )
    )
    table = Table(
        "Fashion catalogue: title to picture; any picture of the same kind (e.g. Formal Shoes) below"
    )
    for label, scores in (("shipped space", space), ("bare prior", bare)):
        table.add(f"its own picture: {label}", recall(scores, own))
        table.add(f"same kind: {label}", recall(scores, kinds))
    return {"fashion": table.rows}


def chinese(encoded: Encoded) -> Figures:
    """What is asked in Chinese: products by their names, and questions about health by their answers."""
    table = Table("Chinese: names of the catalogue to its pictures, questions to answers")
    if (rows := rows_of("grocery_store", whole=True)) is not None:
        shelf = [row for row in rows if row["kind"] == "catalogue"][: sized(None, 3)]
        named = [line for line in PRODUCTS_ZH.read_text("utf-8").splitlines() if not line.startswith("#")]
        named = named[: len(shelf)]
        pictures = encoded.embed_pictures([DATA / "grocery_store" / row["path"] for row in shelf])
        own = [[number] for number in range(len(shelf))]
        titles = [row["title"] for row in shelf]
        for language, words in (("Chinese", named), ("English", titles)):
            table.add(f"name to picture, {language}", recall(encoded.embed_texts(words) @ pictures.T, own))
    if (asked := rows_of("zh_medical_qa")) is not None:
        asked = asked[:MEDICAL]
        answers = encoded.embed_texts([row["answer"] for row in asked])
        own = [[number] for number in range(len(asked))]
        for field in ("title", "text"):
            questions = encoded.embed_texts([row[field] for row in asked])
            table.add(f"{field} of a question to its answer", recall(questions @ answers.T, own))
    return {"chinese": table.rows}


def sentences(encoded: Encoded) -> Figures:
    """Text to text in the space beside the text encoder's own vectors."""
    figures: Figures = {}
    print(f"\nText to text: the {encoded.space.dimension} dimensions of the space beside its text encoder")
    print(f"  {'':58}{'space':>8}{'encoder':>9}")
    for name in ("banking77", "clinc150_small"):
        figures |= _intents(encoded, name)
    figures |= _questions(encoded)
    figures |= _cranfield(encoded)
    return {"text to text": figures}


def _line(label: str, space: float, raw: float) -> Figures:
    print(f"  {label:58}{space:8.1f}{raw:9.1f}")
    return {label: {"space": round(space, 2), "encoder": round(raw, 2)}}


def _intents(encoded: Encoded, name: str) -> Figures:
    rows = rows_of(name)
    if rows is None:
        return {}
    rows = [row for row in rows if row["label"] != "oos"]
    random.Random(0).shuffle(rows)
    rows = rows[:INTENT_QUERIES]
    texts, labels = [row["text"] for row in rows], np.array([row["label"] for row in rows])
    pair = [_same_label(points, labels) for points in (encoded.embed_texts(texts), encoded.texts(texts))]
    figures = _line(f"{name}: nearest of {len(rows)} has the same intent", pair[0][0], pair[1][0])
    return figures | _line(f"{name}: of the ten nearest, same intent", pair[0][1], pair[1][1])


def _same_label(points: Array, labels: Array) -> tuple[float, float]:
    scores = points @ points.T
    np.fill_diagonal(scores, -np.inf)
    same = labels[np.argsort(-scores, axis=1)[:, :10]] == labels[:, None]
    return 100 * same[:, 0].mean(), 100 * same.mean()


def _questions(encoded: Encoded) -> Figures:
    rows = rows_of("faq")
    if rows is None:
        return {}
    rows = [row for row in rows if row.get("text") and row.get("answer")]
    asked, answers = [row["text"] for row in rows], [row["answer"] for row in rows]
    same: dict[str, list[int]] = {}
    for number, answer in enumerate(answers):
        same.setdefault(answer, []).append(number)
    own = [same[answer] for answer in answers]  # Several questions share an answer.
    pair = [recall(embed(asked) @ embed(answers).T, own) for embed in (encoded.embed_texts, encoded.texts)]
    figures: Figures = {}
    for number, cut in ((0, 1), (2, 10)):
        label = f"faq: question finds its answer of {len(rows)}, R@{cut}"
        figures |= _line(label, pair[0].at[number], pair[1].at[number])
    return figures


def _cranfield(encoded: Encoded) -> Figures:
    documents, queries = rows_of("ir_cranfield", "corpus.jsonl"), rows_of("ir_cranfield", "queries.jsonl")
    if documents is None or queries is None:
        return {}
    bodies = [f"{row['title']}. {row['text']}" for row in documents]
    gains = _gains(
        {row["id"]: n for n, row in enumerate(queries)}, {row["id"]: n for n, row in enumerate(documents)}
    )
    asked = [row["text"] for row in queries]
    values = [ndcg(embed(asked) @ embed(bodies).T, gains) for embed in (encoded.embed_texts, encoded.texts)]
    return _line(f"Cranfield: nDCG@10, {len(bodies)} abstracts, {len(gains)} queries", *values)


def _gains(query_of: dict[str, int], document_of: dict[str, int]) -> dict[int, dict[int, float]]:
    """Cranfield grades 1 (best) to 4 become gains 4 to 1; what is marked -1 counts as irrelevant."""
    gains: dict[int, dict[int, float]] = {}
    for line in (DATA / "ir_cranfield" / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if query in query_of and document in document_of and int(grade) > 0:
            gains.setdefault(query_of[query], {})[document_of[document]] = 5.0 - int(grade)
    return gains


def relevances(encoded: Encoded, report: Report) -> Figures:
    """At the line of the space, or of the one that answers new workspaces."""
    stating = encoded if encoded.space.relevance else Encoded(relevance.space_of(relevance.DEFAULT))
    print(f"\nAt the line of {stating.space.id}")
    return relevance.at_the_line(stating, report)[1]


def latency(encoded: Encoded) -> Figures:
    """Inside the library; benchmarks/query.py measures over HTTP."""
    queries = ["a red apple on a table", "two dogs playing in the snow", "how do I return a parcel?"]
    steps = _latency.measure(encoded.space, encoded.text_encoder, queries)
    print("\nWhere the time of a text query goes inside the library: median ms, warm, one at a time")
    for name, value in steps.items():
        print(f"  {name:34}{value:8.3f}")
    return {"latency_ms": steps}


def main() -> int:
    report = Report("retrieval")
    space = JointSpace.load(SHIPPED.parent / os.environ.get("SPACE", SHIPPED.name))
    print(
        f"joint space {space.id}-{space.version}, {space.dimension} dimensions, {space.manifest['sha256'][:12]}"
    )
    encoded = Encoded(space)
    figures: Figures = {
        "space": {"id": space.id, "version": space.version, "sha256": space.manifest["sha256"]}
    }
    for section in (photos, products, fashion, chinese, sentences, latency):
        figures |= report.run(section.__name__, partial(section, encoded)) or {}
    figures["relevance"] = report.run("relevance", partial(relevances, encoded, report))
    figures["over HTTP"] = report.run("over HTTP", query.run)
    if figures["over HTTP"]:
        report.judge("over HTTP", [query.promise(figures["over HTTP"]["new"])])
    encoded.decoder.close()
    return report.finish(figures)


if __name__ == "__main__":
    sys.exit(main())

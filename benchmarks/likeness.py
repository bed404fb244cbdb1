"""What the threshold of near-duplicates and the weight of negative examples stand on (`make bench-likeness`).

Last what comparing the vectors of a dataset costs, as its health is examined (`SECTIONS=compare` for that alone).

Over the demo files only, with the models in this process. Near-duplicates: how alike pictures stay when they are saved
anew, scaled, cut or mirrored, against how alike different pictures are. Negative examples: "this, but not that" among
the shop's phone photos, with words, catalogue pictures, and pictures with their descriptions on either side.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
from _report import ROOT, TOY, Report, sized
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from ml.alignment.space import JointSpace
from ml.projection.neighbours import far_out, groups_of, nearest

DEMO = ROOT / "platform" / "standalone" / "demo_data"
SECTIONS = os.environ.get("SECTIONS", "")
THRESHOLDS = (0.95, 0.96, 0.97, 0.98, 0.985, 0.99)
WEIGHTS = sized((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0), (0.0, 0.3))
TOY_NAMES = ("red-bell-pepper", "green-bell-pepper")

Vectors = NDArray[np.float32]
Picture = Image.Image

# What "apples, but not these" may mean: names of products that a word covers, by their beginning or end.
KINDS = {
    "apple": r"golden-delicious|granny-smith|pink-lady|red-delicious|royal-gala",
    "pepper": r".*-bell-pepper",
    "melon": r"cantaloupe|.*melon",
    "citrus fruit": r"lemon|lime|orange|satsumas|red-grapefruit",
    "tomato": r".*-tomato",
    "potato": r".*-potato",
    "pear": r"anjou|conference|kaiser",
    "juice carton": r".*-juice.*|tropicana-.*",
    "milk carton": r".*(?<!sour)-milk",
    "yoghurt": r".*yoghurt|.*ghurt",
}


def saved(picture: Picture, quality: int) -> Picture:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    return Image.open(sink).convert("RGB")


def scaled(picture: Picture, factor: float) -> Picture:
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def cut(picture: Picture, share: float) -> Picture:
    x, y = round(picture.width * share), round(picture.height * share)
    return picture.crop((x, y, picture.width - x, picture.height - y))


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "JPEG 90": lambda picture: saved(picture, 90),
    "JPEG 75": lambda picture: saved(picture, 75),
    "JPEG 50": lambda picture: saved(picture, 50),
    "twice the size": lambda picture: scaled(picture, 2),
    "three quarters, JPEG 75": lambda picture: saved(scaled(picture, 0.75), 75),
    "half the size": lambda picture: scaled(picture, 0.5),
    "brighter by a tenth": lambda picture: ImageEnhance.Brightness(picture).enhance(1.1),
    "5 % cut off each side": lambda picture: cut(picture, 0.05),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def rows() -> list[dict[str, Any]]:
    """The demo's pictures: shop, file, text, and the product's name."""
    found = []
    for shop in ("grocery", "clinic"):
        for line in (DEMO / shop / "manifest.jsonl").open():
            row = json.loads(line)
            if (row.get("file") or "").endswith(".jpg"):
                name = re.sub(r"^train_|_\d+\.jpg$|_iconic\.jpg$", "", row["file"])
                photo = row["file"].startswith("train_")
                found.append({**row, "shop": shop, "name": name, "photo": photo})
    return [row for row in found if row["name"] in TOY_NAMES] if TOY else found


def opened(row: dict[str, Any]) -> Picture:
    return Image.open(DEMO / row["shop"] / row["file"]).convert("RGB")


def seen(space: JointSpace, pictures: list[Picture]) -> Vectors:
    return np.vstack([space.embed_images([np.asarray(picture)]) for picture in pictures])


def unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# --- Near-duplicates -------------------------------------------------------------------------------------


def near_duplicates(space: JointSpace, given: list[dict[str, Any]], vectors: Vectors) -> dict[str, Any]:
    chosen = list(range(0, len(given), 2))
    pictures = [opened(given[at]) for at in chosen]
    found = {}
    for name, change in list(CHANGES.items())[: sized(None, 2)]:
        alike = (seen(space, [change(picture) for picture in pictures]) * vectors[chosen]).sum(1)
        found[name] = [float((alike >= threshold).mean()) for threshold in THRESHOLDS]
    pairs = [(float(vectors[a] @ vectors[b]), a, b) for a, b in combinations(range(len(given)), 2)]
    different = [sum(score >= threshold for score, _, _ in pairs) for threshold in THRESHOLDS]
    closest = [(round(s, 4), given[a]["file"], given[b]["file"]) for s, a, b in sorted(pairs)[-8:][::-1]]
    return {"kept": found, "different": different, "pairs": len(pairs), "closest": closest}


def print_duplicates(found: dict[str, Any], count: int) -> None:
    print(f"\nNear-duplicates: share of {count} pictures that stay as alike as the threshold, in per cent")
    print("| | " + " | ".join(map(str, THRESHOLDS)) + " |")
    for name, shares in found["kept"].items():
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in shares) + " |")
    print(
        f"| pairs of different pictures, of {found['pairs']:,} | "
        + " | ".join(map(str, found["different"]))
        + " |"
    )
    for pair in found["closest"]:
        print("closest:", *pair)


# --- Negative examples -----------------------------------------------------------------------------------


class Shop:
    """Phone photos to be found, and what asks for them: words, catalogue pictures, pictures with descriptions."""

    def __init__(self, space: JointSpace, given: list[dict[str, Any]], vectors: Vectors) -> None:
        grocery = [at for at, row in enumerate(given) if row["shop"] == "grocery"]
        photos = [at for at in grocery if given[at]["photo"]]
        self.photos, self.names = vectors[photos], [given[at]["name"] for at in photos]
        products = [at for at in grocery if not given[at]["photo"]]
        pictures = space.as_query(vectors[products])
        words = space.embed_texts([given[at]["text"] for at in products])
        names = [given[at]["name"] for at in products]
        spelled = space.embed_texts([name.replace("-", " ") for name in names])
        self.forms = {
            "words": dict(zip(names, spelled, strict=True)),
            "picture": dict(zip(names, pictures, strict=True)),
            "picture and words": dict(zip(names, unit(pictures + words), strict=True)),
        }
        self.kinds = dict(zip(KINDS, space.embed_texts(list(KINDS)), strict=True))

    def questions(self, positive: str, negative: str) -> Iterator[tuple[Vectors, Vectors, str, set[str]]]:
        """What is wanted, what is not, the name of the latter and those of its whole kind."""
        unwanted = self.forms[negative]
        for kind, pattern in KINDS.items():
            names = {name for name in unwanted if re.fullmatch(pattern, name)}
            for name in sorted(names):
                if positive == "words":
                    yield self.kinds[kind], unwanted[name], name, names
                else:
                    for other in sorted(names - {name}):
                        yield self.forms[positive][other], unwanted[name], name, names

    def measure(self, positive: str, negative: str, weight: float, *, fixed: bool) -> tuple[float, float]:
        """Average precision of the kind without the name, and the share of that name's photos in the first ten."""
        precisions, shares = [], []
        for query, unwanted, name, names in self.questions(positive, negative):
            shared = 1.0 if fixed else max(0.0, float(query @ unwanted))
            order = np.argsort(-(self.photos @ (query - weight * shared * unwanted)))
            ranked = [self.names[at] for at in order]
            precisions.append(average_precision([one in names and one != name for one in ranked]))
            shares.append(ranked[:10].count(name) / ranked.count(name))
        return 100 * float(np.mean(precisions)), 100 * float(np.mean(shares))


def average_precision(relevant: list[bool]) -> float:
    places = np.flatnonzero(relevant) + 1
    return float(np.mean(np.arange(1, len(places) + 1) / places))


def negatives(shop: Shop) -> dict[str, Any]:
    print("\nNegative examples: average precision of the rest of the kind / unwanted photos in the first ten")
    print("| wanted − unwanted | weight | " + " | ".join(map(str, WEIGHTS)) + " |")
    found = {}
    for positive in shop.forms:
        for negative in shop.forms:
            for fixed in (True, False):
                key = f"{positive} − {negative} | {'fixed' if fixed else 'by likeness'}"
                found[key] = [shop.measure(positive, negative, weight, fixed=fixed) for weight in WEIGHTS]
                print(f"| {key} | " + " | ".join(f"{ap:.1f}/{share:.0f}" for ap, share in found[key]) + " |")
    return found


def compared() -> dict[str, float]:
    """CPU seconds of finding the five nearest of each vector, groups of copies, and what is far out: as
    `tenants.retrieval.dataset_health` does, on random vectors in 100 clusters."""
    count = sized(100_000, 5_000)
    chance = np.random.default_rng(1)
    vectors = chance.normal(size=(count, 256)).astype(np.float32)
    vectors += 3 * chance.normal(size=(100, 256)).astype(np.float32)[chance.integers(0, 100, count)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    begun, started = time.process_time(), time.perf_counter()
    near = nearest(vectors, 5)
    groups_of(near, 0.985)
    far_out(near)
    cpu_s, wall_s = time.process_time() - begun, time.perf_counter() - started
    print(f"\ncomparing {count:,} vectors of 256 with each other: {cpu_s:.1f} s of CPU, {wall_s:.1f} s")
    return {"vectors": count, "cpu_s": round(cpu_s, 2), "wall_s": round(wall_s, 2)}


def main() -> int:
    report = Report("likeness")
    figures = {} if SECTIONS == "compare" else report.run("likeness", run) or {}
    return report.finish({**figures, "compare": report.run("compare", compared)})


def run() -> dict[str, Any]:
    space, given = JointSpace.load(), rows()
    vectors = seen(space, [opened(row) for row in given])
    duplicates = near_duplicates(space, given, vectors)
    print_duplicates(duplicates, len(given[::2]))
    return {"near_duplicates": duplicates, "negatives": negatives(Shop(space, given, vectors))}


if __name__ == "__main__":
    sys.exit(main())

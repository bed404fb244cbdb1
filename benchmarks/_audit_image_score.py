"""Could a "deepfake score" from a frozen picture network be trusted? Measured, so that nobody has to believe it.

EfficientNet-Lite0's log probabilities and a logistic regression, on the open sets: the figure that a random split
shows, beside those for generators and sources of real photos that were not trained on, after JPEG 75, and at half size.
None is shipped: what would be needed is at most 5 % false alarms on unseen reals and a useful AUC on unseen generators.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _audit_forgeries import resaved
from _data import DATA, Row, rows_of
from _report import Line, sized
from numpy.typing import NDArray
from PIL import Image

from ml.encoders.base import load_encoder

PHOTOS = sized(60, 6)
WORTH_IT = 0.8
CONDITIONS = ("as it is", "JPEG 75", "half size")


def run() -> list[Line]:
    """The table, and whether the score would be worth keeping."""
    pictures = _pictures()
    if pictures is None:
        return [Line("embedded image score", "skipped: the sets are absent")]
    labels = np.asarray([row["fake"] for row in pictures])
    families = np.asarray([row["family"] for row in pictures])
    features = {name: _features([_changed(row["pixels"], name) for row in pictures]) for name in CONDITIONS}
    lines = [Line("embedded image score: shipped", "none")]
    lines += [
        Line(f"  not shipped: AUC on a random split, {name}", _random_split(features, labels, name))
        for name in CONDITIONS
    ]
    outs = _families_out(features, labels, families)
    for name, (auc, alarms) in outs.items():
        lines.append(Line(f"  not shipped: AUC on unseen families, {name}", auc))
        lines.append(Line(f"  not shipped: false alarms on unseen reals, {name}", alarms, "", "<= 0.05"))
    kept = all(auc >= WORTH_IT and alarms <= 0.05 for auc, alarms in outs.values())
    lines.append(Line("  would it be worth keeping?", "yes: reconsider" if kept else "no"))
    return lines


def _pictures() -> list[dict[str, Any]] | None:
    """Pixels, whether generated, and the family: a generator, or a source of real photos."""
    sets = {name: rows_of(name) for name in ("playground_50_50", "modern_generators", "grocery_store")}
    if any(rows is None for rows in sets.values()):
        return None
    playground, modern, grocery = (sets[name] or [] for name in sets)
    chosen = [("playground_50_50", row, row["generator"] or f"real {row['category']}") for row in playground]
    chosen += [("modern_generators", row, row["generator"]) for row in modern[:PHOTOS]]
    photos = [row for row in grocery if row["kind"] == "photo"]
    chosen += [
        ("grocery_store", row, f"real shop {at % 3}")
        for at, row in enumerate(photos[:: len(photos) // PHOTOS])
    ]
    return [
        {"pixels": _open(name, row), "fake": not family.startswith("real"), "family": family}
        for name, row, family in chosen
    ]


def _open(name: str, row: Row) -> NDArray[np.uint8]:
    return np.asarray(Image.open(DATA / name / row["path"]).convert("RGB"))


def _changed(pixels: NDArray[np.uint8], how: str) -> NDArray[np.uint8]:
    if how == "JPEG 75":
        return resaved(pixels, 75)
    if how == "half size":
        height, width = pixels.shape[:2]
        return np.asarray(Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.LANCZOS))
    return pixels


def _features(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    encoder = load_encoder("bundled:efficientnet-lite0")
    parts = [encoder.encode(pictures[at : at + 8]) for at in range(0, len(pictures), 8)]
    return np.log(np.concatenate(parts).reshape(len(pictures), -1).astype(np.float64) + 1e-5)


def _fitted(x: NDArray[np.float64], y: NDArray[np.bool_]) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, max_iter=300, class_weight="balanced")
    ).fit(x, y)


def _random_split(features: dict[str, NDArray[np.float64]], y: NDArray[np.bool_], how: str) -> float:
    """Trained on the pictures as they are, five folds at random."""
    from sklearn.metrics import roc_auc_score

    return round(float(roc_auc_score(y, _held_out(features["as it is"], y, features[how]))), 3)


def _families_out(
    features: dict[str, NDArray[np.float64]], y: NDArray[np.bool_], families: NDArray[np.str_]
) -> dict[str, tuple[float, float]]:
    """Every generator against every source of reals, neither trained on: mean AUC by condition, and false alarms at the
    threshold that 5 % of the other reals pass while they are held out themselves."""
    from sklearn.metrics import roc_auc_score

    sources = {name: np.char.startswith(families, name) for name in ("real shop", "real ")}
    sources["real "] &= ~sources["real shop"]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CONDITIONS}
    for generator in sorted(set(families[y])):
        for real in sources.values():
            unseen = (families == generator) | real
            x, known = features["as it is"][~unseen], y[~unseen]
            model, limit = _fitted(x, known), np.quantile(_held_out(x, known)[~known], 0.95)
            for name in CONDITIONS:
                scores = model.decision_function(features[name][unseen])
                alarms = float((scores[~y[unseen]] > limit).mean())
                found[name].append((float(roc_auc_score(y[unseen], scores)), alarms))
    return {name: tuple(np.mean(each, axis=0).round(3).tolist()) for name, each in found.items()}


def _held_out(
    x: NDArray[np.float64], y: NDArray[np.bool_], seen_as: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Each picture's score by a model that was trained on the other four fifths; ``seen_as``: its changed features."""
    fold = np.random.default_rng(0).permutation(len(y)) % 5
    scores = np.empty(len(y))
    for at in range(5):
        model = _fitted(x[fold != at], y[fold != at])
        scores[fold == at] = model.decision_function((x if seen_as is None else seen_as)[fold == at])
    return scores

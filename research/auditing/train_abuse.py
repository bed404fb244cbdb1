"""Train the models of abuse and hate: ``python -m research.auditing.train_abuse --data DIR``; minutes on one core.

Logistic regression over tf-idf of hashed n-grams, each feature scaled by how much oftener it stands in one class
than in the other (Wang and Manning 2012, "Baselines and Bigrams"). Calibrated on texts that were not learnt from,
measured on a third part. The same data give the same files. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.auditing import calibration
from ml.auditing.text_models import BUCKETS, FOLDER, MANIFEST, LinearModel, dequantized, ngrams
from research.auditing import abuse_data
from research.auditing.abuse_data import HEADS, Texts

log = logging.getLogger(__name__)

#: n-grams of words and of characters, and the penalty: chosen by five-fold cross-validation over each whole set, so the
#: test splits are not quite unseen by them; the shapes that were tried lay within .015 of each other.
SHAPES: dict[str, tuple[int, tuple[int, int]]] = {"en": (1, (2, 5)), "zh": (0, (1, 2))}
PENALTY = 4.0
#: A feature in fewer texts than this tells of one author, not of the language.
LEAST_TEXTS = 2

Matrix = Any
Bools = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder with davidson_hate, cold_zh and others"
    )
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--seeds", type=int, default=5, help="splits to measure; the first one ships")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    models = {language: train(arguments.data, language, arguments.out, arguments.seeds) for language in HEADS}
    content = json.dumps({"models": models}, indent=1, sort_keys=True, ensure_ascii=False)
    (arguments.out / MANIFEST).write_text(content + "\n", "utf-8")


def train(data: Path, language: str, out: Path, seeds: int) -> dict[str, Any]:
    """Train and save one language's model; its entry in the manifest, with what was measured."""
    texts = abuse_data.load(data, language)
    extra, unseen = (
        [abuse_data.cleaned(text) for text in half] for half in abuse_data.everyday(data, language)
    )
    spread: dict[str, list[Any]] = {}
    entry: dict[str, Any] = {}
    for seed in range(seeds):
        split = texts.split(seed)
        linear = fit(texts, split == "train", extra, SHAPES[language])
        heads = calibrate(linear, texts, split == "calibration", HEADS[language])
        measured = measure(linear, heads, texts, split == "test", unseen)
        for name, value in measured.items():
            spread.setdefault(name, []).append(value)
        log.info("%s split %d: %s", language, seed, measured)
        if seed == 0:
            sizes = {part: int((split == part).sum()) for part in ("train", "calibration", "test")}
            entry = save(out, language, linear, {"heads": heads, "sizes": sizes | {"everyday": len(extra)}})
    if language == "zh":
        entry["topic held out"] = _by_topic(texts, extra, unseen)
    return entry | {"splits": spread, "groups": len(np.unique(texts.groups))}


def _by_topic(texts: Texts, extra: Sequence[str], unseen: Sequence[str]) -> dict[str, dict[str, float]]:
    """Learnt from two topics and measured on the third: how much of the skill is knowing the topic."""
    topics, split, found = np.array(texts.topics), texts.split(0), {}
    for topic in sorted(set(texts.topics)):
        inside = topics == topic
        linear = fit(texts, ~inside & (split == "train"), extra, SHAPES["zh"])
        heads = calibrate(linear, texts, ~inside & (split == "calibration"), HEADS["zh"])
        found[topic] = measure(linear, heads, texts, inside, unseen)
    return found


def fit(texts: Texts, chosen: Bools, extra: Sequence[str], shape: tuple[int, tuple[int, int]]) -> LinearModel:
    """Learn from the chosen texts, and from ``extra`` ones without abuse."""
    learnt = [text for text, is_chosen in zip(texts.texts, chosen, strict=True) if is_chosen]
    labels = np.concatenate([texts.labels[chosen], np.zeros((len(extra), texts.labels.shape[1]), bool)])
    counts = _counts([*learnt, *extra], shape)
    holding = np.asarray((counts > 0).sum(axis=0)).ravel()
    idf = np.where(holding >= LEAST_TEXTS, np.log((1 + counts.shape[0]) / (1 + holding)) + 1, 0.0)
    values = _unit_rows(counts, idf)
    fitted = [_fit_head(values, counts, labels[:, head]) for head in range(labels.shape[1])]
    return quantised(
        LinearModel(
            weights=np.stack([weights for weights, _ in fitted]).astype(np.float16),
            idf=idf.astype(np.float16),
            bias=np.array([bias for _, bias in fitted], np.float32),
            words=shape[0],
            characters=shape[1],
        )
    )


def _fit_head(values: Matrix, counts: Matrix, labels: Bools) -> tuple[NDArray[np.float64], float]:
    from scipy.sparse import diags
    from sklearn.linear_model import LogisticRegression

    present = counts > 0
    inside = np.asarray(present[labels].sum(axis=0)).ravel() + 1.0
    outside = np.asarray(present[~labels].sum(axis=0)).ravel() + 1.0
    ratios = np.log((inside / inside.sum()) / (outside / outside.sum()))
    model = LogisticRegression(C=PENALTY, solver="liblinear", random_state=0, max_iter=1000)
    model.fit(values @ diags(ratios), labels)
    return model.coef_[0] * ratios, float(model.intercept_[0])


def _counts(texts: Sequence[str], shape: tuple[int, tuple[int, int]]) -> Matrix:
    from scipy.sparse import csr_matrix

    found = [np.unique(ngrams(text, *shape).buckets, return_counts=True) for text in texts]
    ends = np.cumsum([0, *(len(buckets) for buckets, _ in found)])
    values = np.concatenate([counts for _, counts in found]).astype(np.float64)
    columns = np.concatenate([buckets for buckets, _ in found])
    return csr_matrix((values, columns, ends), shape=(len(texts), BUCKETS))


def _unit_rows(counts: Matrix, idf: NDArray[np.float64]) -> Matrix:
    from scipy.sparse import diags
    from sklearn.preprocessing import normalize

    values = counts.copy()
    values.data = 1 + np.log(values.data)
    return normalize(values @ diags(idf))


def logits_of(linear: LinearModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """float32 [n, heads] of cleaned texts."""
    return np.stack([linear.logits(text) for text in texts])


def calibrate(linear: LinearModel, texts: Texts, chosen: Bools, names: Sequence[str]) -> dict[str, Any]:
    """Each head's calibration and threshold, from texts that it was not trained on."""
    logits = logits_of(linear, [text for text, is_in in zip(texts.texts, chosen, strict=True) if is_in])
    groups = [str(group) for group in texts.groups[chosen]]
    heads = {}
    for at, name in enumerate(names):
        labels = texts.labels[chosen, at]
        found = calibration.fit(logits[:, at], labels, groups=groups, note=f"abuse-1 {name}")
        probabilities = np.array([found.probability(float(logit)) for logit in logits[:, at]])
        heads[name] = {"calibration": asdict(found), "threshold": best_threshold(probabilities, labels)}
    return heads


def best_threshold(probabilities: NDArray[np.float64], labels: Bools) -> float:
    """The probability, in steps of .01, with the best macro-F1: the middle of the best ones."""
    from sklearn.metrics import f1_score

    steps = np.round(np.arange(0.05, 0.96, 0.01), 2)
    scores = np.array([f1_score(labels, probabilities >= step, average="macro") for step in steps])
    best = steps[scores >= scores.max() - 1e-3]
    return float(best[len(best) // 2])


def measure(
    linear: LinearModel, heads: dict[str, Any], texts: Texts, chosen: Bools, unseen: Sequence[str]
) -> dict[str, float]:
    """Figures on texts that were neither learnt from nor calibrated with."""
    from sklearn.metrics import f1_score, roc_auc_score

    tested = logits_of(linear, [text for text, is_in in zip(texts.texts, chosen, strict=True) if is_in])
    plain = logits_of(linear, unseen)
    figures: dict[str, float] = {}
    for at, (name, head) in enumerate(heads.items()):
        found = calibration.Calibration.loads(json.dumps(head["calibration"]))
        claimed = np.array([found.probability(float(logit)) for logit in tested[:, at]])
        labels = texts.labels[chosen, at]
        alarms = [found.probability(float(logit)) >= head["threshold"] for logit in plain[:, at]]
        figures |= {
            f"{name} macro-F1": f1_score(labels, claimed >= head["threshold"], average="macro"),
            f"{name} macro-F1 at .5": f1_score(labels, claimed >= 0.5, average="macro"),
            f"{name} AUC": roc_auc_score(labels, claimed),
            f"{name} calibration error": calibration.expected_calibration_error(claimed, labels),
            f"{name} false positives on everyday texts": float(np.mean(alarms)),
        }
    return {name: round(float(value), 4) for name, value in figures.items()}


def pack(linear: LinearModel) -> dict[str, NDArray[Any]]:
    """The arrays of a model's file: int8 weights and uint8 idf, with their scales."""
    weights = linear.weights.astype(np.float32)
    scales = np.maximum(np.abs(weights).max(axis=1), 1e-6) / 127
    idf_scale = np.maximum(linear.idf.astype(np.float32).max(), 1e-6) / 255
    return {
        "weights": np.rint(weights / scales[:, None]).astype(np.int8),
        "weight_scales": scales.astype(np.float32),
        "idf": np.rint(linear.idf.astype(np.float32) / idf_scale).astype(np.uint8),
        "idf_scale": np.array([idf_scale], np.float32),
        "bias": linear.bias.astype(np.float32),
    }


def save(folder: Path, language: str, linear: LinearModel, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a model's file; what the manifest says of it: ``about`` and the file's name and digest."""
    from safetensors.numpy import save as to_bytes

    content = to_bytes(pack(linear))
    path = folder / f"{language}.safetensors"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    shape = {"words": linear.words, "characters": list(linear.characters), "buckets": BUCKETS}
    return {"file": path.name, "sha256": digest, **shape, **about}


def quantised(linear: LinearModel) -> LinearModel:
    """The model as it is after being stored and loaded: what is calibrated and measured is what ships."""
    packed = pack(linear)
    return LinearModel(
        weights=dequantized(packed["weights"], packed["weight_scales"][:, None]),
        idf=dequantized(packed["idf"], packed["idf_scale"]),
        bias=packed["bias"],
        words=linear.words,
        characters=linear.characters,
    )


if __name__ == "__main__":
    main()

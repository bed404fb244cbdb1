"""Abuse in Chinese by words and by meaning: what multilingual-e5-small adds to the n-grams of ``train_abuse``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.auditing import calibration
from ml.auditing.text_meaning import ENCODERS
from ml.auditing.text_models import LinearModel, load_model
from research.auditing import abuse_data, train_abuse
from research.auditing.abuse_data import Texts, cleaned
from research.auditing.hate_data import NAMED, Sentence
from research.auditing.hate_heads import (
    FOLDS,
    Bools,
    Cache,
    Floats,
    Vectors,
    best_threshold,
    fit,
    fold_of,
    macro_f1,
    stacked,
)

#: What a contrast pair weighs beside a comment of COLD.
CONTRAST = 2.0


@dataclass(frozen=True)
class Fused:
    """``weights`` [d], ``bias`` and ``words``: of the vector, and of the logit by words."""

    weights: Vectors
    bias: float
    words: float

    def logits(self, vectors: Vectors, by_words: Floats) -> Floats:
        return np.asarray(vectors @ self.weights + self.bias + self.words * by_words, np.float64)


@dataclass(frozen=True)
class Pairs:
    """The contrast pairs: with hate, or abuse of what is no group, as abuse."""

    vectors: Vectors
    labels: Bools
    folds: NDArray[np.int64]
    named: Bools
    texts: Sequence[str]

    @classmethod
    def of(cls, contrast: Sequence[Sentence], vectors: Cache) -> Pairs:
        return cls(
            vectors.of([each.text for each in contrast], ENCODERS["zh"]),
            np.array([each.hate or each.function == "person" for each in contrast]),
            np.array([fold_of(each) for each in contrast]),
            np.array([each.function in NAMED for each in contrast]),
            [cleaned(each.text) for each in contrast],
        )


def train(data: Path, contrast: Sequence[Sentence], vectors: Cache) -> tuple[Fused, dict[str, Any]]:
    """The head, learnt beside the shipped model of words, and its entry in the manifest."""
    texts = abuse_data.load(data, "zh")
    pairs = Pairs.of(contrast, vectors)
    read = vectors.of(list(texts.raw), ENCODERS["zh"])
    split = texts.split(0)
    chosen = {part: split == part for part in ("train", "calibration", "test")}
    head, entry = _fused(load_model("zh").linear, texts, read, pairs, chosen)
    return head, entry | {"topic held out": _by_topic(data, texts, read, pairs, split)}


def _by_topic(
    data: Path, texts: Texts, read: Vectors, pairs: Pairs, split: NDArray[np.str_]
) -> dict[str, float]:
    """Macro-F1 on each topic, of words and vectors that were learnt from the other two."""
    topics, found = np.array(texts.topics), {}
    extra = [cleaned(text) for text in abuse_data.everyday(data, "zh")[0]]
    for topic in sorted(set(texts.topics)):
        inside = topics == topic
        linear = train_abuse.fit(texts, ~inside & (split == "train"), extra, train_abuse.SHAPES["zh"])
        parts = {part: ~inside & (split == part) for part in ("train", "calibration")} | {"test": inside}
        found[topic] = _fused(linear, texts, read, pairs, parts)[1]["test"]["macro-F1"]
    return found


def _fused(
    linear: LinearModel, texts: Texts, read: Vectors, pairs: Pairs, chosen: dict[str, Bools]
) -> tuple[Fused, dict[str, Any]]:
    labels = texts.labels[:, 0]
    own = _logits_of(linear, texts.texts, chosen["calibration"] | chosen["test"])
    of_pairs = _logits_of(linear, pairs.texts, np.ones(len(pairs.texts), bool))
    train = chosen["train"]

    def learnt(left_out: Bools) -> tuple[Vectors, float]:
        weights = np.concatenate([np.ones(int(train.sum())), np.full(int((~left_out).sum()), CONTRAST)])
        values = np.concatenate([read[train], pairs.vectors[~left_out]])
        return fit(values, np.concatenate([labels[train], pairs.labels[~left_out]]), weights)

    held_out = np.zeros(len(pairs.labels))
    for fold in range(FOLDS):
        inside = pairs.folds == fold
        found = learnt(inside)
        held_out[inside] = pairs.vectors[inside] @ found[0] + found[1]
    final = learnt(np.zeros(len(pairs.labels), bool))
    at = chosen["calibration"]
    meant = np.concatenate([read[at] @ final[0] + final[1], held_out])
    said = np.concatenate([own[at], of_pairs])
    truth = np.concatenate([labels[at], pairs.labels])
    a, b, c = stacked(meant, said, truth)
    head = Fused((a * final[0]).astype(np.float32), a * final[1] + c, b)
    named = np.concatenate([np.zeros(int(at.sum()), bool), pairs.named])
    groups = [str(group) for group in texts.groups[at]]
    comments = np.arange(len(truth)) < int(at.sum())
    entry = _calibrated(a * meant + b * said + c, truth, named, comments, groups)
    tested = chosen["test"]
    return head, entry | {"test": _measured(entry, head.logits(read[tested], own[tested]), labels[tested])}


def _logits_of(linear: LinearModel, texts: Sequence[str], chosen: Bools) -> Floats:
    """The first head's logits of the chosen texts, 0 of others."""
    found = np.zeros(len(texts))
    for at in np.flatnonzero(chosen):
        found[at] = linear.logits(texts[int(at)])[0]
    return found


def _calibrated(
    logits: Floats, truth: Bools, named: Bools, comments: Bools, groups: Sequence[str]
) -> dict[str, Any]:
    """Calibrated on ``comments``, as people post them; the threshold minds the pairs, too."""
    found = calibration.fit(logits[comments], truth[comments], groups=groups, note="hate-1 zh/abuse")
    claimed = np.array([found.probability(float(logit)) for logit in logits])
    threshold = best_threshold(claimed, truth, claimed[named])
    alarms = f"{int((claimed[named] >= threshold).sum())}/{int(named.sum())}"
    return {
        "calibration": asdict(found),
        "threshold": threshold,
        "held out": {
            "macro-F1": round(macro_f1(truth, claimed >= threshold), 4),
            "false alarms, group named": alarms,
        },
    }


def _measured(entry: dict[str, Any], logits: Floats, labels: Bools) -> dict[str, float]:
    found = calibration.Calibration.loads(json.dumps(entry["calibration"]))
    claimed = np.array([found.probability(float(logit)) for logit in logits])
    return {
        "macro-F1": round(macro_f1(labels, claimed >= entry["threshold"]), 4),
        "calibration error": round(calibration.expected_calibration_error(claimed, labels), 4),
        "texts": len(labels),
    }

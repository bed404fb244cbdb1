"""What the heads over frozen sentence vectors are trained and judged with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.auditing.text_meaning import encode, readings
from research.auditing.hate_data import Sentence

#: Share of held-out sentences that only name a group which may reach the threshold.
MOST_ALARMS = 0.02
PENALTY = 3.0
FOLDS = 5

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Vectors = NDArray[np.float32]


class Cache:
    """Vectors of readings, kept in a file where one is named."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, dict[str, Vectors]] = {}
        if path and path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                for name in ("minilm", "e5"):
                    texts, vectors = stored[f"{name}.texts"], stored[f"{name}.vectors"]
                    self._known[name] = dict(zip(map(str, texts), vectors, strict=True))

    def of(self, texts: Sequence[str], encoders: Sequence[str]) -> Vectors:
        """float32 [n, d] of the plain readings of texts, one encoder's vectors after the other."""
        read = [readings(text)[0] for text in texts]
        return np.concatenate([self._of(read, name) for name in encoders], axis=1).astype(np.float32)

    def _of(self, read: Sequence[str], name: str) -> Vectors:
        known = self._known.setdefault(name, {})
        missing = sorted({text for text in read if text not in known})
        for at in range(0, len(missing), 64):
            part = missing[at : at + 64]
            known.update(zip(part, encode(part, (name,)).astype(np.float16), strict=True))
        if missing and self._path:
            self._write(self._path)
        return np.stack([known[text] for text in read])

    def _write(self, path: Path) -> None:
        stored: dict[str, Any] = {}
        for name in ("minilm", "e5"):
            known = self._known.get(name, {})
            stored[f"{name}.texts"] = np.array(list(known))
            stored[f"{name}.vectors"] = np.stack(list(known.values())) if known else np.zeros((0, 384))
        np.savez(path, **stored)


def fit(values: Vectors, labels: Bools, weights: Floats) -> tuple[Vectors, float]:
    """Weights and bias of a logistic regression over centred vectors, the mean folded into the bias."""
    from sklearn.linear_model import LogisticRegression

    mean = values.mean(0)
    model = LogisticRegression(C=PENALTY, max_iter=500)
    model.fit(values - mean, labels, sample_weight=weights)
    found = model.coef_[0].astype(np.float32)
    return found, float(model.intercept_[0] - mean @ found)


def fold_of(sentence: Sentence) -> int:
    """A topic of COLD is held out as a whole."""
    name = f"cold/{sentence.topic}" if sentence.topic else sentence.group
    return digest_number(name) % FOLDS


def digest_number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:4], "big")


def best_threshold(claimed: Floats, labels: Bools, named: Floats) -> float:
    """The probability of the best macro-F1, in steps of .01, that at most ``MOST_ALARMS`` of ``named`` reach."""
    steps = np.round(np.arange(0.05, 0.96, 0.01), 2)
    allowed = [step for step in steps if np.mean(named >= step) <= MOST_ALARMS]
    return float(max(allowed or [steps[-1]], key=lambda step: macro_f1(labels, claimed >= step)))


def macro_f1(labels: Bools, flagged: Bools) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, flagged, average="macro"))


def stacked(meant: Floats, said: Floats, truth: Bools) -> tuple[float, float, float]:
    """What a logit by meaning and one by words count, and the intercept."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=100.0).fit(np.stack([meant, said], 1), truth)
    return float(model.coef_[0, 0]), float(model.coef_[0, 1]), float(model.intercept_[0])

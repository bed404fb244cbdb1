"""A workspace's correction of the curves of relevance, from labels of right and wrong results.

Two numbers are fitted to the log odds that the curves gave (Platt 1999), drawn to the curves themselves as long as
there are few labels, and within bounds. It is taken only where it tells more about queries that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.relevance import Correction

#: With fewer labels, labels of one kind, or queries, nothing is fitted.
LABELS, OF_EACH, QUERIES = 60, 15, 20
#: Tenths of the queries that judge.
JUDGING = 3
#: How much the curves count beside the labels: as so many of them.
PULL = 5.0
STEPS = 50
#: Standard errors by which the loss has to fall.
SURE = 2.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """Results that were labelled: the log odds that the curves gave [n], whether they are right [n], and which query
    they are of [n], each with its tenth 0 to 9 [n]."""

    odds: Floats
    right: NDArray[np.bool_]
    query: NDArray[np.int64]
    tenth: NDArray[np.int64]

    def take(self, chosen: NDArray[np.bool_]) -> Labelled:
        """Some of them."""
        return Labelled(self.odds[chosen], self.right[chosen], self.query[chosen], self.tenth[chosen])

    @property
    def is_enough(self) -> bool:
        """Whether a correction can be learnt."""
        right = int(self.right.sum())
        return (
            len(self.right) >= LABELS
            and min(right, len(self.right) - right) >= OF_EACH
            and len(np.unique(self.query)) >= QUERIES
        )


def fitted(labels: Labelled) -> Correction:
    """The correction under which the labels are most likely, by Newton's method."""
    wanted, pulled_to = labels.right.astype(float), np.array([1.0, 0.0])
    inputs = np.stack([labels.odds, np.ones(len(labels.odds))], axis=1)
    found = pulled_to.copy()
    for _ in range(STEPS):
        chance = _chance(inputs @ found)
        slope = inputs.T @ (chance - wanted) + PULL * (found - pulled_to)
        bend = inputs.T @ (inputs * (chance * (1 - chance))[:, None]) + PULL * np.eye(2)
        step = np.linalg.solve(bend, slope)
        found = found - np.clip(step, -1.0, 1.0)
        if float(np.abs(step).max()) < 1e-9:
            break
    return Correction.within(float(found[0]), float(found[1]))


def tried(labels: Labelled) -> tuple[Correction, dict[str, Any]]:
    """The correction by all labels, and a report: how one by some of the queries does on the others.

    It is to be ``taken`` where the loss falls by more than twice the standard error of that over queries.
    """
    judged = labels.take(labels.tenth < JUDGING)
    by_others = fitted(labels.take(labels.tenth >= JUDGING))
    gains = _gains(judged, by_others)
    gain = float(np.mean(gains)) if len(gains) else 0.0
    error = float(np.std(gains, ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else math.inf
    report = {
        "labels": len(labels.right),
        "queries": len(np.unique(labels.query)),
        "judged_on": len(judged.right),
        "log_loss": {
            "curves": _rounded(_losses(judged, Correction())),
            "corrected": _rounded(_losses(judged, by_others)),
        },
        "taken": gain > SURE * error,
    }
    return fitted(labels), report


def _gains(judged: Labelled, correction: Correction) -> Floats:
    """By how much the loss of each query falls."""
    less = _losses(judged, Correction()) - _losses(judged, correction)
    return np.array([less[judged.query == query].mean() for query in np.unique(judged.query)])


def _losses(labels: Labelled, correction: Correction) -> Floats:
    odds = correction.steepness * labels.odds + correction.shift
    return np.asarray(np.logaddexp(0.0, np.where(labels.right, -odds, odds)))


def _rounded(losses: Floats) -> float | None:
    return round(float(losses.mean()), 4) if len(losses) else None


def _chance(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -50, 50))))


def odds_of(chances: Sequence[float]) -> Floats:
    """Log odds of chances, those at the ends a little inside."""
    inside = np.clip(np.array(chances, float), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)))

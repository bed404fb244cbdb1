"""A detector's score against what reviewers decided: what it is worth here, and which threshold asks them less often.

The detector's own calibration was fitted to other people's content. Platt's logistic over the logit of its score (Platt
1999) is fitted to pairs of score and decision, and judged on folds that it did not see; equal and nearly equal content
stays in one fold. A threshold is only ever raised: reviewers are asked about what was flagged, so nobody has decided
about what lies below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.classification import FOLDS, stratified_folds

#: Groups of near-duplicates of each answer that it takes: below, two parameters and a threshold mean nothing.
LEAST = 20
#: Of a hundred flags that reviewers confirm, those that may be lost to a higher threshold.
LOSE = 0.02
#: Thresholds are tried in such steps, and one that moves by less than two is left as it is.
STEP = 0.01
#: The share of flags that reviewers confirm from which a person is hardly needed: the lower end of Wilson's interval.
CERTAIN = 0.95
#: Probabilities are kept this far from 0 and 1.
EDGE = 1e-4

ACCEPTED, FEW, NOT_BETTER, NO_GAIN, LOSES = "accepted", "few", "not_better", "no_gain", "loses_too_much"


@dataclass(frozen=True)
class Recalibrated:
    """`threshold` is the one to use from now on: the one before unless the outcome is `accepted`."""

    outcome: str
    threshold: float
    report: dict[str, Any]


def recalibrate(
    scores: np.ndarray,
    violating: np.ndarray,
    groups: np.ndarray,
    *,
    threshold: float,
    lose: float = LOSE,
    seed: int = 0,
) -> Recalibrated:
    """From scores float64 [n] in 0 to 1 and decisions bool [n]; `groups` int [n] numbers near-duplicates.

    The report has `decisions`, `confirmed`, `groups` (of both answers), `flagged` at the threshold before, `threshold`
    (`before`, `after`), and `certain`: the score `from` which on people confirm CERTAIN of the flags, and how many lie
    there on unseen folds (`flagged`, `confirmed`), or None. From LEAST groups of each answer on also, all on unseen
    folds, `log_loss` and `brier` (`before`: the score as it is, `after`), and at thresholds that were chosen without
    them `still_flagged`, `confirmed_lost` and `confirmed_flagged`. Accepted is what has a log-loss that is lower by
    more than its standard error over groups, a lower Brier score, a threshold that is two steps higher at least, and
    what loses no more than twice what it may.
    """
    counts = [len(np.unique(groups[violating == answer])) for answer in (True, False)]
    report: dict[str, Any] = {
        "decisions": len(scores),
        "confirmed": int(violating.sum()),
        "groups": {"confirmed": counts[0], "let_go": counts[1]},
        "flagged": int((scores >= threshold).sum()),
        "threshold": {"before": threshold, "after": threshold},
        "certain": _certain_unseen(scores, violating, groups, threshold, seed),
    }
    if min(counts) < LEAST:
        return Recalibrated(FEW, threshold, report)
    logits = _logits(scores)
    folds = stratified_folds(violating, groups, FOLDS, seed)
    unseen, kept = np.zeros(len(scores)), np.zeros(len(scores), bool)
    for fold in range(FOLDS):
        held = folds == fold
        curve = _platt(logits[~held], violating[~held])
        unseen[held] = _at(curve, logits[held])
        chosen = _threshold(scores[~held], violating[~held], _at(curve, logits[~held]), threshold, lose)
        kept[held] = scores[held] >= chosen
    new = _threshold(scores, violating, _at(_platt(logits, violating), logits), threshold, lose)
    flagged = scores >= threshold
    lost = int((violating & flagged & ~kept).sum())
    report |= {
        "log_loss": _pair(_log_losses(scores, violating), _log_losses(unseen, violating)),
        "brier": _pair((scores - violating) ** 2, (unseen - violating) ** 2),
        "still_flagged": int(kept.sum()),
        "confirmed_flagged": int((violating & flagged).sum()),
        "confirmed_lost": lost,
    }
    better = (
        _is_better(scores, unseen, violating, groups) and report["brier"]["after"] < report["brier"]["before"]
    )
    if not better:
        return Recalibrated(NOT_BETTER, threshold, report)
    if new < threshold + 1.5 * STEP:
        return Recalibrated(NO_GAIN, threshold, report)
    if lost > max(1, 2 * lose * report["confirmed_flagged"]):
        return Recalibrated(LOSES, threshold, report)
    report["threshold"]["after"] = new
    return Recalibrated(ACCEPTED, new, report)


def _logits(scores: np.ndarray) -> np.ndarray:
    inside = np.clip(scores, EDGE, 1 - EDGE)
    return np.log(inside / (1 - inside))


def _platt(logits: np.ndarray, violating: np.ndarray) -> tuple[float, float]:
    from ml.auditing.calibration import platt_curve

    slope, offset = platt_curve(logits, violating, [])[0]
    # A score that says the opposite of what people say orders nothing.
    return (slope, offset) if slope > 0 else (0.0, float(_logits(np.array([violating.mean()]))[0]))


def _at(curve: tuple[float, float], logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(curve[0] * logits + curve[1], -30, 30))))


def _threshold(
    scores: np.ndarray, violating: np.ndarray, probabilities: np.ndarray, before: float, lose: float
) -> float:
    """The highest threshold below which no more confirmed flags lie than may be lost, counted and expected."""
    flagged = scores >= before
    allowed = lose * max(float((violating & flagged).sum()), float(probabilities[flagged].sum()))
    best = before
    for place in range(1, round((1 - before) / STEP)):
        tried = round(before + place * STEP, 4)
        under = flagged & (scores < tried)
        if max(float(violating[under].sum()), float(probabilities[under].sum())) > allowed:
            break
        best = tried
    return best


def _certain_unseen(
    scores: np.ndarray, violating: np.ndarray, groups: np.ndarray, threshold: float, seed: int
) -> dict[str, Any] | None:
    """Where reviewers hardly differ from the detector, and on unseen folds what lies there."""
    found = _certain(scores, violating, groups, threshold)
    if found is None or len(np.unique(groups)) < FOLDS:
        return None
    folds, sure = stratified_folds(violating, groups, FOLDS, seed), np.zeros(len(scores), bool)
    for fold in range(FOLDS):
        held = folds == fold
        least = _certain(scores[~held], violating[~held], groups[~held], threshold)
        sure[held] = least is not None and scores[held] >= least
    return {"from": found, "flagged": int(sure.sum()), "confirmed": int((violating & sure).sum())}


def _certain(scores: np.ndarray, violating: np.ndarray, groups: np.ndarray, threshold: float) -> float | None:
    """The lowest score, in steps from the threshold, from which on reviewers confirm CERTAIN of the flags at least;
    near-duplicates count as one flag, confirmed where all of them are."""
    from ml.auditing.calibration import share_interval

    for place in range(round((1 - threshold) / STEP)):
        tried = round(threshold + place * STEP, 4)
        above = scores >= tried
        names = np.unique(groups[above], return_inverse=True)[1]
        let_go = np.bincount(names, ~violating[above])
        if share_interval(int((let_go == 0).sum()), len(let_go))[0] >= CERTAIN:
            return tried
    return None


def _log_losses(probabilities: np.ndarray, violating: np.ndarray) -> np.ndarray:
    inside = np.clip(probabilities, EDGE, 1 - EDGE)
    return np.asarray(-np.log(np.where(violating, inside, 1 - inside)))


def _pair(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    return {"before": round(float(before.mean()), 4), "after": round(float(after.mean()), 4)}


def _is_better(scores: np.ndarray, unseen: np.ndarray, violating: np.ndarray, groups: np.ndarray) -> bool:
    """Whether the log-loss falls by more than its standard error, over groups: a hundred copies are one opinion."""
    gains = _log_losses(scores, violating) - _log_losses(unseen, violating)
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], gains)
    error = float(sums.std(ddof=1)) * len(sums) ** 0.5
    return float(sums.sum()) > error

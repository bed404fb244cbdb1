"""A detector's score against what reviewers decided: what it is worth here, and which threshold asks them less often.

The detector's own calibration was fitted to other people's content. Platt's logistic over the logit of its score (Platt
1999) is fitted to pairs of score and decision, and judged on folds that it did not see; equal and nearly equal content
stays in one fold. A threshold is only ever raised: reviewers are asked about what was flagged, so nobody has decided
about what lies below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

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
class Change:
    before: float
    after: float


@dataclass(frozen=True)
class Groups:
    """Of near-duplicates, by what was decided."""

    confirmed: int
    let_go: int


@dataclass(frozen=True)
class Certain:
    """From the score `least` on people confirm CERTAIN of the flags; how many lie there on unseen folds."""

    least: float
    flagged: int
    confirmed: int


@dataclass(frozen=True)
class Unseen:
    """On folds that neither the curve nor the threshold was fitted to. `log_loss` and `brier`: of the score as it is,
    and after; `flagged`: what goes on being flagged; `confirmed`, `confirmed_lost`: flags before that people confirmed,
    and those of them that are none any more."""

    log_loss: Change
    brier: Change
    flagged: int
    confirmed: int
    confirmed_lost: int


@dataclass(frozen=True)
class Recalibrated:
    """`threshold.after` is the one to use from now on: the one before unless the outcome is ACCEPTED. `flagged` at the
    one before, of so many `decisions`; `unseen` is None below LEAST groups of each answer."""

    outcome: str
    threshold: Change
    decisions: int
    confirmed: int
    groups: Groups
    flagged: int
    certain: Certain | None
    unseen: Unseen | None = None


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

    Accepted is what has a log-loss that is lower by more than its standard error over groups, a lower Brier score, a
    threshold that is two steps higher at least, and what loses no more than twice what it may.
    """
    counts = Groups(*(len(np.unique(groups[violating == answer])) for answer in (True, False)))
    few = Recalibrated(
        FEW,
        Change(threshold, threshold),
        decisions=len(scores),
        confirmed=int(violating.sum()),
        groups=counts,
        flagged=int((scores >= threshold).sum()),
        certain=_certain_unseen(scores, violating, groups, threshold, seed),
    )
    if min(counts.confirmed, counts.let_go) < LEAST:
        return few
    logits = _logits(scores)
    folds = stratified_folds(violating, groups, FOLDS, seed)
    probabilities, kept = np.zeros(len(scores)), np.zeros(len(scores), bool)
    for fold in range(FOLDS):
        held = folds == fold
        curve = _platt(logits[~held], violating[~held])
        probabilities[held] = _at(curve, logits[held])
        chosen = _threshold(scores[~held], violating[~held], _at(curve, logits[~held]), threshold, lose)
        kept[held] = scores[held] >= chosen
    new = _threshold(scores, violating, _at(_platt(logits, violating), logits), threshold, lose)
    flagged = scores >= threshold
    unseen = Unseen(
        log_loss=_change(_log_losses(scores, violating), _log_losses(probabilities, violating)),
        brier=_change((scores - violating) ** 2, (probabilities - violating) ** 2),
        flagged=int(kept.sum()),
        confirmed=int((violating & flagged).sum()),
        confirmed_lost=int((violating & flagged & ~kept).sum()),
    )
    judged = replace(few, outcome=NOT_BETTER, unseen=unseen)
    if not _is_better(scores, probabilities, violating, groups) or unseen.brier.after >= unseen.brier.before:
        return judged
    if new < threshold + 1.5 * STEP:
        return replace(judged, outcome=NO_GAIN)
    if unseen.confirmed_lost > max(1, 2 * lose * unseen.confirmed):
        return replace(judged, outcome=LOSES)
    return replace(judged, outcome=ACCEPTED, threshold=Change(threshold, new))


def _logits(scores: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(scores, EDGE, 1 - EDGE)))


def _platt(logits: np.ndarray, violating: np.ndarray) -> tuple[float, float]:
    from ml.auditing.calibration import platt_curve

    slope, offset = platt_curve(logits, violating, [])[0]
    # A score that says the opposite of what people say orders nothing.
    return (slope, offset) if slope > 0 else (0.0, float(_logits(np.array([violating.mean()]))[0]))


def _at(curve: tuple[float, float], logits: np.ndarray) -> np.ndarray:
    return np.asarray(expit(curve[0] * logits + curve[1]))


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
) -> Certain | None:
    """Where reviewers hardly differ from the detector, and on unseen folds what lies there."""
    found = _certain(scores, violating, groups, threshold)
    if found is None or len(np.unique(groups)) < FOLDS:
        return None
    folds, sure = stratified_folds(violating, groups, FOLDS, seed), np.zeros(len(scores), bool)
    for fold in range(FOLDS):
        held = folds == fold
        least = _certain(scores[~held], violating[~held], groups[~held], threshold)
        sure[held] = least is not None and scores[held] >= least
    return Certain(found, int(sure.sum()), int((violating & sure).sum()))


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


def _change(before: np.ndarray, after: np.ndarray) -> Change:
    return Change(round(float(before.mean()), 4), round(float(after.mean()), 4))


def _is_better(scores: np.ndarray, unseen: np.ndarray, violating: np.ndarray, groups: np.ndarray) -> bool:
    """Whether the log-loss falls by more than its standard error, over groups: a hundred copies are one opinion."""
    gains = _log_losses(scores, violating) - _log_losses(unseen, violating)
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], gains)
    error = float(sums.std(ddof=1)) * len(sums) ** 0.5
    return float(sums.sum()) > error

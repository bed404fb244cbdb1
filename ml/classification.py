"""Yes-or-no classifiers on frozen features: a linear head, from labelled examples or from words alone.

From examples: logistic regression with an L2 penalty on unit vectors of a joint space, as linear probes of CLIP are
made (Radford et al. 2021). Penalty and calibration (Platt 1999, with his targets) come from stratified folds, and the
figures from predictions for examples that a fold's head had not seen. Equal and nearly equal content stays in one fold.

From words: how much nearer a vector is to the words than to neutral phrases, against the spread of that score over
what the tenant has. That ranks; how probable it makes anything is an estimate, as nobody has said what is right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

# SciPy is imported where it works: the web process reads a limit here, and should not load it.

MIN_EXAMPLES, MAX_EXAMPLES = 5, 5_000
# Of each class, of contents that are told apart.
MIN_OF_CLASS = 2
FOLDS = 5
# Inverse strength of the penalty on the squared weights; the loss is the sum over the examples.
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
# From this probability on a head says yes.
LINE = 0.5
# Cosine from which two vectors count as of nearly the same content.
NEARLY_EQUAL = 0.98
# Below, the figures of a head say little, and so does its calibration.
FEW, FEW_OF_CLASS = 30, 10
CALIBRATED, ESTIMATED = "calibrated", "estimated, not calibrated"
# From words: how many of a modality it takes to know its spread; where .5 lies, in standard deviations above the
# median; and how fast the estimate grows. Nobody measured these for a tenant's words: hence the tier.
MIN_SPREAD, MIDDLE, STEEPNESS = 20, 2.0, 2.0
# A normal distribution's standard deviation for one median absolute deviation.
MAD = 1.4826
BINS = 10
# Under any other name of a modality.
ANY = "*"
BLOCK = 1_000


class Unlearnable(ValueError):
    """There is nothing to learn from these examples; `code` says why: few, one_class, many, alike, contradiction."""

    def __init__(
        self, code: str, counts: Mapping[str, int] | None = None, *, places: Sequence[int] = ()
    ) -> None:
        super().__init__(code)
        self.code, self.places, self.counts = code, list(places), dict(counts or {})


@dataclass(frozen=True)
class Head:
    """A direction float32 [d], and by modality (or ANY) slope and offset of the logit of the inner product with it."""

    weights: np.ndarray
    scales: Mapping[str, tuple[float, float]]

    def probabilities(self, features: np.ndarray, modalities: Sequence[str]) -> np.ndarray:
        """float64 [n] for unit vectors float32 [n, d]; NaN where nothing is known of a modality."""
        from scipy.special import expit

        missing = (np.nan, np.nan)
        scales = [self.scales.get(one, self.scales.get(ANY, missing)) for one in modalities]
        slopes, offsets = np.array(scales, np.float64).reshape(-1, 2).T
        return expit(slopes * (features.astype(np.float64) @ self.weights) + offsets)

    def to_bytes(self) -> bytes:
        """The scales as a line of JSON, and the weights, little endian."""
        line = json.dumps({name: list(pair) for name, pair in self.scales.items()})
        return line.encode() + b"\n" + self.weights.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> Head:
        line, _, weights = content.partition(b"\n")
        scales = {name: (float(pair[0]), float(pair[1])) for name, pair in json.loads(line).items()}
        return cls(np.frombuffer(weights, "<f4"), scales)


@dataclass(frozen=True)
class Fitted:
    """`report`: `tier`, counts, and of a head from examples its figures: see `fit`."""

    head: Head
    report: dict[str, Any] = field(default_factory=dict)


# --- From examples ---------------------------------------------------------------------------------------


def fit(features: np.ndarray, labels: np.ndarray, contents: Sequence[str], *, seed: int = 0) -> Fitted:
    """Learn from unit vectors float32 [n, d] and labels bool [n]; equal `contents` are the same thing.

    The report has `n`, `positive`, `groups`, `folds`, `strength`, `figures` (with `value`, `spread` over the folds,
    a standard deviation, and `n`): precision, recall and f1 at .5, auc, brier, ece; `brier_constant` of a head that
    only knows how often yes is right; and `warnings`. Raises Unlearnable.
    """
    groups = _checked(features, labels, contents)
    folds = _folds(labels, groups, seed)
    seen = _rotated(features.astype(np.float64))
    scores, losses = _out_of_fold(seen, labels, folds)
    chosen = _choices(losses)
    unseen = scores[chosen[folds], np.arange(len(labels))]
    probabilities = _calibrated_across(unseen, labels, folds)
    # The head that is kept may use what all folds say; each fold's own figures must not.
    best = int(losses.sum(axis=1).argmin())
    weights, bias = seen.back(*_regress(seen.rows, labels, seen.variances, STRENGTHS[best]))
    slope, offset = _platt(scores[best], labels)
    head = Head(weights.astype(np.float32), {ANY: (slope, slope * bias + offset)})
    few = len(labels) < FEW or min(labels.sum(), (~labels).sum()) < FEW_OF_CLASS
    report = {
        "tier": ESTIMATED if few else CALIBRATED,
        "n": len(labels),
        "positive": int(labels.sum()),
        "groups": int(groups.max()) + 1,
        "folds": int(folds.max()) + 1,
        "strength": STRENGTHS[best],
        "figures": _figures(labels, probabilities, folds),
        "brier_constant": round(float(labels.mean() * (1 - labels.mean())), 4),
    }
    return Fitted(head, {**report, "warnings": _warnings(report, features, labels, groups)})


def _checked(features: np.ndarray, labels: np.ndarray, contents: Sequence[str]) -> np.ndarray:
    """The group of each example. Raises Unlearnable."""
    counts = {"yes": int(labels.sum()), "no": int((~labels).sum())}
    if len(labels) > MAX_EXAMPLES:
        raise Unlearnable("many", {"n": len(labels)})
    if len(labels) and 0 in counts.values():
        raise Unlearnable("one_class", counts)
    if len(labels) < MIN_EXAMPLES or min(counts.values()) < MIN_OF_CLASS:
        raise Unlearnable("few", counts)
    if places := _contradictions(labels, contents):
        raise Unlearnable("contradiction", places=places)
    groups = groups_of(features, contents)
    apart = min(len(set(groups[labels])), len(set(groups[~labels])))
    if apart < MIN_OF_CLASS:
        raise Unlearnable("alike", {"groups": apart})
    return groups


def _contradictions(labels: np.ndarray, contents: Sequence[str]) -> list[int]:
    """Places of examples whose content is said to be both."""
    said: dict[str, set[bool]] = {}
    for content, label in zip(contents, labels.tolist(), strict=True):
        said.setdefault(content, set()).add(label)
    return [place for place, content in enumerate(contents) if len(said[content]) > 1]


def groups_of(features: np.ndarray, contents: Sequence[str]) -> np.ndarray:
    """int [n]: examples of equal content, or of vectors at a cosine of NEARLY_EQUAL, have one number."""
    links = _same_keys([[content] for content in contents])
    for start in range(0, len(features), BLOCK):
        near = features[start : start + BLOCK] @ features.T >= NEARLY_EQUAL
        rows, columns = near.nonzero()
        links += zip((rows + start).tolist(), columns.tolist(), strict=True)
    return _components(links, len(features))


def groups_by_keys(keys: Sequence[Sequence[str]]) -> np.ndarray:
    """int [n]: what shares a key has one number, also by way of others."""
    return _components(_same_keys(keys), len(keys))


def _same_keys(keys: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    return [(place, first.setdefault(key, place)) for place, each in enumerate(keys) for key in each]


def _components(links: Sequence[tuple[int, int]], count: int) -> np.ndarray:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    one, other = np.array(links, int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(links), bool), (one, other)), shape=(count, count))
    numbers: np.ndarray = connected_components(graph, directed=False)[1]
    return numbers


def _folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """int [n]: the fold of each example, as many folds as both classes have groups for, FOLDS at most."""
    apart = min(len(set(groups[labels])), len(set(groups[~labels])))
    return stratified_folds(labels, groups, min(FOLDS, apart), seed)


def stratified_folds(labels: np.ndarray, groups: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """int [n]: the fold of each example. Whole groups, the largest first, go where their class is scarcest."""
    sizes = np.zeros((groups.max() + 1, 2))
    np.add.at(sizes, (groups, labels.astype(int)), 1)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order].sum(axis=1), kind="stable")]
    share = np.maximum(sizes.sum(axis=0), 1)
    held, place = np.zeros((count, 2)), np.zeros(len(sizes), int)
    for group in order:
        # Of its rarer class first: each fold needs some of both.
        rarer = int(np.argmax(sizes[group] / share))
        place[group] = np.lexsort((held.sum(axis=1), held[:, rarer]))[0]
        held[place[group]] += sizes[group]
    return place[groups]


@dataclass(frozen=True)
class Rotated:
    """Examples in the principal axes of what they are: `rows` float64 [n, k], centred; `basis` [d, k] and `centre` [d]
    lead back; `variances` [k]. No labels are looked at."""

    rows: np.ndarray
    basis: np.ndarray
    centre: np.ndarray
    variances: np.ndarray

    def back(self, weights: np.ndarray, bias: float) -> tuple[np.ndarray, float]:
        """Weights [d] and bias for features as they came."""
        direction = self.basis @ weights
        return direction, bias - float(direction @ self.centre)


def _rotated(features: np.ndarray) -> Rotated:
    centre = features.mean(axis=0)
    centred = features - centre
    if len(features) < features.shape[1]:
        # As many axes as there are examples are enough.
        left, lengths, axes = np.linalg.svd(centred, full_matrices=False)
        return Rotated(left * lengths, axes.T, centre, lengths**2 / len(features))
    variances, axes = np.linalg.eigh(centred.T @ centred / len(features))
    return Rotated(centred @ axes, axes, centre, np.maximum(variances, 0))


def _out_of_fold(seen: Rotated, labels: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits of each example by heads that did not see its fold [strengths, n], and their loss [strengths, folds]."""
    scores = np.zeros((len(STRENGTHS), len(labels)))
    losses = np.zeros((len(STRENGTHS), int(folds.max()) + 1))
    for fold in range(losses.shape[1]):
        held, start = folds == fold, None
        rows, others = seen.rows[held], seen.rows[~held]
        for place, strength in enumerate(STRENGTHS):
            weights, bias = start = _regress(others, labels[~held], seen.variances, strength, start)
            scores[place, held] = rows @ weights + bias
            signed = np.where(labels[held], scores[place, held], -scores[place, held])
            losses[place, fold] = np.logaddexp(0, -signed).sum()
    return scores, losses


def _choices(losses: np.ndarray) -> np.ndarray:
    """For each fold the strength that was best on all the others, so that no figure was picked by itself."""
    others = losses.sum(axis=1, keepdims=True) - losses
    found: np.ndarray = others.argmin(axis=0)
    return found


def _regress(
    rows: np.ndarray,
    labels: np.ndarray,
    variances: np.ndarray,
    strength: float,
    start: tuple[np.ndarray, float] | None = None,
) -> tuple[np.ndarray, float]:
    """Weights [k] and bias of a logistic regression in principal axes; the bias is not penalised.

    Each axis is scaled by what the loss bends along it where nothing is known yet: a dozen steps instead of hundreds.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    signs = np.where(labels, 1.0, -1.0)
    scale = 1 / np.sqrt(len(rows) * variances / 4 + 1 / strength)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = point[:-1] * scale, point[-1]
        margins = signs * (rows @ weights + bias)
        pull = -signs * expit(-margins)
        slope = np.append(scale * (pull @ rows + weights / strength), pull.sum())
        return float(np.logaddexp(0, -margins).sum() + weights @ weights / (2 * strength)), slope

    begin = np.append(start[0] / scale, start[1]) if start else np.zeros(rows.shape[1] + 1)
    options = {"maxiter": 100, "ftol": 1e-7}
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options=options).x
    return found[:-1] * scale, float(found[-1])


def _platt(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope, which is never below 0, and offset of the logit of a score (Platt 1999; Lin, Lin and Weng 2007)."""
    from scipy.optimize import minimize
    from scipy.special import expit

    positive, negative = int(labels.sum()), int((~labels).sum())
    targets = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    spread = float(scores.std()) or 1.0
    scaled = scores / spread

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        logits = point[0] * scaled + point[1]
        pull = expit(logits) - targets
        value = (np.logaddexp(0, logits) - targets * logits).sum()
        return float(value), np.array([pull @ scaled, pull.sum()])

    begin = np.array([1.0, 0.0])
    slope, offset = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    return float(slope / spread), float(offset)


def _calibrated_across(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Probabilities, each fold's calibrated by the others."""
    from scipy.special import expit

    found = np.zeros(len(labels))
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        # With two folds the other one has both classes, as every fold has.
        slope, offset = _platt(scores[~held], labels[~held])
        found[held] = expit(slope * scores[held] + offset)
    return found


# --- Figures ---------------------------------------------------------------------------------------------


def _figures(labels: np.ndarray, probabilities: np.ndarray, folds: np.ndarray) -> dict[str, Any]:
    whole = measures(labels, probabilities)
    parts = [
        measures(labels[folds == fold], probabilities[folds == fold]) for fold in range(int(folds.max()) + 1)
    ]
    found: dict[str, Any] = {}
    for name, over_all in whole.items():
        each = [value for part in parts if (value := part[name]) is not None]
        spread = float(np.std(each, ddof=1)) if len(each) > 1 else None
        found[name] = {"value": _rounded(over_all), "spread": _rounded(spread), "n": len(labels)}
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def measures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """precision, recall and f1 at .5, auc, brier, ece; None where one is not defined, as precision without a yes."""
    said = probabilities >= LINE
    right, yes, positive = int((said & labels).sum()), int(said.sum()), int(labels.sum())
    precision = right / yes if yes else None
    recall = right / positive if positive else None
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * right / (yes + positive) if positive else None,
        "auc": _auc(labels, probabilities),
        "brier": float(np.mean((probabilities - labels) ** 2)),
        "ece": _ece(labels, probabilities),
    }


def _auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """How often a yes scores above a no (Mann and Whitney); a tie counts as half."""
    from scipy.stats import rankdata

    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative:
        return None
    ranks = rankdata(scores)
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _ece(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error over BINS of equal width."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, labels - probabilities, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def _warnings(
    report: Mapping[str, Any], features: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> list[str]:
    found = []
    if report["tier"] == ESTIMATED:
        found.append("few_examples")
    if (report["figures"]["auc"]["value"] or 0) < 0.6:
        found.append("not_told_apart")
    mixed = [group for group in set(groups.tolist()) if len(set(labels[groups == group].tolist())) > 1]
    return [*found, "near_duplicates_disagree"] if mixed else found


# --- From words ------------------------------------------------------------------------------------------


@cache
def neutral_phrases() -> tuple[str, ...]:
    """What is said of almost anything, in English and Chinese."""
    return tuple(Path(__file__).with_name("neutral_phrases.txt").read_text("utf-8").split("\n")[:-1])


def from_words(
    words: np.ndarray, neutral: np.ndarray, features: np.ndarray, modalities: Sequence[str]
) -> Fitted:
    """A head for a vector of words float32 [d] against neutral phrases [k, d], over a sample of what the tenant has
    [n, d]. Modalities of which there are fewer than MIN_SPREAD get none. Raises Unlearnable where that is all."""
    if not len(features):
        raise Unlearnable("few")
    direction = (words - neutral.mean(axis=0)).astype(np.float32)
    direction /= max(float(np.linalg.norm(direction)), 1e-12)
    scores = features.astype(np.float64) @ direction
    counts: dict[str, int] = {}
    scales: dict[str, tuple[float, float]] = {}
    kinds = np.array(modalities)
    for kind in sorted(set(modalities)):
        mine = scores[kinds == kind]
        counts[kind] = len(mine)
        if len(mine) < MIN_SPREAD:
            continue
        middle = float(np.median(mine))
        spread = float(np.median(np.abs(mine - middle))) * MAD or float(mine.std())
        if spread > 1e-9:
            scales[kind] = (STEEPNESS / spread, -STEEPNESS * (middle / spread + MIDDLE))
    if not scales:
        raise Unlearnable("few", counts)
    report = {"tier": ESTIMATED, "n": len(features), "sample": counts, "modalities": sorted(scales)}
    return Fitted(Head(direction, scales), {**report, "warnings": ["not_measured"]})


# --- What to label next ----------------------------------------------------------------------------------


def margins(probabilities: np.ndarray) -> np.ndarray:
    """How far from the decision line (LINE) each lies, from 0 to .5: the nearer, the less sure a head is of it."""
    return np.abs(probabilities - LINE)


def most_uncertain(
    features: np.ndarray, probabilities: np.ndarray, count: int, *, known: np.ndarray | None = None
) -> list[int]:
    """Places of the `count` examples with the smallest `margins`, the smallest first (Lewis and Gale 1994).

    `features`: unit vectors float32 [n, d]; `probabilities` float64 [n], NaN for what is not judged. What is nearly the
    same as one with a smaller margin, or as one of `known` [m, d], comes in only where there is too little else.
    """
    usable = np.flatnonzero(np.isfinite(probabilities))
    ranked = usable[np.argsort(margins(probabilities[usable]), kind="stable")]
    chosen: list[int] = []
    repeated: list[int] = []
    near = np.zeros(len(features), bool)
    if known is not None and len(known):
        near = (features @ known.T).max(axis=1) >= NEARLY_EQUAL
    for place in ranked.tolist():
        if len(chosen) == count:
            break
        if near[place]:
            repeated.append(place)
            continue
        chosen.append(place)
        near |= features @ features[place] >= NEARLY_EQUAL
    wanted = {*chosen, *repeated[: count - len(chosen)]}
    return [place for place in ranked.tolist() if place in wanted]

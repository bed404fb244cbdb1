"""Scores into probabilities with an interval, and thresholds that mean a stated share of false alarms.

A detector's raw score says which of two items is more suspect, not how suspect one is. A calibration is fitted to items
that the detector was not trained on, is stored as JSON beside the weights or given by configuration, and its digest is
its version, which every audit keeps.

>>> found = fit([-2.0, -1.0, 0.5] * 50 + [0.0, 1.0, 2.0] * 50, [False] * 150 + [True] * 150)
>>> found.probability(2.0) > 0.8 > 0.2 > found.probability(-2.0)
True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

# --- Curves ----------------------------------------------------------------------------------------------
# How the curves of a calibration are fitted: Platt's logistic, isotonic steps, and their bootstraps.


Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Draws = list[NDArray[np.intp]]
Rows = tuple[tuple[float, ...], ...]

BOOTSTRAPS = 200
#: Points at which an isotonic curve is kept.
KNOTS = 64
#: Steps that an isotonic curve starts from.
FINEST = 257


def platt_curve(x: Floats, y: Bools, draws: Draws) -> Rows:
    rows = [_platt(x, y), *(_platt(x[draw], y[draw]) for draw in draws)]
    return tuple((_short(slope), _short(intercept)) for slope, intercept in rows)


def _platt(x: Floats, y: Bools) -> tuple[float, float]:
    """Slope and intercept by Newton's method, towards Platt's softened targets: no class is ever certain."""
    centre, scale = float(x.mean()), float(x.std()) or 1.0
    z = np.stack([(x - centre) / scale, np.ones_like(x)])
    target = np.where(y, (y.sum() + 1) / (y.sum() + 2), 1 / ((~y).sum() + 2))
    weights = np.zeros(2)
    for _ in range(100):
        p = logistic(weights @ z)
        hessian = (z * (p * (1 - p))) @ z.T + np.eye(2) * 1e-9
        step = np.linalg.solve(hessian, z @ (p - target))
        # A long step from a flat place would jump over the optimum.
        weights = weights - step * min(1.0, 4.0 / (float(np.abs(step).max()) + 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0] / scale), float(weights[1] - weights[0] * centre / scale)


def isotonic_curve(x: Floats, y: Bools, draws: Draws) -> Rows:
    knots = np.unique(np.quantile(x, np.linspace(0, 1, KNOTS)))
    main = np.interp(knots, *_isotonic(x, y))
    others = np.stack([np.interp(knots, *_isotonic(x[draw], y[draw])) for draw in draws])
    low, high = np.quantile(others, (0.025, 0.975), axis=0)
    table = zip(knots, main, np.minimum(low, main), np.maximum(high, main), strict=True)
    return tuple(tuple(_short(value) for value in row) for row in table)


def _isotonic(x: Floats, y: Bools) -> tuple[Floats, Floats]:
    """Pool adjacent violators: the middles of the steps and their softened heights, both ascending."""
    order = np.argsort(x, kind="stable")
    # Neighbours are put together beforehand: finer steps would be noise, and this is done for each bootstrap.
    cuts = np.unique(np.searchsorted(x[order], np.quantile(x, np.linspace(0, 1, FINEST)[:-1])))
    sums = (np.add.reduceat(values, cuts) for values in (x[order], np.ones(len(x)), y[order].astype(float)))
    steps: list[list[float]] = []
    for row in zip(*sums, strict=True):
        steps.append([float(value) for value in row])
        while len(steps) > 1 and steps[-2][2] / steps[-2][1] >= steps[-1][2] / steps[-1][1]:
            last = steps.pop()
            steps[-1] = [a + b for a, b in zip(steps[-1], last, strict=True)]
    table = np.asarray(steps)
    heights = (table[:, 2] + 1) / (table[:, 1] + 2)
    return table[:, 0] / table[:, 1], np.maximum.accumulate(heights)


def bootstrap_draws(y: Bools, groups: Sequence[str] | None, seed: int) -> Draws:
    """Bootstraps that hold both classes: of whole groups where these are given, drawn within each class."""
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(mask) for mask in (y, ~y)]
    if groups is None:
        return [np.concatenate([rng.choice(at, len(at)) for at in classes]) for _ in range(BOOTSTRAPS)]
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(names) != len(y):
        raise ValueError("each item has one group")
    parts = []
    for at in classes:
        parts.append([at[names[at] == name] for name in np.unique(names[at])])
    return [
        np.concatenate([part[pick] for part in parts for pick in rng.integers(0, len(part), len(part))])
        for _ in range(BOOTSTRAPS)
    ]


def logistic(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))


def _short(value: float) -> float:
    return float(f"{value:.6g}")


# --- Calibration -----------------------------------------------------------------------------------------


Kind = Literal["platt", "isotonic"]
Place = Literal["likely", "band", "none"]


#: Isotonic regression fits steps to noise where there is little data.
ISOTONIC_FROM = 1_000
#: Below so many items of a class even two parameters mean nothing.
LEAST = 20
#: Share of reference reals that may lie above the threshold of "likely", and of "not none".
LIKELY_FPR, BAND_FPR = 0.01, 0.05
LARGEST_FILE = 1 << 20


class BadCalibration(ValueError):
    """What was given as a calibration is none; the message says why."""


@dataclass(frozen=True)
class Calibration:
    """What a raw score of one detector means.

    ``curve``: of ``platt`` rows (slope, intercept), the fit first and then its bootstraps; of ``isotonic`` rows
    (score, probability, lower, upper) by score. ``likely_from``: the score above which at most ``likely_fpr`` of the
    reference reals lie; ``none_below``: the same for ``band_fpr``. None where there were too few reals to tell.
    ``reals``: how many there were. ``prevalence``: the share of positives that probabilities assume.
    """

    kind: Kind
    curve: tuple[tuple[float, ...], ...]
    likely_from: float | None
    none_below: float | None
    likely_fpr: float
    band_fpr: float
    reals: int
    prevalence: float
    note: str = ""

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def version(self) -> str:
        """Twelve digits over all of it: what differs in anything has another version."""
        return hashlib.sha256(self.dumps().encode()).hexdigest()[:12]

    def probability(self, score: float) -> float:
        """0 to 1. Raises ValueError for a score that is no finite number."""
        return self._curve_at(score)[0]

    def interval(self, score: float) -> tuple[float, float]:
        """Where 95 % of the bootstrapped fits put the probability."""
        return self._curve_at(score)[1:]

    def place(self, score: float) -> Place:
        """Above the threshold, below, or in the band where no answer is given. Without thresholds: in the band."""
        _finite(score)
        if self.likely_from is not None and score >= self.likely_from:
            return "likely"
        if self.none_below is not None and score < self.none_below:
            return "none"
        return "band"

    def _curve_at(self, score: float) -> tuple[float, float, float]:
        rows = np.asarray(self.curve)
        if self.kind == "isotonic":
            found = [float(np.interp(_finite(score), rows[:, 0], rows[:, at])) for at in (1, 2, 3)]
        else:
            each = logistic(rows[:, 0] * _finite(score) + rows[:, 1])
            spread = each[1:] if len(each) > 1 else each
            found = [float(each[0]), *map(float, np.quantile(spread, (0.025, 0.975)))]
        return found[0], min(found[:2]), max(found[0], found[2])

    def dumps(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def loads(cls, content: str) -> Calibration:
        """Raises BadCalibration."""
        try:
            values = json.loads(content)
            values["curve"] = tuple(tuple(float(value) for value in row) for row in values["curve"])
            return cls(**values)
        except BadCalibration:
            raise
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadCalibration(f"not a calibration: {str(error)[:200]}") from error

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Raises BadCalibration, also where the file cannot be read."""
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
        except OSError as error:
            raise BadCalibration(f"the calibration {path} cannot be read: {error.strerror}") from error
        if len(content) > LARGEST_FILE:
            raise BadCalibration(f"{path} is too large for a calibration")
        return cls.loads(content.decode("utf-8", "replace"))


def fit(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    reals: ArrayLike | None = None,
    groups: Sequence[str] | None = None,
    likely_fpr: float = LIKELY_FPR,
    band_fpr: float = BAND_FPR,
    note: str = "",
    seed: int = 0,
) -> Calibration:
    """Calibrate finite ``scores`` [n] with boolean ``labels`` [n].

    ``reals``: scores of reference items without fault, from which the thresholds come; without them the negatives of
    ``scores`` are taken. ``groups`` [n]: what belongs together (a speaker, a source) is drawn together,
    or the interval would pretend that a hundred recordings of one voice are a hundred opinions. Raises ValueError.
    """
    x, y = _checked(scores, labels)
    negatives = x[~y] if reals is None else _checked(reals, np.zeros(np.size(reals)))[0]
    smallest = int(min(y.sum(), (~y).sum()))
    if smallest < LEAST:
        raise ValueError(f"a calibration needs {LEAST} items of each class; there are {smallest}")
    kind: Kind = "isotonic" if smallest >= ISOTONIC_FROM else "platt"
    draws = bootstrap_draws(y, groups, seed)
    curve = isotonic_curve(x, y, draws) if kind == "isotonic" else platt_curve(x, y, draws)
    return Calibration(
        kind=kind,
        curve=curve,
        likely_from=threshold_at(negatives, likely_fpr),
        none_below=threshold_at(negatives, band_fpr),
        likely_fpr=likely_fpr,
        band_fpr=band_fpr,
        reals=len(negatives),
        prevalence=round(float(y.mean()), 6),
        note=note,
    )


def threshold_at(reals: ArrayLike, fpr: float) -> float | None:
    """The lowest threshold at or above which at most ``fpr`` of ``reals`` lie; None if 1/fpr is more than there are."""
    if not 0 < fpr < 1:
        raise ValueError(f"a false-positive rate lies between 0 and 1, not at {fpr}")
    ordered = np.sort(np.asarray(reals, np.float64))[::-1]
    allowed = int(np.floor(fpr * len(ordered) + 1e-9))
    if allowed < 1:
        return None
    return float(np.nextafter(ordered[allowed], np.inf))


def share_interval(hits: int, of: int) -> tuple[float, float]:
    """95 % of a share by Wilson's score interval, for example of a false-positive rate; (0, 1) of nothing."""
    if of <= 0:
        return 0.0, 1.0
    z2 = 1.96**2
    middle, half = (hits + z2 / 2), 1.96 * float(np.sqrt(hits * (of - hits) / of + z2 / 4))
    return max(0.0, (middle - half) / (of + z2)), min(1.0, (middle + half) / (of + z2))


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> float:
    """Mean distance between what was claimed and what came true, over bins of equal width (Naeini et al. 2015)."""
    claimed, true = _checked(probabilities, labels)
    if not len(claimed):
        return 0.0
    at = np.clip((claimed * bins).astype(int), 0, bins - 1)
    counts = np.bincount(at, minlength=bins)
    gaps = np.abs(np.bincount(at, claimed, bins) - np.bincount(at, true, bins))
    return float(gaps.sum() / counts.sum())


def _finite(score: float) -> float:
    if not np.isfinite(score):
        raise ValueError(f"a score is a finite number, not {score}")
    return float(score)


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    x, y = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    if x.ndim != 1 or x.shape != y.shape or not np.isfinite(x).all():
        raise ValueError("scores and labels are two rows of one length, and scores are finite")
    return x, y


def _check(found: Calibration) -> None:
    width = {"platt": 2, "isotonic": 4}.get(found.kind)
    if width is None:
        raise BadCalibration(f"a calibration is platt or isotonic, not {found.kind!r}")
    if not found.curve or any(len(row) != width for row in found.curve):
        raise BadCalibration(f"the curve of a {found.kind} calibration has rows of {width} numbers")
    numbers: list[Any] = [value for row in found.curve for value in row]
    numbers += [value for value in (found.likely_from, found.none_below) if value is not None]
    numbers += [found.likely_fpr, found.band_fpr, found.prevalence]
    if not all(isinstance(value, int | float) and np.isfinite(value) for value in numbers):
        raise BadCalibration("a calibration holds finite numbers only")
    rows = np.asarray(found.curve)
    if found.kind == "isotonic" and (np.diff(rows[:, 0]) <= 0).any():
        raise BadCalibration("the scores of an isotonic curve ascend")
    if found.kind == "isotonic" and not ((rows[:, 1:] >= 0) & (rows[:, 1:] <= 1)).all():
        raise BadCalibration("probabilities lie between 0 and 1")
    if None not in (found.likely_from, found.none_below) and found.none_below > found.likely_from:  # type: ignore[operator]
        raise BadCalibration("the band ends below where it begins")

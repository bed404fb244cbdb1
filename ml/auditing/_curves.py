"""How the curves of a calibration are fitted: Platt's logistic, isotonic steps, and their bootstraps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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


def draws_of(y: Bools, groups: Sequence[str] | None, seed: int) -> Draws:
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

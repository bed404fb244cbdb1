"""Laying one projection over another: turned, mirrored, scaled and moved so that the same assets lie closest.

A projection is only defined up to these, so a picture of before and after would otherwise show mostly turning.
"""

from __future__ import annotations

import numpy as np


def align(reference: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`points` [n, 2] laid over `reference` [n, 2], row by row (orthogonal Procrustes with scale): float32 [n, 2].

    What has no extent cannot be turned: it is only moved.
    """
    if not len(points):
        return np.asarray(points, np.float32)
    goal, given = np.asarray(reference, np.float64), np.asarray(points, np.float64)
    goal_centre, centre = goal.mean(axis=0), given.mean(axis=0)
    goal, given = goal - goal_centre, given - centre
    extent = (given**2).sum()
    if extent == 0 or (goal**2).sum() == 0:
        return (given + goal_centre).astype(np.float32)
    left, lengths, right = np.linalg.svd(given.T @ goal)
    turned = given @ (left @ right) * (lengths.sum() / extent)
    return (turned + goal_centre).astype(np.float32)


def moves(reference: np.ndarray, aligned: np.ndarray) -> np.ndarray:
    """How far each row moved, in units of the reference's extent (root mean square distance from its centre): [n]."""
    if not len(reference):
        return np.zeros(0, np.float32)
    extent = np.sqrt(((reference - reference.mean(axis=0)) ** 2).sum(axis=1).mean())
    distance = np.linalg.norm(aligned - reference, axis=1)
    return (distance / extent if extent > 0 else np.zeros(len(distance))).astype(np.float32)

"""What the shipped space is compared with: the bare prior, and linear models that need pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.numerics import centred, ridge, unit
from ml.alignment.projection import POWER

Array = NDArray[Any]
#: (texts [n, 384], class probabilities [n, 1000], aligned) to two functions into a common space.
Model = tuple[Callable[[Array], Array], Callable[[Array], Array]]

DIMENSION = 256

# The penalties of both linear models were chosen on the very folds they are judged on, to their favour.


def class_names() -> list[str]:
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_description(index).split(",")[0] for index in range(1000)]


def bare_prior(names: Array, texts: Array, probabilities: Array) -> tuple[Array, Array]:
    """ConSE (Norouzi et al. 2014), centred: probabilities times class-name vectors, beside the texts.

    It sees the same windows and both networks, so it differs from the shipped space in the alignment alone.
    The texts are centred by the mean of the very texts: it knows its queries.
    """
    return unit(texts - texts.mean(axis=0)), unit(probabilities @ (names - names.mean(axis=0)))


def picture_features(probabilities: Array) -> Array:
    """What the linear models see of a picture; better than plain probabilities or their logarithm."""
    return unit(centred(np.maximum(probabilities, 0) ** POWER))


def pca_ridge(texts: Array, pictures: Array, penalty: float = 5.0) -> Model:
    """Pictures to 256 principal axes, then ridge regression to the text vectors."""
    text_mean, picture_mean = texts.mean(axis=0), pictures.mean(axis=0)
    axes = np.linalg.svd(pictures - picture_mean, full_matrices=False)[2][:DIMENSION].T
    weights = ridge((pictures - picture_mean) @ axes, texts - text_mean, penalty)
    return (
        lambda rows: unit(rows - text_mean),
        lambda rows: unit((rows - picture_mean) @ axes @ weights),
    )


def cca(texts: Array, pictures: Array, strength: float = 3.0) -> Model:
    """Canonical correlation analysis, each covariance plus ``strength`` times its mean eigenvalue."""
    text_mean, picture_mean = texts.mean(axis=0), pictures.mean(axis=0)
    left, right = texts - text_mean, pictures - picture_mean
    whiten_left, whiten_right = _whitening(left, strength), _whitening(right, strength)
    u, correlations, vt = np.linalg.svd(whiten_left @ (left.T @ right / len(left)) @ whiten_right)
    scale = np.sqrt(correlations[:DIMENSION])
    to_left = whiten_left @ u[:, :DIMENSION] * scale
    to_right = whiten_right @ vt[:DIMENSION].T * scale
    return (
        lambda rows: unit((rows - text_mean) @ to_left),
        lambda rows: unit((rows - picture_mean) @ to_right),
    )


def _whitening(rows: Array, strength: float) -> Array:
    covariance = rows.T @ rows / len(rows)
    values, vectors = np.linalg.eigh(covariance)
    return vectors * (np.maximum(values, 0) + strength * values.mean()) ** -0.5 @ vectors.T

"""From what the encoders say to 256 numbers. NumPy only: this runs in the web process.

Text and picture meet in the space of ImageNet classes (ConSE, Norouzi et al. 2014, arXiv:1312.5650): the
picture by its class probabilities, the text by the classes that pictures of it would trigger. No pair of
text and picture was needed to learn that; see docs/models/prior-1.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.alignment import layout
from ml.alignment.numerics import Floats, centred, log_mean_exp, softmax, unit

#: Probabilities are raised to this before they are compared: faint classes count, the peak counts less.
POWER = 0.45
#: Softmax over phrases at this temperature (on cosines).
PHRASE_TEMPERATURE = 0.1
#: Weight of the ridge regression beside the nearest phrases.
RIDGE_WEIGHT = 2.0
#: Sharpness of the soft maximum that measures how near a picture is to everything.
HUB_SHARPNESS = 20.0
#: Beyond this a bias would be noise; it also bounds the norm of a picture before padding.
LARGEST_HUB = 0.15


@dataclass(frozen=True)
class TextReader:
    """Text vectors to scores of the classes that pictures of the text would show."""

    mean: Floats  #: [384] what all phrases share
    phrases: Floats  #: [n, 384] unit, centred phrases
    class_of: NDArray[np.intp]  #: [m] classes of all phrases, one after the other
    phrase_of: NDArray[np.intp]  #: [m] the phrase that each entry of class_of belongs to
    share: Floats  #: [m] 1 / number of classes of that phrase
    ridge: Floats  #: [384, 1000]

    def meanings(self, vectors: Floats) -> Floats:
        """Encoder output [n, 384] to centred unit vectors."""
        return unit(np.asarray(vectors, np.float32) - self.mean)

    def classes(self, meanings: Floats) -> Floats:
        """Centred unit scores [n, 1000]: kernel smoothing over phrases plus a ridge regression."""
        nearest = softmax(meanings @ self.phrases.T / PHRASE_TEMPERATURE)
        smoothed = np.stack([self._spread(weights) for weights in nearest])
        guessed = unit(centred(meanings @ self.ridge))
        return unit(unit(centred(smoothed)) + RIDGE_WEIGHT * guessed)

    def _spread(self, weights: Floats) -> Floats:
        """Weights of phrases [n] to weights of classes [1000]."""
        entries = weights[self.phrase_of] * self.share
        return np.bincount(self.class_of, entries, self.ridge.shape[1]).astype(np.float32)


@dataclass(frozen=True)
class Projection:
    """Both halves of the space. Arrays are float32; rows of every result have norm 1."""

    reader: TextReader
    axes: Floats  #: [1000, 128] of class space
    hub_bank: Floats  #: [m, 128] unit vectors of texts that people might type
    hub_level: float  #: the bias of an ordinary picture
    text_axes: Floats  #: [384, 114] meaning that the classes do not hold
    text_from_classes: Floats  #: [128, 114] what they do hold of it, taken off

    def text(self, vectors: Floats, colours: Floats) -> Floats:
        """Encoder vectors [n, 384] and colour words [n, 11] to [n, 256]."""
        rows = np.zeros((len(vectors), layout.DIMENSION), np.float32)
        if not len(rows):
            return rows
        meanings = self.reader.meanings(vectors)
        seen = unit(self.reader.classes(meanings) @ self.axes)
        rows[:, layout.CLASSES] = seen
        rows[:, layout.COLOURS] = layout.COLOUR_SCALE * colours
        rows[:, layout.HUB] = layout.HUB_IN_TEXT
        room = np.sqrt(layout.TEXT_NORM**2 - (rows**2).sum(axis=1, keepdims=True))
        rows[:, layout.TEXT] = room * unit(meanings @ self.text_axes - seen @ self.text_from_classes)
        return unit(rows)

    def image(self, probabilities: Floats, colours: Floats) -> Floats:
        """Class probabilities [n, 1000] and colour scores [n, 11] to [n, 256]."""
        rows = np.zeros((len(probabilities), layout.DIMENSION), np.float32)
        if not len(rows):
            return rows
        seen = self.sight(probabilities)
        hub = np.clip(self.hub_bias(seen), -LARGEST_HUB, LARGEST_HUB)
        rows[:, layout.CLASSES] = seen
        rows[:, layout.HUB] = layout.HUB_IN_IMAGE * hub
        rows[:, layout.COLOURS] = _fitted(layout.COLOUR_SCALE * colours, _room(rows))
        rows[:, layout.PADDING] = _room(rows)
        return unit(rows)

    def sight(self, probabilities: Floats) -> Floats:
        """Class probabilities [n, 1000] to unit vectors [n, 128]; all alike (nothing seen) gives zeros."""
        powers = np.maximum(np.asarray(probabilities, np.float32), 0.0) ** POWER
        return unit(unit(centred(powers)) @ self.axes).astype(np.float32)

    def hub_bias(self, seen: Floats) -> Floats:
        """How much nearer than usual each picture [n, 128] is to everything: [n]."""
        return log_mean_exp(seen @ self.hub_bank.T, HUB_SHARPNESS) - self.hub_level


def image_query(vectors: Floats) -> Floats:
    """Picture vectors [n, 256] as queries to pictures and texts: without bias and padding, norm 1."""
    query = np.array(vectors, np.float32, copy=True)
    query[:, layout.HUB] = 0.0
    query[:, layout.PADDING] = 0.0
    return unit(query)


def _room(rows: Floats) -> Floats:
    """What each picture lacks to the common norm: [n]."""
    return np.sqrt(np.maximum(layout.IMAGE_NORM**2 - (rows**2).sum(axis=1), 0.0))


def _fitted(parts: Floats, room: Floats) -> Floats:
    """Rows shrunk where they are longer than ``room``: only pictures with most colours at once are."""
    lengths = np.linalg.norm(parts, axis=1)
    return parts * np.minimum(1.0, room / np.maximum(lengths, 1e-12))[:, None]

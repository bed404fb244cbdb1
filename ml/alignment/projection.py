"""From what the encoders say to 256 numbers. NumPy only: this runs in the web process.

Text and picture meet in the space of ImageNet classes (ConSE, Norouzi et al. 2014, arXiv:1312.5650): the
picture by its class probabilities, the text by the classes that pictures of it would trigger. No pair of
text and picture was needed to learn that; see docs/models/prior-1.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ml.alignment import layout
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.numerics import Floats, centred, log_mean_exp, softmax, unit

#: Probabilities are raised to this before they are compared: faint classes count, the peak counts less.
POWER = 0.45
#: Softmax over phrases at this temperature (on cosines).
PHRASE_TEMPERATURE = 0.1
#: Weight of the ridge regression beside the nearest phrases.
RIDGE_WEIGHT = 2.0
#: Sharpness of the soft maximum that measures how near a picture is to everything.
HUB_SHARPNESS = 20.0
#: A bias is cut here, or nothing would be left of the picture's norm for the rest.
LARGEST_HUB = 0.25


class Placing(Protocol):
    """The NumPy half of any space: rows of norm 1 from what the encoders said."""

    def text(self, reading: TextFeatures) -> Floats:
        """[n, 256]"""
        ...

    def image(self, sight: ImageFeatures) -> Floats:
        """[n, 256]"""
        ...

    def as_query(self, vectors: Floats) -> Floats:
        """Placed pictures [n, 256] as queries."""
        ...


@runtime_checkable
class StoresTexts(Protocol):
    """A placing in which texts that are searched differ from texts that ask."""

    def as_asset(self, texts: Floats) -> Floats:
        """Placed texts [n, d] as assets."""
        ...

    def text_query(self, stored: Floats) -> Floats:
        """Texts that were stored as assets [n, d] as queries."""
        ...

    def few_words(self, texts: Floats) -> Floats:
        """Placed texts [n, d] of a word or two as queries."""
        ...


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
class Read:
    """Texts on the way into the space."""

    meanings: Floats  #: [n, 384] centred, of norm 1
    classes: Floats  #: [n, 116] along the axes of the classes, the most telling first
    beyond: Floats  #: [n, 104] what they mean beyond the classes


@dataclass(frozen=True)
class Projection:
    """Both halves of the space. Arrays are float32; rows of every result have norm 1."""

    reader: TextReader
    axes: Floats  #: [1000, 116] of class space
    sight_axes: Floats  #: [1000, 24] the next ones, for pictures among themselves
    hub_bank: Floats  #: [m, 116] unit vectors of texts that people might type
    hub_level: float  #: the bias of an ordinary picture
    text_axes: Floats  #: [384, 104] meaning that the classes do not hold
    text_from_classes: Floats  #: [116, 104] what they do hold of it, taken off

    def text(self, reading: TextFeatures) -> Floats:
        """Texts to [n, 256]."""
        rows = np.zeros((len(reading), layout.DIMENSION), np.float32)
        if not len(rows):
            return rows
        read = self.read(reading)
        rows[:, layout.CLASSES] = unit(read.classes)
        rows[:, layout.COLOURS] = layout.COLOUR_SCALE * reading.colours
        rows[:, layout.HUB] = layout.HUB_IN_TEXT
        rows[:, layout.TEXT] = room(rows, layout.TEXT_NORM) * unit(read.beyond)
        return unit(rows)

    def read(self, reading: TextFeatures) -> Read:
        """What the texts mean, before it is weighted."""
        meanings = self.reader.meanings(reading.vectors)
        classes = self.reader.classes(meanings) @ self.axes
        return Read(meanings, classes, meanings @ self.text_axes - unit(classes) @ self.text_from_classes)

    def image(self, sight: ImageFeatures) -> Floats:
        """Pictures to [n, 256], by probabilities and colours."""
        rows = np.zeros((len(sight), layout.DIMENSION), np.float32)
        if not len(rows):
            return rows
        powers = class_powers(sight.probabilities)
        shown = unit(powers @ self.axes)
        rows[:, layout.CLASSES] = shown
        rows[:, layout.HUB] = layout.HUB_IN_IMAGE * self.hub_bias(shown)
        rows[:, layout.COLOURS] = fitted(layout.COLOUR_SCALE * sight.colours, room(rows, layout.IMAGE_NORM))
        rows[:, layout.SIGHT] = room(rows, layout.IMAGE_NORM) * unit(powers @ self.sight_axes)
        return unit(rows)

    def class_axes(self, sight: ImageFeatures) -> Floats:
        """Pictures along all axes of the classes, the most telling first: [n, 116 + 24]."""
        return class_powers(sight.probabilities) @ np.concatenate([self.axes, self.sight_axes], axis=1)

    def as_query(self, vectors: Floats) -> Floats:
        """Pictures without the hub bias, which only texts should meet."""
        return without_hub(vectors, layout.HUB)

    def hub_bias(self, shown: Floats) -> Floats:
        """How much nearer than usual each picture [n, 116] is to everything: [n]."""
        bias = log_mean_exp(shown @ self.hub_bank.T, HUB_SHARPNESS) - self.hub_level
        return np.clip(bias, -LARGEST_HUB, LARGEST_HUB)


def class_powers(probabilities: Floats) -> Floats:
    """Class probabilities [n, 1000] to centred unit vectors in which faint classes count."""
    return unit(centred(np.maximum(np.asarray(probabilities, np.float32), 0.0) ** POWER))


def without_hub(vectors: Floats, hub: int) -> Floats:
    """Picture vectors [n, d] as queries: without the bias at ``hub``, which only texts should meet, norm 1."""
    query = np.array(vectors, np.float32, copy=True)
    query[:, hub] = 0.0
    return unit(query)


def room(rows: Floats, norm: float) -> Floats:
    """What each row lacks to ``norm``: [n, 1]."""
    return np.sqrt(np.maximum(norm**2 - (rows**2).sum(axis=1, keepdims=True), 0.0))


def fitted(parts: Floats, room: Floats) -> Floats:
    """Rows shrunk where they are longer than ``room`` [n, 1]: only pictures of many colours at once are."""
    lengths = np.linalg.norm(parts, axis=1, keepdims=True)
    return parts * np.minimum(1.0, room / np.maximum(lengths, 1e-12))

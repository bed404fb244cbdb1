"""How likely a match is right: of a score, a probability that can be compared between kinds of content.

A text and a picture that belong together have a cosine of some .13, two texts that do one of .4, two pictures one of
.75 (the modality gap: Liang et al. 2022, arXiv:2203.02053). So each pair of kinds has a logistic curve of its own over
the score (Platt 1999), fitted to what was found among the first ten of searches whose right answers are known, and of
searches for what is not there (``research.open_space.relevance``). A space states its curves in its manifest; one that
was not calibrated has none. In a fine-tune the scores of a text depend on how familiar it is to what was learnt from:
it states two curves for texts that ask, and one in between serves each (``ml.training.relevance``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

#: What may ask. Speech asks by its words.
ASKED = ("text", "image")
#: What may be found, by the kind of the vector: frames are pictures, and what is said is text.
FOUND = {"text": "text", "audio": "text", "image": "image", "video": "image"}


Share = TypeVar("Share", float, NDArray[np.float64])


@dataclass(frozen=True)
class Curve:
    """P(relevant) = 1 / (1 + exp(-slope (score - middle)))."""

    slope: float
    middle: float

    def chance(self, score: float) -> float:
        """0 to 1; rises with the score."""
        return 1 / (1 + math.exp(-min(max(self.slope * (score - self.middle), -50.0), 50.0)))

    def score_at(self, chance: float) -> float:
        """The score that has this chance, which lies between 0 and 1."""
        return self.middle + math.log(chance / (1 - chance)) / self.slope

    def towards(self, other: Curve, share: float) -> Curve:
        """The curve whose log odds are so much of the other's, 0 to 1, and of its own for the rest."""
        return Curve(*between(self, other, share))


def between(one: Curve, other: Curve, share: Share) -> tuple[Share, Share]:
    """Slope and middle of the curve whose log odds are so much of the other's, 0 to 1; of several shares at once."""
    mine, others = (1 - share) * one.slope, share * other.slope
    slope = mine + others
    return slope, (mine * one.middle + others * other.middle) / slope


@dataclass(frozen=True)
class Correction:
    """What labels say of the curves: log odds are ``steepness`` times as large, and ``shift`` more.

    The order of chances stays, as ``steepness`` is positive; bounds keep labels from making all likely, or nothing.
    """

    steepness: float = 1.0
    shift: float = 0.0

    STEEPNESS: ClassVar[tuple[float, float]] = (0.5, 2.0)
    SHIFT: ClassVar[tuple[float, float]] = (-2.0, 2.0)

    @classmethod
    def within(cls, steepness: float, shift: float) -> Correction:
        """The nearest one within the bounds."""
        (flat, steep), (down, up) = cls.STEEPNESS, cls.SHIFT
        return cls(min(max(steepness, flat), steep), min(max(shift, down), up))

    def of(self, chance: float) -> float:
        """A chance of 0 to 1, both left out, as it is corrected."""
        return 1 / (1 + math.exp(-(self.steepness * math.log(chance / (1 - chance)) + self.shift)))


@dataclass(frozen=True)
class Relevance:
    """The curves of a space by what asks and what is found, and the chance from which a match is worth showing.

    ``words``: of a text that holds all words of the query, whatever its score. ``foreign``: of a fine-tune, the curves
    of texts that ask and are foreign to what it learnt from; ``curves`` are then those of familiar ones.
    """

    line: float
    words: float
    curves: Mapping[tuple[str, str], Curve] = field(default_factory=dict)
    foreign: Mapping[tuple[str, str], Curve] = field(default_factory=dict)

    def asked_by(self, asked: str) -> bool:
        """Whether there are curves for what asks, one of ASKED."""
        return any(by == asked for by, _ in self.curves)

    def at(self, familiar: float) -> Relevance:
        """The curves for a text that is so familiar to what was learnt from, 0 to 1; pictures ask as before."""
        if not self.foreign:
            return self
        between = {pair: curve.towards(self.curves[pair], familiar) for pair, curve in self.foreign.items()}
        return Relevance(self.line, self.words, {**self.curves, **between})

    def of(self, asked: str, found: str, score: float) -> float | None:
        """The chance that what was found is what was asked for, 0 to 1; None for a pair that was not calibrated.

        ``asked`` is one of ASKED, ``found`` a key of FOUND, ``score`` the inner product of the two vectors.
        """
        curve = self.curves.get((asked, FOUND.get(found, "")))
        return None if curve is None else curve.chance(score)

    def corrected(self, correction: Correction) -> Relevance:
        """The same with what labels say; the line stays, as what is worth showing is a chance."""
        steep, shift = correction.steepness, correction.shift
        curves, foreign = (
            {
                pair: Curve(steep * curve.slope, curve.middle - shift / (steep * curve.slope))
                for pair, curve in some.items()
            }
            for some in (self.curves, self.foreign)
        )
        return Relevance(self.line, correction.of(self.words), curves, foreign)

    def least_score(self, asked: str, chance: float) -> float:
        """Below it nothing that is found has this chance, whatever its kind; 0 < ``chance`` < 1."""
        return min(
            (curve.score_at(chance) for (by, _), curve in self.curves.items() if by == asked),
            default=math.inf,
        )


def read_relevance(manifest: Mapping[str, Any]) -> Relevance | None:
    """What a space's manifest says under ``relevance``; None where it says nothing. Raises ValueError."""
    stated = manifest.get("relevance")
    if stated is None:
        return None
    try:
        line, words = float(stated["line"]), float(stated["words"])
        curves, foreign = _curves(stated["curves"]), _curves(stated.get("foreign", {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its relevance cannot be read: {type(error).__name__}: {error}") from error
    known = {(asked, found) for asked in ASKED for found in FOUND.values()}
    if not (0 < line < 1 and 0 < words < 1 and foreign.keys() <= curves.keys() <= known):
        raise ValueError("its relevance has a line or a pair of kinds that there is not")
    every = [*curves.values(), *foreign.values()]
    if not all(math.isfinite(one.middle) and 0 < one.slope < math.inf for one in every):
        raise ValueError("a curve of its relevance does not rise with the score")
    return Relevance(line, words, curves, foreign)


def _curves(stated: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Curve]:
    return {
        (str(asked), str(found)): Curve(float(slope), float(middle))
        for asked, by_found in stated.items()
        for found, (slope, middle) in by_found.items()
    }


def stated_curves(curves: Mapping[tuple[str, str], Curve]) -> dict[str, dict[str, list[float]]]:
    """Curves as a manifest holds them."""
    by_asked: dict[str, dict[str, list[float]]] = {}
    for (asked, kind), curve in sorted(curves.items()):
        by_asked.setdefault(asked, {})[kind] = [curve.slope, curve.middle]
    return by_asked

"""A learnt space from pairs in closed form: seconds, and the start of everything that gradients may add.

Regularised canonical correlation analysis between text vectors and picture features gives the heads; how much they
weigh beside the prior is chosen on folds of the pairs, of which each picture is in one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment import layout, learned_space
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.learned_space import Blocks, Heads, LearnedSpace
from ml.alignment.numerics import Floats, log_mean_exp, ridge
from ml.alignment.projection import Projection, Read
from ml.alignment.traditional import Linear, canonical

BLOCKS = Blocks(classes=80, text=44, sight=16)
#: Of the covariances' mean eigenvalue that is added to each, the more cautious first.
STRENGTHS = (7.0, 3.0)
#: Shares of the prior and of the learnt part in a familiar text's score, the more cautious first.
WEIGHTS = ((1.0, 0.0), (1.0, 0.06), (1.0, 0.25), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0), (0.2, 1.0))
#: The first that comes so near to the best on the folds is taken: what they cannot tell apart is chance.
NEAR = 0.003
#: Correlations to this power weigh the canonical directions.
POWER = 0.4
#: How much more the differences between pictures of one group count as noise: art styles of one thing, say.
NUISANCE = 3.0
FOLDS = 4
#: Captions at most that stand for what will be asked.
BANK = 1500
FAMILIARITY_PENALTY = 0.01
#: The share of held-out texts of the pairs that may count as less than familiar.
MISTAKEN = 0.05
CUTS = (1, 5, 10)

Index = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Pairs:
    """Texts [m] and pictures [n]; ``owners`` int [m]: the picture of each text; ``groups`` [n]: never split."""

    reading: TextFeatures
    sight: ImageFeatures
    owners: Index
    groups: NDArray[Any]

    def of(self, pictures: Index) -> Pairs:
        """Some of the pictures with their texts."""
        place = np.full(len(self.sight), -1)
        place[pictures] = np.arange(len(pictures))
        texts = np.flatnonzero(place[self.owners] >= 0)
        return Pairs(
            self.reading.rows(texts),
            self.sight.rows(pictures),
            place[self.owners[texts]],
            self.groups[pictures],
        )


@dataclass(frozen=True)
class Known:
    """Pairs with what the prior makes of them, which no head changes."""

    pairs: Pairs
    read: Read
    classes: Floats  #: [n, 140]

    def of(self, pictures: Index) -> Known:
        """Some of the pictures with their texts."""
        texts = np.flatnonzero(np.isin(self.pairs.owners, pictures))
        read = Read(*(values[texts] for values in vars(self.read).values()))
        return Known(self.pairs.of(pictures), read, self.classes[pictures])


@dataclass(frozen=True)
class Choice:
    """What the folds told."""

    strength: float
    weights: tuple[float, float]
    familiar_from: float  #: the score of familiarity above which nearly all held-out texts lie


def known_of(prior: Projection, pairs: Pairs) -> Known:
    """Pairs as the prior sees them."""
    return Known(pairs, prior.read(pairs.reading), prior.class_axes(pairs.sight))


def fit(prior: Projection, pairs: Pairs, seed: int = 0, general: Floats | None = None) -> LearnedSpace:
    """The space of these pairs. Deterministic. A handful of pairs is enough: they weigh as much as they are worth.

    ``general`` [k, 384]: text vectors of what is not particular to the pairs, beside the prior's own phrases.
    """
    known = known_of(prior, pairs)
    return solved(prior, known, choose(prior, known, seed, general), seed, general)


def solved(
    prior: Projection, known: Known, choice: Choice, seed: int, general: Floats | None = None
) -> LearnedSpace:
    """The space in closed form, with settings that were chosen on these pairs or on most of them."""
    meanings = known.read.meanings
    weights = familiarity(meanings, _others(prior, general))
    # Domains whose texts are hard to tell from the general ones begin to be familiar earlier.
    weights[-1] += max(0.0, learned_space.FAMILIAR - choice.familiar_from)
    space = _placed(prior, _canonical(known, choice.strength), weights)
    return weighted(space, known, choice.weights, seed)


def _others(prior: Projection, general: Floats | None) -> list[Floats]:
    return [prior.reader.phrases] + ([] if general is None else [prior.reader.meanings(general)])


def _canonical(known: Known, strength: float) -> Linear:
    pairs = known.pairs
    texts, pictures = (np.asarray(rows, np.float64) for rows in (pairs.reading.vectors, pairs.sight.features))
    noise = NUISANCE**0.5 * within_groups(pictures, pairs.groups)
    return canonical(texts, pictures, pairs.owners, strength, BLOCKS.learnt, POWER, noise)


def within_groups(pictures: Floats, groups: NDArray[Any]) -> Floats:
    """Each picture minus the mean of its group, over the root of their number: rows whose outer products sum up."""
    _, of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.zeros((len(sizes), pictures.shape[1]))
    np.add.at(means, of, pictures)
    several = sizes[of] > 1
    return ((pictures - (means / sizes[:, None])[of]) / np.sqrt(len(pictures)))[several]


def _placed(prior: Projection, found: Linear, familiar: Floats) -> LearnedSpace:
    heads = Heads(
        found.text_mean.astype(np.float32),
        _filled(found.text_map),
        found.picture_mean.astype(np.float32),
        _filled(found.picture_map),
        familiar,
    )
    return LearnedSpace(prior, heads, BLOCKS, 1.0, 1.0, np.zeros((1, BLOCKS.shared), np.float32), 0.0)


def weighted(space: LearnedSpace, known: Known, weights: tuple[float, float], seed: int = 0) -> LearnedSpace:
    """The same heads with other weights, and the bank of captions and the usual bias that belong to them."""
    space = replace(space, prior_weight=weights[0], learnt_weight=weights[1])
    asked = space.asked(known.pairs.reading, known.read)
    bank = asked[np.sort(np.random.default_rng(seed).permutation(len(asked))[:BANK])]
    near = log_mean_exp(space.shown(known.pairs.sight, known.classes) @ bank.T, learned_space.HUB_SHARPNESS)
    return replace(space, hub_bank=bank, hub_level=float(np.median(near)))


def scores(space: LearnedSpace, known: Known) -> tuple[Floats, Floats]:
    """[texts, pictures]: as a text ranks pictures (hub bias taken off), and as a picture ranks texts."""
    asked = space.asked(known.pairs.reading, known.read)
    shown = space.shown(known.pairs.sight, known.classes)
    found = asked @ shown.T
    return found - space.hub_bias(shown) * -layout.HUB_IN_IMAGE * layout.HUB_IN_TEXT, found


def hits(space: LearnedSpace, known: Known) -> Floats:
    """Shares of queries that find theirs among the first 1, 5 and 10, the mean over both directions: [3]."""
    return recalls(*scores(space, known), known.pairs.owners)


def recalls(by_text: Floats, by_picture: Floats, owners: Index) -> Floats:
    """The same of scores [texts, pictures] as texts rank pictures, and as pictures rank texts: [3]."""
    mine = owners[:, None] == np.arange(by_text.shape[1])
    ranks = [_ranks(by_text, mine), _ranks(by_picture.T, mine.T)]
    return np.mean([[(found < cut).mean() for cut in CUTS] for found in ranks], axis=0)


def choose(prior: Projection, known: Known, seed: int, general: Floats | None = None) -> Choice:
    """What serves pictures that were left out of the fit."""
    options = [(strength, weights) for strength in STRENGTHS for weights in WEIGHTS]
    totals, familiar = np.zeros(len(options)), []
    folds = folds_of(known.pairs.groups, seed)
    for kept, left in folds:
        inside, outside = known.of(kept), known.of(left)
        totals += _judged(prior, inside, outside, options, seed)
        weights = familiarity(inside.read.meanings, _others(prior, general))
        familiar.append(outside.read.meanings @ weights[:-1] + weights[-1])
    totals /= max(1, len(folds))
    first = int(np.argmax(totals >= totals.max() - NEAR))
    usual = float(np.quantile(np.concatenate(familiar), MISTAKEN)) if familiar else learned_space.FAMILIAR
    return Choice(*options[first], usual)


def _judged(
    prior: Projection,
    inside: Known,
    outside: Known,
    options: Sequence[tuple[float, tuple[float, float]]],
    seed: int,
) -> Floats:
    always = np.append(np.zeros(inside.read.meanings.shape[1], np.float32), np.float32(1.0))
    spaces = {strength: _placed(prior, _canonical(inside, strength), always) for strength in STRENGTHS}
    found = [
        hits(weighted(spaces[strength], inside, weights, seed), outside) for strength, weights in options
    ]
    return np.mean(found, axis=1)


def folds_of(groups: NDArray[Any], seed: int) -> Sequence[tuple[Index, Index]]:
    """FOLDS times those to fit by and those to judge by; no group is in both."""
    different, of = np.unique(groups, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(different)) % min(FOLDS, len(different))
    each = (
        (np.flatnonzero(fold[of] != one), np.flatnonzero(fold[of] == one)) for one in range(fold.max() + 1)
    )
    return [(kept, left) for kept, left in each if len(kept)]


def familiarity(meanings: Floats, others: Sequence[Floats]) -> Floats:
    """Ridge regression to 1 on the pairs' texts and -1 on the others, both sides as heavy: [d + 1]."""
    parts = [meanings, *others]
    heavy = [1.0] + [1 / len(others)] * len(others)
    share = np.concatenate(
        [np.full(len(one), np.sqrt(mass / len(one))) for one, mass in zip(parts, heavy, strict=True)]
    )
    rows = np.concatenate(parts)
    rows = np.concatenate([rows, np.ones((len(rows), 1), rows.dtype)], axis=1) * share[:, None]
    targets = np.where(np.arange(len(rows)) < len(meanings), share, -share)[:, None]
    return ridge(rows, targets, FAMILIARITY_PENALTY)[:, 0].astype(np.float32)


def _filled(head: Floats) -> Floats:
    """[d, k] to [d, L]: a few pairs have fewer canonical directions than there is room for."""
    filled = np.zeros((len(head), BLOCKS.learnt), np.float32)
    filled[:, : head.shape[1]] = head
    return filled


def _ranks(found: Floats, mine: NDArray[np.bool_]) -> Floats:
    """Of the best right item of each query, 0 is first; ties count against it."""
    best = np.where(mine, found, -np.inf).max(axis=1, keepdims=True)
    return (np.where(mine, -np.inf, found) >= best).sum(axis=1)

"""A tower space adapted to pairs in closed form: seconds, and no better claimed than held-out pairs say.

The correction is ridge regression from what texts show to what their pictures are, shrunk to the identity; the heads
are regularised canonical correlation analysis (``ml.alignment.traditional``). Few pairs bear the first alone: how much
the heads may weigh follows from the number of pairs. Whether either serves at all is told by folds of the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ml.alignment import learned_space
from ml.alignment.adapted_space import HUB_SHARPNESS, AdaptedSpace
from ml.alignment.fitting import (
    MISTAKEN,
    NEAR,
    NUISANCE,
    Index,
    Pairs,
    familiarity,
    folds_of,
    recalls,
    within_groups,
)
from ml.alignment.learned_space import Heads
from ml.alignment.numerics import Floats, log_mean_exp
from ml.alignment.tower_space import TowerSpace
from ml.alignment.traditional import Linear, canonical

#: Canonical directions that are learnt; with their hub bias they take 64 numbers.
WIDTH = 63
#: From so many pairs on the heads have MOST_WEIGHT, with fewer in proportion.
ENOUGH, MOST_WEIGHT = 240, 0.6
#: Of the covariances' mean eigenvalue that is added to each with enough pairs, with fewer the more; correlations to the
#: power weigh the directions.
STRENGTH, POWER = 3.0, 0.5
#: Penalty on a correction's distance from the identity.
PENALTY = 30.0
#: Captions at most that stand for what will be asked.
BANK = 1500
#: Texts that go through the kernel at once.
BLOCK = 1024


@dataclass(frozen=True)
class Known:
    """Pairs with what the base makes of them, which nothing that is learnt changes."""

    pairs: Pairs
    meanings: Floats  #: [m, d]
    shown: Floats  #: [m, p]
    seen: Floats  #: [n, p]
    named_texts: Floats  #: [m, c]
    named_pictures: Floats  #: [n, c]

    def of(self, pictures: Index) -> Known:
        """Some of the pictures with their texts."""
        texts = np.flatnonzero(np.isin(self.pairs.owners, pictures))
        return Known(
            self.pairs.of(pictures),
            self.meanings[texts],
            self.shown[texts],
            self.seen[pictures],
            self.named_texts[texts],
            self.named_pictures[pictures],
        )


@dataclass(frozen=True)
class Choice:
    """What is learnt: whether texts are corrected (0 or 1), and the weight of the heads."""

    correction: float
    weight: float
    #: The familiarity above which nearly all held-out texts lie.
    familiar_from: float = learned_space.FAMILIAR


def known_of(base: TowerSpace, pairs: Pairs) -> Known:
    """Pairs as the base sees them."""
    meanings = base.texts.meanings(pairs.reading.vectors)
    blocks = range(0, len(meanings), BLOCK)
    shown = np.concatenate([base.texts.shown(meanings[start : start + BLOCK]) for start in blocks])
    named = base.named_in_texts(meanings), base.named_in_pictures(pairs.sight)
    return Known(pairs, meanings, shown, base.seen(pairs.sight.features), *named)


def weight_of(pairs: int) -> float:
    """How much the heads of so many pairs (pictures with their captions) may weigh."""
    return MOST_WEIGHT * min(1.0, pairs / ENOUGH)


def fit(
    base: TowerSpace, pairs: Pairs, seed: int = 0, general: Floats | None = None
) -> AdaptedSpace | TowerSpace:
    """The space of these pairs, or the base itself where they teach nothing that serves. Deterministic.

    ``general`` [k, d]: text vectors of what is not particular to the pairs, beside the base's own captions.
    """
    known = known_of(base, pairs)
    return solved(base, known, choose(base, known, seed, general), seed, general)


def choose(base: TowerSpace, known: Known, seed: int, general: Floats | None = None) -> Choice:
    """What serves pictures that were left out of the fit: all that can, and nothing that finds less than the base."""
    weight = weight_of(len(known.pairs.sight))
    options = [Choice(1.0, weight), Choice(0.0, weight), Choice(1.0, 0.0), Choice(0.0, 0.0)]
    judged, familiar = [], []
    for kept, left in folds_of(known.pairs.groups, seed):
        inside, outside = known.of(kept), known.of(left)
        judged.append(_judged(base, inside, outside, options, seed))
        weights = familiarity(inside.meanings, _others(base, general))
        familiar.append(outside.meanings @ weights[:-1] + weights[-1])
    if len(judged) < 2:  # pairs of one group, or of too few
        return options[-1]
    found = np.stack(judged)
    totals, gains = found.mean(axis=0), found - found[:, -1:]
    # More than the base by more than chance from fold to fold: the best of several is above it in half of all cases.
    sure = gains.mean(axis=0) > gains.std(axis=0, ddof=1) / np.sqrt(len(found))
    sure[-1] = True
    usual = float(np.quantile(np.concatenate(familiar), MISTAKEN))
    serves = sure & (totals >= totals[sure].max() - NEAR)
    return replace(options[int(np.argmax(serves))], familiar_from=usual)


def solved(
    base: TowerSpace, known: Known, choice: Choice, seed: int, general: Floats | None = None
) -> AdaptedSpace | TowerSpace:
    """The space in closed form, by a choice that was made on these pairs or on most of them."""
    if not (choice.correction or choice.weight):
        return base
    weights = familiarity(known.meanings, _others(base, general))
    # Domains whose texts are hard to tell from the general ones begin to be familiar earlier.
    weights[-1] += max(0.0, learned_space.FAMILIAR - choice.familiar_from)
    return _made(base, known, choice, weights, seed)


def scaled(space: AdaptedSpace | TowerSpace, share: float) -> AdaptedSpace | TowerSpace:
    """A share of what was learnt: 0 is the base itself, 1 all of it."""
    if isinstance(space, TowerSpace) or not share:
        return space.base if isinstance(space, AdaptedSpace) else space
    return replace(space, correction=share * space.correction, weight=share * space.weight)


def hits(space: AdaptedSpace | TowerSpace, known: Known) -> Floats:
    """Shares of queries that find theirs among the first 1, 5 and 10, the mean over both directions: [3]."""
    pairs = known.pairs
    texts = space.place_texts(known.meanings, known.shown, known.named_texts, pairs.reading.colours)
    pictures = space.place_pictures(known.seen, known.named_pictures, pairs.sight.colours)
    return recalls(texts @ pictures.T, texts @ space.as_query(pictures).T, pairs.owners)


def correction_of(known: Known) -> Floats:
    """What the ridge regression from texts to pictures adds to the identity: [p, p]."""
    shown = known.shown.astype(np.float64)
    gram = shown.T @ shown + PENALTY * np.eye(shown.shape[1])
    missing = known.seen[known.pairs.owners] - shown
    return np.linalg.solve(gram, shown.T @ missing).astype(np.float32)


def _others(base: TowerSpace, general: Floats | None) -> list[Floats]:
    own = [base.texts.both.landmarks]
    return own if general is None else [*own, base.texts.meanings(general)]


def _judged(base: TowerSpace, inside: Known, outside: Known, options: Sequence[Choice], seed: int) -> Floats:
    """The mean recall of each option on the pairs that were left out."""
    always = np.append(np.zeros(inside.meanings.shape[1], np.float32), np.float32(1.0))
    full = _made(base, inside, Choice(1.0, max(one.weight for one in options)), always, seed)
    bare = replace(full, heads=_narrow(full.heads), hub_bank=full.hub_bank[:, :0], weight=0.0)
    found = []
    for one in options:
        space = full if one.weight else bare
        space = replace(space, correction=one.correction * full.correction)
        found.append(hits(space if one.correction or one.weight else base, outside).mean())
    return np.array(found)


def _made(base: TowerSpace, known: Known, choice: Choice, familiar: Floats, seed: int) -> AdaptedSpace:
    correction = choice.correction * (correction_of(known) if choice.correction else _nothing(base))
    heads = _heads(_canonical(known), familiar)
    if not choice.weight:
        empty = np.zeros((0, 0), np.float32)
        return AdaptedSpace(base, correction, _narrow(heads), 0.0, empty, 0.0)
    asked = heads.texts(known.meanings)
    bank = asked[np.sort(np.random.default_rng(seed).permutation(len(asked))[:BANK])]
    near = log_mean_exp(heads.images(known.seen) @ bank.T, HUB_SHARPNESS)
    return AdaptedSpace(base, correction, heads, choice.weight, bank, float(np.median(near)))


def _nothing(base: TowerSpace) -> Floats:
    return np.zeros((len(base.axes), len(base.axes)), np.float32)


def _canonical(known: Known) -> Linear:
    texts, pictures = known.meanings.astype(np.float64), known.seen.astype(np.float64)
    noise = NUISANCE**0.5 * within_groups(pictures, known.pairs.groups)
    strength = STRENGTH * max(1.0, ENOUGH / len(pictures))
    return canonical(texts, pictures, known.pairs.owners, strength, WIDTH, POWER, noise)


def _heads(found: Linear, familiar: Floats) -> Heads:
    return Heads(
        text_mean=found.text_mean.astype(np.float32),
        text_head=found.text_map.astype(np.float32),
        image_mean=found.picture_mean.astype(np.float32),
        image_head=found.picture_map.astype(np.float32),
        familiarity=familiar.astype(np.float32),
    )


def _narrow(heads: Heads) -> Heads:
    """The same familiarity, and no direction."""
    return replace(heads, text_head=heads.text_head[:, :0], image_head=heads.image_head[:, :0])

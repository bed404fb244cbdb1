"""Clusters of vectors, the outliers among them, and the words that tell a cluster from the others.

k-means over unit vectors (spherical), with the number of clusters from how many there are: people read a list of some
dozens, whatever the number of assets. Outliers are what health of a dataset calls so (`neighbours.far_out`).
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml.projection import neighbours, pca

FEWEST_CLUSTERED = 16
FEWEST, MOST = 3, 60
# k-means learns from so many vectors, in so many numbers, for so many rounds.
TRAINED, REDUCED, ROUNDS, ROWS = 20_000, 50, 20, 8_192
# Of so many random beginnings the best counts: one alone often joins two clusters and cuts a third.
BEGINNINGS = 4
# Neighbours of a point, and of how few of a kind nothing is far out.
NEIGHBOURS, FEWEST_COMPARED = 5, 50
NONE = -1
# Numbers of vectors that are copied in memory, a quarter of a GiB.
HELD = 1 << 26


@dataclass(frozen=True)
class Clusters:
    """`cluster` int16 [n], -1 where there are too few to have any or a vector is not finite, the largest being 0;
    `nearness` float32 [n], the cosine to the cluster's centre."""

    cluster: np.ndarray
    nearness: np.ndarray
    count: int


def clusters_of(
    vectors: np.ndarray, *, seed: int = 0, reduced: tuple[np.ndarray, np.ndarray] | None = None
) -> Clusters:
    """Of vectors float32 [n, d]. The same of the same vectors. `reduced`: what `pca.reduce` made of them, if known."""
    n = len(vectors)
    cluster, nearness = np.full(n, NONE, np.int16), np.zeros(n, np.float32)
    sound = np.flatnonzero(pca.finite_rows(vectors))
    if len(sound) < FEWEST_CLUSTERED:
        return Clusters(cluster, nearness, 0)
    made, shares = reduced or pca.reduce(vectors, min(REDUCED, vectors.shape[1]))
    if shares[0] == 0:
        # All the same: one cluster.
        cluster[sound], nearness[sound] = 0, 1
        return Clusters(cluster, nearness, 1)
    made = made[sound]
    made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9)
    count = min(MOST, max(FEWEST, round(math.sqrt(len(sound)) / 2)))
    centres = _centres(made, count, seed)
    found, near = _assigned(made, centres)
    # The largest first; those that nothing fell into have no number.
    sizes = np.bincount(found, minlength=count)
    order = np.argsort(-sizes, kind="stable")
    number = np.empty(count, np.int16)
    number[order] = np.arange(count)
    cluster[sound], nearness[sound] = number[found], near
    return Clusters(cluster, nearness, int((sizes > 0).sum()))


def _centres(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The best of a few beginnings, on a sample; of norm 1."""
    random = np.random.default_rng(seed)
    sample = vectors[random.permutation(len(vectors))[:TRAINED]]
    tried = [_moved(sample, _chosen(sample, count, random)) for _ in range(BEGINNINGS)]
    return max(tried, key=lambda one: one[1])[0]


def _chosen(sample: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Far from each other, as k-means++ takes them."""
    chosen = [int(random.integers(len(sample)))]
    apart = 1 - sample @ sample[chosen[0]]
    for _ in range(1, count):
        weights = np.maximum(apart, 0).astype(np.float64)
        total = weights.sum()
        # Of equal vectors any will do.
        at = int(random.choice(len(sample), p=weights / total)) if total > 0 else 0
        chosen.append(at)
        apart = np.minimum(apart, 1 - sample @ sample[at])
    return sample[chosen].copy()


def _moved(sample: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    """Centres after Lloyd's rounds, and how near the sample lies to them."""
    nearness = 0.0
    for _ in range(ROUNDS):
        found, near = _assigned(sample, centres)
        nearness = float(near.mean())
        sums = np.zeros_like(centres)
        np.add.at(sums, found, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        moved = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centres).astype(np.float32)
        if np.allclose(moved, centres, atol=1e-5):
            break
        centres = moved
    return centres, nearness


def _assigned(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, near = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), ROWS):
        scores = vectors[start : start + ROWS] @ centres.T
        found[start : start + ROWS] = scores.argmax(axis=1)
        near[start : start + ROWS] = scores.max(axis=1)
    return found, near


def outliers_of(vectors: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Which vectors float32 [n, d] of norm 1 lie far from their neighbours, each among its own kind (`kinds` [n]):
    bool [n]. What is not finite is none."""
    found = np.zeros(len(vectors), bool)
    sound = pca.finite_rows(vectors)
    for kind in np.unique(kinds):
        places = np.flatnonzero((kinds == kind) & sound)
        if len(places) >= FEWEST_COMPARED:
            near = neighbours.nearest(_rows(vectors, places), NEIGHBOURS)
            found[places[neighbours.far_out(near)]] = True
    return found


def _rows(vectors: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Some of the rows; many in a file that is gone with them, as those of one kind may be most of a million."""
    if len(places) == len(vectors):
        return vectors
    if len(places) * vectors.shape[1] <= HELD:
        return np.ascontiguousarray(vectors[places])
    with tempfile.TemporaryFile() as file:
        found = np.memmap(file, np.float32, "w+", shape=(len(places), vectors.shape[1]))
    for start in range(0, len(places), ROWS):
        found[start : start + ROWS] = vectors[places[start : start + ROWS]]
    return found


#: A point's cluster (-1: none), how near it is to its centre, and whether it is an outlier.
GROUP = np.dtype([("topic", "<i2"), ("nearness", "<f4"), ("outlier", "u1")])


def grouped(
    vectors: np.ndarray,
    kinds: np.ndarray,
    *,
    seed: int = 0,
    reduced: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Clusters and outliers of vectors float32 [n, d] of norm 1 with their kinds [n]: GROUP [n]."""
    found = clusters_of(vectors, seed=seed, reduced=reduced)
    rows = np.empty(len(vectors), GROUP)
    rows["topic"], rows["nearness"] = found.cluster, found.nearness
    rows["outlier"] = outliers_of(vectors, kinds)
    return rows


# --- Words of clusters -----------------------------------------------------------------------------------
# As c-TF-IDF weighs them: how many of the cluster have the word, times how rare it is in all clusters together.

KEYWORDS = 3
# A word that fewer of a cluster have says nothing of it.
LEAST_SHARE, LEAST_COUNT = 0.08, 2
# Nor does one that the others have nearly as often.
LEAST_CONTRAST = 0.3
# Where so many that have a word have it in a longer term, the term is what they say: 糖尿病, not 糖尿.
WHOLE = 0.6


def keywords(
    documents: Mapping[int, Sequence[Iterable[str]]], *, most: int = KEYWORDS
) -> dict[int, list[str]]:
    """The words that tell each cluster from the others, the best first, of the words of some of its assets.

    A word counts once an asset, so that one long text names nothing. Clusters in which nothing stands out have none.
    """
    counted = {
        cluster: Counter(word for one in some for word in set(one)) for cluster, some in documents.items()
    }
    shares = {
        cluster: {word: count / len(documents[cluster]) for word, count in words.items()}
        for cluster, words in counted.items()
    }
    everywhere: Counter[str] = Counter()
    for words in shares.values():
        everywhere.update(words)
    mean = sum(everywhere.values()) / max(1, len(shares))
    found = {}
    for cluster, words in shares.items():
        said = {
            word: share
            for word, share in words.items()
            if share >= LEAST_SHARE and counted[cluster][word] >= LEAST_COUNT
        }
        scores = {
            word: share
            * math.log1p(mean / everywhere[word])
            * _contrast(share, everywhere[word], len(shares))
            for word, share in said.items()
            if not any(_is_part(word, one) and said[one] >= WHOLE * share for one in said)
        }
        found[cluster] = _best(scores, most)
    return found


def _is_part(word: str, other: str) -> bool:
    """Whether a word is one of several in `other`, or stands in it where no spaces are written."""
    if len(word) >= len(other):
        return False
    return word in other if not word.isascii() else " " in other and word in other.split(" ")


def _contrast(share: float, everywhere: float, clusters: int) -> float:
    """How much more of the cluster than of the others have the word; 0 for what is nearly as frequent elsewhere."""
    if clusters < 2:
        return 1.0
    elsewhere = (everywhere - share) / (clusters - 1)
    more = (share - elsewhere) / share
    return more if more >= LEAST_CONTRAST else 0.0


def _best(scores: Mapping[str, float], most: int) -> list[str]:
    ranked = sorted(
        (word for word, score in scores.items() if score > 0), key=lambda one: (-scores[one], one)
    )
    kept: list[str] = []
    for word in ranked:
        # What a word that is kept says already is left out.
        if not any(_is_part(word, one) or _is_part(one, word) or _share_words(word, one) for one in kept):
            kept.append(word)
            if len(kept) == most:
                break
    return kept


def _share_words(word: str, other: str) -> bool:
    return " " in word and " " in other and not set(word.split(" ")).isdisjoint(other.split(" "))

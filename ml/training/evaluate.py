"""How well a space finds: by ordered pair of modalities, beside its parent and the traditional methods.

Items never seen in training are judged. An item is right for a query when it is the query's own picture, or has a
caption of the same words.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.fitting import Pairs
from ml.alignment.projection import Placing
from ml.alignment.space import JointSpace
from ml.alignment.traditional import METHODS, fitted
from ml.training.metrics import Ranking, difference, figures, search
from ml.training.plan import hashed
from ml.training.quality import same_words
from ml.training.shards import Pair, stack

#: Pictures of the pool at most: the first ones of the split.
LARGEST_POOL = 5_000
#: Training pictures that traditional methods are fitted on: their arrays are in memory as a whole.
FITTED = 3_000
#: Captions of a picture that are asked for or searched at most.
CAPTIONS = 5

TEXT_TO_IMAGE, IMAGE_TO_TEXT = "text>image", "image>text"
Array = NDArray[Any]


@dataclass(frozen=True)
class Pool:
    """Held-out pairs, ready to be placed by any space of the same image encoders."""

    sight: ImageFeatures
    reading: TextFeatures
    captions: list[str]
    right_pictures: list[list[int]]  #: of each caption
    right_captions: list[list[int]]  #: of each picture
    groups: Array  #: [pictures]
    owners: Array  #: [captions] their picture

    @property
    def size(self) -> int:
        return len(self.groups)


def pool_of(pairs: Iterable[Pair]) -> Pool:
    """The first LARGEST_POOL pairs, at least one, with CAPTIONS captions each."""
    held = [shortened(pair) for pair in itertools.islice(pairs, LARGEST_POOL)]
    owners = np.repeat(np.arange(len(held)), [len(pair.captions) for pair in held])
    captions = [text for pair in held for text in pair.captions]
    words = [hashed(same_words(text)) for text in captions]
    right_pictures, right_captions = _right(owners, words, len(held))
    return Pool(
        image_features_of(held),
        text_features_of(held),
        captions,
        right_pictures,
        right_captions,
        np.array([hashed(pair.group) for pair in held], np.uint64),
        owners,
    )


def image_features_of(pairs: Sequence[Pair]) -> ImageFeatures:
    """What the encoders saw of the pictures of ``pairs``: [n, …]."""
    return ImageFeatures(*(stack(pairs, name) for name in ("probabilities", "features", "colours")))


def text_features_of(pairs: Sequence[Pair]) -> TextFeatures:
    """What the encoders read in all captions of ``pairs``, one after the other."""
    return TextFeatures(vectors=stack(pairs, "text"), colours=stack(pairs, "text_colours"))


def shortened(pair: Pair) -> Pair:
    """The same with its first CAPTIONS captions."""
    if len(pair.captions) <= CAPTIONS:
        return pair
    cut = slice(CAPTIONS)
    captions, text, colours = pair.captions[cut], pair.text[cut], pair.text_colours[cut]
    return replace(pair, captions=captions, text=text, text_colours=colours)


def pairs_of(pairs: Sequence[Pair]) -> Pairs:
    """Rows of feature shards as what is fitted: [captions] texts and [pairs] pictures."""
    owners = np.repeat(np.arange(len(pairs)), [len(pair.captions) for pair in pairs])
    groups = np.array([hashed(pair.group) for pair in pairs], np.uint64)
    return Pairs(text_features_of(pairs), image_features_of(pairs), owners, groups)


def rank_queries(placing: Placing, pool: Pool, reading: TextFeatures | None = None) -> dict[str, Ranking]:
    """What every query of either direction finds. ``reading``: of another text tower than the shards'."""
    texts, pictures = placing.text(reading or pool.reading), placing.image(pool.sight)
    queries = placing.as_query(pictures)
    return {
        TEXT_TO_IMAGE: search(texts, pictures, pool.right_pictures, pool.groups[pool.owners]),
        IMAGE_TO_TEXT: search(queries, texts, pool.right_captions, pool.groups),
    }


def compare_rankings(
    mine: Mapping[str, Ranking], others: Mapping[str, Mapping[str, Ranking]]
) -> dict[str, Any]:
    """Figures of the model and of each of the others, and what it gains on them with the paired interval:

    ``{"model": {"text>image": {…}, …}, "<other>": {…}, "differences": {"<other>": {"text>image": {…}}}}``.
    """
    result: dict[str, Any] = {"model": _all(mine), **{name: _all(theirs) for name, theirs in others.items()}}
    result["differences"] = {
        name: {way: difference(mine[way], theirs[way]) for way in mine} for name, theirs in others.items()
    }
    return result


def evaluate_space(
    folder: Path, base: Path | None, train: Iterable[Pair], tests: Mapping[str, Iterable[Pair]]
) -> dict[str, Any]:
    """``compare`` for each test set that has any pair: the space in ``folder`` beside its parent and traditional
    methods, which are fitted on the same training pairs (the first FITTED of them)."""
    model, parent = JointSpace.load(folder), JointSpace.load(base)
    rivals: dict[str, Placing] = {"parent": parent.placing, **traditional(train)}
    held = {name: list(itertools.islice(pairs, LARGEST_POOL)) for name, pairs in tests.items()}
    return {name: _compared(model, parent, rivals, pool_of(some)) for name, some in held.items() if some}


def traditional(train: Iterable[Pair]) -> dict[str, Placing]:
    """Every traditional method by name, fitted on the first FITTED pairs."""
    held = [shortened(pair) for pair in itertools.islice(train, FITTED)]
    owners = np.repeat(np.arange(len(held)), [len(pair.captions) for pair in held])
    reading, sight = text_features_of(held), image_features_of(held)
    return {name: fitted(name, reading, sight, owners) for name in METHODS}


def _compared(
    model: JointSpace, parent: JointSpace, rivals: Mapping[str, Placing], pool: Pool
) -> dict[str, Any]:
    # A tuned text tower reads otherwise than the one that the shards were made with: its texts are read again.
    reading = None if model.encoders_key == parent.encoders_key else model.read(pool.captions)
    mine = rank_queries(model.placing, pool, reading)
    counts = {"pictures": pool.size, "captions": len(pool.captions)}
    return counts | compare_rankings(
        mine, {name: rank_queries(rival, pool) for name, rival in rivals.items()}
    )


def _all(found: Mapping[str, Ranking]) -> dict[str, Any]:
    return {way: figures(one) for way, one in found.items()}


def _right(owners: Array, words: Sequence[int], pictures: int) -> tuple[list[list[int]], list[list[int]]]:
    """The right pictures of each caption, and the right captions of each picture."""
    with_words: dict[int, set[int]] = defaultdict(set)
    for owner, word in zip(owners, words, strict=True):
        with_words[word].add(int(owner))
    right_pictures = [sorted(with_words[word]) for word in words]
    right_captions: list[list[int]] = [[] for _ in range(pictures)]
    for caption, found in enumerate(right_pictures):
        for picture in found:
            right_captions[picture].append(caption)
    return right_pictures, right_captions
